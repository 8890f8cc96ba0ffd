"""The fixture sealane_live_server, in pytest runs of their own: with pytest-django, without it, without Django."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(directory: Path, files: dict[str, str], *plugins: str) -> str:
    """Run pytest on these files with these plugins and the fixture's, every warning an error. Returns its output."""
    for name, text in files.items():
        (directory / name).write_text(text)
    settings = "filterwarnings = error\n"
    if "pytest_django.plugin" in plugins:
        settings += "DJANGO_SETTINGS_MODULE = plugin_settings\ndjango_find_project = false\n"
        settings += "asyncio_default_fixture_loop_scope = function\n"
    (directory / "pytest.ini").write_text(f"[pytest]\n{settings}")
    arguments = [argument for plugin in (*plugins, "sealane.testing.pytest_plugin") for argument in ("-p", plugin)]
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "pytest", "-v", "-p", "no:cacheprovider", *arguments, str(directory)],
        env={
            **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([str(directory), *sys.path, str(ROOT)]),
        },
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.stdout + result.stderr


SETTINGS = """
from tests.settings import *
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROOT_URLCONF = "tests.testing.project"
ASGI_APPLICATION = "tests.testing.project.application"
ALLOWED_HOSTS = []
STATICFILES_DIRS = ["%s"]
""" % (Path(__file__).parent / "static")

WITH_DJANGO = """
import os
import urllib.request

import pytest
from django.contrib.auth.models import User
from websockets.sync.client import connect
from websockets.asyncio.client import connect as aconnect


def get(url):
    with urllib.request.urlopen(url, timeout=20) as response:
        return response.read().decode()


@pytest.mark.parametrize("time", [1, 2])
def test_it_shares_the_database_and_leaves_it_empty(sealane_live_server, time):
    assert User.objects.count() == 0
    User.objects.create(username="of the test")
    assert get(f"{sealane_live_server}/create/ann/") == "2"
    with connect(f"{sealane_live_server.ws_url}/async/") as ws:
        ws.send("of the socket")
        assert ws.recv(timeout=20) == "3"
        assert User.objects.count() == 3


def test_it_serves_static_files_and_survives_a_restart(sealane_live_server):
    url, port = sealane_live_server.url, sealane_live_server.port
    assert get(url + "/static/sealane-hello.txt") == "a static file\\n"
    sealane_live_server.stop()
    sealane_live_server.restart()
    assert sealane_live_server.port == port
    assert get(url + "/static/sealane-hello.txt") == "a static file\\n"


@pytest.mark.asyncio
async def test_in_an_asynchronous_test(sealane_live_server):
    async with aconnect(f"{sealane_live_server.ws_url}/async/") as ws:
        await ws.send("of the socket")
        assert await ws.recv() == "1"
    assert await User.objects.filter(username="of the socket").aexists()


class TestAnotherApplication:
    @pytest.fixture
    def sealane_application(self):
        async def application(scope, receive, send):
            assert scope["type"] == "http"
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"another"})

        return application

    def test_it(self, sealane_live_server):
        assert get(sealane_live_server.url) == "another"


@pytest.mark.django_db
def test_a_mark_without_a_transaction_does_not_win(sealane_live_server):
    assert get(f"{sealane_live_server}/create/ann/") == "1"
    assert User.objects.count() == 1
"""

WITHOUT_PYTEST_DJANGO = """
import os
import urllib.request

os.environ["DJANGO_SETTINGS_MODULE"] = "plugin_settings"

import django

django.setup()

from django.conf import settings


def test_it(sealane_live_server):
    assert settings.ALLOWED_HOSTS == ["localhost"]
    url = f"{sealane_live_server.url}/static/sealane-hello.txt"
    with urllib.request.urlopen(url, timeout=20) as response:
        assert response.read() == b"a static file\\n"
"""

WITHOUT_DJANGO = """
import urllib.request

import pytest


@pytest.fixture
def sealane_application():
    async def application(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"plain"})

    return application


def test_it(sealane_live_server):
    with urllib.request.urlopen(sealane_live_server.url, timeout=20) as response:
        assert response.read() == b"plain"
"""


def test_with_pytest_django(tmp_path: Path) -> None:
    output = run(
        tmp_path,
        {
            "plugin_settings.py": SETTINGS,
            "test_it.py": WITH_DJANGO,
        },
        "pytest_django.plugin",
        "pytest_asyncio.plugin",
    )
    assert "6 passed" in output, output


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"plugin_settings.py": SETTINGS, "test_it.py": WITHOUT_PYTEST_DJANGO}, id="with Django"),
        pytest.param({"test_it.py": WITHOUT_DJANGO}, id="without Django"),
    ],
)
def test_without_pytest_django(tmp_path: Path, files: dict[str, str]) -> None:
    output = run(tmp_path, files)
    assert "1 passed" in output, output


def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plugin = import_module(project["entry-points"]["pytest11"]["sealane"])
    assert plugin.pytest_configure

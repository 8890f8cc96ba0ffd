"""The example project as somebody finds it who copies from it: it checks, migrates, passes its own tests."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.example.conftest import EXAMPLE, ROOT
from tests.servers import Server

pytestmark = pytest.mark.untraced

CHAT = EXAMPLE / "chat"
PICTURES = EXAMPLE / "pictures"
PAGES = sorted(
    page for app in (CHAT, PICTURES) for page in [*app.glob("templates/**/*.html"), *app.glob("static/**/*.*")]
)
SCRIPTS = sorted(script for app in (CHAT, PICTURES) for script in app.glob("static/**/*.js"))


def manage(*arguments: str, database: Path, redis_url: str = "") -> str:
    """Run a management command to its end, warnings being errors, and return what it wrote."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")])),
        "CHAT_DATABASE": str(database),
        "CHAT_REDIS_URL": redis_url,
        "DJANGO_SETTINGS_MODULE": "demo.settings",
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(
        command,
        cwd=EXAMPLE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def test_its_own_tests_pass(tmp_path: Path) -> None:
    output = manage("test", database=tmp_path / "chat.sqlite3")
    ran = re.search(r"Ran (\d+) tests", output)
    assert ran, output
    assert int(ran[1]) >= 15, output
    # Two streams meet in one file, in no certain order.
    assert "OK" in output.splitlines(), output


def test_its_own_tests_pass_over_valkey(tmp_path: Path) -> None:
    with Server() as server:
        output = manage("test", database=tmp_path / "chat.sqlite3", redis_url=server.url)
        assert server.command_calls()["evalsha"] > 20
    assert "OK" in output.splitlines(), output


def test_the_checks_find_nothing(tmp_path: Path) -> None:
    assert "no issues" in manage("check", "--fail-level=WARNING", database=tmp_path / "chat.sqlite3")


def test_the_migrations_are_complete(tmp_path: Path) -> None:
    output = manage("makemigrations", "--check", "--dry-run", database=tmp_path / "chat.sqlite3")
    assert "No changes detected" in output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_nothing_is_fetched_from_elsewhere(page: Path) -> None:
    text = page.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text) == []


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_the_scripts_are_small_and_write_text_only(script: Path) -> None:
    text = script.read_text()
    assert len(text.splitlines()) < 200
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|setTimeout\(\"", text) == []


def test_the_readme_names_everything_that_goes_over_the_wire() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    consumers = (CHAT / "consumers.py").read_text() + (PICTURES / "consumers.py").read_text()
    senders = (CHAT / "views.py").read_text() + (PICTURES / "models.py").read_text()
    names = set(re.findall(r'"type": "([\w.]+)"', consumers + senders))
    names |= set(re.findall(r'{"action": "(\w+)"}', consumers))
    assert names >= {"welcome", "message", "error", "join", "say", "chat.message", "notice.posted"}
    assert names >= {"pictures", "picture", "picture.resize", "picture.changed"}
    assert {name for name in names if f"`{name}`" not in readme} == set()


def test_the_readme_lists_every_module() -> None:
    readme = (EXAMPLE / "README.md").read_text()
    paths = [path for app in (CHAT, PICTURES) for path in app.glob("*.py")]
    modules = {f"{path.parent.name}/{path.name}" for path in paths if path.name not in ("__init__.py", "apps.py")}
    assert {name for name in modules if f"`{name}`" not in readme} == set()

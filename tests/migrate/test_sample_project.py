"""A project that was written for Channels is rewritten, and its own tests pass on Sealane alone."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sealane.migrate.command import LEFT
from tests.migrate.conftest import Migrate

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = Path(__file__).with_name("sample_project")

#: How many tests it has; Channels 4.3.2 with Daphne passes them too.
TESTS = 9

pytestmark = pytest.mark.untraced


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLE, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__")))


def manage(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def assert_tests_pass(project: Path) -> None:
    done = manage(project, "test", "--noinput")
    assert f"Ran {TESTS} tests" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_as_it_is(project: Path) -> None:
    """With one line in its settings, which every entry to it reads."""
    settings = project / "harbour" / "settings.py"
    line = "from sealane.compat import install_as_channels\n\ninstall_as_channels()\n"
    settings.write_text(line + settings.read_text())
    assert_tests_pass(project)


def test_rewritten(project: Path, migrate: Migrate) -> None:
    assert importlib.util.find_spec("channels") is None, "nothing but Sealane may be there"
    preview = migrate(project)
    run = migrate(project, "--write")
    assert run.diff == preview.diff
    assert (run.code, run.findings) == (
        LEFT,
        [
            "Dockerfile:3: starts Daphne, which can go on; on uvicorn: "
            "uvicorn --host 0.0.0.0 --port 8000 harbour.asgi:application",
            "Procfile:1: starts Daphne, which can go on; on uvicorn: "
            "uvicorn --host 0.0.0.0 --port $PORT harbour.asgi:application",
            'pyproject.toml:10: serve = ["daphne"]: sealane takes its place, with the extra redis for channels_redis '
            "and server for daphne",
        ],
    )
    again = migrate(project, "--write")
    assert (again.diff, again.findings) == ("", run.findings)

    names = re.compile(r"\b(channels|channels_redis|daphne)\.\w|import channels\b|[\"']channels[\"']|[\"']daphne[\"']")
    found = [
        f"{file.name}: {line}"
        for file in sorted(project.rglob("*.py"))
        for line in file.read_text().splitlines()
        if names.search(line) and "django.channels.server" not in line
    ]
    assert found == []

    assert manage(project, "check", "--fail-level", "WARNING").stderr.count("sealane.W001") == 1
    assert_tests_pass(project)


def test_what_is_found_does_not_depend_on_the_order_of_files(project: Path, migrate: Migrate) -> None:
    """Files one by one become what the project becomes as a whole."""
    single = Path(shutil.copytree(project, project.parent / "single"))
    migrate(project, "--write")
    for file in sorted(single.rglob("*"), reverse=True):
        if file.is_file():
            migrate(file, "--write")
    compared = {file.relative_to(project): file.read_bytes() for file in project.rglob("*") if file.is_file()}
    assert compared == {file.relative_to(single): file.read_bytes() for file in single.rglob("*") if file.is_file()}

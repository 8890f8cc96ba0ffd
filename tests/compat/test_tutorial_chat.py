"""The well-known chat with rooms, as a project that was written for Channels, in a real browser and over Valkey."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sealane.migrate.command import DONE, main
from tests.servers import Server

ROOT = Path(__file__).resolve().parents[2]
CHAT = Path(__file__).with_name("tutorial_chat")

#: How many tests it has; Channels 4.3.2 with channels_redis 4.3.0 and Daphne passes them too.
TESTS = 4

pytestmark = [pytest.mark.browser, pytest.mark.untraced, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def project(tmp_path: Path) -> Path:
    assert importlib.util.find_spec("channels") is None, "nothing but Sealane may be there"
    return Path(shutil.copytree(CHAT, tmp_path / "chat", ignore=shutil.ignore_patterns("__pycache__")))


def assert_its_tests_pass(project: Path, valkey: Server) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "CHAT_REDIS_URL": valkey.url}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    command = [sys.executable, "manage.py", "test", "--noinput"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert f"Ran {TESTS} tests" in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr


def test_unchanged_but_for_one_line(project: Path, valkey: Server) -> None:
    manage = project / "manage.py"
    line = "import sealane.compat\n\nsealane.compat.install_as_channels()\n"
    manage.write_text(manage.read_text().replace("import os\n", f"{line}import os\n"))
    assert_its_tests_pass(project, valkey)


def test_rewritten(project: Path, valkey: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(project), "--write"]) == DONE
    assert capsys.readouterr().err.endswith("4 files changed; 0 left for you to decide\n")
    for file in project.rglob("*.py"):
        assert not re.search(r"\b(import channels|from channels|channels_redis|daphne)\b", file.read_text()), file
    assert_its_tests_pass(project, valkey)

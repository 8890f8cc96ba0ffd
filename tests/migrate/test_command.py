"""The codemod on files: which it takes, how it writes them, what it prints, its exit codes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sealane.migrate.command import CANNOT_RUN, DONE, LEFT, TO_WRITE, main
from tests.migrate.conftest import Migrate

OLD = "from channels.consumer import AsyncConsumer\n"
NEW = "from sealane.consumers import AsyncConsumer\n"


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_nothing_is_written_until_it_is_asked_for(tmp_path: Path, migrate: Migrate) -> None:
    file = write(tmp_path / "chat" / "consumers.py", OLD)
    run = migrate(tmp_path)
    assert (run.code, run.findings) == (TO_WRITE, [])
    assert run.summary == "1 file to change: run it with --write; 0 left for you to decide"
    assert run.diff == f"--- a/chat/consumers.py\n+++ b/chat/consumers.py\n@@ -1 +1 @@\n-{OLD}+{NEW}"
    assert file.read_text() == OLD

    run = migrate(tmp_path, "--write")
    assert (run.code, run.summary) == (DONE, "1 file changed; 0 left for you to decide")
    assert file.read_text() == NEW

    assert migrate(tmp_path, "--write").summary == "0 files changed; 0 left for you to decide"
    assert migrate(tmp_path).code == DONE


def test_the_diff_can_be_applied(tmp_path: Path, migrate: Migrate) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    for number, text in enumerate([OLD, OLD.removesuffix("\n"), f"# \f ü\r\n{OLD}".replace("\n", "\r\n")]):
        write(tmp_path / f"m{number}.py", text)
    expected = [NEW, NEW.removesuffix("\n"), f"# \f ü\r\n{NEW}".replace("\n", "\r\n")]
    diff = migrate(tmp_path).diff
    subprocess.run([git, "apply", "-"], cwd=tmp_path, input=diff.encode(), check=True)
    assert [(tmp_path / f"m{number}.py").read_bytes().decode() for number in range(3)] == expected


def test_what_is_left_is_named_with_its_line(tmp_path: Path, migrate: Migrate) -> None:
    write(tmp_path / "a.py", f"{OLD}\nfrom channels.layers import *\n")
    run = migrate(tmp_path, "--write")
    assert run.code == LEFT
    assert run.findings == ["a.py:3: from channels.layers import *: name what you use, and run this once more"]
    assert (tmp_path / "a.py").read_text() == f"{NEW}\nfrom channels.layers import *\n"


def test_one_file(tmp_path: Path, migrate: Migrate) -> None:
    file = write(tmp_path / ".hidden" / "a.py", OLD)
    assert migrate(file, "--write").code == DONE
    assert file.read_text() == NEW


@pytest.mark.parametrize("content", [
    b"\xef\xbb\xbf# \xc3\xbc\r\nOLD\r\n",
    b"#!/usr/bin/python\n# -*- coding: latin-1 -*-\n# \xfc\nOLD\n",
    b"# \xc3\xbc\nOLD",
    b"OLD\r\n# mixed\n\x0c\r\nx = '\xe2\x82\xac'\n",
    b"\tOLD\n".replace(b"\t", b"if 1:\n\t"),
])  # fmt: skip
def test_encoding_and_ends_of_lines_stay(content: bytes, tmp_path: Path, migrate: Migrate) -> None:
    file = write(tmp_path / "a.py", content.replace(b"OLD", OLD.strip().encode()))
    assert migrate(tmp_path, "--write").code == DONE
    assert file.read_bytes() == content.replace(b"OLD", NEW.strip().encode())


def test_ends_of_lines_that_are_added_are_those_of_the_file(tmp_path: Path, migrate: Migrate) -> None:
    lines = [
        "from channels.layers import ChannelFull, channel_layers",
        "INSTALLED_APPS = [",
        '    "a",',
        '    "channels",',
        "]",
    ]
    file = write(tmp_path / "a.py", "\r\n".join([*lines, ""]))
    assert migrate(tmp_path, "--write").code == DONE
    text = file.read_bytes()
    assert text.count(b"\n") == text.count(b"\r\n") == 6
    assert b'[\r\n    "sealane",\r\n    "a",\r\n]' in text


def test_mode_stays(tmp_path: Path, migrate: Migrate) -> None:
    file = write(tmp_path / "manage.py", OLD)
    file.chmod(0o751)
    migrate(tmp_path, "--write")
    assert file.stat().st_mode & 0o777 == 0o751
    assert [path.name for path in tmp_path.iterdir()] == ["manage.py"]


def test_what_cannot_be_read_is_left_alone(tmp_path: Path, migrate: Migrate) -> None:
    files = {
        "bytes.py": b"import channels # \xff\n",
        "encoding.py": b"# coding: klingon\nimport channels\n",
        "syntax.py": b"import channels\nprint 'python 2'\n",
    }
    for name, content in files.items():
        write(tmp_path / name, content)
    run = migrate(tmp_path, "--write")
    assert run.code == LEFT
    assert [finding.partition(" cannot be read")[0] for finding in run.findings] == [
        "bytes.py:1:", "encoding.py:1:", "syntax.py:2:",
    ]  # fmt: skip
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_what_cannot_be_written_is_told(tmp_path: Path, migrate: Migrate, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(13, "Permission denied")

    write(tmp_path / "a.py", OLD)
    # The tests may run as root, who may write everywhere.
    monkeypatch.setattr(os, "replace", refuse)
    run = migrate(tmp_path, "--write")
    assert (run.code, run.findings) == (LEFT, ["a.py:1: could not be written: [Errno 13] Permission denied"])
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.py", OLD)]


@pytest.mark.parametrize(
    "folder", [".git", ".venv", "node_modules", "vendor/a", "_vendor", "lib/site-packages/b", "build", "a.egg-info"]
)
def test_foreign_folders(folder: str, tmp_path: Path, migrate: Migrate) -> None:
    write(tmp_path / folder / "a.py", OLD)
    assert migrate(tmp_path).code == DONE


def test_a_virtual_environment_of_any_name(tmp_path: Path, migrate: Migrate) -> None:
    write(tmp_path / "python" / "pyvenv.cfg", "")
    write(tmp_path / "python" / "a.py", OLD)
    assert migrate(tmp_path).code == DONE


def test_migrations_are_named_and_left(tmp_path: Path, migrate: Migrate) -> None:
    file = write(tmp_path / "chat" / "migrations" / "0001_a.py", OLD)
    write(tmp_path / "chat" / "migrations" / "0002_b.py", "import os\n")
    run = migrate(tmp_path, "--write")
    assert (run.code, file.read_text()) == (LEFT, OLD)
    assert len(run.findings) == 1
    assert run.findings[0].startswith("chat/migrations/0001_a.py:1: is a migration, which is left alone")


def test_links(tmp_path: Path, migrate: Migrate) -> None:
    project = tmp_path / "project"
    outside = write(tmp_path / "outside.py", OLD)
    inside = write(project / "inside.py", OLD)
    write(tmp_path / "folder" / "b.py", OLD)
    (project / "to_outside.py").symlink_to(outside)
    (project / "to_inside.py").symlink_to(inside)
    (project / "folder").symlink_to(tmp_path / "folder")
    (project / "broken.py").symlink_to(tmp_path / "missing.py")
    (project / "ring").symlink_to(project)
    run = migrate(project, "--write")
    assert run.code == LEFT
    assert run.summary == "1 file changed; 2 left for you to decide"
    assert run.findings[0].startswith("broken.py:1: cannot be read, and is left alone: ")
    assert run.findings[1] == f"to_outside.py:1: is a link to {outside}: change it there"
    assert (inside.read_text(), outside.read_text()) == (NEW, OLD)
    assert (project / "to_inside.py").is_symlink()


def test_two_settings_modules(tmp_path: Path, migrate: Migrate) -> None:
    write(tmp_path / "base.py", 'INSTALLED_APPS = ["a", "channels"]\n')
    write(tmp_path / "dev.py", 'from base import *\nINSTALLED_APPS = ["daphne"] + INSTALLED_APPS\n')
    run = migrate(tmp_path, "--write")
    assert run.code == LEFT
    assert run.findings == [
        f"dev.py:2: 'sealane' is put into a list of applications in {tmp_path}/base.py too: keep one, where both lists "
        "come together".replace(f"{tmp_path}/", "")
    ]


def test_a_module_of_the_same_name(tmp_path: Path, migrate: Migrate) -> None:
    write(tmp_path / "src" / "channels" / "__init__.py", "")
    file = write(tmp_path / "a.py", OLD)
    assert main([str(tmp_path), "--write"]) == LEFT
    assert file.read_text() == OLD


class TestArguments:
    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sealane.migrate", *arguments]
        root = Path(__file__).resolve().parents[2]
        environment = {**os.environ, "PYTHONPATH": str(root / "src"), **environment}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    def test_the_module_is_a_program(self, tmp_path: Path) -> None:
        write(tmp_path / "a.py", OLD)
        done = self.run("--write", str(tmp_path))
        assert (done.returncode, done.stderr) == (DONE, "1 file changed; 0 left for you to decide\n")
        assert (tmp_path / "a.py").read_text() == NEW

    def test_help_has_the_exit_codes(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["--help"])
        assert ended.value.code == 0
        assert "3 something is left for you to decide" in " ".join(capsys.readouterr().out.split())

    def test_no_such_path(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main([str(tmp_path / "missing")])
        assert ended.value.code == CANNOT_RUN
        assert f"there is no {tmp_path}/missing" in capsys.readouterr().err

    def test_without_libcst(self, tmp_path: Path) -> None:
        """A module that cannot be found, for a program that is started in a process of its own."""
        write(tmp_path / "hook" / "sitecustomize.py", "import sys\nsys.modules['libcst'] = None\n")
        root = Path(__file__).resolve().parents[2]
        done = self.run(str(tmp_path), PYTHONPATH=os.pathsep.join([str(tmp_path / "hook"), str(root / "src")]))
        assert done.returncode == CANNOT_RUN
        assert done.stderr == "sealane.migrate needs libcst. Install it: pip install 'sealane[migrate]'\n"

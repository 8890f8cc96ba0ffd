"""The page about the codemod: a reader with its project runs its commands, and sees what it shows."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.snippets import DOCS, ROOT, Command, blocks_of, commands_of

PAGE = DOCS / "how-to" / "migrate-with-the-codemod.md"

#: How its commands end.
CODES = [3, 3, 0]


def run(command: Command, directory: Path) -> int:
    words = shlex.split(command.words)
    assert words[0] == "python"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, *words[1:]],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    # What a pipe has of the two streams is in their order only line by line.
    assert command.printed(done.stdout), f"{command.where}: {command.words} printed\n{done.stdout}"
    return done.returncode


@pytest.mark.untraced
def test_the_page(tmp_path: Path) -> None:
    codes = []
    for block in blocks_of(PAGE):
        if block.language == "console":
            commands = [command for command in commands_of(block) if " pip " not in command.words]
            codes += [run(command, tmp_path) for command in commands]
        elif block.file is not None:
            block.write(tmp_path)
    assert codes == CODES

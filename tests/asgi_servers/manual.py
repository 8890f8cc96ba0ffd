"""What the documentation says of the servers: how each is started, and what it supports."""

import shlex

from tests.docs.snippets import DOCS, blocks_of, commands_of

__all__ = ["PAGE", "claims", "command_line"]

PAGE = DOCS / "reference" / "servers.md"

#: What stands in the page for a reader's own application and port.
APPLICATION = "mysite.asgi:application"
PORT = "8000"


def command_line(module: str) -> list[str]:
    """Return the words of the page's command that starts a server, by the module that is its program."""
    commands = [command for block in blocks_of(PAGE) if block.language == "console" for command in commands_of(block)]
    [words] = [words for words in (shlex.split(command.words) for command in commands) if words[1:3] == ["-m", module]]
    return words


def claims() -> dict[str, dict[str, str]]:
    """Return what the page's table says: for each server, in each row, by the row's first words."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    [head, *rows] = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {name: {row[0]: row[number] for row in rows} for number, name in enumerate(head) if number}

"""The fenced blocks of a Markdown page: which language, which file, which command, what it prints."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "ROOT", "Block", "Command", "blocks_of", "commands_of", "pages"]

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

#: Written above a block that cannot be run, with the reason. Invisible to readers, and counted by a test.
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>.+) -->")

_FENCE = re.compile(r"(?P<indent> *)(?P<marks>`{3,}|:{3,})(?P<info>.*)")

#: The first line of a block that is a file: `# chat/views.py`, `# mysite/settings.py: add`, `{# a/b.html #}`.
_FILE = re.compile(r"(?:#|\{#) (?P<path>[\w./-]+\.[a-z]+|Dockerfile)(?:: (?P<mode>change|add))?(?: #\})?")


@dataclass(frozen=True)
class Block:
    """One fenced block. ``line`` is the number of its first line in the page."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def where(self) -> str:
        """Say where it stands, for messages."""
        return f"{self.page.relative_to(ROOT)}, line {self.line}"

    @property
    def file(self) -> str | None:
        """The file that its first line names."""
        found = _FILE.fullmatch(self.text.partition("\n")[0])
        return found["path"] if found else None

    def write(self, directory: Path) -> None:
        """Write its file below a directory, or change the file that is there."""
        head, _, body = self.text.partition("\n")
        found = _FILE.fullmatch(head)
        if found is None:
            raise ValueError(f"{self.where}: the block names no file")
        target = directory / found["path"]
        if found["mode"] is None:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.text)
        elif found["mode"] == "add":
            target.write_text(f"{target.read_text().rstrip()}\n\n{body}")
        else:
            target.write_text(_changed(target.read_text(), body, self.where))


@dataclass(frozen=True)
class Command:
    """A command of a ``console`` block, and what the page says that it prints."""

    where: str
    words: str
    output: str

    def printed(self, text: str) -> bool:
        """Tell whether a text is what the page says; three dots stand for anything."""
        parts = [re.escape(part.strip()) for part in self.output.split("...")]
        return re.search(".*".join(parts), text, re.DOTALL) is not None


def pages() -> list[Path]:
    """List every page with prose: the documentation, and the files at the top of the repository."""
    return sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])


def blocks_of(page: Path) -> list[Block]:
    """List the fenced blocks of a page that have a language, in order. Directives of MyST are none."""
    return list(_blocks(page))


def commands_of(block: Block) -> list[Command]:
    """List the commands of a ``console`` block."""
    commands: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            where = f"{block.page.relative_to(ROOT)}, line {number}"
            commands.append(Command(where, line.removeprefix("$ "), ""))
        elif commands:
            last = commands[-1]
            commands[-1] = Command(last.where, last.words, f"{last.output}{line}\n")
        else:
            raise ValueError(f"{block.where}: a console block begins with a command, '$ ...'")
    return commands


def _blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text().splitlines()
    number = 0
    reason: str | None = None
    while number < len(lines):
        line = lines[number]
        number += 1
        opened = _FENCE.fullmatch(line)
        if opened is None:
            if line.strip():
                marked = NOT_RUN.fullmatch(line)
                reason = marked["reason"] if marked else None
            continue
        first = number
        closing = f"{opened['indent']}{opened['marks']}"
        while lines[number].rstrip() != closing:
            number += 1
        text = "".join(f"{item.removeprefix(opened['indent'])}\n" for item in lines[first:number])
        number += 1
        language = opened["info"].strip()
        if language and not language.startswith("{"):
            yield Block(page, first + 1, language, text, reason)
        reason = None


def _changed(source: str, replacement: str, where: str) -> str:
    """Return a file's source with each assignment, function and class of ``replacement`` in place of its own."""
    lines = source.splitlines(keepends=True)
    old = {_name(statement): statement for statement in ast.parse(source).body}
    new = replacement.splitlines(keepends=True)
    edits = []
    for statement in ast.parse(replacement).body:
        if _name(statement) not in old:
            raise ValueError(f"{where}: the file has no {_name(statement)} to change")
        edits.append((old[_name(statement)], new[statement.lineno - 1 : statement.end_lineno]))
    for found, text in sorted(edits, key=lambda edit: edit[0].lineno, reverse=True):
        lines[found.lineno - 1 : found.end_lineno] = text
    return "".join(lines)


def _name(statement: ast.stmt) -> str:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name
        case _:
            return ast.unparse(statement)

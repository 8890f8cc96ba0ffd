"""The command: `python -m benchmarks [--only NAME] [--rounds N] [--quick]`."""

import argparse
import functools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.applications import SIDES, available
from benchmarks.comparison import Comparison
from benchmarks.machine import describe
from benchmarks.report import as_json, as_markdown, write
from benchmarks.rows import rows_for
from benchmarks.runner import SampleFailed, run_rounds
from benchmarks.sample import Sample
from benchmarks.workload import FULL, QUICK, WORKLOADS, Sizes

__all__ = ["main"]

_RESULTS = Path(__file__).parent / "results"


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Sealane beside Channels and the bare limit."
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(WORKLOADS),
        help="this workload (may be repeated; default: all)",
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
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bar is not met")
    return parser.parse_args(given)


def _compare(samples: Mapping[str, Mapping[str, Sequence[Sample]]], sizes: Sizes) -> list[Comparison]:
    """Return a comparison for each row whose workload was measured."""
    return [
        Comparison(
            row,
            {side: [sample.figures[row.figure] for sample in taken] for side, taken in samples[row.workload].items()},
        )
        for row in rows_for(sizes)
        if row.workload in samples
    ]


def main(given: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the results.

    Return 0, or 1 where `--check` finds a bar that is not met, or 2 where a sample failed.
    """
    if sys.platform != "linux":
        raise SystemExit("the benchmarks read /proc and choose cores: they need Linux")
    arguments = _arguments(given)
    sizes = QUICK if arguments.quick else FULL
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    # A smoke run has no figures that could be disturbed.
    retakes = 0 if arguments.quick else arguments.retakes
    tell = functools.partial(print, file=sys.stderr, flush=True)
    sides = [side for side in SIDES if side in (arguments.side or SIDES)]
    for side in [side for side in sides if not available(side)]:
        tell(f"{side} is not installed, so it is left out: pip install -e '.[bench]'")
        sides.remove(side)
    workloads = [WORKLOADS[name] for name in WORKLOADS if name in (arguments.only or WORKLOADS)]
    samples = {}
    try:
        for workload in workloads:
            samples[workload.name] = run_rounds(
                workload, sides=sides, rounds=rounds, retakes=retakes, sizes=sizes, tell=tell
            )
    except SampleFailed as failure:
        tell(str(failure))
        return 2
    comparisons = _compare(samples, sizes)
    facts = describe()
    table = as_markdown(comparisons, facts, rounds=rounds)
    print(table, end="")
    whole = not (arguments.only or arguments.side or arguments.quick)
    if directory := arguments.results or (_RESULTS if whole else None):
        for path in write(directory, table, as_json(comparisons, samples, facts, rounds=rounds, sizes=sizes)):
            tell(f"written: {path}")
    missed = any(comparison.met() is False for comparison in comparisons)
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())

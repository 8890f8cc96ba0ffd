"""The report: a Markdown table to read and to keep, JSON with every round, and the chart beside them."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import MANY, Comparison, Spread
from benchmarks.sample import Sample
from benchmarks.workload import WORKLOADS, Sizes

__all__ = ["as_json", "as_markdown", "table", "write"]

_HEAD = (
    "work",
    "unit",
    "Channels",
    "Sealane",
    "limit",
    "ours / Channels",
    "ours / limit",
    "per CPU second",
    "busy: client, server, Redis",
    "bar",
    "met",
)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _range(spread: Spread | None) -> str:
    if spread is None:
        return "-"
    if spread.low == spread.high:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.low)}-{_number(spread.high)})"


def _busy(comparison: Comparison) -> str:
    """Return the greatest share of the load client, the least of the server, and the greatest of Redis, by side."""
    sides = [figures for figures in comparison.columns().values() if all(figure.server for figure in figures)]
    if not sides:
        return "-"
    client = max(statistics.median(figure.client for figure in side) for side in sides)
    server = min(statistics.median(figure.server for figure in side) for side in sides)
    store = max(statistics.median(figure.store for figure in side) for side in sides)
    shares = [f"{client:.0%}" if client else "-", f"{server:.0%}", *([f"{store:.0%}"] if store else [])]
    return ", ".join(shares)


def _verdict(comparison: Comparison) -> str:
    met = comparison.met()
    return "-" if met is None else "yes" if met else "NO"


def _cells(comparison: Comparison) -> Sequence[str]:
    row = comparison.row
    return (
        row.title,
        row.unit,
        *(_range(comparison.spread(side)) for side in ("channels", "sealane", "limit")),
        *(_range(comparison.ratio(side)) for side in ("channels", "limit")),
        _range(comparison.ratio("limit", per_processor_second=True)),
        _busy(comparison),
        "; ".join(map(str, row.bars)) or "-",
        _verdict(comparison),
    )


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table whose columns also stand under one another in a terminal."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    rule = ["-" * width for width in widths]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in (head, rule, *lines)
    ]


def _rounds(comparisons: Sequence[Comparison], rounds: int, turns: int) -> str:
    """Return how many rounds and turns there were, and where there were fewer."""
    fewer: dict[int, list[str]] = {}
    for name in dict.fromkeys(comparison.row.workload for comparison in comparisons):
        most = WORKLOADS[name].most_rounds
        if most is not None and most < rounds:
            fewer.setdefault(most, []).append(name)
    exceptions = "; ".join(f"{count} of {', '.join(names)}" for count, names in fewer.items())
    return f"{rounds} rounds" + (f" ({exceptions})" if exceptions else "") + f" with up to {turns} turns each"


def as_markdown(
    comparisons: Sequence[Comparison],
    facts: Mapping[str, str],
    *,
    rounds: int,
    turns: int,
    failures: Sequence[str] = (),
) -> str:
    """Return the table, the machine, what is doubtful, and what is not there since it failed."""
    lines = ["# Sealane beside Channels and the bare limit", ""]
    lines += table(_HEAD, [_cells(comparison) for comparison in comparisons])
    lines += [
        "",
        f"Medians of {_rounds(comparisons, rounds, turns)}, with the range of the middle half, or of all where there "
        f"are less than {MANY}. How: benchmarks/README.md.",
    ]
    if any(comparison.row.sides for comparison in comparisons):
        lines += ['In the rows of Redis, "Channels" is the layer of channels_redis of the same kind: core for streams.']
    lines += [""]
    lines += [f"- {name}: {fact}" for name, fact in facts.items()]
    doubts = [f"- {comparison.row.name}: {doubt}" for comparison in comparisons for doubt in comparison.doubts()]
    if doubts:
        lines += ["", "Doubtful:", "", *doubts]
    if failures:
        lines += ["", "Failed:", "", *(f"- {failure}" for failure in failures)]
    return "\n".join(lines) + "\n"


def as_json(
    comparisons: Sequence[Comparison],
    samples: Mapping[str, Mapping[str, Sequence[Sample]]],
    facts: Mapping[str, str],
    *,
    rounds: int,
    sizes: Sizes,
) -> dict[str, Any]:
    """Return everything that was measured, round by round. `samples` are by workload and side."""
    return {
        "facts": dict(facts),
        "rounds": rounds,
        "sizes": dataclasses.asdict(sizes),
        "messages": {
            workload: {side: [sample.messages for sample in taken] for side, taken in sides.items()}
            for workload, sides in samples.items()
        },
        "rows": [
            {
                "name": comparison.row.name,
                "title": comparison.row.title,
                "unit": comparison.row.unit,
                "bars": [str(bar) for bar in comparison.row.bars],
                "met": comparison.met(),
                "sides": {
                    side: [dataclasses.asdict(figure) for figure in figures]
                    for side, figures in comparison.figures.items()
                },
            }
            for comparison in comparisons
        ],
    }


def write(directory: Path, table: str, data: Mapping[str, Any], chart: str | None = None) -> list[Path]:
    """Write all, named after the day, and return where. A later run of the same day replaces them."""
    directory.mkdir(parents=True, exist_ok=True)
    day = data["facts"]["date"].split()[0]
    texts = {".md": table, ".json": json.dumps(data, indent=1) + "\n", ".svg": chart}
    written = []
    for suffix, text in texts.items():
        path = directory / f"{day}{suffix}"
        if text is None:
            # Of an earlier run, which had other rows.
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)
            written.append(path)
    return written

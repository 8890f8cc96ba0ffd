"""The table and the chart of the performance page, from benchmarks/results: `python -m tests.docs.figures` writes them.

It writes the figures of the scaling page too (`scaling.py`).

It takes the newest whole run. The tests compare the page with the run that the page names, so a later run does not
break them.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison import Comparison
from benchmarks.row import Row
from benchmarks.rows import rows_for
from benchmarks.sample import Figure
from tests.docs import scaling
from tests.docs.snippets import DOCS, ROOT

__all__ = ["CHART", "PAGE", "RESULTS", "named_run", "render", "written"]

PAGE = DOCS / "explanation" / "performance.md"
CHART = PAGE.with_suffix(".svg")
RESULTS = ROOT / "benchmarks" / "results"

_TABLE = re.compile(r"<!-- figures: (?P<run>[\w-]+) -->\n(?P<table>.*?)<!-- end of figures -->\n", re.DOTALL)


def written(page: str) -> str:
    """Return the part of the page that is made from the results."""
    found = _TABLE.search(page)
    assert found is not None, "the performance page has lost the marks around its figures"
    return found[0]


def named_run(page: str) -> Path | None:
    """Return the results that the page shows; None where it shows the bars alone."""
    found = _TABLE.search(page)
    assert found is not None, "the performance page has lost the marks around its figures"
    return None if found["run"] == "none" else RESULTS / f"{found['run']}.json"


def render(run: Path | None) -> str:
    """Return what the page has to say of a run, marks included."""
    rows = rows_for()
    if run is None:
        lines = _table(("Work", "Unit", "Bar"), [(row.title, row.unit, _bars(row)) for row in rows])
        return "\n".join(["<!-- figures: none -->", "", *lines, "", "<!-- end of figures -->", ""])
    data = json.loads(run.read_text())
    measured = {item["name"]: item for item in data["rows"]}
    cells = [_cells(row, measured[row.name]) for row in rows if row.name in measured]
    facts = data["facts"]
    head = ("Work", "Unit", "Channels", "Sealane", "Limit", "Ours / Channels", "Ours / limit", "Bar", "Met")
    return "\n".join(
        [
            f"<!-- figures: {run.stem} -->",
            "",
            f"Measured on {facts['date'].split()[0]}, medians of {data['rounds']} rounds: {facts['processor']}, "
            f"{facts['python']}, Django {facts['django']}, uvicorn {facts['uvicorn']}.",
            "",
            *_table(head, cells),
            "",
            "<!-- end of figures -->",
            "",
        ]
    )


def _cells(row: Row, item: dict[str, Any]) -> Sequence[str]:
    figures = {side: [Figure(**figure) for figure in taken] for side, taken in item["sides"].items()}
    comparison = Comparison(row, figures)
    spreads = [comparison.spread(side) for side in ("channels", "sealane", "limit")]
    ratios = [comparison.ratio(side) for side in ("channels", "limit")]
    medians = ["-" if spread is None else _number(spread.median) for spread in (*spreads, *ratios)]
    met = {None: "-", True: "yes", False: "no"}[comparison.met()]
    return (row.title, row.unit, *medians, _bars(row), met)


def _bars(row: Row) -> str:
    return "; ".join(map(str, row.bars)) or "-"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)]


if __name__ == "__main__":
    runs = sorted(RESULTS.glob("*.json"))
    page = PAGE.read_text()
    PAGE.write_text(page.replace(written(page), render(runs[-1] if runs else None)))
    if runs:
        CHART.write_bytes(runs[-1].with_suffix(".svg").read_bytes())
    page = scaling.PAGE.read_text()
    scaling.PAGE.write_text(page.replace(scaling.written(page), scaling.render(scaling.newest_run())))

"""The figures of the scaling page, computed by benchmarks/model.py from the newest run that has what it needs.

`python -m tests.docs.figures` writes them, with those of the performance page.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.model import LAYERS, Costs, MissingRow, Need, fit, needs
from tests.docs.snippets import DOCS, ROOT

__all__ = ["PAGE", "amount", "named_run", "newest_run", "render", "written"]

PAGE = DOCS / "explanation" / "scaling.md"
_RESULTS = ROOT / "benchmarks" / "results"

_PART = re.compile(r"<!-- model: (?P<run>[\w-]+) -->\n(?P<tables>.*?)<!-- end of the model -->\n", re.DOTALL)

_TITLES = {"streams": "`RedisChannelLayer`", "pubsub": "`RedisPubSubChannelLayer`"}


def _found(page: str) -> re.Match[str]:
    found = _PART.search(page)
    assert found is not None, "the scaling page has lost the marks around its figures"
    return found


def written(page: str) -> str:
    """Return the part of the page that is computed."""
    return _found(page)[0]


def named_run(page: str) -> Path | None:
    """Return the results that the page rests on; None where it has none yet."""
    run = _found(page)["run"]
    return None if run == "none" else _RESULTS / f"{run}.json"


def newest_run() -> Path | None:
    """Return the newest results that the model can be fitted to."""
    for path in sorted(_RESULTS.glob("*.json"), reverse=True):
        try:
            _costs(json.loads(path.read_text()))
        except (KeyError, MissingRow):
            continue
        return path
    return None


def _costs(data: Mapping[str, Any]) -> dict[str, Costs]:
    return {layer: fit(data, layer) for layer in LAYERS}


def render(run: Path | None) -> str:
    """Return what the page has to say of a run, marks included."""
    if run is None:
        return "<!-- model: none -->\n\nNo run has been fitted yet.\n\n<!-- end of the model -->\n"
    data = json.loads(run.read_text())
    costs = _costs(data)
    lines = [
        f"<!-- model: {run.stem} -->",
        "",
        f"Fitted to the run of {data['facts']['date'].split()[0]} on {data['facts']['processor']}.",
        "",
        "| Cost | " + " | ".join(_TITLES[layer] for layer in LAYERS) + " |",
        "| --- | --- | --- |",
        *_cost_lines(costs),
        "",
        "| Need | " + " | ".join(_TITLES[layer] for layer in LAYERS) + " | Rests on |",
        "| --- | --- | --- | --- |",
        *_need_lines({layer: needs(each) for layer, each in costs.items()}),
        "",
        "<!-- end of the model -->",
        "",
    ]
    return "\n".join(lines)


def _cost_lines(costs: Mapping[str, Costs]) -> list[str]:
    def line(name: str, *values: str) -> str:
        return f"| {name} | " + " | ".join(values) + " |"

    def grown(name: str, field: str, unit: str) -> str:
        texts = []
        for each in costs.values():
            found = getattr(each, field)
            sign = "-" if found.fixed < 0 else ""
            texts.append(f"{sign}{amount(abs(found.fixed), unit)} + {amount(found.each, unit)} for each process")
        return line(name, *texts)

    def plain(name: str, field: str, unit: str) -> str:
        return line(name, *(amount(getattr(each, field), unit) for each in costs.values()))

    return [
        grown("commands of a `group_send`", "commands", ""),
        grown("bytes into Redis", "bytes_in", "B"),
        grown("bytes out of Redis", "bytes_out", "B"),
        grown("processor time of Redis", "redis", "s"),
        plain("processor time of Redis for a process that reads it", "read", "s"),
        plain("processor time of the sender", "send", "s"),
        plain("processor time of a process that it arrives in", "arrival", "s"),
        plain("and for each frame to a client", "delivery", "s"),
        plain("memory of an idle WebSocket, after a handler that waited", "socket", "B"),
        plain("memory of its membership in a room", "membership", "B"),
        plain("memory of a group of its own", "own_group", "B"),
        plain("memory of Redis for a group, by process with a member", "group", "B"),
    ]


def _need_lines(found: Mapping[str, list[Need]]) -> list[str]:
    lines = []
    for some in zip(*found.values(), strict=True):
        values = " | ".join(amount(need.value, need.unit) for need in some)
        lines.append(f"| {some[0].name} | {values} | {some[0].basis} |")
    return lines


_SCALES = {
    "B": ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    "B/s": ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1, "B/s")),
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "us")),
}


def amount(value: float, unit: str) -> str:
    """Return a value with three digits, in a unit of its size."""
    scales = _SCALES.get(unit, ((1, unit),))
    scale, shown = next((each for each in scales if value >= each[0]), scales[-1])
    value /= scale
    text = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return text + ("" if not shown else shown if shown.startswith("/") else f" {shown}")

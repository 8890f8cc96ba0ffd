"""The chart, as SVG: how many times the peer, how the cost grows, and how long a message takes under load."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from benchmarks.comparison import Comparison
from benchmarks.workload import WORKLOADS, Sizes

__all__ = ["as_svg"]

#: The picture and its parts, in pixels.
_WIDTH = 1120
_LABELS = 600
_BAR = 22
_PANEL = 300
_MARGIN = 60

#: Workloads that are drawn as curves, or of which the table has enough.
_CURVES = ("redis-processes", "redis-groups", "redis-sockets", "latency", "footprint")

#: Colour and name of each side. The colours can be told apart by everybody.
_SIDES = {
    "sealane": ("#009e73", "Sealane, in one process"),
    "sealane-streams": ("#0072b2", "Sealane, streams"),
    "sealane-pubsub": ("#56b4e9", "Sealane, pub/sub"),
    "channels-core": ("#d55e00", "channels_redis, core"),
    "channels-pubsub": ("#e69f00", "channels_redis, pub/sub"),
    "limit": ("#000000", "bare loop over send"),
    "limit-streams": ("#555555", "bare EVALSHA with XADD"),
    "limit-pubsub": ("#aaaaaa", "bare PUBLISH"),
}


@dataclasses.dataclass(frozen=True)
class _Scale:
    """A logarithmic scale of values from `low` to `high` to pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> "_Scale":
        """Return the scale between the powers of ten around the values."""
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return cls(10.0**low, 10.0 ** max(high, low + 1), start, end)

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        share = math.log10(value / self.low) / math.log10(self.high / self.low)
        return self.start + (self.end - self.start) * share

    def ticks(self) -> list[float]:
        """Return the powers of ten."""
        return [self.low * 10**power for power in range(round(math.log10(self.high / self.low)) + 1)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    shown = escape(text.replace("`", ""))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{shown}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width:g}"/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _better(comparison: Comparison, other: str) -> float | None:
    """Return how many times better Sealane is than another side."""
    ratio = comparison.ratio(other)
    if ratio is None or not ratio.median:
        return None
    return 1 / ratio.median if comparison.row.less_is_better else ratio.median


def _bars(comparisons: Sequence[Comparison], top: float) -> tuple[list[str], float]:
    """Draw a bar for each row, from the peer at 1, and a mark where the limit is. Return the height too."""
    drawn: list[tuple[str, str, float, float | None]] = []
    for comparison in comparisons:
        times, share = _better(comparison, "channels"), _better(comparison, "limit")
        if times is not None:
            side = comparison.row.side("sealane")
            drawn.append((comparison.row.title, _SIDES[side][0], times, times / share if share else None))
    if not drawn:
        return [], 0
    values = [1.0, *(value for _, _, times, limit in drawn for value in (times, limit) if value)]
    scale = _Scale.around(values, _LABELS, _WIDTH - _MARGIN)
    bottom = top + 30 + _BAR * len(drawn)
    parts = [
        _text(
            10,
            top + 12,
            "Times Channels (through Redis, its layer of the same kind); the mark is the limit",
            weight="bold",
        )
    ]
    for tick in scale.ticks():
        x = scale.at(tick)
        parts += [_line(x, top + 24, x, bottom, "#dddddd"), _text(x, bottom + 14, _number(tick), anchor="middle")]
    for number, (title, colour, times, limit) in enumerate(drawn):
        y = top + 30 + _BAR * number
        left, right = sorted((scale.at(1), scale.at(times)))
        parts += [
            _text(_LABELS - 8, y + 13, title, anchor="end"),
            f'<rect x="{left:.1f}" y="{y + 2:.1f}" width="{right - left:.1f}" height="{_BAR - 6}" fill="{colour}"/>',
            _text(max(right, scale.at(limit) if limit else 0) + 6, y + 13, f"{_number(times)}x"),
        ]
        if limit:
            parts.append(_line(scale.at(limit), y, scale.at(limit), y + _BAR - 2, "#000000", 2))
    parts.append(_line(scale.at(1), top + 24, scale.at(1), bottom, "#000000"))
    return parts, bottom + 30 - top


def _curves(
    title: str, names: Sequence[str], series: Mapping[str, Sequence[float]], left: float, top: float
) -> list[str]:
    """Draw a line for each side over `names`, which stand at equal distances."""
    right, bottom = left + _WIDTH / 2 - 1.5 * _MARGIN, top + _PANEL
    parts = [_text(left - _MARGIN + 10, top + 12, title, weight="bold")]
    scale = _Scale.around([value for values in series.values() for value in values], bottom, top + 30)
    for tick in scale.ticks():
        y = scale.at(tick)
        parts += [_line(left, y, right, y, "#dddddd"), _text(left - 6, y + 4, _number(tick), anchor="end")]
    xs = [left + (right - left) * (number + 0.5) / len(names) for number in range(len(names))]
    parts += [_text(x, bottom + 16, name, anchor="middle") for x, name in zip(xs, names, strict=True)]
    for side, values in series.items():
        colour, _ = _SIDES[side]
        points = [(x, scale.at(value)) for x, value in zip(xs, values, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return parts


def _series(comparisons: Sequence[Comparison], figures: Sequence[str]) -> dict[str, list[float]]:
    """Return the medians of each side that has all the figures."""
    found: dict[str, dict[str, float]] = {}
    for comparison in comparisons:
        if comparison.row.figure in figures:
            for column in comparison.columns():
                spread = comparison.spread(column)
                assert spread is not None
                found.setdefault(comparison.row.side(column), {})[comparison.row.figure] = spread.median
    return {
        side: [medians[name] for name in figures] for side, medians in found.items() if len(medians) == len(figures)
    }


def _legend(sides: Sequence[str], top: float) -> list[str]:
    parts = []
    for number, side in enumerate(sides):
        colour, name = _SIDES[side]
        x, y = 20 + number % 3 * _WIDTH / 3, top + number // 3 * 20
        parts += [
            f'<rect x="{x:.1f}" y="{y:.1f}" width="12" height="12" fill="{colour}"/>',
            _text(x + 18, y + 11, name),
        ]
    return parts


def as_svg(comparisons: Sequence[Comparison], sizes: Sizes) -> str | None:
    """Draw what was measured beside the peer, and what grows; None where that is nothing."""
    through_redis = [comparison for comparison in comparisons if WORKLOADS[comparison.row.workload].redis]
    speeds = [
        comparison
        for comparison in comparisons
        if comparison.row.workload not in _CURVES and comparison.row.unit not in ("commands", "bytes", "x")
    ]
    parts, top = _bars(speeds, 10)
    panels = (
        ("us for a `group_send`, by processes with a member", "processes", sizes.processes),
        ("us for a `group_send` and its `receive`, by other groups", "groups", sizes.groups),
        ("deliveries/s of a broadcast, by sockets of the process", "sockets", sizes.grown),
        ("p50 in ms up to the client's frame, by load in % of the capacity", "p50", sizes.loads),
        ("p99 of the same", "p99", sizes.loads),
        ("p99.9 of the same", "p999", sizes.loads),
    )
    shown: list[str] = []
    drawn = 0
    for title, name, counts in panels:
        series = _series(through_redis, [f"{name}-{count}" for count in counts])
        if series:
            left, above = _MARGIN + drawn % 2 * _WIDTH / 2, top + drawn // 2 * (_PANEL + 50)
            parts += _curves(title, [f"{count:,}" for count in counts], series, left, above + 20)
            shown += [side for side in series if side not in shown]
            drawn += 1
    top += (drawn + 1) // 2 * (_PANEL + 50)
    if not parts:
        return None
    legend = [side for side in _SIDES if side in shown or side.startswith("sealane")]
    parts += _legend(legend, top + 10)
    height = top + 20 + 20 * math.ceil(len(legend) / 3)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {_WIDTH} {height:.0f}" font-family="sans-serif" font-size="12">',
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )

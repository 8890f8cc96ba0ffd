"""What the rounds of one row say: medians, spreads, ratios, whether bars are met, what is doubtful."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.row import Bar, Row
from benchmarks.sample import DISTURBED, Figure

__all__ = ["MANY", "Comparison", "Spread"]

#: A load client with less to spare than this may have been what was measured.
_BUSY_CLIENT = 0.9


#: Of so many values, a few that went wrong say nothing.
MANY = 8


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some values, and the range of their middle half; where they are few, of all."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        if len(values) < MANY:
            return cls(statistics.median(values), min(values), max(values))
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row, with the figures of every side of its workload, round by round.

    A side is asked for by its column ("limit", "channels", "sealane") or by its own name.
    """

    row: Row
    figures: Mapping[str, Sequence[Figure]]

    def taken(self, side: str) -> Sequence[Figure]:
        """Return the figures of a side, or none where it was not measured."""
        return self.figures.get(self.row.side(side), ())

    def columns(self) -> dict[str, Sequence[Figure]]:
        """Return the figures that the row shows, by column."""
        return {column: taken for column in ("limit", "channels", "sealane") if (taken := self.taken(column))}

    def spread(self, side: str) -> Spread | None:
        """Return what a side reached, or None where it was not measured."""
        taken = self.taken(side)
        return Spread.of([figure.value for figure in taken]) if taken else None

    def ratio(self, other: str, *, per_processor_second: bool = False) -> Spread | None:
        """Return Sealane over another side, of each round's pair, or None where one of them was not measured.

        `per_processor_second` divides what was done by the processor time that the server had, not by the
        time on the wall: it is what is left to compare where others kept the machine busy.
        """
        ours, theirs = self.taken("sealane"), self.taken(other)
        if not ours or not theirs:
            return None
        pairs = list(zip(ours, theirs, strict=True))
        if not all(their.value for _, their in pairs):
            return None
        if per_processor_second:
            if not all(our.server and their.server for our, their in pairs):
                return None
            return Spread.of([self._adjusted(our) / self._adjusted(their) for our, their in pairs])
        return Spread.of([our.value / their.value for our, their in pairs])

    def _adjusted(self, figure: Figure) -> float:
        return figure.value * figure.server if self.row.less_is_better else figure.value / figure.server

    def held_against(self, bar: Bar) -> float | None:
        """Return the number that a bar judges, or None where it cannot be known."""
        ours, limit = self.spread("sealane"), self.spread("limit")
        if ours is None:
            return None
        match bar.of:
            case "itself":
                return ours.median
            case "above":
                return None if limit is None else ours.median - limit.median
            case other:
                ratio = self.ratio(other)
                return None if ratio is None else ratio.median

    def met(self) -> bool | None:
        """Tell whether all bars that can be judged are met; None where there are none."""
        judged = [bar.met(value) for bar in self.row.bars if (value := self.held_against(bar)) is not None]
        return all(judged) if judged else None

    def bottlenecks(self) -> list[str]:
        """Return the sides whose load client had less than a tenth of its core left: it is what was measured."""
        shares = {
            side: statistics.median(figure.client for figure in figures) for side, figures in self.columns().items()
        }
        return [f"load client of {side} {share:.0%} busy" for side, share in shares.items() if share > _BUSY_CLIENT]

    def doubts(self) -> list[str]:
        """Return what speaks against the figures: a busy load client, a machine that others used."""
        shown = self.columns()
        if not shown:
            return []
        found = self.bottlenecks()
        others = statistics.median(figure.others for figures in shown.values() for figure in figures)
        if others > DISTURBED:
            found.append(f"others used {others:.0%} of the machine")
        return found

"""What the rounds of one row say: medians, spreads, ratios, whether bars are met, what is doubtful."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.rows import Bar, Row
from benchmarks.sample import DISTURBED, Figure

__all__ = ["Comparison", "Spread"]

#: A load client with less to spare than this may have been what was measured.
_BUSY_CLIENT = 0.9


@dataclasses.dataclass(frozen=True)
class Spread:
    """The median of some rounds, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One row, with the figures of every side, round by round."""

    row: Row
    figures: Mapping[str, Sequence[Figure]]

    def spread(self, side: str) -> Spread | None:
        """Return what a side reached, or None where it was not measured."""
        if side not in self.figures:
            return None
        return Spread.of([figure.value for figure in self.figures[side]])

    def ratio(self, other: str, *, per_processor_second: bool = False) -> Spread | None:
        """Return Sealane over another side, of each round's pair, or None where one of them was not measured.

        `per_processor_second` divides what was done by the processor time that the server had, not by the
        time on the wall: it is what is left to compare where others kept the machine busy.
        """
        if "sealane" not in self.figures or other not in self.figures:
            return None
        pairs = list(zip(self.figures["sealane"], self.figures[other], strict=True))
        if per_processor_second:
            if not all(ours.server and theirs.server for ours, theirs in pairs):
                return None
            return Spread.of([self._adjusted(ours) / self._adjusted(theirs) for ours, theirs in pairs])
        return Spread.of([ours.value / theirs.value for ours, theirs in pairs])

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

    def doubts(self) -> list[str]:
        """Return what speaks against the figures: a busy load client, a machine that others used."""
        found = []
        for side, figures in self.figures.items():
            client = statistics.median(figure.client for figure in figures)
            if client > _BUSY_CLIENT:
                found.append(f"load client of {side} {client:.0%} busy")
        others = statistics.median(figure.others for figures in self.figures.values() for figure in figures)
        if others > DISTURBED:
            found.append(f"others used {others:.0%} of the machine")
        return found

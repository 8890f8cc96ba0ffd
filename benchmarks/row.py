"""A line of the report, and the bars that it is held against."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

__all__ = ["Bar", "Row"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
    """What Sealane's figure has to reach.

    `of` says what is held against the bar: the ratio to Channels ("channels"), to channels_redis's layer on pub/sub
    ("channels-pubsub") or to the limit ("limit"), the difference to the limit in the row's unit ("above"), or the
    figure alone ("itself").
    """

    of: Literal["channels", "channels-pubsub", "limit", "above", "itself"]
    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool:
        """Tell whether `value` is good enough."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        subject = {
            "channels": "of Channels",
            "channels-pubsub": "of channels_redis pub/sub",
            "limit": "of the limit",
            "above": "above the limit",
            "itself": "",
        }
        return f"{bound} {subject[self.of]}".strip()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the report: a figure of a workload. `less_is_better` is for costs.

    `sides` names the sides that stand in the columns "limit", "channels" and "sealane", where these are others.
    """

    name: str
    title: str
    workload: str
    figure: str
    unit: str
    bars: tuple[Bar, ...] = ()
    less_is_better: bool = False
    sides: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def side(self, column: str) -> str:
        """Return the side that stands in a column. A side that is not a column is its own."""
        return self.sides.get(column, column)

"""What an owner is told where messages may have been lost on their way to it."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Gap", "GapReason"]

GapReason = Literal["forgotten", "trimmed", "rewound", "disconnected"]


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages may have been missed by the channels of this event loop, and what they were cannot be found out.

    ``reason`` is "forgotten" where the server had lost its data or the process was away for longer than its lease, so
    that the layer registered anew; "trimmed" where more waited than the server keeps; "rewound" where a server took
    over, or came back, that may lack what was acknowledged before; "disconnected" where a layer that keeps nothing had
    lost its connection. ``lost`` is how many entries were missed, None where that is not known: an entry is one message
    for a channel, or for all members of a group. ``seconds`` is for how long nothing had been received.
    """

    reason: GapReason
    lost: int | None = None
    seconds: float = 0.0

    def merge(self, later: "Gap") -> "Gap":
        """Return one gap for this and a later one, of which nobody has been told yet."""
        lost = None if self.lost is None or later.lost is None else self.lost + later.lost
        return Gap(later.reason, lost, max(self.seconds, later.seconds))

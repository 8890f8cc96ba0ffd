"""What the limits of a consumer class have refused and dropped, counted by name."""

import threading
import time
from collections.abc import Callable
from typing import Final, Literal, get_args

from sealane.consumers.complaint import Complaint

__all__ = ["LimitCounters", "LimitName"]

LimitName = Literal[
    "refused_size",
    "refused_rate",
    "refused_groups",
    "dropped_oldest",
    "dropped_newest",
    "dropped_closed",
    "closed_slow",
    "refused_envelope",
    "refused_streams",
    "closed_streams",
]

_NAMES: Final[tuple[LimitName, ...]] = get_args(LimitName)


class LimitCounters:
    """Totals of one consumer class in this process, since it was defined. For any thread.

    - ``refused_size``: frames of clients over ``max_message_size``,
    - ``refused_rate``: frames over ``max_message_rate``,
    - ``refused_groups``: groups that were not joined, because of ``max_groups``,
    - ``dropped_oldest``: frames for a slow client that were dropped for newer ones,
    - ``dropped_newest``: frames for a slow client that found its queue full,
    - ``dropped_closed``: frames that waited for a slow client when its connection ended,
    - ``closed_slow``: connections that were ended because the client was too slow,
    - ``refused_envelope``: frames of clients that came to nothing at a demultiplexer,
    - ``refused_streams``: streams that were not opened, because of ``max_streams``,
    - ``closed_streams``: streams that were closed because they were too slow for what their client sent.
    """

    __slots__ = ("_clock", "_complaints", "_counts", "_lock")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: dict[LimitName, int] = dict.fromkeys(_NAMES, 0)
        self._complaints: dict[LimitName, Complaint] = {}
        self._lock = threading.Lock()

    def note(self, name: LimitName, count: int = 1) -> bool:
        """Count, and tell whether to write a line in the log about it: once a minute for each name."""
        with self._lock:
            self._counts[name] += count
            complaint = self._complaints.get(name)
            if complaint is None:
                complaint = self._complaints[name] = Complaint(self._clock)
            return complaint.is_due()

    def __getitem__(self, name: LimitName) -> int:
        return self._counts[name]

    def as_dict(self) -> dict[str, int]:
        """Return every counter by name."""
        with self._lock:
            return {name: self._counts[name] for name in _NAMES}

    def __repr__(self) -> str:
        counts = " ".join(f"{name}={count}" for name, count in self.as_dict().items() if count)
        return f"<LimitCounters {counts or 'nothing'}>"

"""A line of the log that many would write at the same time."""

import time
from collections.abc import Callable

__all__ = ["Complaint"]


class Complaint:
    """One line of a log that many connections would write at the same time: it is due once a minute."""

    __slots__ = ("_clock", "_next")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = float("-inf")

    def is_due(self) -> bool:
        """Tell whether to write it now; then it is not due for a minute."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + 60
        return True

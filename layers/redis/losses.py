"""What is known to be missing on one shard, until it is told."""

import time
from collections.abc import Callable

from sealane.layers.gap import Gap, GapReason

__all__ = ["Losses"]


class Losses:
    """Decides when a gap is told, and that one loss which several calls find is told once.

    A call that finds something names the time when it was made: a gap that was told since covers it.
    """

    def __init__(self, tell: Callable[[Gap], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._clock = clock
        self._missed: Gap | None = None
        # Up to which entry it is to be read before it is known whether something was missed, when the call was made
        # that found it, and for how long nothing had been heard then.
        self._doubts: list[tuple[int, float, float]] = []
        # When a gap was last told.
        self._told = float("-inf")

    @property
    def known(self) -> bool:
        """Whether something is to be told."""
        return self._missed is not None

    def find(self, reason: GapReason, seconds: float) -> None:
        """Note that something is missing; ``seconds`` is for how long nothing had been heard."""
        if self._missed is None or reason == "forgotten":
            self._missed = Gap(reason, None, seconds)

    def doubt(self, number: int, asked: float, seconds: float) -> None:
        """Note that memberships were missing when this was the last entry that had been posted."""
        self._doubts.append((number, asked, seconds))

    def settle(self, read: int, flushed: float) -> float | None:
        """Decide about what was doubtful up to the last entry that was read.

        Such is a loss, unless it was found by a call that was made before everything was last ``flushed`` here. Return
        when the last such call was made that found a loss, or None.
        """
        last = None
        doubts, self._doubts = self._doubts, []
        for number, asked, seconds in doubts:
            if number > read:
                self._doubts.append((number, asked, seconds))
            elif asked > flushed:
                self.find("rewound", seconds)
                last = asked
        return last

    @property
    def in_doubt(self) -> bool:
        """Whether something is to be decided."""
        return bool(self._doubts)

    def tell(self, asked: float) -> None:
        """Tell a gap, if something is missing, unless one was told since this call was made that found it."""
        gap, self._missed = self._missed, None
        if gap is not None and self._told < asked:
            self._told = self._clock()
            # Whatever else was missed is told with it.
            self._doubts.clear()
            self._tell(gap)

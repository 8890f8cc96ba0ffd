"""How often something may happen: so many times a second, and a few more in a burst."""

import time
from collections.abc import Callable
from typing import Final

__all__ = ["TokenBucket"]

#: Seconds after which the credit for a time in which nobody could act is void.
GRACE: Final = 1.0

#: What the rounding of times may cost: at exactly the rate, every token is there.
TOLERANCE: Final = 1e-6


class TokenBucket:
    """Tokens that come at a steady rate; each act takes one. Not for several threads.

    The bucket is full at first and holds ``burst`` tokens. The time in which those who act were *held*, because nobody
    took what they did, counts for them: its tokens come on top of a full bucket, since what was done meanwhile comes
    all at once. They are void a second later.
    """

    __slots__ = ("_burst", "_clock", "_extra", "_rate", "_then", "_tokens")

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Fill the bucket.

        rate: tokens per second.
        burst: how many it holds.
        clock: returns seconds; tests give one of their own.
        """
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._extra = 0.0
        self._then = clock()

    def take(self, held: float = 0.0) -> bool:
        """Take a token, and tell whether there was one.

        held: how many of the seconds since the call before nobody took what was done.
        """
        now = self._clock()
        passed = max(0.0, now - self._then - held)
        self._then = now
        self._tokens = min(float(self._burst), self._tokens + passed * self._rate)
        self._extra = self._extra * max(0.0, 1 - passed / GRACE) + held * self._rate
        if self._tokens + self._extra < 1 - TOLERANCE:
            return False
        missing = max(0.0, 1 - self._extra)
        self._extra = max(0.0, self._extra - 1)
        self._tokens = max(0.0, self._tokens - missing)
        return True

    def __repr__(self) -> str:
        return f"<TokenBucket {self._tokens + self._extra:.1f} of {self._burst}, {self._rate:g} per second>"

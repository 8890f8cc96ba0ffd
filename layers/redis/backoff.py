"""How long to wait before the next try to reach a server."""

import random
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Delays that grow with each failure, with full jitter, so that many processes do not come back all at once.

    It only computes; whoever uses it waits. The delay after the n-th failure in a row lies evenly between 0 and
    ``first * 2 ** (n - 1)`` seconds, and never over ``most``.
    """

    __slots__ = ("_first", "_most", "_random", "failures")

    def __init__(self, *, first: float = 0.05, most: float = 2.0, random: Callable[[], float] = random.random) -> None:
        """Take the bounds in seconds, and where randomness comes from: a callable that gives a number in [0, 1)."""
        self._first = first
        self._most = most
        self._random = random
        #: How many failures there were in a row.
        self.failures = 0

    def next(self) -> float:
        """Count a failure, and return how many seconds to wait before the next try."""
        # Past 2**64 the bound has long been `most`; without an end, a float would overflow after a long time alone.
        bound = min(self._most, self._first * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return self._random() * bound

    def reset(self) -> None:
        """Forget the failures, after a success."""
        self.failures = 0

    def __repr__(self) -> str:
        return f"<Backoff failures={self.failures}>"

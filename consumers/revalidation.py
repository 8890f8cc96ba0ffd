"""When the user of a connection is read anew: at intervals, and where a message asks for it."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

__all__ = ["PATIENCE", "SPACING", "Revalidation"]

#: Seconds that lie between two checks of one connection at least, however many messages ask for one.
SPACING: Final = 1.0

#: Seconds after which a question that was not answered counts as one that cannot be answered now.
PATIENCE: Final = 30.0

#: The part of an interval by which each is made shorter, at random: connections that came together drift apart.
SPREAD: Final = 0.1


class Revalidation:
    """The schedule of one connection's checks.

    One timer at most, and one check at a time: the next interval begins when a check is over. A check runs in a task
    of its own, so that no message waits for it. What asks for a check while one runs gets another one after it, since
    the first may have looked too early. All calls are made in the thread of the event loop.
    """

    __slots__ = (
        "_again",
        "_check",
        "_loop",
        "_not_before",
        "_random",
        "_running",
        "_seconds",
        "_spawn",
        "_stopped",
        "_timer",
    )

    def __init__(
        self,
        seconds: float | None,
        check: Callable[[], Awaitable[None]],
        spawn: Callable[[Coroutine[Any, Any, None]], Any],
        loop: asyncio.AbstractEventLoop,
        *,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Prepare; nothing happens before :meth:`start` or :meth:`ask`.

        seconds: the longest interval; None for checks that are asked for only.
        spawn: starts a task that ends with the connection.
        random: returns numbers from 0 to 1; tests give one of their own.
        """
        self._seconds = seconds
        self._check = check
        self._spawn = spawn
        self._loop = loop
        self._random = random
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._running = False
        self._again = False
        self._stopped = False

    def start(self) -> None:
        """Begin the first interval. Nothing happens where there are none, or one has begun."""
        if self._seconds is not None and not self._running:
            self._arm(self._seconds * (1 - SPREAD * self._random()))

    def ask(self) -> None:
        """Have a check made at once, or as soon as the spacing allows."""
        if self._running:
            self._again = True
        else:
            self._arm(max(0.0, self._not_before - self._loop.time()))

    def stop(self) -> None:
        """Make no check any more. One that runs is left to whoever ends its task. Twice is harmless."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, delay: float) -> None:
        """Set the timer, unless it is set to an earlier time."""
        if self._stopped:
            return
        if self._timer is not None:
            if self._timer.when() <= self._loop.time() + delay:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(delay, self._due)

    def _due(self) -> None:
        self._timer = None
        self._running = True
        self._spawn(self._run())

    async def _run(self) -> None:
        try:
            await self._check()
        finally:
            self._running = False
            self._not_before = self._loop.time() + SPACING
            again, self._again = self._again, False
            if again:
                self._arm(SPACING)
            else:
                self.start()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "checking" if self._running else "waiting" if self._timer else "idle"
        return f"<{type(self).__name__} {state}, every {self._seconds} s>"

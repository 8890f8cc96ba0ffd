"""Ending things in order: each to its end, through cancellations, and no longer than a deadline."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple

__all__ = ["Step", "conclude", "finish"]

logger = logging.getLogger("sealane.consumers")

#: Seconds that a step still has when its time is over. A loop that stood still finds timers due before it gets to what
#: has come meanwhile.
_AGAIN = 0.1


async def finish(task: asyncio.Task[Any], timeout: float, what: str) -> None:
    """Wait until a task has ended, for at most ``timeout`` seconds.

    A cancellation of the caller does not reach the task: it is kept, and raised here at the end. A task that is late
    is cancelled, reported with one error line that calls it ``what``, and left to itself. What the task raised is
    its own and not raised here.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    cancelled = False
    while not task.done():
        remaining = deadline - loop.time()
        if remaining <= 0:
            task.cancel()
            logger.error("%s did not end within %g seconds", what, timeout)
            break
        try:
            await asyncio.wait([task], timeout=remaining)
        except asyncio.CancelledError:
            cancelled = True
    if task.done() and not task.cancelled():
        task.exception()  # looked at, so that asyncio does not report it as never retrieved
    if cancelled:
        raise asyncio.CancelledError


class Step(NamedTuple):
    """One step of an end."""

    #: What the step is, for the log.
    what: str
    #: How many seconds it may take.
    seconds: float
    run: Callable[[], Awaitable[None]]


async def conclude(steps: Iterable[Step], context: contextvars.Context) -> None:
    """Take steps one after the other, whatever becomes of each.

    A step that raises is reported, one that is late by a tenth of a second is cancelled and reported, and the next one
    follows. A cancellation of the caller does not reach the steps; it is raised here after the last one.
    """
    loop = asyncio.get_running_loop()
    left = iter(steps)
    cancelled = False
    ending = None
    while ending is None or not ending.through:
        # One task takes all the steps. Where one of them is late or cancelled, another task goes on with the next.
        ending = _Ending(left, loop, context)
        while not ending.over.done():
            try:
                await asyncio.wait([ending.over])
            except asyncio.CancelledError:
                cancelled = True
    if cancelled:
        raise asyncio.CancelledError


class _Ending:
    """A task that takes steps until none is left, or one is late."""

    def __init__(self, left: Iterator[Step], loop: asyncio.AbstractEventLoop, context: contextvars.Context) -> None:
        self._left = left
        self._loop = loop
        #: Whether no step was left.
        self.through = False
        #: Done where the task is, or is not waited for any more.
        self.over: asyncio.Future[None] = loop.create_future()
        self._task = asyncio.Task(self._run(), loop=loop, context=context)
        self._task.add_done_callback(self._ended)

    async def _run(self) -> None:
        while not self.over.done():
            step = next(self._left, None)
            if step is None:
                self.through = True
                return
            self._deadline = self._loop.call_later(step.seconds, self._look_again, step)
            try:
                await step.run()
            except Exception:
                logger.exception("%s failed", step.what)
            finally:
                self._deadline.cancel()

    def _look_again(self, step: Step) -> None:
        self._deadline = self._loop.call_later(_AGAIN, self._give_up, step)

    def _give_up(self, step: Step) -> None:
        self._task.cancel()
        logger.error("%s did not end within %g seconds", step.what, step.seconds)
        self.over.set_result(None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it as never retrieved
        if not self.over.done():
            self.over.set_result(None)

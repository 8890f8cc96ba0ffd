"""Ending things in order: each to its end, through cancellations, and no longer than a deadline."""

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

__all__ = ["Step", "conclude", "finish"]

logger = logging.getLogger("sealane.consumers")


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

    A step that raises is reported, one that is late is cancelled and reported, and the next one follows. A
    cancellation of the caller does not reach the steps; it is raised here after the last one.
    """
    loop = asyncio.get_running_loop()
    cancelled = False
    for step in steps:
        task = asyncio.Task(_run(step), loop=loop, context=context)
        try:
            await finish(task, step.seconds, step.what)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


async def _run(step: Step) -> None:
    try:
        await step.run()
    except Exception:
        logger.exception("%s failed", step.what)

"""Waiting for the end of a task, through cancellations and no longer than a deadline."""

import asyncio
import logging
from typing import Any

__all__ = ["finish"]

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

"""Waiting under a time limit that counts only time in which the event loop ran."""

import asyncio
from typing import Any, Final

__all__ = ["STOOD_STILL", "ended_within", "stood_still"]

#: A timer that comes so many seconds late means that the event loop stood still: the machine had something else to do.
STOOD_STILL: Final = 0.2


def stood_still(deadline: float) -> bool:
    """Return whether the loop has come to a deadline, by its clock, so late that others had no time before it."""
    return asyncio.get_running_loop().time() - deadline > STOOD_STILL


async def ended_within(task: "asyncio.Future[Any]", timeout: float | None) -> bool:
    """Wait for the end of a task, at most ``timeout`` seconds, and return whether it has ended.

    Where the loop stood still meanwhile, the time begins anew.
    """
    while True:
        deadline = asyncio.get_running_loop().time() + (timeout or 0)
        await asyncio.wait({task}, timeout=timeout)
        if task.done() or not timeout or not stood_still(deadline):
            return task.done()

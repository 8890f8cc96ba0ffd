"""Which task counts as the running one, for steps that are taken by hand for many tasks in a row."""

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from operator import setitem
from typing import Any

__all__ = ["step_in", "step_out"]

#: ``step_in(loop, task)`` has a task count as the one that runs now, in place of the one that did. It is for a callback
#: of the event loop, where no task runs by itself. :func:`step_out` must follow before the callback ends.
step_in: Callable[[asyncio.AbstractEventLoop, Any], object]

# asyncio._enter_task() and _leave_task(), which its docs have for those who extend it, need both calls for each task,
# and each of them looks for the loop. From one task to the next a single step does.
if sys.version_info >= (3, 12):
    step_in = asyncio.tasks._swap_current_task  # type: ignore[attr-defined]

    def step_out(loop: asyncio.AbstractEventLoop) -> None:
        """Have no task count as the one that runs."""
        step_in(loop, None)
else:
    # The table that those two keep. Later versions do without it.
    _current_tasks = asyncio.tasks._current_tasks  # type: ignore[attr-defined]
    step_in = partial(setitem, _current_tasks)

    def step_out(loop: asyncio.AbstractEventLoop) -> None:
        """Have no task count as the one that runs."""
        _current_tasks.pop(loop, None)

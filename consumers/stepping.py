"""Running a coroutine up to where it first waits, and from there on in a task.

Most handlers never wait: what they send fits into the server's buffer. To know that, and to run such a one without a
task of its own, its first step is taken by hand: ``next(handler.__await__(), THROUGH)``.
"""

import asyncio
import contextvars
import gc
import sys
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Final, NamedTuple

from sealane.types import Message

__all__ = ["THROUGH", "Rest", "go_on", "hold", "start", "task_context"]

#: What the first step gives where the coroutine ended with it.
THROUGH: Final = object()


class Rest(NamedTuple):
    """What is left to do for a message after the first step of its handler."""

    message: Message
    #: What the handler raised.
    error: BaseException | None = None
    #: The handler's further steps, where it waits for something.
    steps: Generator[Any, None, None] | None = None
    #: What the first one gave: a future, or None for the next turn of the event loop.
    waits_for: Any = None


def start(dispatch: Callable[[Any], Awaitable[None]], message: Any) -> Rest | None:
    """Run a handler up to where it first waits. Returns what is left to do then, None where it is through."""
    try:
        steps = dispatch(message).__await__()
        waits_for = next(steps, THROUGH)
    except BaseException as error:
        return Rest(message, error)
    return None if waits_for is THROUGH else Rest(message, None, steps, waits_for)


def hold(waits_for: Any) -> None:
    """Take from a future the mark that a task is about to wait for it, until :func:`go_on` waits for it.

    Whoever awaits the same future meanwhile sets the mark, and its task takes it away.
    """
    if getattr(waits_for, "_asyncio_future_blocking", None):
        waits_for._asyncio_future_blocking = False


@types.coroutine
def go_on(
    steps: Generator[Any, None, None], waits_for: Any, error: BaseException | None = None
) -> Generator[Any, None, None]:
    """Run a coroutine to its end in the task that awaits this, after its first step was taken by hand.

    ``steps`` is what its ``__await__()`` returned, and ``waits_for`` is what the first step gave. An ``error`` is
    raised in the coroutine, where it waits.
    """
    while True:
        if error is not None:
            try:
                waits_for = steps.throw(error)
            except StopIteration:
                return
            finally:
                error = None  # by its traceback it refers to this frame
        if getattr(waits_for, "_asyncio_future_blocking", None) is False:
            waits_for._asyncio_future_blocking = True  # hold() took it
        try:
            yield waits_for
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as thrown:
            error = thrown
        else:
            yield from steps
            return


def task_context(task: asyncio.Task[Any]) -> contextvars.Context:
    """Return the context that a task runs in, itself and not a copy."""
    if sys.version_info >= (3, 12):
        return task.get_context()
    # Python 3.11 has no call for it, but the task refers to it.
    for referent in gc.get_referents(task):
        if isinstance(referent, contextvars.Context):
            return referent
    return contextvars.copy_context()

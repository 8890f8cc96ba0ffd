"""How far a consumer is with a message of its worker, as it tells the worker that runs it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from sealane.types import Message

__all__ = ["HANDLING", "Handling"]


class Handling:
    """What a consumer did with the message that it was given last.

    A consumer can end for other reasons than its job: a spawned task or the handler of a group's message may have
    failed. Its worker must not take that for the failure of a job whose handler has returned, or has never begun.
    """

    __slots__ = ("begun", "reported", "returned", "threads")

    def __init__(self) -> None:
        #: Whether the application says so at all: one that is no consumer of Sealane does not.
        self.reported = False
        self.begun = False
        self.returned = False
        #: Threads that went on when the handler was cancelled, each as the task that waits for it.
        self.threads: set[asyncio.Task[Any]] = set()

    def reset(self) -> None:
        """Begin with another message."""
        self.begun = self.returned = False

    def noting(self, dispatch: Callable[[Message], Awaitable[None]]) -> Callable[[Message], Awaitable[None]]:
        """Return what dispatches a message, and notes that its handler begins and has returned."""
        self.reported = True

        async def noted(message: Message) -> None:
            self.begun = True
            await dispatch(message)
            self.returned = True

        return noted


#: Set by a worker for the application that it runs.
HANDLING: Final[ContextVar[Handling | None]] = ContextVar("sealane_handling", default=None)

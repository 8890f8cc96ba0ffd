"""The inboxes of one event loop that got something, gathered for its next turn."""

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealane.layers.inbox import Inbox

__all__ = ["Turn"]


class Turn(ABC):
    """What one event loop has to look at in its next turn.

    An owner that sets its inbox's ``turn`` is not called by ``wake``. The layer puts the inbox on the list ``due``
    instead, each time that it goes from empty to non-empty or overflows, and calls :meth:`run` once for all of them.
    A broadcast to a thousand owners costs one call then, and not a thousand.
    """

    __slots__ = ("__weakref__", "due", "loop", "scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        #: The inboxes to look at. Any thread may append.
        self.due: list[Inbox] = []
        #: Whether somebody has seen to it that :meth:`run` is called. Set it after appending, clear it before reading.
        self.scheduled = False

    def add(self, inbox: "Inbox") -> None:
        """Have an inbox looked at again. Called in the thread of the loop."""
        self.due.append(inbox)
        if not self.scheduled:
            self.scheduled = True
            self.notify()

    def notify(self) -> None:
        """Have :meth:`run` called soon. Called in the thread of the loop."""
        self.loop.call_soon(self.run)

    @abstractmethod
    def run(self) -> None:
        """Look at the inboxes that are due."""

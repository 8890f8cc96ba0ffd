"""The inboxes of one event loop that got something, gathered for its next turn."""

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sealane.layers.parcel import Parcel

if TYPE_CHECKING:
    from sealane.layers.exchange import Exchange
    from sealane.layers.inbox import Inbox
    from sealane.layers.notices import Notice

__all__ = ["Due", "Owner", "Turn"]


class Owner(Protocol):
    """Whoever takes the messages of an inbox that has a turn."""

    #: Whether it is at work, so that it takes nothing now.
    busy: int
    #: Who would go on with a message; None where nobody would.
    idle: Any

    def wake(self) -> None:
        """Have it look at its inbox by itself. Called in the thread of its loop."""


class Due(NamedTuple):
    """What a turn has to do."""

    #: Messages, each with those who are to get it now. One that several inboxes in a row had comes once.
    parcels: list[tuple[Parcel, list[Any]]]
    #: Owners who are at work, or have more to look at than one message.
    others: list[Any]


class Turn(ABC):
    """What one event loop has to look at in its next turn: inboxes of one exchange.

    An owner that sets its inbox's ``turn`` is not called by ``wake``. The layer puts the inbox on the list ``due``
    instead, each time that it goes from empty to non-empty or overflows, and calls :meth:`run` once for all of them.
    A broadcast to a thousand owners costs one call then, and not a thousand.
    """

    __slots__ = ("__weakref__", "due", "exchange", "loop", "scheduled")

    def __init__(self, loop: asyncio.AbstractEventLoop, exchange: "Exchange") -> None:
        self.loop = loop
        self.exchange = exchange
        #: The inboxes to look at. Any thread may append.
        self.due: list[Inbox] = []
        #: Whether somebody has seen to it that :meth:`run` is called. Set it after appending, clear it before reading.
        self.scheduled = False

    def schedule(self, notices: "list[Notice]") -> None:
        """See to it that :meth:`run` is called, after something was put on the list."""
        if not self.scheduled:
            self.scheduled = True
            notices.append(self)

    def notify(self) -> None:
        """Have :meth:`run` called soon. Called in the thread of the loop."""
        self.loop.call_soon(self.run)

    @abstractmethod
    def run(self) -> None:
        """Look at the inboxes that are due."""

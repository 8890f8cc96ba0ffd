"""What an exchange decides under its lock and carries out after it: whom to wake, and what to log."""

import asyncio
import logging
from typing import Literal, Protocol

from sealane.layers.inbox import Inbox

__all__ = ["FullWarning", "Notice", "OverflowPolicy"]

logger = logging.getLogger("sealane.layers")

OverflowPolicy = Literal["drop_newest", "drop_oldest", "close"]


class Notice(Protocol):
    """Something to be told after the lock is released, in the thread of its loop; in any thread where that is None."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None: ...

    def notify(self) -> None: ...


class FullWarning:
    """A line in the log about a full channel."""

    __slots__ = ("_channel", "_dropped", "_limit", "_policy")

    loop = None

    def __init__(self, inbox: Inbox, policy: OverflowPolicy) -> None:
        self._channel, self._limit, self._dropped, self._policy = inbox.name, inbox.capacity, inbox.dropped, policy

    def notify(self) -> None:
        logger.warning(
            "Channel %r is full, %d messages wait there: a message was dropped by the policy %r (%d so far)",
            self._channel,
            self._limit,
            self._policy,
            self._dropped,
        )

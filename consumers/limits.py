"""What one connection may take of the server: the limits of a consumer, and what follows where one is passed."""

import asyncio
import logging
import math
from typing import Any, ClassVar, Final

from sealane.consumers.dispatch import Dispatcher
from sealane.consumers.group_limit import GroupRoll, LimitedLayer
from sealane.consumers.incoming import Incoming
from sealane.consumers.limit_counters import LimitCounters, LimitName
from sealane.consumers.outbox import SLOW_CLIENT_POLICIES, Outbox, SlowClientPolicy
from sealane.consumers.outgoing import Outgoing
from sealane.exceptions import FrameTooLarge, StopConsumer, TooManyGroups
from sealane.layers import BaseChannelLayer
from sealane.types import Message, Receive, Send

__all__ = ["Limits", "WebsocketLimits", "check_limit", "check_limits"]

logger = logging.getLogger("sealane.consumers")

#: The limits, each with what it counts. Those of the first group are whole numbers.
_WHOLE: Final = {
    "max_message_size": "bytes",
    "message_burst": "messages",
    "max_groups": "groups",
    "max_send_queue": "bytes",
}
_ANY: Final = {"max_message_rate": "messages per second", "send_timeout": "seconds"}


def check_limits(cls: type) -> None:
    """Raise ValueError where a class sets a limit that cannot be one."""
    for name, unit in (_WHOLE | _ANY).items():
        check_limit(cls, name, unit, whole=name in _WHOLE)
    policy = vars(cls).get("slow_client", "close")
    if policy not in SLOW_CLIENT_POLICIES and not hasattr(policy, "__get__"):
        expected = ", ".join(repr(name) for name in SLOW_CLIENT_POLICIES)
        raise ValueError(f"{cls.__name__}.slow_client is {policy!r}; expected one of {expected}")


def check_limit(cls: type, name: str, unit: str, *, whole: bool) -> None:
    """Raise ValueError where a class sets an attribute that counts something to what cannot be a limit."""
    value = vars(cls).get(name)
    if value is None or hasattr(value, "__get__"):
        return  # none, or a property
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not 0 < value < math.inf:
        number = f"a whole number of {unit}" if whole else unit
        raise ValueError(f"{cls.__name__}.{name} is {value!r}; expected {number} above 0, or None for any")


class Limits:
    """The limits that every consumer has; what they promise is told in the reference of consumers."""

    #: How many groups the connection may be in, its own ``groups`` included; None for any number.
    max_groups: int | None = None

    #: What the limits of this class have refused and dropped, in this process.
    limit_counters: ClassVar[LimitCounters]

    channel_layer: BaseChannelLayer | Any
    channel_name: str
    _dispatcher: Dispatcher

    def _name(self) -> str:
        raise NotImplementedError

    def _stop(self, error: BaseException) -> None:
        raise NotImplementedError

    def _under_limits(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        """Return what takes the place of the server's ``receive`` and ``send``: the same where there is no limit."""
        return receive, send

    def _limit_groups(self, limit: int) -> None:
        self.channel_layer = LimitedLayer(self.channel_layer, self.channel_name, GroupRoll(limit), self._group_refused)

    def _group_refused(self, error: TooManyGroups) -> None:
        self._note("refused_groups", 1, str(error))

    def _note(self, name: LimitName, count: int, what: str) -> None:
        """Count what a limit did, and say so in the log, once a minute for each name."""
        counters = self.limit_counters
        if counters.note(name, count):
            logger.warning("%s: %s (%s: %d so far)", self._name(), what, name, counters[name])


class WebsocketLimits(Limits):
    """The limits of a WebSocket, in both directions."""

    #: Bytes of a frame from the client, text as UTF-8: a larger one closes the connection with 1009. None for any size
    #: that the server lets through.
    max_message_size: int | None = None

    #: Frames per second from the client: more close the connection with 1008. None for any number.
    max_message_rate: float | None = None

    #: How many frames may come at once, under ``max_message_rate``; None for those of one second.
    message_burst: int | None = None

    #: Bytes that may wait for a client which reads slowly, while ``send()`` returns at once. With None nothing waits:
    #: ``send()`` waits for the client.
    max_send_queue: int | None = None

    #: Seconds that the client may take to let the server take one frame: then it is closed with 1013. None for ever.
    send_timeout: float | None = None

    #: What follows where ``max_send_queue`` is reached: ``"close"`` closes the connection with 1013, ``"drop_oldest"``
    #: and ``"drop_newest"`` drop frames.
    slow_client: SlowClientPolicy = "close"

    end_timeout: float
    _outgoing: Outgoing | None = None
    #: Whether the client was too slow, and is to be told so.
    _slow = False

    def _under_limits(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        if self.max_message_size is not None or self.max_message_rate is not None:
            receive = Incoming(
                receive, max_size=self.max_message_size, max_rate=self.max_message_rate, burst=self.message_burst
            ).receive
        if self.max_send_queue is not None or self.send_timeout is not None:
            limit = self.max_send_queue
            self._outgoing = Outgoing(
                send,
                outbox=None if limit is None else Outbox(limit, self.slow_client),
                timeout=self.send_timeout,
                slow=self._too_slow,
                dropped=self._frames_dropped,
                lost=self._outgoing_lost,
            )
            send = self._outgoing.send
        return receive, send

    # From the client

    def _frame_refused(self, error: Exception) -> None:
        name: LimitName = "refused_size" if isinstance(error, FrameTooLarge) else "refused_rate"
        self._note(name, 1, f"refused a frame: {error}")

    # To the client

    def _frames_dropped(self, name: LimitName, frames: int) -> None:
        self._note(name, frames, "dropped frames for a client that is too slow, or gone")

    def _outgoing_lost(self, error: Exception) -> None:
        """Note what the server raised for a frame that nobody waited for."""
        if isinstance(error, OSError):
            self._note_closed()
        else:
            self._stop(error)

    def _too_slow(self, why: str) -> None:
        """End the connection of a client that does not read. Called in the thread of the event loop."""
        self._slow = True
        self._note_closed()
        self._note("closed_slow", 1, f"the client is too slow, and the connection is closed: {why}")
        self._stop(StopConsumer())

    def _note_closed(self) -> None:
        raise NotImplementedError

    async def _tell_slow(self, event: Message) -> None:
        """Send the close frame, for a client that reads again; one that does not cannot be told."""
        assert self._outgoing is not None
        try:
            async with asyncio.timeout(min(1.0, self.end_timeout / 2)):
                await self._outgoing.send_now(event)
        except Exception as error:
            logger.debug("%s: the close frame was not sent: %r", self._name(), error)

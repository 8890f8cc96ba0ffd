"""A message that is acknowledged: what ``receive_delivery()`` returns, and under which terms."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from sealane.exceptions import InvalidDeliveryOption, InvalidName
from sealane.types import Message

if TYPE_CHECKING:
    from sealane.layers.base import BaseChannelLayer

__all__ = [
    "DEAD_LETTER_CAPACITY",
    "DEAD_LETTER_EXPIRY",
    "DEAD_LETTER_SUFFIX",
    "MAX_DELIVERIES",
    "MAX_REASON_LENGTH",
    "VISIBILITY_TIMEOUT",
    "Delivery",
    "Lease",
    "Terms",
    "require_most",
]

#: How long a delivery is leased, in seconds, where ``receive_delivery()`` is told nothing.
VISIBILITY_TIMEOUT: Final = 60.0
#: How many times a message is delivered before it goes to the dead letters.
MAX_DELIVERIES: Final = 5
#: What the dead letters of a channel are called: its name, and this.
DEAD_LETTER_SUFFIX: Final = ".dead"
#: How many dead letters a channel holds, unless ``channel_capacity`` has its name. Then the oldest goes.
DEAD_LETTER_CAPACITY: Final = 1000
#: How long dead letters are kept, in seconds, unless ``channel_expiry`` has the name of their channel: two weeks.
DEAD_LETTER_EXPIRY: Final = 14 * 86400.0
#: A reason is cut to so many characters.
MAX_REASON_LENGTH: Final = 2000

#: The most that a number of seconds or of deliveries may be.
_MOST: Final = 1_000_000_000


class Lease(ABC):
    """The layer's side of a delivery: what its methods do. A layer of your own with acknowledgements subclasses it.

    Each call returns whether the message was still leased under this lease; False: nothing was done. Arguments were
    checked before.
    """

    __slots__ = ()

    @abstractmethod
    async def ack(self) -> bool:
        """Forget the message: it is done."""

    @abstractmethod
    async def retry(self, delay: float) -> bool:
        """End the lease, and have the message delivered again after so many seconds."""

    @abstractmethod
    async def release(self) -> bool:
        """End the lease as if the message had not been delivered."""

    @abstractmethod
    async def reject(self, reason: str) -> bool:
        """Move the message to the dead letters."""

    @abstractmethod
    async def extend(self, visibility_timeout: float) -> bool:
        """Have the lease end so many seconds from now."""


class Delivery:
    """A message under a lease. Until that ends nobody else gets the message; then it is delivered again.

    Exactly one of :meth:`ack`, :meth:`retry`, :meth:`release` and :meth:`reject` ends the lease. Each returns True
    where it did what it says, and False, without an error, where there was nothing left to do it to: the lease had
    ended, and the message was given to somebody else, or to the dead letters; or it was acknowledged before. A lease
    that has ended is still good as long as nobody else was given the message.

    Each has happened or not, also when it is cancelled, and is carried out once, also over a lost connection. Where a
    server's reply was lost, and with it whether the lease was still good, the clock decides: True within the time of
    the lease, False after it.

    The calls may be made in any event loop of any thread, in a forked child too, and after the layer was closed. A
    layer over a network raises ChannelLayerUnavailable where its server does not carry one out in time; the lease runs
    on, so that it may be tried again.
    """

    __slots__ = ("_lease", "attempt", "channel", "first_seen", "id", "message")

    def __init__(
        self, channel: str, message: Message, lease: Lease, *, id: str, attempt: int, first_seen: float
    ) -> None:
        #: The channel that it came from.
        self.channel = channel
        #: A copy that belongs to the receiver alone.
        self.message = message
        #: The same for each delivery of one message, and different for each message of a channel.
        self.id = id
        #: 1 for the first delivery of the message.
        self.attempt = attempt
        #: When it was delivered for the first time, in seconds since the epoch, by the clock of the layer's server.
        self.first_seen = first_seen
        self._lease = lease

    async def ack(self) -> bool:
        """Say that the message is done with: it never comes again."""
        return await self._lease.ack()

    async def retry(self, delay: float = 0) -> bool:
        """Give it back, to be delivered again after ``delay`` seconds. It counts as a delivery.

        One that was delivered ``max_deliveries`` times goes to the dead letters at once. It comes before what was sent
        later and waits then. Raises InvalidDeliveryOption for a delay that is negative or no number.
        """
        return await self._lease.retry(_seconds("delay", delay, zero=True))

    async def release(self) -> bool:
        """Give it back as if it had not been delivered: at its old place, and without a count.

        It is for work that was fetched and not begun. What is given back so does not expire.
        """
        return await self._lease.release()

    async def reject(self, reason: str) -> bool:
        """Move it to the dead letters, in one step with the end of the lease.

        reason: what the dead letter says; the first 2,000 characters of it. Raises InvalidDeliveryOption where it is
            not a str.
        """
        if not isinstance(reason, str):
            raise InvalidDeliveryOption("reason", reason, "a str that says why the message is rejected")
        return await self._lease.reject(reason[:MAX_REASON_LENGTH])

    async def extend(self, visibility_timeout: float) -> bool:
        """Lease it anew, for so many seconds from now: call it now and then during a long job.

        Raises InvalidDeliveryOption for what is not a number of seconds above 0.
        """
        return await self._lease.extend(_seconds("visibility_timeout", visibility_timeout))

    def __repr__(self) -> str:
        kind = self.message.get("type")
        return f"<Delivery {self.id} of {self.channel!r}: type={kind!r}, attempt={self.attempt}>"


class Terms(NamedTuple):
    """Under which terms somebody takes messages."""

    #: Seconds.
    visibility_timeout: float
    #: None: without end.
    max_deliveries: int | None
    dead_letter_channel: str
    #: How many messages that one holds, and for how many seconds.
    capacity: int
    expiry: float

    @classmethod
    def of(
        cls,
        layer: "BaseChannelLayer",
        channel: str,
        visibility_timeout: float,
        max_deliveries: int | None,
        dead_letter_channel: str | None,
    ) -> Self:
        """Check what ``receive_delivery()`` was given.

        Raises InvalidName for a channel that is not named, a name that is not valid and a dead-letter channel whose own
        dead letters come to ``channel``, InvalidDeliveryOption for a number that cannot be used.
        """
        layer.require_valid_channel_name(channel)
        if "!" in channel:
            problem = "receive_delivery() reads named channels, without a '!'; read this one with receive()"
            raise InvalidName("Channel", channel, problem)
        if dead_letter_channel is None:
            dead = channel + DEAD_LETTER_SUFFIX
            if len(dead) >= layer.MAX_NAME_LENGTH:
                raise InvalidName(
                    "Channel",
                    channel,
                    f"with {DEAD_LETTER_SUFFIX!r} after it for its dead letters it has {len(dead)} characters; it must "
                    f"have length < {layer.MAX_NAME_LENGTH}. Shorten it, or pass dead_letter_channel",
                )
        else:
            dead = dead_letter_channel
            layer.require_valid_channel_name(dead)
            if "!" in dead or dead == channel:
                raise InvalidName("Channel", dead, "the dead letters need another channel, without a '!' in its name")
            if _died_in(dead, channel):
                raise InvalidName(
                    "Channel",
                    dead,
                    f"the dead letters of {channel!r} need another channel: this one's own come there, so a letter "
                    "would go to and fro without end, each time within another letter",
                )
        if max_deliveries is not None and (
            isinstance(max_deliveries, bool) or not isinstance(max_deliveries, int) or not 0 < max_deliveries <= _MOST
        ):
            expected = f"a whole number from 1 to {_MOST:,}, or None for deliveries without end"
            raise InvalidDeliveryOption("max_deliveries", max_deliveries, expected)
        return cls(
            _seconds("visibility_timeout", visibility_timeout),
            max_deliveries,
            dead,
            layer.match_capacity(dead) or DEAD_LETTER_CAPACITY,
            layer.match_expiry(dead) or DEAD_LETTER_EXPIRY,
        )


def _died_in(channel: str, dead: str) -> bool:
    """Return whether the dead letters of a channel come to another by default, or their dead letters do."""
    while dead.endswith(DEAD_LETTER_SUFFIX):
        dead = dead.removesuffix(DEAD_LETTER_SUFFIX)
        if dead == channel:
            return True
    return False


def require_most(most: object) -> None:
    """Raise InvalidDeliveryOption for what is no number of messages to take at once."""
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InvalidDeliveryOption("most", most, "a whole number of messages, 1 or more")


def _seconds(option: str, value: object, *, zero: bool = False) -> float:
    """Return a number of seconds above 0, or 0 where that may be; raise InvalidDeliveryOption for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= _MOST and (zero or value > 0):
        return float(value)
    bound = "from 0" if zero else "above 0"
    raise InvalidDeliveryOption(option, value, f"a number of seconds {bound}, and at most {_MOST:,}")

"""The contract of every channel layer, as an abstract class with what all layers share."""

import fnmatch
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import ClassVar, Self, TypeVar, get_args

from sealane.exceptions import AcknowledgementsUnsupported, InvalidChannelLayerError, MessageTooLarge
from sealane.layers.blocking import BridgedSyncChannelLayer, SyncChannelLayer
from sealane.layers.delivery import MAX_DELIVERIES, VISIBILITY_TIMEOUT, Delivery, require_most
from sealane.layers.inbox import Inbox
from sealane.layers.name_checks import NameChecks
from sealane.layers.notices import OverflowPolicy
from sealane.layers.serializers import registry
from sealane.types import Message

__all__ = ["BaseChannelLayer"]


class BaseChannelLayer(NameChecks, ABC):
    """Carries messages between consumers, and from any other code to consumers.

    A *message* is a dict of the types in ``sealane.layers.serializers``; its ``type`` names a handler. A *channel* is
    a named queue that one receiver at a time reads; a *group* is a named set of channels. The contract, which
    ``sealane.testing.layer_contract.ChannelLayerContract`` tests on any layer:

    Order
        What one sender sends to one channel, or to one group, arrives in the order in which it was sent. A sender is
        one task, or one thread. Between senders the order is that in which the layer took the messages, and it is the
        same for all members of a group.
    Loss
        A message arrives at most once at each channel that it was sent to. It does not arrive only where

        - the channel was full (``capacity``), and the policy ``overflow`` dropped it or an older one;
        - it waited longer than ``expiry`` seconds;
        - the channel, the event loop of its owner, or the layer was closed;
        - ``flush()`` dropped it;
        - a server or a process was lost that had it, where there is a network between.

        Every such departure is counted in ``stats()``. A message that ``send()`` raised an error for was not sent.
    Copies
        A message is serialized once, when it is sent. What the sender does to it afterwards changes nothing, and each
        receiver gets a copy of its own.
    Cancellation
        A cancelled ``receive()`` loses no message: one that it had been given goes to the next receiver, or waits at
        its old place. The other calls have happened entirely or not at all.
    Threads
        The calls may be made in any event loop of any thread, and ``sync`` in any thread without one.
    Errors
        InvalidName (a TypeError) for a name that the contract does not allow, TypeError for a message that is not a
        dict, UnserializableMessage (a TypeError) for what a message may not hold, MessageTooLarge, and ChannelFull
        from ``send()`` only. They are raised before anything was sent.

    A layer of your own subclasses it, defines the calls, and uses ``require_valid_channel_name()``,
    ``require_valid_group_name()`` and ``pack()`` for the checks.
    """

    #: The optional parts of the contract that the layer has. A layer with ``receive_delivery()`` lists
    #: "acknowledgements".
    extensions: ClassVar[list[str]] = ["groups", "flush"]

    def __init__(
        self,
        expiry: float = 60,
        capacity: int = 100,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        *,
        channel_expiry: Mapping[str | re.Pattern[str], float] | None = None,
        overflow: OverflowPolicy = "drop_newest",
        serializer_format: str = "msgpack",
        max_message_size: int | None = None,
    ) -> None:
        """Check and keep the options that all layers have.

        expiry: seconds after which a message that nobody took is dropped.
        channel_expiry: other numbers of seconds for named channels, those without a ``!``, as ``channel_capacity`` has
            them: {"thumbnails": 86400}.
        capacity: how many messages may wait in one channel.
        channel_capacity: other capacities, by glob ("http.*") or compiled pattern; the first that matches counts.
        overflow: what happens to a message for a full channel. "drop_newest" drops it, and ``send()`` raises
            ChannelFull; "drop_oldest" drops the one that waits longest; "close" drops it and has the channel's owner
            end its connection, or raises ChannelFull from ``send()`` where the channel has no owner.
        serializer_format: "msgpack", "json", or a name given to ``sealane.layers.serializers.register()``.
        max_message_size: the most that a serialized message may have, in bytes; None for no limit.

        Raises InvalidChannelLayerError for a value that it cannot use.
        """
        _number_of("expiry", expiry, float, "seconds")
        self.expiry = expiry
        _number_of("capacity", capacity, int, "messages")
        self.capacity = capacity
        self.channel_capacity = self.compile_capacities(channel_capacity or {})
        self.channel_expiry = _compile("channel_expiry", channel_expiry or {}, float, "seconds")
        if overflow not in get_args(OverflowPolicy):
            known = ", ".join(repr(policy) for policy in get_args(OverflowPolicy))
            raise InvalidChannelLayerError(f"overflow is {overflow!r}; expected one of {known}")
        self.overflow: OverflowPolicy = overflow
        self.serializer_format = serializer_format
        self.serializer = registry.get(serializer_format)
        if max_message_size is not None:
            _number_of("max_message_size", max_message_size, int, "bytes")
        self.max_message_size = max_message_size
        self._sync: SyncChannelLayer | None = None

    # The calls

    @abstractmethod
    async def send(self, channel: str, message: Message) -> None:
        """Send a message to a channel.

        Raises ChannelFull where the channel holds as many messages as its capacity, under the policy "drop_newest" (and
        "close", where the channel has no owner). A message to a closed channel is dropped and counted.

        A layer over a network raises ChannelFull for what its server holds. How full a channel is that belongs to
        another process, or has an owner there, shows only where it is read: there the policy is applied, and what it
        drops is counted and logged. Such a layer also raises ChannelLayerUnavailable, from every call, where its server
        did not carry it out in time; the error says whether it may have been carried out all the same.
        """

    @abstractmethod
    async def receive(self, channel: str) -> Message:
        """Wait for a message on a channel, and return it.

        Several receivers of one channel are served in the order in which they came; each message goes to one of them.
        Cancelled, it loses no message. Raises ChannelClosed where the channel is closed, or becomes so meanwhile.
        """

    async def receive_many(self, channel: str, most: int) -> list[Message]:
        """Wait for a message on a channel, and return it and what is there behind it: ``most`` messages at most.

        In the order of the channel; otherwise as ``most`` calls of ``receive()``, at less cost where a layer can do
        that. Here it takes one. One that cannot be decoded raises UndecodableMessage where it is the first, and is left
        to the next call otherwise. Raises InvalidDeliveryOption (a ValueError) for a number below 1.
        """
        require_most(most)
        return [await self.receive(channel)]

    async def receive_delivery(
        self,
        channel: str,
        *,
        visibility_timeout: float = VISIBILITY_TIMEOUT,
        max_deliveries: int | None = MAX_DELIVERIES,
        dead_letter_channel: str | None = None,
    ) -> Delivery:
        """Wait for a message on a named channel, and return it under a lease: at-least-once delivery.

        Nobody else gets the message until ``visibility_timeout`` seconds are over, by the clock of the layer's server;
        then it is delivered again, until ``Delivery.ack()`` says that it is done. So a job is done at least once, and
        twice where its worker stood still for longer than its lease. ``send()`` knows nothing of it. ``receive()`` may
        be called for the same channel: each message goes to one of them.

        Order: first deliveries come in the order in which the messages were sent. A message whose lease has ended, or
        that was given back, comes before those that were not delivered yet.
        Dead letters: a message that was delivered ``max_deliveries`` times, and would be again, goes to the dead-letter
        channel instead; so does one that is rejected, one that waited for longer than its channel's expiry, and one
        that cannot be decoded. It is read there like any other, by ``receive()`` or ``receive_delivery()``:
        ``{"type": "dead.letter", "channel", "reason", "attempts", "first_seen", "id", "message"}``. Reasons of the
        layer are "max_deliveries", "expired", "undecodable" and "undecryptable". Dead letters are kept for
        14 days, the last 1,000 of each channel, unless ``channel_expiry`` and ``channel_capacity`` have its name.
        Capacity: what is leased, and what waits to be delivered again, counts as waiting in the channel. It does not
        expire.
        Cancellation: no message is lost. One that had been given to the caller goes back to its old place, and that
        does not count as a delivery.

        visibility_timeout: seconds; 60 by default.
        max_deliveries: 5 by default; None for no end.
        dead_letter_channel: ``<channel>.dead`` by default.

        Raises InvalidName (a TypeError) for a name that is not valid, for a channel with a ``!`` in its name, where the
        name of the dead-letter channel would be too long, and for one whose own dead letters come to this channel, as
        ``jobs`` for ``jobs.dead``; InvalidDeliveryOption (a ValueError) for a number that it
        cannot use; ChannelClosed where the channel or the layer becomes closed meanwhile.

        It is optional for a layer: one that has it lists "acknowledgements" in ``extensions``. Here it raises
        AcknowledgementsUnsupported (a NotImplementedError).
        """
        raise AcknowledgementsUnsupported(type(self).__name__)

    async def receive_deliveries(
        self,
        channel: str,
        most: int,
        *,
        visibility_timeout: float = VISIBILITY_TIMEOUT,
        max_deliveries: int | None = MAX_DELIVERIES,
        dead_letter_channel: str | None = None,
    ) -> list[Delivery]:
        """Wait for a message on a named channel, and return it and what is there behind it, each under a lease.

        They are ``most`` at most, in the order of the channel; otherwise as ``most`` calls of ``receive_delivery()``,
        at less cost where a layer can do that. Here it takes one. Raises InvalidDeliveryOption for a number below 1.
        """
        require_most(most)
        delivery = await self.receive_delivery(
            channel,
            visibility_timeout=visibility_timeout,
            max_deliveries=max_deliveries,
            dead_letter_channel=dead_letter_channel,
        )
        return [delivery]

    @abstractmethod
    async def new_channel(self, prefix: str = "specific") -> str:
        """Return the name of a channel that nobody else has, such as ``specific.inmemory!Zk3…``.

        It costs nothing until it is used. The name begins with ``prefix`` and holds one ``!``.
        """

    async def close_channel(self, channel: str) -> None:
        """Close a channel: it leaves every group, and what waits there is dropped and counted.

        Whoever waits for it in ``receive()`` gets ChannelClosed, its owner's ``wake`` is never called again, and
        further messages to it are dropped and counted. Closing twice is harmless. A name without ``!`` belongs to
        nobody, so it may be used again afterwards.

        Here it does nothing, for layers that were written for Channels, where there is no such call: what they keep of
        a channel that has ended stays until it expires.
        """

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group. It stays until ``group_discard()`` or ``close_channel()``. Twice is once.

        When it returns, what is sent to the group from then on reaches the channel. A closed channel joins nothing.
        """
        raise NotImplementedError(f"group_add() is not implemented by {type(self).__name__}, which has no groups")

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group; harmless where it is not in it."""
        raise NotImplementedError(f"group_discard() is not implemented by {type(self).__name__}, which has no groups")

    async def group_send(self, group: str, message: Message) -> None:
        """Send a message to every channel that is in a group now.

        It never raises ChannelFull: a full member loses a message by the policy, which is counted and logged, and the
        others get theirs.
        """
        raise NotImplementedError(f"group_send() is not implemented by {type(self).__name__}, which has no groups")

    async def flush(self) -> None:
        """Drop every message and every group, for tests. Owners and receivers go on waiting."""
        raise NotImplementedError(f"flush() is not implemented by {type(self).__name__}")

    async def close(self) -> None:
        """Release what the layer holds, and close its channels. Closing twice is harmless.

        A layer that is used again afterwards opens again by itself.
        """

    def attach(self, channel: str, wake: Callable[[], None]) -> Inbox | None:
        """Become the owner of a channel, and get its inbox; None where the layer cannot push, and is to be read.

        Call it in the event loop in which the owner lives. From then on the channel's messages come into the inbox,
        and ``wake()`` is called in that loop's thread each time the inbox goes from empty to non-empty, or overflows
        under the policy "close"; if messages wait already, it is called soon. It may be called in the midst of
        somebody's ``send()``, so it must be short, and an error in it goes to the loop's exception handler.

        A channel has one owner, until ``close_channel()``. Raises RuntimeError for a second one, and ChannelClosed for
        a closed channel.
        """
        return None

    @property
    def sync(self) -> SyncChannelLayer:
        """The same calls for synchronous code.

        Here they run the asynchronous calls, at the cost of an event loop each; a layer can do better.
        """
        if self._sync is None:
            self._sync = BridgedSyncChannelLayer(self)
        return self._sync

    def stats(self) -> Mapping[str, int]:
        """Return the layer's counters by name, as ``sealane.layers.counters`` describes them; others may be added."""
        return {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        figures = "".join(f" {name}={value}" for name, value in self.stats().items() if value)
        return f"<{type(self).__name__}{figures}>"

    # What layers share

    def pack(self, message: Message) -> bytes:
        """Return a message as bytes.

        Raises TypeError for one that is not a dict, UnserializableMessage for one that holds what no message may, and
        MessageTooLarge for one over ``max_message_size``.
        """
        if not isinstance(message, dict):
            raise TypeError(
                f"A message must be a dict such as {{'type': 'chat.message'}}, not {type(message).__name__}"
            )
        data = self.serializer.serialize(message)
        if self.max_message_size is not None and len(data) > self.max_message_size:
            raise MessageTooLarge(len(data), self.max_message_size)
        return data

    def compile_capacities(
        self, channel_capacity: Mapping[str | re.Pattern[str], int]
    ) -> list[tuple[re.Pattern[str], int]]:
        """Return the patterns, globs compiled, and their capacities, in the order given."""
        return _compile("channel_capacity", channel_capacity, int, "messages")

    def get_capacity(self, channel: str) -> int:
        """Return how many messages may wait in a channel: the first pattern that matches counts, else ``capacity``."""
        return self.match_capacity(channel) or self.capacity

    def match_capacity(self, channel: str) -> int | None:
        """Return what ``channel_capacity`` has for a channel; None where no pattern matches."""
        for pattern, capacity in self.channel_capacity:
            if pattern.match(channel):
                return capacity
        return None

    def get_expiry(self, channel: str) -> float:
        """Return how many seconds a message may wait in a channel: as ``channel_expiry`` has it, else ``expiry``."""
        return self.match_expiry(channel) or self.expiry

    def match_expiry(self, channel: str) -> float | None:
        """Return what ``channel_expiry`` has for a named channel; None for any other, and where no pattern matches."""
        if self.channel_expiry and "!" not in channel:
            for pattern, expiry in self.channel_expiry:
                if pattern.match(channel):
                    return expiry
        return None


N = TypeVar("N", int, float)


def _compile(
    option: str, numbers: Mapping[str | re.Pattern[str], N], kind: type[N], unit: str
) -> list[tuple[re.Pattern[str], N]]:
    """Return the patterns of an option, globs compiled, and their numbers, in the order given."""
    glob, example = ("http.*", 200) if kind is int else ("thumbnails", 86400)
    if not isinstance(numbers, Mapping):
        raise InvalidChannelLayerError(f"{option} is {numbers!r}; expected a dict such as {{{glob!r}: {example}}}")
    compiled = []
    for pattern, number in numbers.items():
        _number_of(f"{option}[{pattern!r}]", number, kind, unit)
        if isinstance(pattern, str):
            pattern = re.compile(fnmatch.translate(pattern))
        elif not isinstance(pattern, re.Pattern):
            raise InvalidChannelLayerError(
                f"{option} has the key {pattern!r}; expected a glob such as {glob!r} or a compiled pattern"
            )
        compiled.append((pattern, number))
    return compiled


def _number_of(option: str, value: object, kind: type, unit: str) -> None:
    """Raise InvalidChannelLayerError for an option that is not a positive number."""
    kinds = (int, float) if kind is float else int
    # "not value > 0" refuses nan too.
    if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
        whole = "" if kind is float else "whole "
        raise InvalidChannelLayerError(f"{option} is {value!r}; expected a {whole}number of {unit} above 0")

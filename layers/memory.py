"""The channel layer within one process: for development, for tests, and for a site that one process serves."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from sealane.exceptions import ChannelClosed
from sealane.layers.base import BaseChannelLayer
from sealane.layers.blocking import SyncChannelLayer, after_commit, refuse_event_loop
from sealane.layers.delivery import MAX_DELIVERIES, VISIBILITY_TIMEOUT, Delivery, Terms
from sealane.layers.inbox import Inbox
from sealane.layers.leases import LeasingSwitchboard
from sealane.layers.leasing import LeasingExchange
from sealane.layers.notices import OverflowPolicy
from sealane.layers.parcel import Parcel
from sealane.layers.receiver import AsyncReceiver
from sealane.types import Message

__all__ = ["InMemoryChannelLayer"]


class InMemoryChannelLayer(BaseChannelLayer):
    """Carries messages between the threads and event loops of one process. No other process sees them.

    A call costs the same whatever other channels and groups there are; ``group_send()`` grows with the members of its
    group. Nothing here waits but ``receive()``: each other call is complete when its first step is, so that it cannot
    be cancelled half-way.

    A forked child begins with an empty layer: the sockets that were in it are the parent's.
    """

    extensions: ClassVar[list[str]] = [*BaseChannelLayer.extensions, "acknowledgements"]

    def __init__(
        self,
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        *,
        channel_expiry: Mapping[str | re.Pattern[str], float] | None = None,
        overflow: OverflowPolicy = "drop_newest",
        serializer_format: str = "msgpack",
        max_message_size: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the options of BaseChannelLayer and two more.

        group_expiry: accepted so that existing settings work, and not used. A member stays in its groups as long as it
            is there, and leaves them when its channel is closed.
        clock: returns seconds that never go back; tests give one of their own.
        """
        super().__init__(
            expiry,
            capacity,
            channel_capacity,
            channel_expiry=channel_expiry,
            overflow=overflow,
            serializer_format=serializer_format,
            max_message_size=max_message_size,
        )
        self.group_expiry = group_expiry
        self._exchange = LeasingExchange(
            lambda: LeasingSwitchboard(
                expiry=expiry,
                channel_expiry=self.match_expiry,
                capacity=self.get_capacity,
                overflow=overflow,
                clock=clock,
            ),
            self.serializer.deserialize,
        )
        self._blocking = _InMemorySyncChannelLayer(self)

    async def send(self, channel: str, message: Message) -> None:
        self._send(channel, message)

    async def receive(self, channel: str) -> Message:
        self._check_channel(channel)
        exchange = self._exchange
        entered = exchange.receive(channel, AsyncReceiver, asyncio.get_running_loop())
        if isinstance(entered, Parcel):
            return entered.open(exchange.deserialize)
        # Written out in each layer: a coroutine between would cost a fifth of the messages per second.
        try:
            await entered.future
        except BaseException:
            # Cancelled, or the coroutine was thrown away. It may have been given a message by then.
            exchange.abandon(entered)
            raise
        if entered.parcel is None:
            raise ChannelClosed(channel)
        return entered.parcel.open(exchange.deserialize)

    async def receive_delivery(
        self,
        channel: str,
        *,
        visibility_timeout: float = VISIBILITY_TIMEOUT,
        max_deliveries: int | None = MAX_DELIVERIES,
        dead_letter_channel: str | None = None,
    ) -> Delivery:
        terms = Terms.of(self, channel, visibility_timeout, max_deliveries, dead_letter_channel)
        return await self._exchange.receive_delivery(channel, terms)

    async def new_channel(self, prefix: str = "specific") -> str:
        return self._new_channel(prefix)

    async def close_channel(self, channel: str) -> None:
        self._close_channel(channel)

    async def group_add(self, group: str, channel: str) -> None:
        self._group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self._group_discard(group, channel)

    async def group_send(self, group: str, message: Message) -> None:
        self._group_send(group, message)

    async def flush(self) -> None:
        self._exchange.flush()

    async def close(self) -> None:
        self._exchange.close()

    def attach(self, channel: str, wake: Callable[[], None]) -> Inbox:
        self._check_channel(channel)
        return self._exchange.attach(channel, wake, asyncio.get_running_loop())

    @property
    def sync(self) -> SyncChannelLayer:
        return self._blocking

    @property
    def groups(self) -> dict[str, dict[str, None]]:
        """The groups, each with its channels as the keys of a dict: a copy, for tests to look at."""
        return {group: dict.fromkeys(channels) for group, channels in self._exchange.members().items()}

    @property
    def channels(self) -> dict[str, int]:
        """The channels where messages wait, with their number: a copy, for tests to look at."""
        return self._exchange.waiting()

    def stats(self) -> dict[str, int]:
        """Return the counters of ``sealane.layers.counters``, and the numbers of open channels and groups."""
        return self._exchange.stats()

    def __repr__(self) -> str:
        stats = self.stats()
        dropped = sum(count for name, count in stats.items() if name.startswith("dropped_"))
        return (
            f"<InMemoryChannelLayer channels={stats['channels']} groups={stats['groups']} "
            f"waiting={stats['waiting']} dropped={dropped}>"
        )

    # One synchronous function per call, for both faces.

    def _check_channel(self, channel: str) -> None:
        # A name that is in use was checked when it came into use.
        if type(channel) is not str or channel not in self._exchange.board.channels:
            self.require_valid_channel_name(channel)

    def _check_group(self, group: str) -> None:
        if type(group) is not str or group not in self._exchange.board.groups:
            self.require_valid_group_name(group)

    def _send(self, channel: str, message: Message) -> None:
        self._check_channel(channel)
        self._exchange.send(channel, self.pack(message))

    def _receive_blocking(self, channel: str, timeout: float | None) -> Message:
        self._check_channel(channel)
        exchange = self._exchange
        return exchange.receive_blocking(channel, timeout).open(exchange.deserialize)

    def _new_channel(self, prefix: str) -> str:
        # 128 random bits: a name is not to be guessed, and never comes twice.
        name = f"{prefix}.inmemory!{secrets.token_urlsafe(16)}"
        self.require_valid_channel_name(name)
        return name

    def _close_channel(self, channel: str) -> None:
        self._check_channel(channel)
        self._exchange.close_channel(channel)

    def _group_add(self, group: str, channel: str) -> None:
        self._check_group(group)
        self._check_channel(channel)
        self._exchange.group_add(group, channel)

    def _group_discard(self, group: str, channel: str) -> None:
        self._check_group(group)
        self._check_channel(channel)
        self._exchange.group_discard(group, channel)

    def _group_send(self, group: str, message: Message) -> None:
        self._check_group(group)
        self._exchange.group_send(group, self.pack(message))


class _InMemorySyncChannelLayer(SyncChannelLayer):
    """Calls the same functions as the asynchronous face, with no event loop between."""

    def __init__(self, layer: InMemoryChannelLayer) -> None:
        self._layer = layer

    def __repr__(self) -> str:
        return f"<sync of {self._layer!r}>"

    def send(self, channel: str, message: Message, *, on_commit: bool = False, using: str | None = None) -> None:
        refuse_event_loop("send")
        layer = self._layer
        if on_commit or using is not None:
            layer._check_channel(channel)
            send = partial(layer._exchange.send, channel, layer.pack(message))
            after_commit(send, f"channel {channel!r}", on_commit=on_commit, using=using)
        else:
            layer._send(channel, message)

    def receive(self, channel: str, timeout: float | None = None) -> Message:
        refuse_event_loop("receive")
        return self._layer._receive_blocking(channel, timeout)

    def new_channel(self, prefix: str = "specific") -> str:
        refuse_event_loop("new_channel")
        return self._layer._new_channel(prefix)

    def close_channel(self, channel: str) -> None:
        refuse_event_loop("close_channel")
        self._layer._close_channel(channel)

    def group_add(self, group: str, channel: str) -> None:
        refuse_event_loop("group_add")
        self._layer._group_add(group, channel)

    def group_discard(self, group: str, channel: str) -> None:
        refuse_event_loop("group_discard")
        self._layer._group_discard(group, channel)

    def group_send(self, group: str, message: Message, *, on_commit: bool = False, using: str | None = None) -> None:
        refuse_event_loop("group_send")
        layer = self._layer
        if on_commit or using is not None:
            layer._check_group(group)
            send = partial(layer._exchange.group_send, group, layer.pack(message))
            after_commit(send, f"group {group!r}", on_commit=on_commit, using=using)
        else:
            layer._group_send(group, message)

    def flush(self) -> None:
        refuse_event_loop("flush")
        self._layer._exchange.flush()

    def close(self) -> None:
        refuse_event_loop("close")
        self._layer._exchange.close()

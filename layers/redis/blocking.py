"""``layer.sync`` of the Redis layers: blocking calls over connections of their own, without any event loop."""

import asyncio
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from sealane.exceptions import ChannelClosed, ChannelFull
from sealane.layers.blocking import SyncChannelLayer, after_commit, refuse_event_loop
from sealane.layers.counters import Counters
from sealane.layers.parcel import Parcel
from sealane.layers.redis.blocking_link import BlockingLink
from sealane.layers.redis.flush import COUNT, pattern_of
from sealane.layers.redis.guest import Guest
from sealane.layers.redis.mailbox import Mailbox
from sealane.layers.redis.wire import mailbox_id, name_held_channel
from sealane.types import Message

if TYPE_CHECKING:
    from sealane.layers.redis.layer import RedisLayer

__all__ = ["RedisSyncChannelLayer"]

# States that the script `send` returns.
_FULL, _CLOSED = 2, 3


class RedisSyncChannelLayer(SyncChannelLayer):
    """The calls of a Redis layer for any thread, and for processes that are forked after use.

    Each call runs the same scripts as the asynchronous one, and is complete when it returns; one that is sent again
    after a lost connection is carried out once. As many connections are kept per server as calls were made at the same
    time. ChannelLayerUnavailable is raised as from the asynchronous calls, after ``timeout`` seconds.

    A channel of its ``new_channel()`` belongs to no event loop: Redis holds its messages, and any thread or process may
    receive them. What a thread waits for comes through a mailbox of its own, which lives as long as it waits.
    """

    def __init__(self, layer: "RedisLayer") -> None:
        """Take the layer. Nothing connects yet."""
        self._layer = layer
        self._options = options = layer.options
        self._scripts = layer.scripts
        self._links: dict[int, BlockingLink] = {}
        # The arguments that most scripts begin with.
        self._maxlen = b"%d" % options.maxlen
        self._expiry = b"%d" % options.expiry
        self._begin()
        _layers.add(self)

    def _begin(self) -> None:
        self._counters = Counters()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<sync of {self._layer!r}>"

    # The calls

    def send(self, channel: str, message: Message, *, on_commit: bool = False, using: str | None = None) -> None:
        refuse_event_loop("send")
        layer = self._layer
        layer.require_valid_channel_name(channel)
        data = self._options.seal(layer.pack(message))
        if on_commit or using is not None:
            after_commit(partial(self._send, channel, data), f"channel {channel!r}", on_commit=on_commit, using=using)
        else:
            self._send(channel, data)

    def receive(self, channel: str, timeout: float | None = None) -> Message:
        refuse_event_loop("receive")
        layer = self._layer
        layer.require_valid_channel_name(channel)
        owner = mailbox_id(channel)
        data = self._receive_held(channel, timeout) if owner is None else self._receive(owner, channel, timeout)
        return Parcel(data, 0.0, 0, False).open(layer.serializer.deserialize)

    def new_channel(self, prefix: str = "specific") -> str:
        refuse_event_loop("new_channel")
        name = name_held_channel(prefix)
        self._layer.require_valid_channel_name(name)
        return name

    def close_channel(self, channel: str) -> None:
        refuse_event_loop("close_channel")
        self._layer.require_valid_channel_name(channel)
        home = self._options.shards.of_channel(channel)
        owner = mailbox_id(channel)
        if owner is not None:
            self._post(home, owner, f"x{channel}", b"")
            return
        remember = self._options.expiry if "!" in channel else 0
        reply = self._link(home).run(self._scripts.close, self._maxlen, self._expiry, channel, b"", remember)
        if reply:
            self._count(dropped_closed=reply[0], dropped_expired=reply[1])
        for shard in range(len(self._options.places)):
            if shard != home:
                self._link(shard).run(self._scripts.leave_all, channel, remember)

    def group_add(self, group: str, channel: str) -> None:
        refuse_event_loop("group_add")
        self._check(group, channel)
        options = self._options
        shard = options.shards.of_group(group)
        home = options.shards.of_channel(channel)
        owner = mailbox_id(channel)
        if owner is None:
            kind = b"c" if home == shard else b"r"
            self._link(shard).run(self._scripts.plain_join, group, channel, kind, options.limits(channel))
            return
        lease = 0
        if home != shard:
            # Does it live, and does it read there?
            if not self._post(home, owner, f"o{group}", b""):
                return
            lease = options.lease
        self._link(shard).run(self._scripts.adopt, self._maxlen, owner, lease, group, channel)

    def group_discard(self, group: str, channel: str) -> None:
        refuse_event_loop("group_discard")
        self._check(group, channel)
        shard = self._options.shards.of_group(group)
        owner = mailbox_id(channel)
        if owner is None:
            self._link(shard).run(self._scripts.plain_leave, group, channel)
        else:
            self._post(shard, owner, f"-{group}", channel)

    def group_send(self, group: str, message: Message, *, on_commit: bool = False, using: str | None = None) -> None:
        refuse_event_loop("group_send")
        layer = self._layer
        layer.require_valid_group_name(group)
        data = self._options.seal(layer.pack(message))
        if on_commit or using is not None:
            after_commit(partial(self._group_send, group, data), f"group {group!r}", on_commit=on_commit, using=using)
        else:
            self._group_send(group, data)

    def flush(self) -> None:
        refuse_event_loop("flush")
        for mailbox in self._layer.mailboxes():
            # The loop that has it knows what was on its way; the others are told through their mailboxes.
            if self._run_in_loop(mailbox, self._layer.flush):
                return
        for shard in range(len(self._options.places)):
            link = self._link(shard)
            self._count(dropped_flushed=link.run(self._scripts.drop, link.base + b":e"))
            cursor: Any = 0
            while True:
                cursor, keys = link.call("SCAN", cursor, "MATCH", pattern_of(link.base), "COUNT", COUNT)
                if keys:
                    self._count(dropped_flushed=link.run(self._scripts.drop, *keys))
                if int(cursor) == 0:
                    break
        identity = secrets.token_hex(8)
        for shard in range(len(self._options.places)):
            self._link(shard).run(self._scripts.mark_flush, self._maxlen, b"", identity)

    def close(self) -> None:
        refuse_event_loop("close")
        for mailbox in self._layer.mailboxes():
            self._run_in_loop(mailbox, self._layer.close)
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connections, those in use as soon as their calls end. It does not block."""
        for link in list(self._links.values()):
            link.close()

    def stats(self) -> dict[str, int]:
        """Return what these calls have counted, by the names of ``sealane.layers.counters``."""
        with self._lock:
            counted = self._counters.as_dict()
        del counted["waiting"]
        return counted

    # Sending what is packed

    def _send(self, channel: str, data: bytes) -> None:
        owner = mailbox_id(channel)
        home = self._options.shards.of_channel(channel)
        if owner is None:
            self._count(sent=1, addressed=1)
            if self._hold(home, channel, data) == _FULL:
                raise ChannelFull(channel, self._options.capacity(channel))
        elif self._post(home, owner, f"c{channel}", data):
            self._count(sent=1)
        else:
            self._count(sent=1, addressed=1, dropped_closed=1)

    def _group_send(self, group: str, data: bytes) -> None:
        options = self._options
        reply = self._link(options.shards.of_group(group)).run(
            self._scripts.group_send, self._maxlen, self._expiry, group, data, b"", options.overflow
        )
        with self._lock:
            self._counters.group_sent += 1
        if not isinstance(reply, list):
            return
        _, addressed, full, expired, closed, full_channels, elsewhere = reply
        self._count(addressed=addressed, dropped_full=full, dropped_expired=expired, dropped_closed=closed)
        for name in full_channels:
            self._layer.note_full(name.decode())
        for name in elsewhere:
            channel = name.decode()
            self._count(addressed=1)
            if self._hold(options.shards.of_channel(channel), channel, data) == _FULL:
                self._layer.note_full(channel)

    def _post(self, shard: int, owner: str, address: str, payload: bytes | str) -> bool:
        """Post to a mailbox; return whether it is there, as far as is known."""
        return bool(self._link(shard).run(self._scripts.post, self._maxlen, owner, address, payload) != 0)

    def _hold(self, shard: int, channel: str, data: bytes) -> int:
        """Put a message into a channel that Redis holds, and return what became of it."""
        options = self._options
        reply = self._link(shard).run(
            self._scripts.send,
            self._maxlen,
            self._expiry,
            channel,
            data,
            options.capacity(channel),
            options.overflow,
            options.shift(channel),
        )
        if not reply:
            return 0
        state, full, expired = reply
        self._count(dropped_full=full, dropped_expired=expired, dropped_closed=state == _CLOSED)
        return int(state)

    # Receiving

    def _receive(self, owner: str, channel: str, timeout: float | None) -> bytes:
        """Wait for a message of a channel that belongs to an event loop of this process."""
        mailbox = self._layer.mailbox(owner)
        if mailbox is None:
            raise ChannelClosed(channel)
        return mailbox.exchange.receive_blocking(channel, timeout).data

    def _receive_held(self, channel: str, timeout: float | None) -> bytes:
        """Wait for a message of a channel that Redis holds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        link = self._link(self._options.shards.of_channel(channel))
        while True:
            with Guest(link, self._options, channel, self._count) as guest:
                sealed = guest.wait(deadline)
            if sealed is None:
                raise _too_late(channel, timeout)
            data = self._options.unseal(sealed, f"channel {channel!r}")
            if data is not None:
                self._count(delivered=1)
                return data

    # What they share

    def _link(self, shard: int) -> BlockingLink:
        link = self._links.get(shard)
        if link is None:
            options = self._options
            made = BlockingLink(options.places[shard], options.base(shard), timeout=options.timeout)
            link = self._links.setdefault(shard, made)
        return link

    def _check(self, group: str, channel: str) -> None:
        self._layer.require_valid_group_name(group)
        self._layer.require_valid_channel_name(channel)

    def _count(self, **counts: int) -> None:
        counters = self._counters
        with self._lock:
            for name, count in counts.items():
                setattr(counters, name, getattr(counters, name) + count)

    def _run_in_loop(self, mailbox: Mailbox, call: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Make a call in the event loop of a mailbox; return whether it was done. False: the loop stands still."""
        loop = mailbox.loop
        if not loop.is_running():
            return False
        future = asyncio.run_coroutine_threadsafe(call(), loop)
        try:
            future.result(self._options.timeout)
        except TimeoutError:
            if future.done():
                raise
            # It may wait for this thread.
            future.cancel()
            return False
        return True


def _too_late(channel: str, timeout: float | None) -> TimeoutError:
    return TimeoutError(f"No message came on channel {channel!r} within {timeout} seconds")


_layers: weakref.WeakSet[RedisSyncChannelLayer] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for layer in list(_layers):
        # Another thread of the parent may have held the lock, and what was counted there is not ours.
        layer._begin()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork_in_child)

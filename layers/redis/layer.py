"""What the layers over Redis have in common: their options, their calls, and where each call goes."""

import asyncio
import contextlib
import os
import re
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from sealane.exceptions import ChannelClosed, ChannelFull, ChannelLayerUnavailable
from sealane.layers.base import BaseChannelLayer
from sealane.layers.counters import Counters
from sealane.layers.delivery import MAX_DELIVERIES, VISIBILITY_TIMEOUT, Delivery, Terms, require_most
from sealane.layers.inbox import Inbox
from sealane.layers.leasing import UndecodableLog
from sealane.layers.notices import OverflowPolicy
from sealane.layers.parcel import Parcel
from sealane.layers.receiver import AsyncReceiver
from sealane.layers.redis.blocking import RedisSyncChannelLayer
from sealane.layers.redis.branch import Branch
from sealane.layers.redis.delivering import receive_deliveries
from sealane.layers.redis.flush import flush
from sealane.layers.redis.full import FullLog
from sealane.layers.redis.health import Health, ShardHealth, examine
from sealane.layers.redis.mailbox import Mailbox
from sealane.layers.redis.mailboxes import Mailboxes, add_counts
from sealane.layers.redis.options import Options
from sealane.layers.redis.relay import Relay, count_held
from sealane.layers.redis.scripts import Scripts
from sealane.layers.redis.wire import mailbox_id, name_channel
from sealane.types import Message

__all__ = ["RedisLayer"]

# A state that the script `send` returns.
_FULL = 2


class RedisLayer(BaseChannelLayer):
    """The calls of a layer over Redis. How a message comes into a mailbox is up to the subclass.

    Every event loop that uses the layer has a mailbox of its own, with a connection for calls and one for reading per
    shard, made when they are first needed. A channel of ``new_channel()`` belongs to the mailbox of the loop that made
    it; any other channel is held by Redis until somebody takes or owns it.
    """

    extensions: ClassVar[list[str]] = [*BaseChannelLayer.extensions, "acknowledgements"]
    scripts: ClassVar[Scripts]
    #: Whether the number of a database is part of keys.
    names_database: ClassVar[bool] = False
    #: What ``sync`` is.
    sync_class: ClassVar[type[RedisSyncChannelLayer]] = RedisSyncChannelLayer

    def __init__(
        self,
        hosts: Any = None,
        prefix: str = "asgi",
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        symmetric_encryption_keys: Iterable[str | bytes] | None = None,
        random_prefix_length: int = 12,
        serializer_format: str = "msgpack",
        *,
        channel_expiry: Mapping[str | re.Pattern[str], float] | None = None,
        overflow: OverflowPolicy = "drop_newest",
        max_message_size: int | None = None,
        cluster: bool = False,
        shards: int | None = None,
        lease: float = 15,
        maxlen: int = 10_000,
        timeout: float = 5,
    ) -> None:
        """Take the options of BaseChannelLayer, those of channels_redis, and a few more. Nothing connects yet.

        hosts: where the servers are, as ``sealane.layers.redis.hosts.parse_hosts`` takes it.
        prefix: what the layer's keys begin with; layers with the same hosts and prefix are one layer.
        group_expiry, random_prefix_length: accepted so that existing settings work, and not used. A member stays in its
            groups as long as its process lives.
        symmetric_encryption_keys: the first encrypts messages, all decrypt them. Names are not encrypted.
        cluster, shards: hosts are nodes of a Cluster, over which so many shards are spread.
        lease: seconds after which a process that died, or was stopped, is taken out of all groups.
        maxlen: how many messages the server keeps for a process that does not read, about.
        timeout: seconds after which a call that the server does not carry out raises ChannelLayerUnavailable.

        Raises InvalidChannelLayerError for a value that it cannot use.
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
        self.options = Options.of(
            self,
            hosts,
            prefix=prefix,
            symmetric_encryption_keys=symmetric_encryption_keys,
            cluster=cluster,
            shards=shards,
            lease=lease,
            maxlen=maxlen,
            timeout=timeout,
            scripts=self.scripts,
            names_database=self.names_database,
        )
        self.prefix = prefix
        self.places = self.options.places
        self._full = FullLog(overflow)
        self.undecodable = UndecodableLog()
        self._relay = Relay(self.options, self._full)
        self._blocking = self.sync_class(self)
        self._begin()
        _layers.add(self)

    def _begin(self) -> None:
        self._mailboxes = Mailboxes(self.make_mailbox)
        self._by_loop = self._mailboxes.by_loop

    @abstractmethod
    def make_mailbox(self, loop: asyncio.AbstractEventLoop) -> Mailbox:
        """Return a new mailbox of an event loop."""

    def here(self) -> Mailbox:
        """Return the mailbox of the running event loop."""
        return self._mailboxes.here()

    def mailbox(self, identity: str) -> Mailbox | None:
        """Return the mailbox of this process that has an id; None where there is none."""
        return self._mailboxes.get(identity)

    def mailboxes(self) -> list[Mailbox]:
        """Return the mailboxes of this process."""
        return self._mailboxes.all()

    def note_full(self, channel: str) -> None:
        """Log that a plain channel was full when a group's message came."""
        self._full.note(channel, self.get_capacity)

    # The calls

    async def send(self, channel: str, message: Message) -> None:
        mailbox = self._mailboxes.here()
        self._check_channel(mailbox, channel)
        data = self.options.seal(self.pack(message))
        owner = mailbox_id(channel)
        if owner is None:
            await self._send_plain(mailbox, channel, data)
        else:
            await self._post(mailbox, owner, channel, data)

    async def _send_plain(self, mailbox: Mailbox, channel: str, data: bytes) -> None:
        options = self.options
        capacity = self.get_capacity(channel)
        branch = mailbox.branch(options.shards.of_channel(channel))
        shift = options.shift(channel)
        call = branch.run(
            self.scripts.send, options.maxlen, options.expiry, channel, data, capacity, self.overflow, shift
        )
        try:
            reply = await call
        except asyncio.CancelledError:
            branch.link.follow(call, lambda reply: self._note_sent(mailbox, reply))
            raise
        if self._note_sent(mailbox, reply) == _FULL:
            raise ChannelFull(channel, capacity)

    def _note_sent(self, mailbox: Mailbox, reply: list[int] | None) -> int:
        """Count a message that was sent to a plain channel; return what became of it."""
        mailbox.counters.sent += 1
        mailbox.counters.addressed += 1
        return count_held(mailbox.counters, reply) if reply else 0

    async def _post(self, mailbox: Mailbox, owner: str, channel: str, data: bytes) -> None:
        options = self.options
        branch = mailbox.branch(options.shards.of_channel(channel))
        is_own = owner == mailbox.id
        if is_own:
            branch.open()
        arguments = (options.maxlen, owner, f"c{channel}", data)
        call = branch.run(self.scripts.post, *arguments)
        try:
            number = await call
            if number == 0 and is_own:
                # The server has forgotten this mailbox, which lives.
                branch.heal()
                call = branch.run(self.scripts.post, *arguments)
                number = await call
        except asyncio.CancelledError:
            branch.link.follow(call, lambda number: self._note_posted(mailbox, branch, is_own, number))
            raise
        self._note_posted(mailbox, branch, is_own, number)

    def _note_posted(self, mailbox: Mailbox, branch: Branch, is_own: bool, number: int | None) -> None:
        """Count a message that was posted to a mailbox."""
        counters = mailbox.counters
        counters.sent += 1
        if number == 0:
            counters.addressed += 1
            counters.dropped_closed += 1
        elif is_own and number is not None and number > branch.posted:
            branch.posted = number

    async def receive(self, channel: str) -> Message:
        loop = asyncio.get_running_loop()
        mailbox = self._by_loop.get(loop)
        if (
            mailbox is None
            or type(channel) is not str
            or channel not in mailbox.channels
            or mailbox.mark not in channel
        ):
            mailbox = self._mailboxes.here()
            self._check_channel(mailbox, channel)
            owner = mailbox_id(channel)
            if owner is None:
                parcel = await mailbox.plain.receive(channel)
                return parcel.open(self.options.deserialize)
            mailbox = self._owner(mailbox, owner, channel)
        exchange = mailbox.exchange
        entered = exchange.receive(channel, AsyncReceiver, loop)
        if isinstance(entered, Parcel):
            template = entered.template
            return template.copy() if template else entered.open(exchange.deserialize)
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

    async def receive_many(self, channel: str, most: int) -> list[Message]:
        require_most(most)
        mailbox = self._mailboxes.here()
        self._check_channel(mailbox, channel)
        if mailbox_id(channel) is not None:
            return [await self.receive(channel)]
        return await mailbox.plain.receive_many(channel, most)

    async def receive_delivery(
        self,
        channel: str,
        *,
        visibility_timeout: float = VISIBILITY_TIMEOUT,
        max_deliveries: int | None = MAX_DELIVERIES,
        dead_letter_channel: str | None = None,
    ) -> Delivery:
        terms = Terms.of(self, channel, visibility_timeout, max_deliveries, dead_letter_channel)
        return (await receive_deliveries(self, channel, terms, 1))[0]

    async def receive_deliveries(
        self,
        channel: str,
        most: int,
        *,
        visibility_timeout: float = VISIBILITY_TIMEOUT,
        max_deliveries: int | None = MAX_DELIVERIES,
        dead_letter_channel: str | None = None,
    ) -> list[Delivery]:
        require_most(most)
        terms = Terms.of(self, channel, visibility_timeout, max_deliveries, dead_letter_channel)
        return await receive_deliveries(self, channel, terms, most)

    def _owner(self, mailbox: Mailbox, identity: str, channel: str) -> Mailbox:
        """Return the mailbox of this process to which a channel belongs."""
        if identity == mailbox.id:
            mailbox.home().open()
            return mailbox
        found = self._mailboxes.get(identity)
        if found is None:
            raise ChannelClosed(channel)
        return found

    async def new_channel(self, prefix: str = "specific") -> str:
        mailbox = self._mailboxes.here()
        name = name_channel(prefix, mailbox.id)
        self.require_valid_channel_name(name)
        branch = mailbox.home()
        # Whoever gets the name may send there at once. Without a server it is a good name all the same.
        with contextlib.suppress(ChannelLayerUnavailable):
            branch.open()
            if branch.ready is not None and not branch.ready.done():
                await asyncio.shield(branch.ready)
        return name

    async def close_channel(self, channel: str) -> None:
        mailbox = self._mailboxes.here()
        self._check_channel(mailbox, channel)
        owner = mailbox_id(channel)
        if owner is None:
            await mailbox.plain.close(channel)
        elif owner == mailbox.id:
            mailbox.close_channel(channel)
        else:
            await self._ask(mailbox, self.options.shards.of_mailbox(owner), owner, f"x{channel}", "")

    async def group_add(self, group: str, channel: str) -> None:
        mailbox = self._mailboxes.here()
        self._check_group(mailbox, group)
        self._check_channel(mailbox, channel)
        options = self.options
        owner = mailbox_id(channel)
        shard = options.shards.of_group(group)
        if owner is None:
            kind = "c" if options.shards.of_channel(channel) == shard else "r"
            await mailbox.branch(shard).run(self.scripts.plain_join, group, channel, kind, options.limits(channel))
        elif owner == mailbox.id:
            await mailbox.branch(shard).link.catch_up()
            await mailbox.group_add(group, channel)
        else:
            await self._adopt(mailbox, owner, shard, group, channel)

    async def _adopt(self, mailbox: Mailbox, owner: str, shard: int, group: str, channel: str) -> None:
        """Let a channel of another mailbox join a group."""
        options = self.options
        home = options.shards.of_mailbox(owner)
        lease = 0
        asked = None
        if home != shard:
            # It may not be known on the group's shard yet: it is put down there, and told to open it.
            asked = mailbox.branch(home).run(self.scripts.post, options.maxlen, owner, f"o{group}", "")
            lease = options.lease
        branch = mailbox.branch(shard)
        # Both calls are made before either is awaited: what is called next comes after them.
        adopted = branch.run(self.scripts.adopt, options.maxlen, owner, lease, group, channel)
        if asked is not None and await asked == 0:
            # It is no more.
            await branch.run(self.scripts.leave, owner, await adopted or 0, group)
        await adopted

    async def group_discard(self, group: str, channel: str) -> None:
        mailbox = self._mailboxes.here()
        self._check_group(mailbox, group)
        self._check_channel(mailbox, channel)
        owner = mailbox_id(channel)
        shard = self.options.shards.of_group(group)
        if owner is None:
            await mailbox.branch(shard).run(self.scripts.plain_leave, group, channel)
        elif owner == mailbox.id:
            await mailbox.group_discard(group, channel)
        else:
            await self._ask(mailbox, shard, owner, f"-{group}", channel)

    async def _ask(self, mailbox: Mailbox, shard: int, owner: str, address: str, payload: str) -> bool:
        """Post to another mailbox what it is to do; return whether it is there."""
        number = await mailbox.branch(shard).run(self.scripts.post, self.options.maxlen, owner, address, payload)
        return bool(number != 0)

    async def group_send(self, group: str, message: Message) -> None:
        mailbox = self._mailboxes.here()
        self._check_group(mailbox, group)
        options = self.options
        data = options.seal(self.pack(message))
        branch = mailbox.branch(options.shards.of_group(group))
        own = mailbox.id if branch.opened else ""
        call = branch.run(self.scripts.group_send, options.maxlen, options.expiry, group, data, own, self.overflow)
        try:
            # On several shards it is carried out even if cancelled, so that the members on all of them get it.
            reply = await (call if len(self.places) == 1 else asyncio.shield(call))
        except asyncio.CancelledError:
            branch.link.follow(call, lambda reply: self._note_group_sent(mailbox, branch, data, reply))
            raise
        mailbox.counters.group_sent += 1
        if type(reply) is int:
            if reply > branch.posted:
                branch.posted = reply
            elif reply == 0 and own and group in branch.joined and branch.joined[group] is None:
                # The server knows no more that this mailbox is in the group.
                branch.heal()
        elif reply is not None:
            for relayed in self._relay.take(mailbox, branch, data, reply):
                await asyncio.shield(relayed)

    def _note_group_sent(self, mailbox: Mailbox, branch: Branch, data: bytes, reply: Any) -> None:
        """Do for a caller who was cancelled what is left to do."""
        mailbox.counters.group_sent += 1
        if isinstance(reply, list):
            with contextlib.suppress(ChannelLayerUnavailable):
                self._relay.take(mailbox, branch, data, reply)
        elif reply is not None and reply > branch.posted:
            branch.posted = reply

    async def flush(self) -> None:
        mailbox = self._mailboxes.here()
        await flush([mailbox.branch(shard) for shard in range(len(self.places))])

    async def close(self) -> None:
        mine = self.close_mailboxes(asyncio.get_running_loop())
        self._blocking.disconnect()
        if mine is not None:
            await mine.close()

    async def close_pools(self) -> None:
        """Call :meth:`close`, under the name that channels_redis has for it."""
        await self.close()

    def close_mailboxes(self, loop: asyncio.AbstractEventLoop | None = None) -> Mailbox | None:
        """Close the mailboxes of all loops but one, each in its own loop; return that one's, which is forgotten too."""
        return self._mailboxes.close(loop)

    def attach(self, channel: str, wake: Callable[[], None]) -> Inbox:
        mailbox = self._mailboxes.here()
        self._check_channel(mailbox, channel)
        owner = mailbox_id(channel)
        if owner is None:
            return mailbox.plain.attach(channel, wake, mailbox.loop)
        with contextlib.suppress(ChannelLayerUnavailable):
            return self._owner(mailbox, owner, channel).exchange.attach(channel, wake, mailbox.loop)
        return mailbox.exchange.attach(channel, wake, mailbox.loop)

    @property
    def sync(self) -> RedisSyncChannelLayer:
        return self._blocking

    # State

    async def health(self) -> Health:
        """Ask every shard how it is, within ``timeout`` seconds. One that cannot be reached raises no error."""
        mailbox = self._mailboxes.here()
        branches = [mailbox.branch(shard) for shard in range(len(self.places))]
        found: list[ShardHealth] = await asyncio.gather(*(examine(branch, time.perf_counter) for branch in branches))
        return Health(tuple(found))

    def stats(self) -> dict[str, int]:
        """Return the counters of ``sealane.layers.counters`` and some more, of this process alone.

        A message to a plain channel counts as sent and addressed where it was sent from, and as delivered or dropped
        where that happened: add the figures of all processes up, and the books balance. Further: ``channels`` and
        ``groups`` of this process, ``lost`` entries that the server dropped before this process read them,
        ``undecryptable`` messages, ``foreign`` entries that no layer wrote, ``reconnects``.
        """
        totals = self._mailboxes.stats()
        add_counts(totals, self._blocking.stats())
        result = dict.fromkeys(_COUNTED, 0) | totals
        dropped = sum(count for name, count in result.items() if name.startswith("dropped_"))
        result["waiting"] = max(0, result["addressed"] - result["delivered"] - dropped)
        result["undecryptable"] = self.options.undecryptable.count
        return result

    def __repr__(self) -> str:
        stats = self.stats()
        places = ", ".join(place.label for place in self.places)
        dropped = sum(count for name, count in stats.items() if name.startswith("dropped_"))
        figures = " ".join(f"{name}={stats[name]}" for name in ("channels", "groups", "waiting", "lost", "reconnects"))
        return f"<{type(self).__name__} {places} prefix={self.prefix!r} {figures} dropped={dropped}>"

    # Names

    def _check_channel(self, mailbox: Mailbox, channel: str) -> None:
        # A name that is in use was checked when it came into use.
        if type(channel) is not str or channel not in mailbox.exchange.board.channels:
            self.require_valid_channel_name(channel)

    def _check_group(self, mailbox: Mailbox, group: str) -> None:
        if type(group) is not str or group not in mailbox.exchange.board.groups:
            self.require_valid_group_name(group)


#: What ``Mailbox.stats()`` returns.
_COUNTED = (
    *(name for name in Counters().as_dict() if name != "waiting"),
    "channels",
    "groups",
    "lost",
    "foreign",
    "gaps",
    "reconnects",
)


_layers: weakref.WeakSet[RedisLayer] = weakref.WeakSet()

#: What a forked child has of its parent's connections: it must neither use nor close them.
_parents: list[object] = []


def _after_fork_in_child() -> None:
    for layer in list(_layers):
        _parents.append(layer._mailboxes)
        layer._begin()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

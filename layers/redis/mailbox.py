"""A mailbox: where one event loop gets what other processes, and its own calls, send to it."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from sealane.exceptions import CallRefused, ChannelLayerUnavailable
from sealane.layers.counters import Counters
from sealane.layers.gap import Gap
from sealane.layers.redis.access import scrub
from sealane.layers.redis.board import Delivery, MailboxBoard, MailboxExchange
from sealane.layers.redis.branch import Branch
from sealane.layers.redis.options import Options
from sealane.layers.redis.plain import PlainChannels
from sealane.layers.redis.wire import (
    CHANNEL,
    CLOSE,
    CLOSED,
    FLUSHED,
    GROUP,
    JOIN,
    LEASED,
    LEAVE,
    OPEN,
    PLAIN,
    RETURNED,
    mailbox_id,
    make_mailbox_id,
)

__all__ = ["Mailbox"]

logger = logging.getLogger("sealane.layers.redis")

#: At most one warning about entries that no layer has written in so many seconds.
_QUIET: Final = 60.0

#: The id of a flush.
_FLUSH: Final = re.compile("[0-9a-f]{16}", re.ASCII)


class Mailbox:
    """What one event loop of one process has in Redis, with a branch on each shard that it uses.

    Its exchange may be used from any thread, everything else in its own loop only. A loop that ends without
    :meth:`close` leaves a lease behind that nobody refreshes.
    """

    def __init__(
        self, options: Options, loop: asyncio.AbstractEventLoop, make_branch: "Callable[[Mailbox, int], Branch]"
    ) -> None:
        self.options = options
        self.loop = loop
        self._make_branch = make_branch
        self.id = make_mailbox_id()
        self.exchange = MailboxExchange(
            lambda: MailboxBoard(
                expiry=options.expiry / 1000,
                capacity=options.capacity,
                overflow=options.overflow,
                clock=time.monotonic,
            ),
            options.deserialize,
        )
        #: What stands in the names of its channels, and in no others.
        self.mark = f".{self.id}!"
        #: The channels that are in use here.
        self.channels = self.exchange.board.channels
        self.plain = PlainChannels(self)
        #: What the calls of this loop did, beside what the exchange counts: how many were sent, and all about messages
        #: that never came into a channel here.
        self.counters = Counters()
        #: Entries that the server dropped before they were read, and messages that may have got lost on their way back.
        self.lost = 0
        #: How many times messages may have been missed.
        self.gaps = 0
        #: Entries that no layer has written.
        self.foreign = 0
        # When that was last logged, by time.monotonic().
        self._warned: float | None = None
        #: Whether it takes no more calls, and whether it has taken leave.
        self.closed = False
        self.ended = False
        self._branches: list[Branch | None] = [None] * len(options.places)
        self._beating: asyncio.TimerHandle | None = None
        #: When everything was last dropped here, by ``time.monotonic()``.
        self.flushed = float("-inf")
        self._flush = ""
        self._ending: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        opened = sum(branch.opened for branch in self.branches)
        return f"<Mailbox {self.id}: {opened}/{len(self._branches)} shards, lost={self.lost}>"

    def stats(self) -> dict[str, int]:
        """Return what this loop has counted, by name."""
        mine, board = self.counters.as_dict(), self.exchange.stats()
        stats = {name: count + board[name] for name, count in mine.items() if name != "waiting"}
        # What the exchange took for sent was sent somewhere, and is counted there.
        stats.update(sent=self.counters.sent, group_sent=self.counters.group_sent)
        stats.update(channels=board["channels"], groups=board["groups"], lost=self.lost, foreign=self.foreign)
        stats["gaps"] = self.gaps
        stats["reconnects"] = sum(branch.reconnects for branch in self.branches)
        return stats

    @property
    def branches(self) -> list[Branch]:
        """The branches that there are."""
        return [branch for branch in self._branches if branch is not None]

    def branch(self, shard: int) -> Branch:
        """Return the branch on a shard."""
        branch = self._branches[shard]
        if branch is None:
            branch = self._branches[shard] = self._make_branch(self, shard)
        return branch

    def home(self) -> Branch:
        """Return the branch to which all is posted that is sent to a channel of this mailbox."""
        return self.branch(self.options.shards.of_mailbox(self.id))

    # The lease

    def start_beating(self) -> None:
        """Refresh the leases from now on."""
        if self._beating is None and not self.closed:
            self._beating = self.loop.call_later(self.options.beat, self._beat)

    def _beat(self) -> None:
        self._beating = None
        self.start_beating()
        for branch in self.branches:
            branch.beat()

    # Groups

    def _group_branch(self, group: str) -> Branch:
        return self.branch(self.options.shards.of_group(group))

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel of this mailbox to a group."""
        if self.exchange.board.is_closed(channel):
            return
        branch = self._group_branch(group)
        branch.open()
        found = self.exchange.board.groups.get(group)
        was_member = found is not None and channel in found.members
        joining = branch.join(group)
        changing = branch.change(True, group, channel)
        try:
            # Others may wait for the same calls, and what was begun is done.
            if joining is not None:
                await asyncio.shield(joining)
            if changing is not None:
                await asyncio.shield(changing)
        except (CallRefused, ChannelLayerUnavailable):
            if not was_member:
                branch.change(False, group, channel)
            raise

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel of this mailbox from a group."""
        changing = self._group_branch(group).change(False, group, channel)
        if changing is not None:
            await asyncio.shield(changing)

    def close_channel(self, channel: str) -> None:
        """Close a channel of this mailbox."""
        inbox = self.exchange.board.channels.get(channel)
        groups = () if inbox is None else [group.name for group in inbox.groups]
        self.exchange.close_channel(channel)
        for group in groups:
            self._group_branch(group).settle(group)

    # What was posted

    def admits(self, branch: Branch, delivery: Delivery) -> bool:
        """Return whether a message was not dropped already, by a flush or a close after it was posted."""
        counters = self.counters
        if delivery.kind == CHANNEL and self.mark not in delivery.name:
            self.note_foreign(branch)
            return False
        if branch.flushing:
            if delivery.kind != GROUP:
                counters.addressed += delivery.kind != PLAIN
                # What was sent to a closed channel was dropped before the flush came.
                if self._is_closed(delivery):
                    counters.dropped_closed += 1
                else:
                    counters.dropped_flushed += 1
            return False
        if delivery.kind == PLAIN and delivery.name in self.plain.closing:
            counters.dropped_closed += 1
            return False
        return True

    def _is_closed(self, delivery: Delivery) -> bool:
        """Return whether a message was sent to a channel before it was closed here, or to one that is closed."""
        if delivery.kind == PLAIN:
            return delivery.name in self.plain.closing
        return self.exchange.board.is_closed(delivery.name)

    def deliver(self, branch: Branch, batch: Sequence[Delivery]) -> None:
        """Put messages into their channels."""
        if self.plain.returning:
            batch = self.plain.bounce(branch, batch)
        refused = self.exchange.deliver(batch)
        if refused:
            for kind, name in {(item.kind, item.name) for item in refused}:
                if kind == PLAIN:
                    self.plain.hold(name)
                elif branch.joined.get(name) is None:
                    # Nobody here: an old membership, or one that a lost call left behind.
                    branch.adopted(name)
                    branch.settle(name)

    def obey(self, branch: Branch, kind: int, name: bytes, data: bytes) -> None:
        """Do what an entry asks for that is no message for an inbox."""
        if kind == LEASED:
            self.plain.leasing.accept(branch, name, data)
            return
        try:
            text, payload = name.decode(), data.decode()
        except ValueError:
            self.note_foreign(branch)
            return
        if kind in (JOIN, LEAVE) and mailbox_id(payload) != self.id:
            self.note_foreign(branch)
        elif kind == JOIN:
            branch.adopted(text)
            self.exchange.group_add(text, payload)
            branch.settle(text)
        elif kind == LEAVE:
            self.exchange.group_discard(text, payload)
            branch.settle(text)
        elif kind == OPEN:
            with contextlib.suppress(ChannelLayerUnavailable):
                self._group_branch(text).open()
        elif kind == CLOSE:
            if mailbox_id(text) == self.id:
                self.close_channel(text)
            else:
                self.plain.close_here(text)
        elif kind == CLOSED:
            self.plain.closed(text)
        elif kind == RETURNED:
            self.plain.returned(text)
        elif kind == FLUSHED and not text and _FLUSH.fullmatch(payload):
            self._flushed(branch, payload)
        else:
            self.note_foreign(branch)

    # Flushing

    def flush_here(self, flush: str, marked: Sequence[Branch]) -> None:
        """Drop everything here; what these branches have not read yet is dropped until they come to a mark."""
        self._flush = flush
        for branch in marked:
            branch.flushing += 1
        self._drop_all()

    def _flushed(self, branch: Branch, flush: str) -> None:
        if branch.flushing:
            branch.flushing -= 1
        elif flush and flush != self._flush:
            # Every shard brings the mark of a flush by another process; the first one counts.
            self._flush = flush
            self._drop_all()

    def _drop_all(self) -> None:
        self.flushed = time.monotonic()
        self.exchange.flush()
        for branch in self.branches:
            branch.forget_groups()

    # Losses

    def note_foreign(self, branch: Branch) -> None:
        """Count an entry that no layer has written, and look whether the server still counts as this mailbox does."""
        self.foreign += 1
        now = time.monotonic()
        if self._warned is None or now - self._warned >= _QUIET:
            self._warned = now
            logger.warning(
                "Something that no layer wrote came to a mailbox with the prefix %r at %s, and was dropped (%d so "
                "far). Who else uses that prefix?",
                self.options.prefix,
                self.options.places[branch.shard].label,
                self.foreign,
            )
        branch.heal()

    def note_gap(self, branch: Branch, gap: Gap) -> None:
        """Count what is known to be lost, and tell the owners that messages may have been missed."""
        self.gaps += 1
        self.lost += gap.lost or 0
        # What was lost may have been a mark.
        branch.flushing = 0
        self.plain.forget_marks(branch.shard)
        self.exchange.tell_gap(gap)

    # The end

    def close_here(self) -> None:
        """Close every channel. May be called in any thread."""
        self.closed = True
        self.exchange.close()
        self.plain.leasing.close_here()

    async def close(self) -> None:
        """Close every channel, and take leave of the servers. What was begun is done, also where this is cancelled."""
        self.plain.release_all()
        self.close_here()
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        if self._ending is None:
            self._ending = self.loop.create_task(self._end(), name=f"sealane: end of mailbox {self.id}")
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        branches = self.branches
        try:
            # One that fails must not keep the others from being awaited.
            results = await asyncio.gather(*(branch.close() for branch in branches), return_exceptions=True)
        finally:
            self.ended = True
        for branch, error in zip(branches, results, strict=True):
            if isinstance(error, Exception):
                label = self.options.places[branch.shard].label
                logger.warning("Mailbox %s could not take leave of %s: %s", self.id, label, scrub(error))

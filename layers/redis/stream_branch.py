"""A mailbox on one shard as a stream, under a lease."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.gap import Gap
from sealane.layers.redis.board import Delivery
from sealane.layers.redis.branch import Branch
from sealane.layers.redis.lineage import Lineage, Succession
from sealane.layers.redis.losses import Losses
from sealane.layers.redis.opening import ERROR_REPLIES, Opening
from sealane.layers.redis.pipeline import Argument
from sealane.layers.redis.progress import Progress
from sealane.layers.redis.reader import Entry, StreamReader
from sealane.layers.redis.restoration import Restoration
from sealane.layers.redis.wire import CHANNEL, GROUP, PLAIN, STAMP

if TYPE_CHECKING:
    from sealane.layers.redis.mailbox import Mailbox

__all__ = ["StreamBranch"]

#: Entries that are read before they are trimmed, if the next refresh does not do it first.
_TRIM: Final = 500

#: Seconds that taking leave may take.
_LEAVING: Final = 2.0


class StreamBranch(Branch):
    """One shard of a mailbox whose parcels are entries of a stream, numbered one by one.

    Joining and leaving a group here is a matter of this process, as long as another channel of the mailbox is in the
    group: only the first one's coming and the last one's going are told to Redis. Each takes effect between what was
    sent before it and what was sent after it, although messages arrive later than replies do: ``posted`` is the number
    of the last entry that this loop's calls are known to have posted here, and what they did after it waits, in
    ``_later``, until that entry has been read.
    """

    def __init__(self, mailbox: "Mailbox", shard: int) -> None:
        super().__init__(mailbox, shard)
        self.stream = b"%b:m:%b" % (self.base, mailbox.id.encode())
        self.reader = self.make_reader()
        self.progress = Progress()
        self.losses = Losses(lambda gap: mailbox.note_gap(self, gap))
        self.restoration = Restoration(self, self._note_added)
        self._heard = time.monotonic()
        self._registered = False
        self._healing = False
        # What the server was whose entries are read.
        self._lineage: Lineage | None = None
        # Whether another one was found than that. What was missed there is told when the reader has come to it: until
        # then it may still bring what was posted before.
        self._elsewhere = False
        # Whether the server is to be told again what it has forgotten, and whether it is behind what was read.
        self._forgotten = False
        self._behind = False
        # When it was last gone back to what such a server has, by time.monotonic().
        self._rewound = float("-inf")
        self._untrimmed = 0
        # The entry of somebody else for which the stream is removed.
        self._disposing = b""
        self._later: deque[tuple[int, bool, str, str]] = deque()
        # Groups with members here that could not be joined in time.
        self._unjoined: set[str] = set()

    def make_reader(self) -> StreamReader:
        """Return what reads on from the position."""
        options = self.options
        return StreamReader(
            options.places[self.shard],
            self.stream,
            lambda: self.progress.position,
            self.accept,
            self._check,
            batch=options.batch,
            timeout=options.timeout,
            name="sealane-reader",
        )

    @property
    def heard(self) -> float:
        return self._heard

    @property
    def reconnects(self) -> int:
        return self.link.reconnects + max(0, self.reader.connects - 1)

    async def backlog(self) -> int | None:
        if not self.opened:
            return 0
        number = await self.link.call("GET", b"%b:l:%b" % (self.base, self.mailbox.id.encode()))
        return None if number is None else max(0, int(number) - self.progress.number)

    def mark(self, number: int) -> Callable[[], bool]:
        return lambda: self.progress.number >= number

    # The lease

    async def heard_from(self) -> None:
        pass  # the call that makes it known comes before

    def open(self) -> None:
        if not self.opened:
            self.ready = self._run_registration()
            self.opened = True
            self.reader.start()
            self.mailbox.start_beating()

    def _registration(self) -> tuple[Argument, ...]:
        options = self.options
        return self.mailbox.id, options.lease, options.kept, self.progress.number, self.progress.position

    def _run_registration(self) -> "asyncio.Future[Any]":
        known, asked = self._registered, time.monotonic()
        future = self.run(self.scripts.register, *self._registration())
        future.add_done_callback(lambda future: self._on_registered(known, asked, future))
        return future

    def _on_registered(self, known: bool, asked: float, future: "asyncio.Future[Any]") -> None:
        self._healing = False
        if not future.cancelled() and future.exception() is None:
            self._take_registration(known, asked, future.result())
            # Whoever called has seen to it.
            self._forgotten = False
            self._tell_or_look(asked)

    def _take_registration(self, known: bool, asked: float, reply: list[Any]) -> Lineage | None:
        """Note what a reply of ``register`` tells about the server, and return what server it is, if that is known.

        ``known`` is whether the mailbox was known to the server when that was sent, at ``asked``: of two that are under
        way over two connections the reply to the later one may be the first to come.
        """
        number, fresh, now, behind, text = reply
        self._note_time(now)
        self._registered = True
        seconds = time.monotonic() - self._heard
        self._heard = time.monotonic()
        # Not of a position from which it was gone back since.
        self._behind |= bool(behind) and asked > self._rewound
        if known and fresh:
            self._forgotten = True
            self.losses.find("forgotten", seconds)
            self._count_from(number)
        lineage = Lineage.of(text)
        if self._lineage is None:
            self._lineage = lineage
        self._elsewhere = lineage is not None and lineage != self._lineage
        return lineage

    def _tell_or_look(self, asked: float) -> None:
        """Tell what was missed, or let the reader find it out and tell it, before it reads on."""
        if self._behind or self._elsewhere:
            self.reader.drop()
        else:
            self.losses.tell(asked)

    def _count_from(self, number: int) -> None:
        """Expect no entry of this loop's after this number, from which the server counts on."""
        self.posted = min(self.posted, number)
        self._later = deque((min(after, number), joins, group, name) for after, joins, group, name in self._later)
        self._apply(self.progress.number)

    async def on_connect(self, opening: Opening) -> None:
        if self.opened:
            known, asked = self._registered, time.monotonic()
            silent = asked - self._heard
            reply = await opening.run(self.scripts.register, (self.base,), self._registration())
            self._take_registration(known, asked, reply)
            if self._forgotten:
                await self.restoration.tell_first(opening, self.restoration.everything())
                self._forgotten = False
            elif known:
                # One that took over, or came back, may have all that was read, and lack who joined last.
                found = await self.restoration.tell_first(opening, self.restoration.memberships())
                if found:
                    self.losses.doubt(found, asked, silent)
                    self._settle_doubts()
            self._tell_or_look(asked)

    async def _check(self, opening: Opening) -> None:
        """Look, before anything is read over a new connection, whether the server still has what was posted."""
        if self._lineage is None and self.progress.number == 1:
            return  # nothing yet; that the mailbox is known is up to the link
        known, asked = self._registered, time.monotonic()
        silent = asked - self._heard
        reply = await opening.run(self.scripts.register, (self.base,), self._registration())
        lineage = self._take_registration(known, asked, reply)
        has_all = await self._has_all(lineage, opening)
        if self.losses.known or self._behind or not has_all:
            # Before anything is told: what is sent to the groups from then on is not missed.
            await self.restoration.tell_first(opening, self.restoration.memberships())
        entries: list[Entry] | None = None
        if self._behind:
            # With the last one that was read, where it is there: what follows it is not to be read again.
            entries = await opening.call("XRANGE", self.stream, "-", self.progress.position)
        # From here on nothing is awaited: a connection that is lost before leaves all this to the next one.
        self._lineage, self._elsewhere = lineage, False
        if entries is not None or not has_all:
            self.losses.find("rewound", silent)
            self._count_from(reply[0] if entries is None else self.progress.number)
        self.losses.tell(asked)
        if entries is not None:
            self._behind = False
            self._rewound = time.monotonic()
            self._take(self.progress.rewind(entries), again=True)
        if self._forgotten and self.link.connected:
            self.heal()

    async def _has_all(self, lineage: Lineage | None, opening: Opening) -> bool:
        """Return whether a server has all that was acknowledged by the one before it, as far as that can be known."""
        if lineage is None or self._lineage is None:
            return True
        succession = lineage.follows(self._lineage, in_cluster=bool(self.options.places[self.shard].tag))
        if succession is Succession.RESTARTED:
            with contextlib.suppress(*ERROR_REPLIES):
                _, policy = await opening.call("CONFIG", "GET", "appendfsync")
                return bool(policy == b"always")
        return succession is Succession.KEPT

    def heal(self) -> None:
        if self.opened and not self._healing and not self.mailbox.closed:
            if not self._forgotten:
                # Only this tells whether it was groups that the server has forgotten: it is not restored yet.
                self.restoration.confirm_all()
            with contextlib.suppress(ChannelLayerUnavailable):
                self._run_registration()
                self._healing = True
            self.restoration.tell()

    def _note_added(self, number: int, asked: float) -> None:
        self.losses.doubt(number, asked, time.monotonic() - self._heard)
        self._settle_doubts()

    def _settle_doubts(self) -> None:
        asked = self.losses.settle(self.progress.number, self.mailbox.flushed)
        if asked is not None:
            self._tell_or_look(asked)

    def beat(self) -> None:
        if self.opened:
            options = self.options
            names = self.mailbox.plain.names(self.shard)
            self._untrimmed = 0
            self.restoration.confirm_some()
            read = self.progress.number
            future = self.try_run(
                self.scripts.refresh,
                self.mailbox.id,
                options.lease,
                options.kept,
                self.progress.position,
                options.expiry,
                *names,
            )
            if future is not None:
                future.add_done_callback(lambda future: self._on_refreshed(read, future))

    def _on_refreshed(self, read: int, future: "asyncio.Future[Any]") -> None:
        if future.cancelled() or future.exception() is not None:
            return
        number, now, expired = future.result()
        self.mailbox.counters.dropped_expired += expired
        if number < read or self._forgotten:
            # The lease is gone, or was made anew by somebody else.
            self.heal()
            return
        self._note_time(now)
        self._heard = time.monotonic()
        self.restoration.tell_again()
        unjoined, self._unjoined = self._unjoined, set()
        for group in unjoined:
            self.settle(group)
        self.mailbox.plain.retry(self.shard)

    def _note_time(self, now: int) -> None:
        # Too small by the time that the reply took: the greatest is the best.
        offset = now / 1000 - time.monotonic()
        if self.offset is None or offset > self.offset or self.offset - offset > 1:
            self.offset = offset

    # Groups

    def join(self, group: str) -> "asyncio.Future[Any] | None":
        if group in self.joined:
            return self.joined[group]
        future = self.run(self.scripts.join, self.mailbox.id, group)
        self.joined[group] = future
        future.add_done_callback(lambda future: self._on_joined(group, future))
        return future

    def _on_joined(self, group: str, future: "asyncio.Future[Any]") -> None:
        mine = self.joined.get(group) is future
        if future.cancelled() or future.exception() is not None:
            if mine:
                del self.joined[group]
                self._unjoined.add(group)
        else:
            if mine:
                self.joined[group] = None
            if future.result() == 0:
                self.heal()

    def leave(self, group: str) -> None:
        self.joined.pop(group, None)
        self.try_run(self.scripts.leave, self.mailbox.id, self.progress.number, group)

    def change(self, joins: bool, group: str, channel: str) -> None:
        """Let a channel join or leave a group, after all that this loop's calls have sent and before what follows."""
        if self._later or self.progress.number < self.posted:
            self._later.append((self.posted, joins, group, channel))
        else:
            self._change(joins, group, channel)
            self.settle(group)

    def _change(self, joins: bool, group: str, channel: str) -> None:
        exchange = self.mailbox.exchange
        if joins:
            exchange.group_add(group, channel)
        else:
            exchange.group_discard(group, channel)

    def _apply(self, number: int) -> None:
        """Make the changes that had to wait until this entry was read."""
        later = self._later
        touched = set()
        while later and later[0][0] <= number:
            _, joins, group, channel = later.popleft()
            self._change(joins, group, channel)
            touched.add(group)
        for group in touched:
            self.settle(group)

    def settle(self, group: str) -> None:
        if group in self.mailbox.exchange.board.groups:
            if group not in self.joined:
                with contextlib.suppress(ChannelLayerUnavailable):
                    self.join(group)
        elif group in self.joined and not any(joins and name == group for _, joins, name, _ in self._later):
            self.leave(group)

    def forget_groups(self) -> None:
        super().forget_groups()
        self._later.clear()
        self._unjoined.clear()

    # What is read

    def accept(self, entries: "Sequence[Entry]") -> Awaitable[None]:
        """Take the entries that follow those that were read. What it returns waits until receivers have had a turn."""
        self._heard = time.monotonic()
        counters = self.mailbox.exchange.board.counters
        addressed, delivered = counters.addressed, counters.delivered
        self._take(entries)
        self._untrimmed += len(entries)
        if self._untrimmed >= _TRIM:
            self._untrimmed = 0
            with contextlib.suppress(ChannelLayerUnavailable):
                self.link.call("XTRIM", self.stream, "MINID", self.progress.position)
        return self.rest(delivered + (counters.addressed - addressed) // 2)

    def _take(self, entries: "Sequence[Entry]", again: bool = False) -> None:
        mailbox = self.mailbox
        progress = self.progress
        now = time.monotonic()
        latest = now + self.options.expiry / 1000
        # A time of the server's, in seconds, plus this is the time of ours when what was sent then expires.
        shift = self.options.expiry / 1000 - (self.offset if self.offset is not None else float("-inf"))
        keyring = self.options.keyring
        batch: list[Delivery] = []
        for entry_id, fields in entries:
            head, _, tail = entry_id.partition(b"-")
            number = int(head)
            if not again:
                missing = progress.missing(number)
                if missing is None:
                    self._deliver(batch)
                    self._dispose(entry_id)
                    return
                if missing:
                    mailbox.note_gap(self, Gap("trimmed", missing, now - self._heard))
                if self._later and self._later[0][0] < number:
                    self._deliver(batch)
                    batch = []
                    self._apply(number - 1)
                progress.advance(number, entry_id)
            address, data = fields[0], fields[1]
            kind = address[0] if address else 0
            if kind == PLAIN:
                name, stamp = address[1 + STAMP :], address[1 : 1 + STAMP]
                sent = stamp[-13:]
            elif kind in (CHANNEL, GROUP):
                name, stamp, sent = address[1:], b"", tail
            else:
                self._deliver(batch)
                batch = []
                mailbox.obey(self, kind, address[1:], data)
                continue
            try:
                delivery = Delivery(kind, name.decode(), data, min(int(sent) / 1000 + shift, latest), stamp)
            except ValueError:
                mailbox.note_foreign(self)
                continue
            if not mailbox.admits(self, delivery):
                continue
            if keyring is not None:
                kept = self.options.unseal(data, f"{'group' if kind == GROUP else 'channel'} {delivery.name!r}")
                if kept is None:
                    if kind == PLAIN:
                        mailbox.plain.wait_again(delivery.name)
                    continue
                delivery = delivery._replace(data=kept)
            batch.append(delivery)
        self._deliver(batch)
        if not again:
            progress.resumed = False
            if self.losses.in_doubt:
                self._settle_doubts()
            if self._later:
                self._apply(self.progress.number)

    def _deliver(self, batch: list[Delivery]) -> None:
        if batch:
            self.mailbox.deliver(self, batch)

    def _dispose(self, entry_id: bytes) -> None:
        """Remove a stream into which somebody else has written: nothing can be posted after such an entry."""
        if entry_id == self._disposing:
            return  # read again before it is gone
        self.mailbox.note_foreign(self)
        with contextlib.suppress(ChannelLayerUnavailable):
            self._disposing = entry_id
            self.link.call("DEL", self.stream).add_done_callback(self._on_disposed)

    def _on_disposed(self, future: "asyncio.Future[Any]") -> None:
        if future.cancelled() or future.exception() is not None:
            self._disposing = b""

    # The end

    async def close(self) -> None:
        try:
            await self.reader.close()
            # A server that has gone needs no leave, and one that is slow or refuses gets none: the lease will end.
            with contextlib.suppress(ChannelLayerUnavailable, RedisError, TimeoutError):
                async with asyncio.timeout(_LEAVING):
                    await self._unregister()
        finally:
            await self.link.close()

    async def _unregister(self) -> None:
        """Take leave: what was not read goes back to Redis, or is counted."""
        options = self.options
        counters = self.mailbox.counters
        more = self.opened and self.link.connected
        while more:
            reply = await self.run(
                self.scripts.unregister, options.maxlen, options.expiry, self.mailbox.id, self.progress.position
            )
            if reply is not None:
                more, _, closed = reply
                counters.addressed += closed
                counters.dropped_closed += closed

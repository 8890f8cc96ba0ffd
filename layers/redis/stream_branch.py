"""A mailbox on one shard as a stream, under a lease."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.gap import Gap, GapReason
from sealane.layers.redis.board import Delivery
from sealane.layers.redis.branch import Branch
from sealane.layers.redis.opening import ERROR_REPLIES, Opening
from sealane.layers.redis.pipeline import Argument, Verdict, verdict_of
from sealane.layers.redis.reader import Entry, StreamReader
from sealane.layers.redis.script import Script
from sealane.layers.redis.wire import CHANNEL, GROUP, PLAIN, STAMP

if TYPE_CHECKING:
    from sealane.layers.redis.mailbox import Mailbox

__all__ = ["StreamBranch"]

#: Entries that are read before they are trimmed, if the next refresh does not do it first.
_TRIM: Final = 500

#: Ids of entries that were read last, to know them again where a server takes over that was behind.
_RECENT: Final = 2048

#: Seconds that taking leave may take.
_LEAVING: Final = 2.0

#: Turns of the loop in which nobody takes anything, after which nobody is waited for.
_IDLE: Final = 3

#: Groups in one call.
_CHUNK: Final = 500

#: No mailbox counts that far: an entry with a higher number was not posted by a layer.
_FOREIGN: Final = 10**12

#: A call to be made: a script and its arguments.
_Call = tuple[Script, tuple[Argument, ...]]


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
        #: The number of the last entry that was read, and its id.
        self.read = 1
        self.position = b"0-0"
        #: The server's clock minus ours, in seconds.
        self.offset: float | None = None
        self._heard = time.monotonic()
        self._registered = False
        self._healing = False
        # Whether the server is to be told again what it has forgotten, and whether it is behind what was read.
        self._forgotten = False
        self._behind = False
        self._recent: deque[bytes] = deque(maxlen=_RECENT)
        self._untrimmed = 0
        # The entry of somebody else for which the stream is removed.
        self._disposing = b""
        # Whether what is read next may have any number, since a gap was told already.
        self._resumed = False
        self._later: deque[tuple[int, bool, str, str]] = deque()
        # Groups with members here that could not be joined in time.
        self._unjoined: set[str] = set()
        # What the server was to be told again, and could not be.
        self._untold: list[_Call] = []
        # Groups of which the server has not been asked in this round whether it knows that they are joined.
        self._unconfirmed: list[str] = []
        # When a server was last found not to know everything, by time.monotonic().
        self._found = float("-inf")

    def make_reader(self) -> StreamReader:
        """Return what reads on from the position."""
        options = self.options
        return StreamReader(
            options.places[self.shard],
            self.stream,
            lambda: self.position,
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
        return None if number is None else max(0, int(number) - self.read)

    # The lease

    def open(self) -> None:
        if not self.opened:
            self.ready = self._run_registration()
            self.opened = True
            self.reader.start()
            self.mailbox.start_beating()

    def _registration(self) -> tuple[Argument, ...]:
        options = self.options
        return self.mailbox.id, options.lease, options.kept, self.read, self.position

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
            if self._behind:
                self.reader.drop()

    def _take_registration(self, known: bool, asked: float, reply: list[int]) -> None:
        """Note what a reply of ``register`` tells about the server.

        ``known`` is whether it was known to the server when that was sent, at ``asked``: of two that are under way over
        two connections the reply to the later one may be the first to come.
        """
        number, fresh, now, behind = reply
        self._note_time(now)
        self._registered = True
        seconds = time.monotonic() - self._heard
        self._heard = time.monotonic()
        self._behind |= bool(behind)
        if known and fresh:
            self._forgotten = True
            self.posted = min(self.posted, number)
            self._apply(number)
            self._note_found("forgotten", asked, seconds)

    def _note_found(self, reason: GapReason, asked: float, seconds: float) -> None:
        """Tell a gap, unless one was found by another call since this one was made."""
        if self._found < asked:
            self._found = time.monotonic()
            self.mailbox.note_gap(self, Gap(reason, None, seconds))

    async def on_connect(self, opening: Opening) -> None:
        if self.opened:
            known, asked = self._registered, time.monotonic()
            reply = await opening.run(self.scripts.register, (self.base,), self._registration())
            self._take_registration(known, asked, reply)
            if self._forgotten:
                await self._restore(opening, self._restoration())
                self._forgotten = False
            elif known:
                # One that took over, or came back, may have all that was read, and lack who joined last.
                added = await self._restore(opening, self._rejoining(self._confirmable()))
                self._note_added(added, asked)
            if self._behind:
                # It finds out what is new before it reads on, so that the order is kept.
                self.reader.drop()

    async def _check(self, opening: Opening) -> None:
        """Look, before anything is read over a new connection, whether the server still has what was read."""
        if self.read == 1:
            return  # nothing yet; that the mailbox is known is up to the link
        register = self.scripts.register
        known, asked = self._registered, time.monotonic()
        reply = await opening.call("EVAL", register.source, 1, self.base, *self._registration())
        self._take_registration(known, asked, reply)
        if self._forgotten and self.link.connected:
            self.heal()
        if self._behind:
            self._behind = False
            # With the last one that was read, where it is there: what follows it is not to be read again.
            self._recover(await opening.call("XRANGE", self.stream, "-", self.position))

    def _recover(self, entries: list[Entry]) -> None:
        """Take what is new of what a server has that was behind when it took over, and read on from there."""
        self.posted = min(self.posted, self.read)
        self._apply(self.read)
        self.mailbox.note_gap(self, Gap("rewound", None, time.monotonic() - self._heard))
        known = set(self._recent)
        start = 0
        if len(self._recent) == _RECENT:
            # What comes before the first one that is known was read too, longer ago than is remembered.
            start = next((index for index, entry in enumerate(entries) if entry[0] in known), len(entries))
        self._take([entry for entry in entries[start:] if entry[0] not in known], again=True)
        if entries:
            self.position = entries[-1][0]
        # The server may count on from what it had, or from what was read, as it was told by another connection.
        self._resumed = True

    def heal(self) -> None:
        if self.opened and not self._healing and not self.mailbox.closed:
            if not self._forgotten:
                # Only this tells whether it was groups that the server has forgotten: it is not restored yet.
                self._unconfirmed = self._confirmable()
                while self._unconfirmed:
                    self._confirm_some()
            with contextlib.suppress(ChannelLayerUnavailable):
                self._run_registration()
                self._healing = True
            self._untold.clear()
            for script, arguments in self._restoration():
                self._tell(script, arguments)

    def _restoration(self) -> "list[_Call]":
        """Return the calls that tell a server what it has forgotten."""
        return self._rejoining(list(self.joined)) + self.mailbox.plain.restoration(self.shard)

    def _rejoining(self, groups: list[str]) -> "list[_Call]":
        return [
            (self.scripts.rejoin, (self.mailbox.id, *groups[start : start + _CHUNK]))
            for start in range(0, len(groups), _CHUNK)
        ]

    async def _restore(self, opening: Opening, calls: "list[_Call]") -> int:
        """Make calls of a restoration over a new connection; return how many groups it had not known."""
        added = 0
        for script, arguments in calls:
            try:
                reply = await opening.run(script, (self.base,), arguments)
            except ERROR_REPLIES as exc:
                if verdict_of(exc) > Verdict.FULL:
                    raise
                # The connection is of use all the same.
                self._untold.append((script, arguments))
            else:
                if script is self.scripts.rejoin:
                    added += max(0, reply - 1)
        return added

    def _tell(self, script: Script, arguments: tuple[Argument, ...]) -> None:
        call = self.try_run(script, *arguments)
        if call is None:
            self._untold.append((script, arguments))
        else:
            call.add_done_callback(lambda call: self._on_told(script, arguments, call))

    def _on_told(self, script: Script, arguments: tuple[Argument, ...], call: "asyncio.Future[Any]") -> None:
        if not call.cancelled() and call.exception() is not None:
            self._untold.append((script, arguments))

    def _tell_again(self) -> None:
        """Tell the server what it could not be told before, and is still so."""
        untold, self._untold = self._untold, []
        plain = self.mailbox.plain
        for script, arguments in untold:
            if script is self.scripts.rejoin:
                groups = [group for group in arguments[1:] if group in self.joined]
                if groups:
                    self._tell(script, (arguments[0], *groups))
            elif arguments[2] in (plain.owned if script is self.scripts.own else plain.waiting):
                self._tell(script, arguments)

    # What the server may have lost unnoticed

    def _confirmable(self) -> list[str]:
        return [group for group, call in self.joined.items() if call is None]

    def _confirm_some(self) -> None:
        """Tell the server some of the groups once more, in turn.

        One that was replaced may lack the last joins, and a group's key may have been evicted. In the moment between a
        flush by another process and its mark this brings a membership back, as a late call could: it lasts until
        something is sent to the group.
        """
        if self.flushing:
            self._unconfirmed.clear()
            return
        if not self._unconfirmed:
            self._unconfirmed = self._confirmable()
        chunk = self._unconfirmed[-_CHUNK:]
        del self._unconfirmed[-_CHUNK:]
        joined = self.joined
        groups = [group for group in chunk if group in joined and joined[group] is None]
        if groups:
            asked = time.monotonic()
            call = self.try_run(self.scripts.confirm, self.mailbox.id, *groups)
            if call is not None:
                call.add_done_callback(lambda call: self._on_confirmed(asked, call))

    def _on_confirmed(self, asked: float, call: "asyncio.Future[Any]") -> None:
        if not call.cancelled() and call.exception() is None and call.result() is not None and not self.flushing:
            self._note_added(call.result() - 1, asked)

    def _note_added(self, added: int, asked: float) -> None:
        if added > 0:
            self._note_found("rewound", asked, time.monotonic() - self._heard)

    def beat(self) -> None:
        if self.opened:
            options = self.options
            names = self.mailbox.plain.names(self.shard)
            self._untrimmed = 0
            self._confirm_some()
            read = self.read
            future = self.try_run(
                self.scripts.refresh,
                self.mailbox.id,
                options.lease,
                options.kept,
                self.position,
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
        self._tell_again()
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
        self.try_run(self.scripts.leave, self.mailbox.id, self.read, group)

    def change(self, joins: bool, group: str, channel: str) -> None:
        """Let a channel join or leave a group, after all that this loop's calls have sent and before what follows."""
        if self._later or self.read < self.posted:
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
                self.link.call("XTRIM", self.stream, "MINID", self.position)
        return self.rest(delivered + (counters.addressed - addressed) // 2)

    def _take(self, entries: "Sequence[Entry]", again: bool = False) -> None:
        mailbox = self.mailbox
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
                if number != self.read + 1:
                    if number > _FOREIGN:
                        self._deliver(batch)
                        self._dispose(entry_id)
                        return
                    if number > self.read and not self._resumed:
                        mailbox.note_gap(self, Gap("trimmed", number - self.read - 1, now - self._heard))
                if self._later and self._later[0][0] < number:
                    self._deliver(batch)
                    batch = []
                    self._apply(number - 1)
                self.read = number
                self.position = entry_id
            self._recent.append(entry_id)
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
            self._resumed = False
            if self._later:
                self._apply(self.read)

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
                self.scripts.unregister, options.maxlen, options.expiry, self.mailbox.id, self.position
            )
            if reply is not None:
                more, _, closed = reply
                counters.addressed += closed
                counters.dropped_closed += closed

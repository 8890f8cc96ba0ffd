"""Plain channels of one event loop: who owns or waits for them here, and what goes back to Redis."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sealane.exceptions import ChannelClosed, ChannelLayerUnavailable, UndecodableMessage
from sealane.layers.inbox import Inbox
from sealane.layers.parcel import Parcel
from sealane.layers.receiver import AsyncReceiver
from sealane.layers.redis.board import Delivery
from sealane.layers.redis.leasing import Leasing
from sealane.layers.redis.script import Script
from sealane.layers.redis.wire import PLAIN
from sealane.types import Message

if TYPE_CHECKING:
    from sealane.layers.redis.branch import Branch
    from sealane.layers.redis.mailbox import Mailbox

__all__ = ["PlainChannels"]

#: A message on its way back: its channel, stamp and payload.
_Item = tuple[str, bytes, bytes]

#: For how long a message waits here for another receiver before it goes back to Redis, in seconds. Whoever asks again
#: and again, and never waits for long, would otherwise never get it.
_GRACE: Final = 0.1

#: For how long one who waits no longer stays until Redis knows it, in seconds.
_LEAVING: Final = 0.25

# What became of a `take` or an `own`.
_CLOSED: Final = 2
_FORGOTTEN: Final = 3


class PlainChannels:
    """The part of a mailbox that has to do with plain channels, whose messages Redis holds.

    Whoever wants one message of such a channel enters the queue of this process, and the mailbox the queue in Redis,
    once for each. All messages come through the mailbox, so that there is one order; one that nobody wants any more
    when it comes goes back a moment later, to its old place.
    """

    def __init__(self, mailbox: "Mailbox") -> None:
        self.mailbox = mailbox
        self.options = mailbox.options
        self.scripts = mailbox.options.scripts
        #: Channels with an owner in this loop.
        self.owned: set[str] = set()
        #: How many wait here for a message of a channel.
        self.waiting: Counter[str] = Counter()
        #: Channels that were closed here, whose marks in the mailbox were not read yet: what comes before is dropped.
        self.closing: Counter[str] = Counter()
        #: Channels of which messages are on their way back, by how many marks were not read yet. Later ones that had
        #: been sent here before are not to overtake them.
        self.returning: Counter[str] = Counter()
        #: Whoever waits here for a message under a lease.
        self.leasing = Leasing(mailbox)
        # Channels in which something may wait that goes back when its time has come.
        self._holding: dict[str, asyncio.TimerHandle] = {}
        # What could not be told to Redis in time.
        self._unowned: set[str] = set()
        self._unreturned: list[_Item] = []

    def _branch(self, channel: str) -> "Branch":
        return self.mailbox.branch(self.options.shards.of_channel(channel))

    # Receivers

    async def receive(self, channel: str, most: int = 1) -> Parcel:
        """Wait for a message. Cancelled, it loses none. Raises ChannelClosed where the channel becomes so.

        With more for ``most``, up to so many are brought here, where they wait for the next calls for a while.
        """
        exchange = self.mailbox.exchange
        entered = exchange.receive(channel, AsyncReceiver, asyncio.get_running_loop())
        if isinstance(entered, Parcel):
            return entered
        self.waiting[channel] += 1
        branch = self._branch(channel)
        try:
            branch.open()
            taking = branch.run(*self._take(channel, most))
            taking.add_done_callback(lambda future: self._on_taken(channel, future, entered))
            await entered.future
        except BaseException:
            exchange.abandon(entered)
            _count_down(self.waiting, channel)
            # Redis has one entry for each that waits here: one less. Where the message was on its way, it has none.
            leaving = branch.try_run(self.scripts.unwait, channel, self.mailbox.id, 1)
            self.hold(channel)
            if leaving is not None and branch.link.connected:
                # The loop may end right after this, and the next message would be for nobody.
                await asyncio.wait([leaving], timeout=_LEAVING)
            raise
        _count_down(self.waiting, channel)
        if entered.parcel is None:
            raise ChannelClosed(channel)
        return entered.parcel

    async def receive_many(self, channel: str, most: int) -> list[Message]:
        """Wait for a message, and return it and what came with it. Cancelled, it loses none.

        Raises UndecodableMessage where the first cannot be decoded; one behind it is left to the next call.
        """
        exchange = self.mailbox.exchange
        first = await self.receive(channel, most)
        messages = [first.open(exchange.deserialize)]
        inbox = self.mailbox.channels.get(channel)
        while len(messages) < most and inbox is not None and inbox.head is not None:
            entered = exchange.receive(channel, AsyncReceiver, self.mailbox.loop)
            if not isinstance(entered, Parcel):
                # It had expired.
                exchange.abandon(entered)
                break
            try:
                messages.append(entered.open(exchange.deserialize))
            except UndecodableMessage:
                receiver = AsyncReceiver(channel, self.mailbox.loop)
                receiver.parcel = entered
                exchange.abandon(receiver)
                break
        return messages

    def _take(self, channel: str, most: int = 1) -> tuple[Script, *tuple[Any, ...]]:
        options = self.options
        return self.scripts.take, options.maxlen, options.expiry, channel, self.mailbox.id, options.remembered, most

    def wait_again(self, channel: str) -> None:
        """Enter the queue in Redis once more: what came for somebody here was no message."""
        if channel in self.waiting:
            call = self._branch(channel).try_run(*self._take(channel))
            if call is not None:
                call.add_done_callback(lambda call: self._on_taken_again(channel, call))

    def _on_taken_again(self, channel: str, call: "asyncio.Future[Any]") -> None:
        if not call.cancelled() and call.exception() is None:
            self._look_at(channel, call.result())

    def _on_taken(self, channel: str, future: "asyncio.Future[Any]", receiver: AsyncReceiver) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            if not receiver.future.done():
                receiver.future.set_exception(error)
            return
        self._look_at(channel, future.result())

    def _look_at(self, channel: str, reply: Any) -> None:
        state, expired, *others = reply if isinstance(reply, list) else (reply, 0)
        self.mailbox.counters.dropped_expired += expired
        if others:
            self.mailbox.counters.dead_lettered += others[0]
            self.mailbox.counters.dropped_full += others[1]
        if state == _CLOSED:
            self.close_here(channel)
        elif state == _FORGOTTEN:
            self._branch(channel).heal()

    # What goes back

    def hold(self, channel: str) -> None:
        """Give what waits in a channel that nobody here reads back to Redis, after a while."""
        inbox = self.mailbox.exchange.board.channels.get(channel)
        if inbox is not None and inbox.head is not None:
            timer = self._holding.get(channel)
            if timer is not None:
                timer.cancel()
            self._holding[channel] = self.mailbox.loop.call_later(_GRACE, self._release, channel)

    def _release(self, channel: str) -> None:
        self._holding.pop(channel, None)
        found = self.mailbox.exchange.reclaim(channel)
        if found:
            seal = self.options.seal
            items = [(channel, parcel.stamp, seal(parcel.data)) for parcel in found]
            self._give_back(self._branch(channel), channel, items, self.mailbox.id)

    def release_all(self) -> None:
        """Give back at once what waits here for another receiver."""
        for channel, timer in list(self._holding.items()):
            timer.cancel()
            self._release(channel)

    def bounce(self, branch: "Branch", batch: Sequence[Delivery]) -> list[Delivery]:
        """Give back also what comes after messages of the same channel that are on their way back; return the rest."""
        rest = []
        for item in batch:
            if item.kind == PLAIN and item.name in self.returning:
                items = [(item.name, item.stamp, self.options.seal(item.data))]
                self._give_back(branch, item.name, items, "")
            else:
                rest.append(item)
        return rest

    def _give_back(self, branch: "Branch", channel: str, items: list[_Item], giver: str) -> None:
        arguments = [argument for item in items for argument in item]
        options = self.options
        future = branch.try_run(self.scripts.give_back, options.maxlen, options.expiry, giver, *arguments)
        if future is not None:
            if giver:
                self.returning[channel] += 1
            future.add_done_callback(lambda future: self._on_given_back(channel, items, giver, future))
        elif self.mailbox.closed:
            self.mailbox.counters.dropped_closed += len(items)
        else:
            self._unreturned.extend(items)

    def _on_given_back(self, channel: str, items: list[_Item], giver: str, future: "asyncio.Future[Any]") -> None:
        counters = self.mailbox.counters
        error = None if future.cancelled() else future.exception()
        marked = None
        if isinstance(error, ChannelLayerUnavailable) and not error.sent and not self.mailbox.closed:
            self._unreturned.extend(items)
        elif error is not None:
            # It may be there, and a message does not come twice.
            self.mailbox.lost += len(items)
        elif (reply := future.result()) is not None:
            closed, expired, marked = reply
            counters.dropped_closed += closed
            counters.dropped_expired += expired
        if giver and not marked:
            self.returned(channel)

    def returned(self, channel: str) -> None:
        """Note that the mark of a return was read, or will not come."""
        _count_down(self.returning, channel)

    # Owners

    def attach(self, channel: str, wake: Callable[[], None], loop: asyncio.AbstractEventLoop) -> Inbox:
        """Make somebody in this loop the owner of a channel."""
        inbox = self.mailbox.exchange.attach(channel, wake, loop)
        self.owned.add(channel)
        branch = self._branch(channel)
        try:
            branch.open()
            future = branch.run(*self._own(channel))
        except ChannelLayerUnavailable:
            self._unowned.add(channel)
        else:
            future.add_done_callback(lambda future: self._on_owned(channel, future))
        return inbox

    def _own(self, channel: str) -> tuple[Script, *tuple[Any, ...]]:
        options = self.options
        return self.scripts.own, options.maxlen, options.expiry, channel, self.mailbox.id, options.remembered

    def _on_owned(self, channel: str, future: "asyncio.Future[Any]") -> None:
        if future.cancelled() or future.exception() is not None:
            self._unowned.add(channel)
        else:
            self._look_at(channel, future.result())

    # The end of a channel

    async def close(self, channel: str) -> None:
        """Close a channel for all processes."""
        options = self.options
        home = options.shards.of_channel(channel)
        remember = options.expiry if "!" in channel else 0
        self.close_here(channel)
        branch = self.mailbox.branch(home)
        own = self.mailbox.id if branch.opened else ""
        closing = branch.run(self.scripts.close, options.maxlen, options.expiry, channel, own, remember)
        if own:
            self.closing[channel] += 1
        closing.add_done_callback(lambda future: self._on_closed(channel, own, future))
        calls = [closing]
        calls += [
            self.mailbox.branch(shard).run(self.scripts.leave_all, channel, remember)
            for shard in range(len(options.places))
            if shard != home
        ]
        for call in calls:
            # What was begun is done: the mark in the mailbox depends on it.
            await asyncio.shield(call)

    def _on_closed(self, channel: str, own: str, future: "asyncio.Future[Any]") -> None:
        marked = None
        if not future.cancelled() and future.exception() is None and future.result() is not None:
            dropped, expired, marked = future.result()
            self.mailbox.counters.dropped_closed += dropped
            self.mailbox.counters.dropped_expired += expired
        if own and not marked:
            self.closed(channel)

    def closed(self, channel: str) -> None:
        """Note that the mark of a close was read, or will not come."""
        _count_down(self.closing, channel)

    def close_here(self, channel: str) -> None:
        """Close a channel in this loop only."""
        self.owned.discard(channel)
        self._unowned.discard(channel)
        self.mailbox.exchange.close_channel(channel)
        self.leasing.end(channel)

    # What the server is told again

    def names(self, shard: int) -> list[str]:
        """Return the channels of a shard that are owned or waited for here."""
        of_channel = self.options.shards.of_channel
        names = self.owned | self.waiting.keys() | self.leasing.waiting.keys()
        return [name for name in names if of_channel(name) == shard]

    def forget_marks(self, shard: int) -> None:
        """Expect no marks from a shard that may have lost them."""
        of_channel = self.options.shards.of_channel
        for counter in (self.closing, self.returning):
            for name in [name for name in counter if of_channel(name) == shard]:
                del counter[name]

    def restoration(self, shard: int) -> list[tuple[Script, tuple[Any, ...]]]:
        """Return the calls that enter owners and waiters again, where a server has forgotten them."""
        calls: list[tuple[Script, tuple[Any, ...]]] = []
        for name in self.names(shard):
            if name in self.owned:
                script, *arguments = self._own(name)
                calls.append((script, tuple(arguments)))
            for _ in range(self.waiting.get(name, 0)):
                script, *arguments = self._take(name)
                calls.append((script, tuple(arguments)))
            calls.extend(self.leasing.restoration(name))
        return calls

    def wants(self, script: Script, arguments: Sequence[Any]) -> bool:
        """Return whether a call of a restoration is still to be made."""
        channel = arguments[2]
        if script is self.scripts.lease:
            return self.leasing.wants(arguments[3])
        return channel in (self.owned if script is self.scripts.own else self.waiting)

    def retry(self, shard: int) -> None:
        """Tell Redis what could not be told in time."""
        of_channel = self.options.shards.of_channel
        branch = self.mailbox.branch(shard)
        for name in [name for name in self._unowned if of_channel(name) == shard]:
            self._unowned.discard(name)
            with contextlib.suppress(ChannelLayerUnavailable):
                future = branch.run(*self._own(name))
                future.add_done_callback(lambda future, name=name: self._on_owned(name, future))  # type: ignore[misc]
        items = [item for item in self._unreturned if of_channel(item[0]) == shard]
        if items:
            self._unreturned = [item for item in self._unreturned if of_channel(item[0]) != shard]
            for channel in dict.fromkeys(item[0] for item in items):
                self._give_back(branch, channel, [item for item in items if item[0] == channel], "")

    @property
    def unreturned(self) -> int:
        """How many messages wait here to be given back to Redis."""
        return len(self._unreturned)


def _count_down(counter: "Counter[str]", name: str) -> None:
    if counter[name] > 1:
        counter[name] -= 1
    else:
        del counter[name]

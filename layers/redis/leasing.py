"""Acknowledged deliveries of one event loop: who waits for one here, and when a lease may have ended."""

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sealane.exceptions import ChannelClosed, ChannelLayerUnavailable
from sealane.layers.delivery import Terms
from sealane.layers.redis.script import Script

if TYPE_CHECKING:
    from sealane.layers.redis.branch import Branch
    from sealane.layers.redis.mailbox import Mailbox

__all__ = ["Leased", "Leasing"]

#: For how long one who waits no longer stays until Redis knows it, in seconds.
_LEAVING: Final = 0.25

#: What became of a `lease`: the mailbox is not there.
_FORGOTTEN: Final = 3

#: After how many milliseconds it is looked again at the earliest.
_AGAIN: Final = 20

#: After how many milliseconds it is looked again for somebody whom the server does not know.
_UNKNOWN: Final = 100

#: Of how many leases it is remembered that they were given out here: an entry that is read again brings them again.
_REMEMBERED: Final = 10_000

#: How many messages are given out by one call at most: no call is to hold up the server for long.
_MOST: Final = 128

_Call = tuple[Script, tuple[Any, ...]]


class Leased(NamedTuple):
    """A message that was leased to somebody here."""

    channel: str
    stamp: str
    #: The number of the lease.
    lease: str
    attempt: int
    #: When it was first delivered, in milliseconds since the epoch, by the server's clock.
    first_seen: int
    #: When the lease ends, by ``time.monotonic()``, about.
    until: float
    #: As it was sent.
    data: bytes


class _Waiter:
    """Somebody who waits for one delivery, and takes more where they are there."""

    __slots__ = ("asked", "channel", "come", "entry", "future", "given", "kind", "leased", "most", "terms")

    def __init__(
        self, channel: str, kind: str, entry: str, terms: Terms, most: int, future: "asyncio.Future[None]"
    ) -> None:
        self.channel = channel
        #: The same for all who wait under the same terms.
        self.kind = kind
        #: What stands for it in the queue in Redis.
        self.entry = entry
        self.terms = terms
        #: How many it takes; 0: it has gone.
        self.most = most
        #: Done when it has all that it is to get.
        self.future = future
        #: How many times it was entered there, or may have been: once given something, it may still be there. 0: it was
        #: not asked for yet.
        self.asked = 0
        #: Where the server did not know it when it was asked last: whether all has come that was on its way then.
        self.come: Callable[[], bool] | None = None
        #: What has come for it, and how many the server says that it has posted; None: it has not said so yet. The two
        #: come over different connections.
        self.leased: list[Leased] = []
        self.given: int | None = None

    @property
    def takes_more(self) -> bool:
        """Whether it takes one more, also where it has waited long enough, and has only not had a turn yet."""
        return len(self.leased) < self.most

    def check(self) -> None:
        """End the waiting where all has come."""
        count = len(self.leased)
        if count >= self.most or (self.given is not None and count >= max(1, self.given)):
            self.end()

    def end(self) -> None:
        """End the waiting, with what has come."""
        if not self.future.done():
            self.future.set_result(None)


class Leasing:
    """The part of a mailbox that has to do with deliveries.

    Whoever waits stands in the queue in Redis under a token of its own, with its terms: whichever call brings a message
    leases it to them, and posts it to the mailbox. Where somebody waits here it is looked now and then, in a script,
    whether a lease has ended: when the first one ends as far as is known, at the latest after the shortest time for
    which somebody here leases, as others will have done it for about as long, and as often as a mailbox shows that it
    lives.
    """

    def __init__(self, mailbox: "Mailbox") -> None:
        self.mailbox = mailbox
        self.options = mailbox.options
        self.scripts = mailbox.options.scripts
        self._waiters: dict[str, _Waiter] = {}
        #: How many wait here for a delivery from a channel.
        self.waiting: Counter[str] = Counter()
        self._tokens = 0
        self._looking: dict[str, asyncio.TimerHandle] = {}
        # Leases that were given out here, by stamp and number: a server that has lost its data counts from 1 again.
        self._given: OrderedDict[tuple[str, str], None] = OrderedDict()

    def _branch(self, channel: str) -> "Branch":
        return self.mailbox.branch(self.options.shards.of_channel(channel))

    # Whoever waits

    async def receive(self, channel: str, terms: Terms, most: int = 1) -> list[Leased]:
        """Wait for a message, and lease it, and what is there behind it, up to ``most`` messages.

        Cancelled, it loses none, and none counts as delivered.
        """
        branch = self._branch(channel)
        branch.open()
        kind = f"{hash(terms) & 0xFFFFFFFF:x}"
        token = f"{self._tokens:x}.{kind}"
        self._tokens += 1
        future = self.mailbox.loop.create_future()
        waiter = _Waiter(channel, kind, self._entry(token, terms), terms, min(most, _MOST), future)
        self._waiters[token] = waiter
        self.waiting[channel] += 1
        try:
            await branch.heard_from()
            if not waiter.future.done():
                call = branch.run(*self._lease(waiter, waiter.most))
                call.add_done_callback(lambda call: self._on_asked(waiter, call))
            await waiter.future
        except BaseException as exc:
            if not waiter.asked:
                if isinstance(exc, ChannelLayerUnavailable) and self.mailbox.closed:
                    raise ChannelClosed(channel) from None
                raise
            leaving = self._leave(branch, waiter)
            if leaving and branch.link.connected and not isinstance(exc, GeneratorExit):
                # The loop may end right after this, and the next message would be for nobody.
                await asyncio.wait(leaving, timeout=_LEAVING)
            raise
        finally:
            self._forget(token, waiter)
            if waiter.future.done() and not waiter.future.cancelled():
                # Looked at, whatever else was raised.
                waiter.future.exception()
        if waiter.asked > 1:
            branch.try_run(self.scripts.unwait, channel, waiter.entry, 0)
        return waiter.leased

    def _entry(self, token: str, terms: Terms) -> str:
        options = self.options
        shift = round(terms.expiry * 1000) - options.expiry
        return (
            f"{self.mailbox.id} {token} {max(1, round(terms.visibility_timeout * 1000))} {terms.max_deliveries or 0} "
            f"{terms.dead_letter_channel} {terms.capacity} {shift}"
        )

    def _lease(self, waiter: _Waiter, most: int) -> tuple[Any, ...]:
        options = self.options
        waiter.asked += 1
        channel, entry = waiter.channel, waiter.entry
        return self.scripts.lease, options.maxlen, options.expiry, channel, entry, options.remembered, most

    def _forget(self, token: str, waiter: _Waiter) -> None:
        if self._waiters.pop(token, None) is not None:
            channel = waiter.channel
            self.waiting[channel] -= 1
            if not self.waiting[channel]:
                del self.waiting[channel]

    def _leave(self, branch: "Branch", waiter: _Waiter) -> "list[asyncio.Future[Any]]":
        """Leave the queue; give back what was given meanwhile."""
        waiter.most = 0
        calls = [branch.try_run(self.scripts.unwait, waiter.channel, waiter.entry, 0)]
        calls += [self._release(branch, leased) for leased in waiter.leased]
        return [call for call in calls if call is not None]

    def release(self, taken: Iterable[Leased]) -> None:
        """Give messages back as if they had not been delivered, as far as that can be told to Redis now."""
        for leased in taken:
            self._release(self._branch(leased.channel), leased)

    def _release(self, branch: "Branch", leased: Leased) -> "asyncio.Future[Any] | None":
        options = self.options
        call = branch.try_run(
            self.scripts.retry, options.maxlen, options.expiry, leased.channel, leased.stamp, leased.lease, -1
        )
        if call is not None:
            call.add_done_callback(self._on_released)
        return call

    def _on_released(self, call: "asyncio.Future[Any]") -> None:
        # Where it could not be told, the lease ends by itself.
        if not call.cancelled() and call.exception() is None and call.result() is not None:
            self.mailbox.counters.released += call.result()[0]
            self.count(call.result())

    def _on_asked(self, waiter: _Waiter, call: "asyncio.Future[Any]") -> None:
        if call.cancelled():
            return
        error = call.exception()
        if error is None:
            *reply, given = call.result()
            self._heed(waiter.channel, reply)
            if reply[0] != _FORGOTTEN:
                waiter.given = given
                waiter.check()
        elif waiter.leased:
            # By an earlier call. It may be in the queue all the same.
            waiter.asked += 1
            waiter.end()
        elif not waiter.future.done():
            waiter.future.set_exception(error)

    def count(self, reply: list[int]) -> None:
        """Count what a script did beside its work."""
        counters = self.mailbox.counters
        _, _, expired, aside, dropped = reply
        counters.dropped_expired += expired
        counters.dead_lettered += aside
        counters.dropped_full += dropped

    # What was posted

    def accept(self, branch: "Branch", address: bytes, data: bytes) -> None:
        """Give a message to whoever waits for it; back to Redis where nobody does."""
        try:
            token, stamp, lease, attempt, first_seen, due, channel = address.decode().split(" ")
            until = self._here(branch, int(due))
            leased = Leased(channel, stamp, lease, int(attempt), int(first_seen), until, data)
        except ValueError:
            self.mailbox.note_foreign(branch)
            return
        if (stamp, lease) in self._given:
            return  # it was read again
        waiter = self._waiters.get(token)
        if waiter is None or not waiter.takes_more:
            waiter = self._other(channel, token)
        if waiter is None or waiter.channel != channel or branch.flushing:
            self._release(branch, leased)
            if waiter is not None and not waiter.future.done():
                self._ask_again(waiter)
            return
        self._given[stamp, lease] = None
        if len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)
        self.mailbox.counters.redelivered += leased.attempt > 1
        waiter.leased.append(leased)
        waiter.check()

    def _other(self, channel: str, token: str) -> _Waiter | None:
        """Return who else here gets what came too much for somebody: to give it back would let later ones pass it."""
        kind = token.rpartition(".")[2]
        for waiter in self._waiters.values():
            if waiter.channel == channel and waiter.kind == kind and waiter.takes_more:
                # It is still in the queue in Redis.
                waiter.asked += 1
                return waiter
        return None

    def _here(self, branch: "Branch", due: int) -> float:
        """Return when something is due by the clock of this process."""
        offset = branch.offset
        return time.monotonic() if offset is None else due / 1000 - offset

    def _ask_again(self, waiter: _Waiter) -> None:
        call = self._branch(waiter.channel).try_run(*self._lease(waiter, waiter.most))
        if call is not None:
            call.add_done_callback(lambda call: self._on_asked(waiter, call))

    # Leases that end

    def _heed(self, channel: str, reply: list[int]) -> None:
        self.count(reply)
        if reply[0] == _FORGOTTEN:
            self._branch(channel).heal()
        self.look_after(channel, reply[1])

    def look_after(self, channel: str, milliseconds: int) -> None:
        """Look after so long whether something is due in a channel; below 0: nothing is, as far as is known."""
        limits = [waiter.terms.visibility_timeout for waiter in self._waiters.values() if waiter.channel == channel]
        if limits:
            limits.append(self.options.beat)
        if milliseconds >= 0:
            # After the turn of the millisecond; and what is due already cannot be given to anybody now.
            limits.append(max(milliseconds + 1, _AGAIN) / 1000)
        if limits and not self.mailbox.closed:
            loop = self.mailbox.loop
            at = loop.time() + min(limits)
            timer = self._looking.get(channel)
            if timer is None or timer.when() > at:
                if timer is not None:
                    timer.cancel()
                self._looking[channel] = loop.call_at(at, self._look, channel)

    def _look(self, channel: str) -> None:
        del self._looking[channel]
        options = self.options
        waiters = [
            waiter
            for waiter in self._waiters.values()
            if waiter.channel == channel and waiter.asked and not waiter.future.done()
        ]
        entries = [waiter.entry for waiter in waiters]
        call = self._branch(channel).try_run(
            self.scripts.look, options.maxlen, options.expiry, channel, options.remembered, *entries
        )
        if call is None:
            self.look_after(channel, -1)
        else:
            call.add_done_callback(lambda call: self._on_looked(channel, waiters, call))

    def _on_looked(self, channel: str, waiters: list[_Waiter], call: "asyncio.Future[Any]") -> None:
        if call.cancelled() or call.exception() is not None:
            self.look_after(channel, -1)
            return
        state, due, *counted = call.result()
        counts, absent = counted[:3], counted[3:]
        # Where nobody waits here, the others see to what is due later.
        self._heed(channel, [state, due if channel in self.waiting else -1, *counts])
        if absent:
            number, indexes = absent
            self._enter_again(channel, [waiters[index] for index in indexes], number)

    def _enter_again(self, channel: str, waiters: list[_Waiter], number: int) -> None:
        """Enter those who wait here and not at the server, unless what they were given is still on its way.

        The server has forgotten whoever waits on when all has come that was posted by the time when it was asked.
        """
        branch = self._branch(channel)
        for waiter in waiters:
            if waiter.future.done():
                continue
            if waiter.come is None:
                waiter.come = branch.mark(number)
                self.look_after(channel, _UNKNOWN)
            elif not waiter.come():
                self.look_after(channel, _UNKNOWN)
            elif waiter.leased:
                waiter.end()  # the rest is lost
            else:
                waiter.come = None
                self._ask_again(waiter)

    # What the server is told again

    def restoration(self, channel: str) -> list[_Call]:
        """Return the calls that enter those who wait for a delivery from a channel again."""
        calls: list[_Call] = []
        for waiter in self._waiters.values():
            if waiter.channel == channel and waiter.leased:
                waiter.end()
            elif waiter.channel == channel and waiter.asked and not waiter.future.done():
                # Nobody takes this call's reply: it asks for one, which ends the waiting.
                waiter.given = 0
                script, *arguments = self._lease(waiter, 1)
                calls.append((script, tuple(arguments)))
        return calls

    def wants(self, entry: object) -> bool:
        """Return whether whoever has this entry in the queue in Redis still waits."""
        return any(waiter.entry == entry and not waiter.future.done() for waiter in self._waiters.values())

    # The end

    def close_here(self) -> None:
        """End all who wait for a delivery. May be called in any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            self.mailbox.loop.call_soon_threadsafe(self.end)

    def end(self, channel: str | None = None) -> None:
        """End those who wait for a delivery from a channel; without one, all."""
        for waiter in list(self._waiters.values()):
            if channel in (None, waiter.channel) and not waiter.future.done():
                waiter.future.set_exception(ChannelClosed(waiter.channel))
        if channel is None:
            for timer in self._looking.values():
                timer.cancel()
            self._looking.clear()

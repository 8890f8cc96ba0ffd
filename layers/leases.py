"""The decisions about messages under a lease, within one process: who gets which, and what becomes of it."""

import asyncio
import heapq
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

from sealane.layers import dead_letters
from sealane.layers.delivery import Terms
from sealane.layers.inbox import Inbox
from sealane.layers.notices import Notice
from sealane.layers.parcel import Parcel
from sealane.layers.receiver import AsyncReceiver, Receiver
from sealane.layers.switchboard import REMEMBERED, SWEEP, L, R, Switchboard

__all__ = ["DeliveryReceiver", "Held", "LeasingSwitchboard", "Ledger"]

#: What was given back undone, and is due before all else.
_AT_ONCE: Final = float("-inf")


class Held:
    """A message that is under a lease, or is to be delivered again."""

    __slots__ = ("attempts", "due", "first_seen", "lease", "parcel", "terms")

    def __init__(self, parcel: Parcel, terms: Terms) -> None:
        self.parcel = parcel
        self.terms = terms
        #: How many times it was delivered.
        self.attempts = 0
        #: When that was for the first time, in seconds since the epoch.
        self.first_seen = 0.0
        #: The number of the lease; 0 where nobody has it.
        self.lease = 0
        #: When it is to be delivered again, by the layer's clock.
        self.due = _AT_ONCE


class Ledger:
    """What is known about a named channel whose messages are leased, or live for a time of their own."""

    __slots__ = ("_heap", "expiry", "held", "terms")

    def __init__(self, expiry: float) -> None:
        #: Seconds that a message may wait.
        self.expiry = expiry
        #: The terms of whoever asked last for a delivery; None where nobody did.
        self.terms: Terms | None = None
        #: Messages by their numbers.
        self.held: dict[int, Held] = {}
        # When each is due, and its number. What is not due then any more is passed over.
        self._heap: list[tuple[float, int]] = []

    def schedule(self, held: Held, due: float) -> None:
        """Set when a message is to be delivered again."""
        held.due = due
        heap = self._heap
        heapq.heappush(heap, (due, held.parcel.number))
        if len(heap) > 2 * len(self.held) + SWEEP:
            heap[:] = [(item.due, number) for number, item in self.held.items()]
            heapq.heapify(heap)

    def first(self) -> Held | None:
        """Return what is due before all else, whether it is due now or not."""
        heap = self._heap
        while heap:
            due, number = heap[0]
            held = self.held.get(number)
            if held is not None and held.due == due:
                return held
            heapq.heappop(heap)
        return None

    def clear(self) -> int:
        """Forget every message; return how many there were."""
        count = len(self.held)
        self.held.clear()
        self._heap.clear()
        return count


class DeliveryReceiver(AsyncReceiver):
    """A coroutine that waits for a message under a lease."""

    __slots__ = ("attempt", "first_seen", "lease", "look_again", "terms")

    def __init__(self, channel: str, loop: asyncio.AbstractEventLoop, terms: Terms) -> None:
        super().__init__(channel, loop)
        self.terms = terms
        # Of the lease that it was given, with the parcel.
        self.lease = 0
        self.attempt = 0
        self.first_seen = 0.0
        #: After how many seconds it is to be looked again whether a lease has ended.
        self.look_again = terms.visibility_timeout


class LeasingSwitchboard(Switchboard):
    """A switchboard with leases.

    A message that is leased is in no inbox; its number finds it in the ledger of its channel. Nothing here happens by
    itself: what is due is delivered by the next call that has to do with its channel.
    """

    def __init__(
        self,
        *,
        channel_expiry: Callable[[str], float | None],
        wall: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        """Take the options of a Switchboard and two more.

        channel_expiry: returns how long a message may wait in a channel, where that is not ``expiry``.
        wall: returns the time in seconds since the epoch.
        """
        super().__init__(**options)
        self._channel_expiry = channel_expiry
        self._wall = wall
        # A forked child's numbers are not its parent's.
        self._leases = secrets.randbits(48)
        # Numbers begin again with each process, ids must not.
        self._origin = secrets.token_hex(6)
        # Channels from which deliveries were asked for, and the last terms.
        self._acknowledged: OrderedDict[str, Terms] = OrderedDict()
        # Whom a call has to tell something that returns something else.
        self.untold: list[Notice] = []

    def identify(self, parcel: Parcel) -> str:
        """Return the id of a message."""
        return f"{self._origin}-{parcel.number}"

    # Receivers

    def enter(self, receiver: DeliveryReceiver) -> Sequence[Notice]:
        """Let somebody stand in line for a delivery, and serve those who do."""
        now = self.clock()
        if now >= self._next_due:
            self._sweep(now, SWEEP)
        channel = receiver.channel
        inbox = self._enter(channel)
        if inbox.loop is not None:
            raise RuntimeError(
                f"Channel {channel!r} has an owner, who takes its messages: receive_delivery() would steal them"
            )
        self._acknowledged[channel] = receiver.terms
        self._acknowledged.move_to_end(channel)
        if len(self._acknowledged) > REMEMBERED:
            self._acknowledged.popitem(last=False)
        if inbox.ledger is None:
            inbox.ledger = Ledger(self._channel_expiry(channel) or self.expiry)
        inbox.ledger.terms = receiver.terms
        inbox.line_up(receiver)
        notices: list[Notice] = []
        self._serve(inbox, now, notices)
        self._note_next(receiver, inbox, now)
        return notices

    def look(self, receiver: DeliveryReceiver) -> Sequence[Notice]:
        """Serve those who wait in the channel of somebody, where something has become due."""
        notices: list[Notice] = []
        inbox = self.channels.get(receiver.channel)
        if inbox is not None:
            now = self.clock()
            self._serve(inbox, now, notices)
            self._note_next(receiver, inbox, now)
        return notices

    def serve(self, channel: str) -> Sequence[Notice]:
        """Serve those who wait in a channel, where something has become due."""
        notices: list[Notice] = []
        inbox = self.channels.get(channel)
        if inbox is not None:
            self._serve(inbox, self.clock(), notices)
        return notices

    def _note_next(self, receiver: DeliveryReceiver, inbox: Inbox, now: float) -> None:
        # Whoever takes something after this on the same terms has it until after that.
        after = receiver.terms.visibility_timeout
        first = None if inbox.ledger is None else inbox.ledger.first()
        receiver.look_again = after if first is None else max(0.001, min(after, first.due - now))

    def _serve(self, inbox: Inbox, now: float, notices: list[Notice]) -> None:
        """Give what is due, then what waits, to those who stand in line or own the channel."""
        self._clear(inbox, now, notices)
        self._redeliver(inbox, now, notices)
        while (parcel := inbox.head) is not None and (receiver := inbox.next_receiver()) is not None:
            inbox.pop()
            self._hand_over(inbox, receiver, parcel, notices)

    def _redeliver(self, inbox: Inbox, now: float, notices: list[Notice]) -> None:
        while inbox.receiver is not None or inbox.loop is not None:
            held = self._take_due(inbox, now, notices)
            if held is None:
                return
            if (receiver := inbox.next_receiver()) is not None:
                self._hand_over(inbox, receiver, held.parcel, notices, held)
            else:
                if inbox.head is None:
                    self._announce(inbox, notices)
                inbox.put_back(self._renewed(inbox, held, now))
                self._schedule(inbox, now)

    def _take_due(self, inbox: Inbox, now: float, notices: list[Notice]) -> Held | None:
        """Take what is due first out of the ledger, past what was delivered too often."""
        ledger = inbox.ledger
        while ledger is not None and (held := ledger.first()) is not None and held.due <= now:
            del ledger.held[held.parcel.number]
            if not self._exhausted(held):
                return held
            self._put_aside(inbox.name, held, dead_letters.MAX_DELIVERIES_REACHED, now, notices)
        return None

    def _exhausted(self, held: Held) -> bool:
        most = held.terms.max_deliveries
        return most is not None and held.attempts >= most

    def _renewed(self, inbox: Inbox, held: Held, now: float) -> Parcel:
        """Return a parcel that was leased as one that waits, and may do so for a while."""
        parcel = held.parcel
        expiry = self.expiry if inbox.ledger is None else inbox.ledger.expiry
        parcel.expires = max(parcel.expires, now + expiry)
        return parcel

    def _clear(self, inbox: Inbox, now: float, notices: list[Notice]) -> None:
        """Put aside what has waited too long, or drop it."""
        ledger = inbox.ledger
        if ledger is None or ledger.terms is None:
            super()._expire(inbox, now)
            return
        while (parcel := inbox.head) is not None and parcel.expires <= now:
            inbox.pop()
            self._put_aside(inbox.name, Held(parcel, ledger.terms), dead_letters.EXPIRED, now, notices)

    # What a switchboard decides, where there are leases

    def receive(self, channel: str, wait: Callable[[str, L], R], loop: L) -> Parcel | R:
        inbox = self.channels.get(channel)
        if inbox is not None and inbox.ledger is not None and inbox.loop is None:
            now = self.clock()
            self._clear(inbox, now, self.untold)
            # Those who came first get it.
            self._redeliver(inbox, now, self.untold)
            held = self._take_due(inbox, now, self.untold)
            if held is not None:
                self.counters.delivered += 1
                if not inbox.groups:
                    self._release(inbox)
                return held.parcel
        return super().receive(channel, wait, loop)

    def collect(self) -> Sequence[Notice]:
        """Return those who are to be told because of the last ``receive()``."""
        untold, self.untold = self.untold, []
        return untold

    def abandon(self, receiver: Receiver) -> Sequence[Notice] | None:
        if not isinstance(receiver, DeliveryReceiver) or receiver.parcel is None:
            return super().abandon(receiver)
        parcel, receiver.parcel = receiver.parcel, None
        return self.give_back(receiver.channel, parcel.number, receiver.lease, None, [])

    def _hand_over(
        self, inbox: Inbox, receiver: Receiver, parcel: Parcel, notices: list[Notice], held: Held | None = None
    ) -> None:
        ledger = inbox.ledger
        if ledger is None or not isinstance(receiver, DeliveryReceiver):
            super()._hand_over(inbox, receiver, parcel, notices)
            return
        if held is None:
            held = Held(parcel, receiver.terms)
        held.terms = receiver.terms
        held.attempts += 1
        if held.attempts == 1:
            held.first_seen = self._wall()
        else:
            self.counters.redelivered += 1
        self._leases += 1
        held.lease = self._leases
        ledger.held[parcel.number] = held
        ledger.schedule(held, self.clock() + receiver.terms.visibility_timeout)
        receiver.parcel, receiver.lease = parcel, held.lease
        receiver.attempt, receiver.first_seen = held.attempts, held.first_seen
        notices.append(receiver)

    def _put(self, inbox: Inbox, parcel: Parcel, now: float, notices: list[Notice]) -> bool:
        ledger = inbox.ledger
        if ledger is not None:
            # The members of a group share theirs.
            parcel = Parcel(parcel.data, now + ledger.expiry, parcel.number, False)
            self._redeliver(inbox, now, notices)
        return super()._put(inbox, parcel, now, notices)

    def _open(self, channel: str) -> Inbox:
        inbox = super()._open(channel)
        terms = self._acknowledged.get(channel)
        expiry = self._channel_expiry(channel)
        if terms is not None or expiry is not None:
            inbox.ledger = Ledger(expiry or self.expiry)
            inbox.ledger.terms = terms
            inbox.special = True
        return inbox

    def _expire(self, inbox: Inbox, now: float) -> bool:
        if inbox.ledger is not None and inbox.ledger.terms is not None:
            return False  # it becomes a dead letter when somebody comes for a delivery
        return super()._expire(inbox, now)

    def _bury(self, inbox: Inbox) -> list[Notice]:
        if inbox.ledger is not None:
            self.counters.dropped_closed += inbox.ledger.clear()
        return super()._bury(inbox)

    def flush(self) -> None:
        for inbox in self.channels.values():
            if inbox.ledger is not None:
                self.counters.dropped_flushed += inbox.ledger.clear()
        super().flush()

    # The calls of a delivery. Each puts True into ``done`` where the lease was still good.

    def _leased(self, channel: str, number: int, lease: int) -> tuple[Inbox, Ledger, Held] | None:
        inbox = self.channels.get(channel)
        if inbox is not None and (ledger := inbox.ledger) is not None:
            held = ledger.held.get(number)
            if held is not None and held.lease == lease:
                return inbox, ledger, held
        self.counters.leases_lost += 1
        return None

    def ack(self, channel: str, number: int, lease: int, done: list[bool]) -> None:
        """Forget a message: it is done."""
        found = self._leased(channel, number, lease)
        if found is not None:
            done.append(True)
            inbox, ledger, _ = found
            del ledger.held[number]
            self.counters.delivered += 1
            self._release(inbox)

    def extend(self, channel: str, number: int, lease: int, seconds: float, done: list[bool]) -> None:
        """Have a lease end so many seconds from now."""
        found = self._leased(channel, number, lease)
        if found is not None:
            done.append(True)
            _, ledger, held = found
            ledger.schedule(held, self.clock() + seconds)

    def give_back(
        self, channel: str, number: int, lease: int, delay: float | None, done: list[bool]
    ) -> Sequence[Notice] | None:
        """End a lease: have the message delivered again after a delay, or, without one, as if it had not been."""
        found = self._leased(channel, number, lease)
        if found is None:
            return None
        done.append(True)
        inbox, ledger, held = found
        now = self.clock()
        notices: list[Notice] = []
        held.lease = 0
        if delay is None:
            self.counters.released += 1
            held.attempts -= 1
            ledger.schedule(held, _AT_ONCE)
        else:
            self.counters.retried += 1
            if self._exhausted(held):
                del ledger.held[number]
                self._put_aside(channel, held, dead_letters.MAX_DELIVERIES_REACHED, now, notices)
            else:
                ledger.schedule(held, now + delay)
        self._serve(inbox, now, notices)
        self._release(inbox)
        return notices

    def reject(self, channel: str, number: int, lease: int, reason: str, done: list[bool]) -> Sequence[Notice] | None:
        """Move a message to the dead letters."""
        found = self._leased(channel, number, lease)
        if found is None:
            return None
        done.append(True)
        inbox, ledger, held = found
        del ledger.held[number]
        notices: list[Notice] = []
        self._put_aside(channel, held, reason, self.clock(), notices)
        self._release(inbox)
        return notices

    # Dead letters

    def _put_aside(self, channel: str, held: Held, reason: str, now: float, notices: list[Notice]) -> None:
        """Put a message that was taken out of its channel to the dead letters. It has been addressed, and is still."""
        terms = held.terms
        letter = dead_letters.wrap(
            held.parcel.data,
            channel=channel,
            reason=reason,
            attempts=held.attempts,
            first_seen=held.first_seen,
            id=self.identify(held.parcel),
        )
        self.counters.dead_lettered += 1
        self._number += 1
        parcel = Parcel(letter, now + terms.expiry, self._number, False)
        inbox = self.channels.get(terms.dead_letter_channel)
        if inbox is None:
            inbox = self._open(terms.dead_letter_channel)
        if (receiver := inbox.next_receiver()) is not None:
            self._hand_over(inbox, receiver, parcel, notices)
            return
        leased = 0 if inbox.ledger is None else len(inbox.ledger.held)
        while inbox.head is not None and len(inbox) + leased >= terms.capacity:
            inbox.pop()
            inbox.dropped += 1
            self.counters.dropped_full += 1
        if inbox.head is None:
            self._announce(inbox, notices)
        inbox.put(parcel)
        self._schedule(inbox, now)

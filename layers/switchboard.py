"""The decisions of a layer within one process: who gets which message. No lock, no event loop, no I/O.

Each call returns those who are to be told about it. ``sealane.layers.exchange`` makes the calls one at a time and tells
them.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from sealane.exceptions import ChannelClosed, ChannelFull
from sealane.layers.counters import Counters
from sealane.layers.inbox import Group, Inbox
from sealane.layers.notices import FullWarning, Notice, OverflowPolicy
from sealane.layers.parcel import Parcel
from sealane.layers.receiver import Receiver
from sealane.layers.turn import Due, Turn

__all__ = ["Switchboard"]

#: Of how many closed channels it is remembered that they were closed.
REMEMBERED: Final = 10_000

#: How many due entries a call clears away beside its own work, so that no call pays for all the others.
SWEEP: Final = 16

#: Seconds between two lines in the log about the same full channel.
WARN_EVERY: Final = 60.0

NEVER: Final = float("inf")

R = TypeVar("R", bound=Receiver)
L = TypeVar("L", asyncio.AbstractEventLoop, None)


class Switchboard:
    """The channels and groups of one process, and the messages that wait there."""

    def __init__(
        self,
        *,
        expiry: float,
        capacity: Callable[[str], int],
        overflow: OverflowPolicy,
        clock: Callable[[], float],
    ) -> None:
        self.expiry = expiry
        self.overflow: OverflowPolicy = overflow
        self.clock = clock
        self.channels: dict[str, Inbox] = {}
        self.groups: dict[str, Group] = {}
        self.counters = Counters()
        #: Whom a call has to tell something that returns something else: see :meth:`collect`.
        self.untold: list[Notice] = []
        self._capacity = capacity
        self._number = 0
        # Inboxes in which something may have expired, and closed channels, each with the time to look at it. Every
        # entry is made with the same delay, so both are in order.
        self._due: OrderedDict[Inbox, float] = OrderedDict()
        self._closed: OrderedDict[str, float] = OrderedDict()
        self._next_due = NEVER

    def send(self, channel: str, data: bytes) -> Sequence[Notice] | None:
        """Put a serialized message into a channel; raise ChannelFull where the policy says so."""
        now = self.clock()
        if now >= self._next_due:
            self._sweep(now, SWEEP)
        counters = self.counters
        counters.sent += 1
        counters.addressed += 1
        inbox = self.channels.get(channel)
        if inbox is None:
            if channel in self._closed:
                counters.dropped_closed += 1
                return None
            inbox = self._open(channel)
        self._number += 1
        parcel = Parcel(data, now + self.expiry, self._number, False)
        if inbox.head is None and not inbox.special:  # the common case of _put()
            inbox.head = parcel
            if not inbox.scheduled:
                self._schedule(inbox, now)
            notices: list[Notice] = []
            self._announce(inbox, notices)
            return notices
        notices = []
        if not self._put(inbox, parcel, now, notices):
            # The policy "close" needs somebody to close; without an owner the sender is told.
            if self.overflow == "drop_newest" or (self.overflow == "close" and inbox.loop is None):
                raise ChannelFull(channel, inbox.capacity)
            self._warn(inbox, now, notices)
        return notices

    def group_send(self, group: str, data: bytes, expires: float = 0.0) -> Sequence[Notice] | None:
        """Put a serialized message into every channel of a group.

        expires: when it may no longer be delivered, where it was sent elsewhere; by default ``expiry`` from now.
        """
        counters = self.counters
        counters.group_sent += 1
        found = self.groups.get(group)
        if found is None:
            return None
        now = self.clock()
        if now >= self._next_due:
            self._sweep(now, SWEEP + len(found.members))
        members = found.members
        counters.addressed += len(members)
        self._number += 1
        expires = expires or now + self.expiry
        parcel = Parcel(data, expires, self._number, len(members) > 1)
        notices: list[Notice] = []
        due = self._due
        turn = found.turn
        # These loops are what a broadcast costs: here the common cases of _put() too.
        if turn is not None:
            for inbox in members.values():
                if inbox.head is None and not inbox.special:
                    inbox.head = parcel
                    if not inbox.scheduled:
                        inbox.scheduled = True
                        due[inbox] = expires
                elif not self._put(inbox, parcel, now, notices):
                    self._warn(inbox, now, notices)
            # Some may be listed twice now: that is seen when they are looked at.
            turn.due.extend(members.values())
            turn.schedule(notices)
        else:
            for inbox in members.values():
                if inbox.special:
                    if not self._put(inbox, parcel, now, notices):
                        self._warn(inbox, now, notices)
                elif inbox.head is None:
                    inbox.head = parcel
                    if not inbox.scheduled:
                        inbox.scheduled = True
                        due[inbox] = expires
                    self._announce(inbox, notices)
                elif (rest := inbox.rest) is not None and len(rest) + 1 < inbox.capacity:
                    rest.append(parcel)
                elif not self._put(inbox, parcel, now, notices):
                    self._warn(inbox, now, notices)
        if due and expires < self._next_due:
            self._next_due = expires
        return notices

    def _put(self, inbox: Inbox, parcel: Parcel, now: float, notices: list[Notice]) -> bool:
        """Deliver a parcel to one channel; return False where a parcel was dropped for it, which is counted."""
        leased = 0
        if inbox.special:
            if (receiver := inbox.next_receiver()) is not None:
                self._hand_over(inbox, receiver, parcel, notices)
                return True
            if inbox.overflowed or inbox.ledger is None:
                # The owner is about to end: with a gap in it, what follows would be of no use.
                inbox.dropped += 1
                self.counters.dropped_full += 1
                return True
            leased = len(inbox.ledger.held)
        rest = inbox.rest
        if rest is not None and len(rest) + 1 + leased < inbox.capacity:
            # Where something waits already, its owner was told, and it is known when to look for what has expired.
            rest.append(parcel)
            return True
        fits = len(inbox) + leased < inbox.capacity
        if not fits and self._expire(inbox, now):
            fits = True
        if not fits:
            inbox.dropped += 1
            self.counters.dropped_full += 1
            if self.overflow == "drop_oldest" and inbox.head is not None:
                inbox.pop()
            else:
                if self.overflow == "close" and inbox.loop is not None:
                    inbox.overflowed = inbox.special = True
                    self._announce(inbox, notices)
                return False
        if inbox.head is None:
            self._announce(inbox, notices)
        inbox.put(parcel)
        self._schedule(inbox, now)
        return fits

    def _announce(self, inbox: Inbox, notices: list[Notice]) -> None:
        """See to it that the owner of an inbox, where it has one, is told that there is something in it."""
        turn = inbox.turn
        if turn is not None:
            turn.due.append(inbox)
            turn.schedule(notices)
        elif inbox.wake is not None:
            notices.append(inbox)

    def _hand_over(self, inbox: Inbox, receiver: Receiver, parcel: Parcel, notices: list[Notice]) -> None:
        """Give a parcel to somebody who waited for it."""
        receiver.parcel = parcel
        self.counters.delivered += 1
        notices.append(receiver)
        if not inbox.groups:
            self._release(inbox)

    def take(self, inbox: Inbox) -> Parcel | None:
        """Take the oldest parcel that has not expired."""
        now = self.clock()
        while (parcel := inbox.pop()) is not None:
            if parcel.expires > now:
                self.counters.delivered += 1
                return parcel
            self.counters.dropped_expired += 1
        return None

    def take_due(self, inboxes: Sequence[Inbox]) -> Due:
        """Take the message of each inbox that has one, and whose owner is idle."""
        now = self.clock()
        counters = self.counters
        due = Due([], [])
        current: object = due
        owners: list[Any] = []
        # Beside the loop of group_send() this one is what a broadcast costs.
        for inbox in inboxes:
            owner = inbox.owner
            if owner is None:
                continue  # the channel was closed meanwhile
            if owner.busy or owner.idle is None or inbox.rest is not None:
                due.others.append(owner)
                continue
            parcel = inbox.head
            if parcel is not current:
                if parcel is None:  # it was listed twice
                    if inbox.overflowed or inbox.gap is not None:
                        due.others.append(owner)
                    continue
                if parcel.expires <= now:
                    inbox.head = None
                    counters.dropped_expired += 1
                    continue
                current, owners = parcel, []
                due.parcels.append((parcel, owners))
            inbox.head = None
            owners.append(owner)
        counters.delivered += sum(len(owners) for _, owners in due.parcels)
        return due

    def receive(self, channel: str, wait: Callable[[str, L], R], loop: L) -> Parcel | R:
        """Take the oldest parcel, or let the receiver that ``wait(channel, loop)`` makes stand in line for the next."""
        now = self.clock()
        if now >= self._next_due:
            self._sweep(now, SWEEP)
        inbox = self.channels.get(channel)
        if inbox is None or inbox.loop is not None:
            inbox = self._enter(channel)
            if inbox.loop is not None:
                raise RuntimeError(
                    f"Channel {channel!r} has an owner, who takes its messages: receive() would steal them. Read a "
                    "channel from new_channel() instead, and have messages sent there"
                )
        if inbox.ledger is not None and (again := self._take_again(inbox, now)) is not None:
            return again
        while (parcel := inbox.head) is not None:
            # As inbox.pop(): of what a message costs that was there already, each call is a twentieth.
            rest = inbox.rest
            if rest is None:
                inbox.head = None
            else:
                inbox.head = rest.popleft()
                if not rest:
                    inbox.rest = None
            if parcel.expires > now:
                self.counters.delivered += 1
                if not inbox.groups:
                    self._release(inbox)
                return parcel
            self.counters.dropped_expired += 1
        receiver = wait(channel, loop)
        inbox.line_up(receiver)
        return receiver

    def _take_again(self, inbox: Inbox, now: float) -> Parcel | None:
        """Take what is to be delivered again; put into ``untold`` whoever is to be told of what happens on the way."""
        return None

    def collect(self) -> Sequence[Notice]:
        """Return those who are to be told because of the last ``receive()``."""
        untold, self.untold = self.untold, []
        return untold

    def abandon(self, receiver: Receiver) -> Sequence[Notice] | None:
        """Take back what a receiver was given and will not use, or forget that it waits."""
        channel, parcel = receiver.channel, receiver.parcel
        inbox = self.channels.get(channel)
        if parcel is None:
            if inbox is not None and inbox.dismiss(receiver):
                self._release(inbox)
            return None
        receiver.parcel = None
        self.counters.delivered -= 1
        notices: list[Notice] = []
        if inbox is None:
            if channel in self._closed:
                self.counters.dropped_closed += 1
                return None
            inbox = self._open(channel)
        if (next_receiver := inbox.next_receiver()) is not None:
            self._hand_over(inbox, next_receiver, parcel, notices)
        else:
            if inbox.head is None:
                self._announce(inbox, notices)
            inbox.put_back(parcel)
            self._schedule(inbox, self.clock())
        return notices

    def attach(self, channel: str, wake: Callable[[], None], loop: asyncio.AbstractEventLoop) -> Inbox:
        """Give a channel an owner, who lives in ``loop``."""
        inbox = self._enter(channel)
        if inbox.loop is not None:
            raise RuntimeError(f"Channel {channel!r} has an owner already; a channel has one")
        if inbox.receiver is not None:
            raise RuntimeError(f"Channel {channel!r} cannot get an owner while somebody waits for it in receive()")
        inbox.loop, inbox.wake = loop, wake
        return inbox

    def _enter(self, channel: str) -> Inbox:
        """Return the inbox of a channel that somebody wants to read."""
        inbox = self.channels.get(channel)
        if inbox is not None and inbox.loop is not None and inbox.loop.is_closed():
            # Its owner went without closing it. Whoever comes now has nothing to do with that one's messages.
            self._bury(inbox)
            inbox = None
        if inbox is None:
            if channel in self._closed:
                raise ChannelClosed(channel)
            inbox = self._open(channel)
        return inbox

    def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group; a closed channel joins nothing."""
        inbox = self.channels.get(channel)
        if inbox is None:
            if channel in self._closed:
                return
            inbox = self._open(channel)
        found = self.groups.get(group)
        if found is None:
            found = self.groups[group] = Group(group)
        found.add(inbox)

    def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group, where it is in it."""
        found, inbox = self.groups.get(group), self.channels.get(channel)
        if found is not None and inbox is not None:
            self._leave(inbox, found)
            self._release(inbox)

    def _leave(self, inbox: Inbox, group: Group) -> None:
        group.discard(inbox)
        if not group.members:
            self.groups.pop(group.name, None)

    def close_channel(self, channel: str) -> Sequence[Notice] | None:
        """Close a channel: leave its groups, drop what waits there, end those who wait for it."""
        now = self.clock()
        if now >= self._next_due:
            self._sweep(now, SWEEP)
        return self._close(channel, now)

    def _close(self, channel: str, now: float) -> Sequence[Notice] | None:
        inbox = self.channels.get(channel)
        notices = None if inbox is None else self._bury(inbox)
        # A channel of new_channel() is never used again once it is closed; a plain name is anybody's.
        if "!" in channel and channel not in self._closed:
            if len(self._closed) >= REMEMBERED:
                self._closed.popitem(last=False)
            self._closed[channel] = until = now + self.expiry
            self._next_due = min(self._next_due, until)
        return notices

    def _bury(self, inbox: Inbox) -> list[Notice]:
        """End a channel, without remembering its name."""
        del self.channels[inbox.name]
        self.counters.dropped_closed += inbox.clear()
        for group in tuple(inbox.groups):
            self._leave(inbox, group)
        self._due.pop(inbox, None)
        inbox.closed = True
        inbox.wake = inbox.loop = inbox.turn = inbox.owner = None
        receivers: list[Notice] = []
        while (receiver := inbox.next_receiver()) is not None:
            receiver.closed = True
            receivers.append(receiver)
        inbox.special = True
        return receivers

    def bury_all(self, notices: Sequence[Notice]) -> Sequence[Notice]:
        """End the channels, and pass on the parcels, of those whose event loop is closed."""
        told: list[Notice] = []
        now = self.clock()
        for notice in notices:
            if isinstance(notice, Receiver):
                told.extend(self.abandon(notice) or ())
            elif isinstance(notice, Turn):
                due, notice.due, notice.scheduled = notice.due, [], False
                told.extend(self.bury_all(due))
            elif isinstance(notice, Inbox) and not notice.closed:
                told.extend(self._close(notice.name, now) or ())
        return told

    def flush(self) -> None:
        """Drop every message and every group; owners and receivers stay."""
        for inbox in list(self.channels.values()):
            self.counters.dropped_flushed += inbox.clear()
            inbox.groups = ()
            self._release(inbox)
        self.groups = {}

    def close(self) -> Sequence[Notice]:
        """Close every channel."""
        told: list[Notice] = []
        now = self.clock()
        for name in list(self.channels):
            told.extend(self._close(name, now) or ())
        return told

    # Upkeep

    def _open(self, channel: str) -> Inbox:
        inbox = self.channels[channel] = Inbox(channel, self._capacity(channel))
        return inbox

    def _release(self, inbox: Inbox) -> None:
        """Forget a channel that nothing and nobody waits for."""
        if inbox.ledger is not None and inbox.ledger.held:
            return
        if inbox.head is None and inbox.loop is None and not inbox.groups and inbox.receiver is None:
            self.channels.pop(inbox.name, None)
            self._due.pop(inbox, None)

    def _warn(self, inbox: Inbox, now: float, notices: list[Notice]) -> None:
        if inbox.warned is None or now - inbox.warned >= WARN_EVERY:
            inbox.warned = now
            notices.append(FullWarning(inbox, self.overflow))

    def _schedule(self, inbox: Inbox, now: float) -> None:
        if not inbox.scheduled:
            inbox.scheduled = True
            self._due[inbox] = due = now + self.expiry
            self._next_due = min(self._next_due, due)

    def _expire(self, inbox: Inbox, now: float) -> bool:
        """Drop what has waited too long in a channel; return whether there was any."""
        count = 0
        while inbox.head is not None and inbox.head.expires <= now:
            inbox.pop()
            count += 1
        self.counters.dropped_expired += count
        return count > 0

    def _sweep(self, now: float, budget: int) -> None:
        """Look through the inboxes whose time has come, at most ``budget`` of them, and forget closed names.

        An inbox with something in it comes up once per expiry time, so that what nobody reads is freed within twice
        that, at a cost that does not depend on what else there is.
        """
        while self._due and budget > 0:
            inbox, due = next(iter(self._due.items()))
            if due > now:
                break
            budget -= 1
            del self._due[inbox]
            inbox.scheduled = False
            self._expire(inbox, now)
            if inbox.loop is not None and inbox.loop.is_closed():
                self._close(inbox.name, now)
            elif inbox.head is not None:
                self._schedule(inbox, now)
            else:
                self._release(inbox)
        budget = max(budget, SWEEP)
        while self._closed and budget > 0:
            name, until = next(iter(self._closed.items()))
            if until > now:
                break
            budget -= 1
            del self._closed[name]
        self._next_due = min(next(iter(self._due.values()), NEVER), next(iter(self._closed.values()), NEVER))

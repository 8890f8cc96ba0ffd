"""The exchange of a mailbox: what comes out of Redis is put into the channels of one event loop."""

from collections.abc import Sequence
from typing import NamedTuple

from sealane.layers.exchange import Exchange
from sealane.layers.gap import Gap
from sealane.layers.notices import Notice
from sealane.layers.parcel import Parcel
from sealane.layers.redis.wire import CHANNEL, GROUP, PLAIN
from sealane.layers.switchboard import SWEEP, Switchboard

__all__ = ["Delivery", "Held", "MailboxBoard", "MailboxExchange"]


class Delivery(NamedTuple):
    """One message that was posted to a mailbox."""

    #: ``wire.CHANNEL``, ``wire.GROUP`` or ``wire.PLAIN``.
    kind: int
    #: The channel or the group.
    name: str
    data: bytes
    #: By the clock of this process.
    expires: float
    #: Of a message of a plain channel: its place in the order of that channel.
    stamp: bytes = b""


class Held(Parcel):
    """A message of a plain channel, which goes back to Redis when nobody here takes it."""

    __slots__ = ("stamp",)

    def __init__(self, data: bytes, expires: float, number: int, stamp: bytes) -> None:
        super().__init__(data, expires, number, False)
        self.stamp = stamp


class MailboxBoard(Switchboard):
    """A switchboard whose messages come from elsewhere. They were counted as sent there, and no sender is told here."""

    def deliver(self, deliveries: Sequence[Delivery], refused: list[Delivery]) -> list[Notice]:
        """Put messages into their channels, in their order.

        Put into ``refused`` also those of plain channels that nobody here waits for, and those of groups without
        members, which went nowhere.
        """
        now = self.clock()
        if now >= self._next_due:
            self._sweep(now, SWEEP + len(deliveries))
        counters = self.counters
        notices: list[Notice] = []
        for delivery in deliveries:
            kind, name, data, expires, stamp = delivery
            if kind == GROUP:
                if name in self.groups:
                    notices += self.group_send(name, data, expires) or ()
                else:
                    refused.append(delivery)
                continue
            inbox = self.channels.get(name)
            if inbox is None and name in self._closed:
                counters.addressed += kind == CHANNEL
                counters.dropped_closed += 1
                continue
            if inbox is None:
                inbox = self._open(name)
            self._number += 1
            if kind == PLAIN:
                parcel: Parcel = Held(data, expires, self._number, stamp)
                if inbox.loop is None and inbox.receiver is None:
                    refused.append(delivery)
                    inbox.put(parcel)
                    self._schedule(inbox, now)
                    continue
            else:
                parcel = Parcel(data, expires, self._number, False)
                counters.addressed += 1
            if inbox.head is None and not inbox.special:  # the common case of _put()
                inbox.head = parcel
                if not inbox.scheduled:
                    self._schedule(inbox, now)
                self._announce(inbox, notices)
            elif not self._put(inbox, parcel, now, notices):
                self._warn(inbox, now, notices)
        return notices

    def reclaim(self, channel: str, found: list[Held]) -> None:
        """Take what waits in a plain channel that nobody here reads any more, and put it into ``found``."""
        inbox = self.channels.get(channel)
        if inbox is None or inbox.loop is not None or inbox.receiver is not None:
            return
        while (parcel := inbox.pop()) is not None:
            if isinstance(parcel, Held):
                found.append(parcel)
        self._release(inbox)

    def tell_gap(self, gap: Gap) -> list[Notice]:
        """Note in the inbox of every owner that messages may have been missed."""
        notices: list[Notice] = []
        for inbox in self.channels.values():
            if inbox.loop is not None:
                told = inbox.gap
                inbox.gap = gap if told is None else told.merge(gap)
                if told is None:
                    self._announce(inbox, notices)
        return notices

    def is_closed(self, channel: str) -> bool:
        """Return whether a channel was closed, and is not open again."""
        return channel in self._closed and channel not in self.channels


class MailboxExchange(Exchange):
    """Makes the calls of a mailbox's board one at a time, a batch of deliveries in one."""

    board: MailboxBoard

    def deliver(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Put messages into their channels; return those that nobody here has asked for."""
        refused: list[Delivery] = []
        self._act(self.board.deliver, deliveries, refused)
        return refused

    def reclaim(self, channel: str) -> list[Held]:
        """Take what waits in a plain channel that nobody here reads any more."""
        found: list[Held] = []
        self._act(self.board.reclaim, channel, found)
        return found

    def tell_gap(self, gap: Gap) -> None:
        """Tell every owner that messages may have been missed."""
        self._act(self.board.tell_gap, gap)

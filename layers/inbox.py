"""What waits for one channel, and the groups it is in."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sealane.layers.gap import Gap
from sealane.layers.parcel import Parcel
from sealane.layers.receiver import Receiver
from sealane.layers.turn import Owner, Turn
from sealane.types import Message

if TYPE_CHECKING:
    from sealane.layers.exchange import Exchange
    from sealane.layers.leases import Ledger

__all__ = ["Group", "Inbox"]

#: Up to so many groups of a channel stand in a tuple, which is smaller than a set.
_FEW = 8


class _Front:
    # What a broadcast looks at. The slots of a base class come first in an object, so that these share a line of the
    # processor's cache, or two, rather than being spread over four: with thousands of channels that is what it waits
    # for.
    __slots__ = ("head", "owner", "rest", "scheduled", "special")


class Inbox(_Front):
    """The messages that wait for one channel.

    ``attach()`` gives it to the channel's one owner, who calls ``take()`` until that returns None, and again after
    each ``wake``. An owner of many may call :meth:`join_turn`: see :class:`~sealane.layers.turn.Turn`.
    Like every collection it is false while it is empty: compare with None.
    """

    # One per open channel, so an idle one must stay small: the deques come with the second message that waits.
    __slots__ = (
        "capacity",
        "closed",
        "dropped",
        "exchange",
        "gap",
        "groups",
        "ledger",
        "loop",
        "name",
        "overflowed",
        "receiver",
        "receivers",
        "turn",
        "wake",
        "warned",
    )

    def __init__(self, name: str, capacity: int) -> None:
        #: The channel's name.
        self.name = name
        #: How many messages may wait.
        self.capacity = capacity
        #: How many messages were dropped so far because it was full.
        self.dropped = 0
        #: True once a message found it full under the policy "close": the owner should end its connection.
        self.overflowed = False
        #: True once the channel was closed: nothing comes any more.
        self.closed = False
        #: Not None once messages may have been missed on their way here: whoever was told sets it back to None.
        self.gap: Gap | None = None

        #: Where its owner takes its messages from; None without an owner.
        self.exchange: Exchange | None = None
        self.head: Parcel | None = None
        self.rest: deque[Parcel] | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.wake: Callable[[], None] | None = None
        #: Where its owner wants it to be put, rather than to be called by ``wake``.
        self.turn: Turn | None = None
        #: Whoever the turn is to give the messages to.
        self.owner: Owner | None = None
        self.groups: tuple[Group, ...] | set[Group] = ()
        #: Whoever waits for the next message in ``receive()``, and those who come after, where there are such.
        self.receiver: Receiver | None = None
        self.receivers: OrderedDict[Receiver, None] | None = None
        #: What is known about those of its messages that are under a lease; None where nobody takes them so.
        self.ledger: Ledger | None = None
        #: Whether a parcel cannot simply be put in: somebody waits for it, there is a ledger, or it must be dropped.
        self.special = False
        #: Whether it is on the list of inboxes to be looked through for expired parcels.
        self.scheduled = False
        #: When a full channel was last logged.
        self.warned: float | None = None

    def take(self) -> Message | None:
        """Return the next message, or None where none waits. It never blocks.

        Messages that waited longer than the layer's ``expiry`` are skipped and counted. Each call decodes a copy that
        belongs to the caller alone. Call it only in the thread of the event loop that attached the channel.
        """
        exchange = self.exchange
        if self.head is None or exchange is None:
            return None
        parcel = exchange.take(self)
        return None if parcel is None else parcel.open(exchange.deserialize)

    def __len__(self) -> int:
        head, rest = self.head, self.rest
        return (head is not None) + (0 if rest is None else len(rest))

    def __repr__(self) -> str:
        state = "closed" if self.closed else "attached" if self.loop is not None else "no owner"
        flags = ", overflowed" if self.overflowed else ""
        return (
            f"<Inbox {self.name}: {state}{flags}, waiting={len(self)}/{self.capacity}, groups={len(self.groups)}, "
            f"dropped={self.dropped}>"
        )

    def notify(self) -> None:
        """Call the owner's ``wake``. Called without the exchange's lock, in the thread of the owner's loop."""
        # The loop too is read now: wake() may close the channel before it fails.
        wake, loop = self.wake, self.loop
        if wake is None or loop is None or (self.head is None and not self.overflowed and self.gap is None):
            return  # closed meanwhile, or the owner was faster
        try:
            wake()
        except Exception as exc:
            # A sender has nothing to do with what its receivers do wrong.
            context = {"message": f"wake() of channel {self.name!r} raised", "exception": exc}
            loop.call_exception_handler(context)

    def join_turn(self, turn: Turn, owner: Owner) -> None:
        """Have messages announced to a turn from now on, for this owner, rather than by ``wake``.

        Call it right after ``attach()``, in the thread of the turn's loop.
        """
        self.owner = owner
        self.turn = turn
        for group in self.groups:
            group.turn = None

    # What follows is for the switchboard, under the exchange's lock.

    def put(self, parcel: Parcel) -> None:
        """Add a parcel at the end."""
        if self.head is None:
            self.head = parcel
        elif self.rest is None:
            self.rest = deque((parcel,))
        else:
            self.rest.append(parcel)

    def put_back(self, parcel: Parcel) -> None:
        """Add a parcel that had been taken, at its old place in the order."""
        waiting = sorted([parcel, *self.parcels()], key=lambda item: item.number)
        self.head = waiting[0]
        self.rest = deque(waiting[1:]) or None

    def pop(self) -> Parcel | None:
        """Remove and return the oldest parcel."""
        parcel, rest = self.head, self.rest
        if rest is None:
            self.head = None
        else:
            self.head = rest.popleft()
            if not rest:
                self.rest = None
        return parcel

    def parcels(self) -> Iterator[Parcel]:
        """Iterate over what waits, the oldest first."""
        if self.head is not None:
            yield self.head
        if self.rest is not None:
            yield from self.rest

    def clear(self) -> int:
        """Remove every parcel; return how many there were."""
        count = len(self)
        self.head = self.rest = None
        return count

    def line_up(self, receiver: Receiver) -> None:
        """Add somebody who waits, at the end."""
        self.special = True
        if self.receiver is None:
            self.receiver = receiver
        elif self.receivers is None:
            self.receivers = OrderedDict({receiver: None})
        else:
            self.receivers[receiver] = None

    def next_receiver(self) -> Receiver | None:
        """Remove and return whoever has waited longest."""
        receiver, rest = self.receiver, self.receivers
        if rest is None:
            self.receiver = None
            self.special = self.overflowed or self.ledger is not None
        else:
            self.receiver, _ = rest.popitem(last=False)
            if not rest:
                self.receivers = None
        return receiver

    def dismiss(self, receiver: Receiver) -> bool:
        """Remove somebody who waits; return whether it did."""
        if receiver is self.receiver:
            self.next_receiver()
            return True
        if self.receivers is None or receiver not in self.receivers:
            return False
        del self.receivers[receiver]
        if not self.receivers:
            self.receivers = None
        return True

    def join(self, group: "Group") -> None:
        """Note that the channel is in a group."""
        groups = self.groups
        if isinstance(groups, set):
            groups.add(group)
        elif len(groups) < _FEW:
            self.groups = (*groups, group)
        else:
            self.groups = {*groups, group}

    def leave(self, group: "Group") -> None:
        """Note that the channel is no longer in a group."""
        groups = self.groups
        if isinstance(groups, set):
            groups.discard(group)
        else:
            self.groups = tuple(item for item in groups if item is not group)


class Group:
    """The channels of one group, in the order in which they joined."""

    __slots__ = ("members", "name", "peak", "turn")

    def __init__(self, name: str) -> None:
        self.name = name
        self.members: dict[str, Inbox] = {}
        self.peak = 64
        #: The turn of every member; None where they do not have the same one.
        self.turn: Turn | None = None

    def add(self, inbox: Inbox) -> None:
        """Make a channel a member."""
        if inbox.name not in self.members:
            if not self.members:
                self.turn = inbox.turn
            elif self.turn is not inbox.turn:
                self.turn = None
            self.members[inbox.name] = inbox
            self.peak = max(self.peak, len(self.members))
            inbox.join(self)

    def discard(self, inbox: Inbox) -> None:
        """Remove a channel, where it is a member."""
        if self.members.pop(inbox.name, None) is not None:
            inbox.leave(self)
            if len(self.members) * 4 < self.peak:
                # A dict does not shrink: without a new one, a group that was large once would stay slow to walk.
                self.members = dict(self.members)
                self.peak = max(64, len(self.members))

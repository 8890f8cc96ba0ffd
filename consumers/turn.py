"""The messages that reach the idle connections of one event loop, dispatched together.

A broadcast reaches a thousand connections at once. In its next turn the event loop takes the message of each out of its
inbox, then starts their handlers one after the other: in one callback, without switching to a task for each.
"""

import asyncio
import weakref
from asyncio import _enter_task, _leave_task  # for those who extend asyncio, say its docs
from itertools import groupby
from operator import attrgetter

from sealane.consumers.connection import is_ready_frame
from sealane.consumers.stepping import THROUGH, Rest, hold
from sealane.layers.inbox import Inbox
from sealane.layers.parcel import Parcel
from sealane.layers.turn import Turn
from sealane.types import Message

__all__ = ["CLIENT", "IDLE", "PUSHED", "DispatchTurn", "turn_of"]

# Whose message is in a handler of a dispatcher.
IDLE, CLIENT, PUSHED = range(3)

_UNOPENED: Message = {}

#: Messages dispatched in a row before the other work of the event loop gets a turn.
BATCH = 128


class DispatchTurn(Turn):
    """The dispatchers of one event loop that are to look at their inboxes."""

    __slots__ = ()

    def run(self) -> None:
        """Dispatch one message for each dispatcher that is idle, and tell the others."""
        self.scheduled = False
        batch = self.due[:BATCH]
        del self.due[:BATCH]
        if self.due and not self.scheduled:
            self.scheduled = True
            self.notify()
        # The loops that follow are what a broadcast costs. All messages are taken before the first handler starts:
        # the processor's caches serve many small steps of one kind better than turns of all kinds.
        idle, owners = [], []
        for inbox in batch:
            dispatcher = inbox.owner
            if dispatcher is None:
                continue  # the channel was closed meanwhile
            if dispatcher.busy or dispatcher.standby is None:
                dispatcher.wake()
            else:
                dispatcher.busy = PUSHED
                idle.append(inbox)
                owners.append(dispatcher)
        loop = self.loop
        shared: Parcel | None = None
        is_frame = False
        for inbox, dispatcher, parcel in zip(idle, owners, _take_each(idle), strict=True):
            if parcel is None or dispatcher.outcome is not None or inbox.owner is None:
                dispatcher.started(None)
                continue
            # The handler runs as if in this task, which goes on with it where it waits.
            task = dispatcher.idle
            _enter_task(loop, task)
            message = _UNOPENED
            try:
                if parcel is shared and parcel.template:
                    message = parcel.template.copy()
                else:
                    message = _open(inbox, parcel)
                    shared, is_frame = parcel, is_ready_frame(message)
                if is_frame and dispatcher.forward is not None:
                    steps = dispatcher.forward(message).__await__()
                else:
                    steps = dispatcher.dispatch_pushed(message).__await__()
                waits_for = dispatcher.context.run(next, steps, THROUGH)
            except BaseException as error:
                dispatcher.started(Rest(message, error))
            else:
                if waits_for is not THROUGH:
                    hold(waits_for)
                    dispatcher.started(Rest(message, None, steps, waits_for))
                elif dispatcher.ready or inbox.head is not None:
                    dispatcher.started(None)
                else:
                    dispatcher.busy = IDLE
            finally:
                _leave_task(loop, task)


def _open(inbox: Inbox, parcel: Parcel) -> Message:
    assert inbox.exchange is not None
    return parcel.open(inbox.exchange.deserialize)


def _take_each(inboxes: list[Inbox]) -> list[Parcel | None]:
    parcels: list[Parcel | None] = []
    for exchange, those in groupby(inboxes, attrgetter("exchange")):
        parcels += exchange.take_each(list(those))
    return parcels


# By identity: a turn refers to its loop, so that the identity is not given to another one while the turn lives.
_turns: weakref.WeakValueDictionary[int, DispatchTurn] = weakref.WeakValueDictionary()


def turn_of(loop: asyncio.AbstractEventLoop) -> DispatchTurn:
    """Return the one of an event loop."""
    turn = _turns.get(id(loop))
    if turn is None:
        turn = _turns[id(loop)] = DispatchTurn(loop)
    return turn

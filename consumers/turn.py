"""The messages that reach the idle connections of one event loop, dispatched together.

A broadcast reaches a thousand connections at once. In its next turn the event loop takes the message of each out of its
inbox, then starts their handlers one after the other: in one callback, without switching to a task for each.
"""

import asyncio
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sealane.consumers.connection import is_ready_frame
from sealane.consumers.identity import step_in, step_out
from sealane.consumers.stepping import THROUGH, Rest, hold
from sealane.layers.exchange import Exchange
from sealane.layers.parcel import Parcel
from sealane.layers.turn import Turn
from sealane.types import Message

if TYPE_CHECKING:
    from sealane.consumers.dispatch import Dispatcher

__all__ = ["CLIENT", "IDLE", "PUSHED", "DispatchTurn", "turn_of"]

# Whose message is in a handler of a dispatcher.
IDLE, CLIENT, PUSHED = range(3)

#: Inboxes looked at in a row before the other work of the event loop gets a turn.
BATCH = 128


class DispatchTurn(Turn):
    """The dispatchers of one event loop that are to look at their inboxes."""

    __slots__ = ()

    def run(self) -> None:
        """Start the handler of a message for each dispatcher that is idle, and wake the others."""
        self.scheduled = False
        batch = self.due[:BATCH]
        del self.due[:BATCH]
        if self.due and not self.scheduled:
            self.scheduled = True
            self.notify()
        # All messages are taken before the first handler starts: the processor's caches serve many small steps of one
        # kind better than turns of all kinds.
        parcels, others = self.exchange.take_due(batch)
        for dispatcher in others:
            dispatcher.wake()
        for parcel, dispatchers in parcels:
            self._start(parcel, dispatchers)

    def _start(self, parcel: Parcel, dispatchers: "list[Dispatcher]") -> None:
        """Start the handler of one message for each of several dispatchers."""
        loop = self.loop
        # For each dispatcher less than a dozen lines are carried out, so that looking up a name tells.
        first_step, through = next, THROUGH
        copy = parcel.copier(self.exchange.deserialize)
        is_frame = parcel.template and is_ready_frame(parcel.template)
        message: Message = {}  # what on_error() gets where it cannot be opened
        names: Any = _NO_NAMES
        name = ""
        try:
            for dispatcher in dispatchers:
                # The handler runs as if in this task, which goes on with it where it waits.
                step_in(loop, dispatcher.idle)
                dispatcher.used = True
                try:
                    message = copy()
                    if is_frame and (forward := dispatcher.forward) is not None:
                        steps = forward(message).__await__()
                    elif dispatcher.pushed_names is names:
                        steps = getattr(dispatcher.target, name)(message).__await__()
                    else:
                        # Most are of one class, so that its table is asked once.
                        names, name = _look_up(dispatcher, message.get("type"))
                        start = getattr(dispatcher.target, name) if name else dispatcher.dispatch_pushed
                        steps = start(message).__await__()
                    waits_for = dispatcher.context.run(first_step, steps, through)
                except BaseException as error:
                    dispatcher.go_on_with(Rest(message, error))
                else:
                    if waits_for is not through:
                        hold(waits_for)
                        dispatcher.go_on_with(Rest(message, None, steps, waits_for))
        finally:
            step_out(loop)


#: The table of no dispatcher.
_NO_NAMES: Mapping[str, str] = {}


def _look_up(dispatcher: "Dispatcher", kind: object) -> tuple[Mapping[str, str], str]:
    """Return the table of names of a dispatcher, and what it has for a type; an empty one and no name for none."""
    names = dispatcher.pushed_names
    name = names.get(kind) if names is not None and isinstance(kind, str) else None
    return (_NO_NAMES, "") if names is None or name is None else (names, name)


# By identity: a turn refers to its loop, so that the identity is not given to another one while the turn lives.
_turns: weakref.WeakValueDictionary[tuple[int, int], DispatchTurn] = weakref.WeakValueDictionary()


def turn_of(loop: asyncio.AbstractEventLoop, exchange: Exchange) -> DispatchTurn:
    """Return the one of an event loop, for the inboxes of one exchange."""
    key = id(loop), id(exchange)
    turn = _turns.get(key)
    if turn is None:
        turn = _turns[key] = DispatchTurn(loop, exchange)
    return turn

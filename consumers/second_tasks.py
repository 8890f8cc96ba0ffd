"""The second tasks of one event loop's dispatchers: one that has had nothing to do for a while ends.

A dispatcher makes its second task when there is work for two, and keeps it, since there will be such work again. But
an idle connection is most of what a server has, and with a task more it takes 1.6 KB more.
"""

import asyncio
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sealane.consumers.pair import Pair

__all__ = ["LOOK_EVERY", "SecondTasks", "second_tasks_of"]

#: Seconds between two looks. A task that did nothing from one look to the next ends, so after once to twice as long.
LOOK_EVERY: Final = 30.0

#: Dispatchers looked at in a row before the other work of the event loop gets a turn.
BATCH: Final = 128


class SecondTasks:
    """The dispatchers of one event loop that have a second task."""

    __slots__ = ("__weakref__", "_dispatchers", "_left", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dispatchers: set[Pair] = set()
        self._left: list[Pair] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, dispatcher: "Pair") -> None:
        """Look after a dispatcher that has made its second task."""
        self._dispatchers.add(dispatcher)
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_EVERY, self.look)

    def discard(self, dispatcher: "Pair") -> None:
        """Look after a dispatcher no longer."""
        self._dispatchers.discard(dispatcher)

    def look(self) -> None:
        """Let the tasks end that did nothing since the last look; the timer calls it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(LOOK_EVERY, self.look)
        self._left = list(self._dispatchers)
        self._look_at_some()

    def _look_at_some(self) -> None:
        some, self._left = self._left[:BATCH], self._left[BATCH:]
        for dispatcher in some:
            if dispatcher.used:
                dispatcher.used = False
            elif dispatcher.dismiss():
                self._dispatchers.discard(dispatcher)
        if self._left:
            self._loop.call_soon(self._look_at_some)
        elif not self._dispatchers and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __len__(self) -> int:
        return len(self._dispatchers)

    def __repr__(self) -> str:
        return f"<SecondTasks of {len(self)} dispatchers>"


# By identity: what has a dispatcher waits for a timer that the loop has, and refers to the loop.
_second_tasks: weakref.WeakValueDictionary[int, SecondTasks] = weakref.WeakValueDictionary()


def second_tasks_of(loop: asyncio.AbstractEventLoop) -> SecondTasks:
    """Return those of an event loop."""
    found = _second_tasks.get(id(loop))
    if found is None:
        found = _second_tasks[id(loop)] = SecondTasks(loop)
    return found

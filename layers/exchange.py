"""A switchboard that every thread and event loop may use: one lock around its decisions, and the telling after it.

Owners and receivers in the caller's own event loop are told at once, those of another loop by one
``call_soon_threadsafe`` per loop and call.
"""

import asyncio
import logging
import os
import threading
import weakref
from asyncio.events import _get_running_loop as running_loop  # None where there is none: the public one raises
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from sealane.exceptions import ChannelClosed, ChannelFull
from sealane.layers.inbox import Inbox
from sealane.layers.notices import Notice
from sealane.layers.parcel import Parcel
from sealane.layers.receiver import Receiver, ThreadReceiver
from sealane.layers.switchboard import L, R, Switchboard
from sealane.layers.turn import Due
from sealane.types import Message

__all__ = ["Exchange", "running_loop"]

logger = logging.getLogger("sealane.layers")

_Decision = Callable[..., Sequence[Notice] | None]


class Exchange:
    """Makes the calls of a switchboard one at a time.

    The lock is held for the decision alone. What may be foreign code (an owner's ``wake``, an event loop, a handler of
    the log) runs after it is released.
    """

    def __init__(self, make_switchboard: Callable[[], Switchboard], deserialize: Callable[[bytes], Message]) -> None:
        self._make_switchboard = make_switchboard
        #: Opens the parcels that ``take()`` and ``receive()`` return.
        self.deserialize = deserialize
        self._reset()
        _exchanges.add(self)

    def _reset(self) -> None:
        self.board = self._make_switchboard()
        # The garbage collector or a signal handler can run any code inside a locked section, such as the "finally" of
        # a forgotten coroutine that closes its channel. A plain lock would then wait for its own thread for ever.
        # With an RLock that code gets in, finds _inside set, and its call is made right after the one it interrupted.
        self._lock = threading.RLock()
        self._inside = False
        self._deferred: deque[tuple[_Decision, tuple[Any, ...]]] = deque()

    def send(self, channel: str, data: bytes) -> None:
        """Put a serialized message into a channel. Raise ChannelFull where that drops it and nobody else is told."""
        self._act(self.board.send, channel, data)

    def group_send(self, group: str, data: bytes) -> None:
        """Put a serialized message into every channel of a group."""
        self._act(self.board.group_send, group, data)

    def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group; a closed channel joins nothing."""
        self._act(self.board.group_add, group, channel)

    def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group, where it is in it."""
        self._act(self.board.group_discard, group, channel)

    def close_channel(self, channel: str) -> None:
        """Close a channel: leave its groups, drop what waits there, end those who wait for it."""
        self._act(self.board.close_channel, channel)

    def flush(self) -> None:
        """Drop every message and every group; owners and receivers stay."""
        self._act(self.board.flush)

    def close(self) -> None:
        """Close every channel."""
        self._act(self.board.close)

    def abandon(self, receiver: Receiver) -> None:
        """Take back what a receiver was given and will not use, or forget that it waits."""
        self._act(self.board.abandon, receiver)

    def attach(self, channel: str, wake: Callable[[], None], loop: asyncio.AbstractEventLoop) -> Inbox:
        """Give a channel's inbox to its owner, who runs in ``loop``, which is the running one."""
        with self._lock:
            if self._inside:
                _refuse("attach()")
            self._inside = True
            try:
                inbox = self.board.attach(channel, wake, loop)
                inbox.exchange = self
            finally:
                self._inside = False
        if inbox.head is not None:
            loop.call_soon(inbox.notify)
        if self._deferred:
            self._catch_up()
        return inbox

    def take(self, inbox: Inbox) -> Parcel | None:
        """Take the oldest parcel of an inbox that has not expired."""
        with self._lock:
            if self._inside:
                return None
            self._inside = True
            try:
                parcel = self.board.take(inbox)
            finally:
                self._inside = False
        if self._deferred:
            self._catch_up()
        return parcel

    def take_due(self, inboxes: Sequence[Inbox]) -> Due:
        """Take the message of each inbox that has one, and whose owner is idle."""
        with self._lock:
            if self._inside:
                return Due([], [inbox.owner for inbox in inboxes if inbox.owner is not None])
            self._inside = True
            try:
                due = self.board.take_due(inboxes)
            finally:
                self._inside = False
        if self._deferred:
            self._catch_up()
        return due

    def receive(self, channel: str, wait: Callable[[str, L], R], loop: L) -> Parcel | R:
        """Take the oldest parcel of a channel, or let the receiver that ``wait(channel, loop)`` makes stand in line."""
        board = self.board
        with self._lock:
            if self._inside:
                _refuse("receive()")
            self._inside = True
            try:
                entered = board.receive(channel, wait, loop)
            finally:
                self._inside = False
        if board.untold:
            self._act(board.collect)
        if self._deferred:
            self._catch_up()
        return entered

    def receive_blocking(self, channel: str, timeout: float | None) -> Parcel:
        """Take the next parcel of a channel, and block this thread until there is one.

        Raises TimeoutError after ``timeout`` seconds, never for None, and ChannelClosed where the channel is closed.
        """
        entered = self.receive(channel, ThreadReceiver, None)
        if isinstance(entered, Parcel):
            return entered
        try:
            in_time = entered.wait(timeout)
        except BaseException:  # such as KeyboardInterrupt
            self.abandon(entered)
            raise
        if not in_time:
            self.abandon(entered)
            raise TimeoutError(f"No message came on channel {channel!r} within {timeout} seconds")
        if entered.parcel is None:
            raise ChannelClosed(channel)
        return entered.parcel

    def stats(self) -> dict[str, int]:
        """Return the counters, and how many channels and groups there are."""
        with self._lock:
            board = self.board
            return {**board.counters.as_dict(), "channels": len(board.channels), "groups": len(board.groups)}

    def members(self) -> dict[str, list[str]]:
        """Return the channels of each group."""
        with self._lock:
            return {name: [inbox.name for inbox in group.members.values()] for name, group in self.board.groups.items()}

    def waiting(self) -> dict[str, int]:
        """Return how many messages wait in each channel where any do."""
        with self._lock:
            return {name: len(inbox) for name, inbox in self.board.channels.items() if len(inbox)}

    def _act(self, decide: _Decision, *args: Any) -> None:
        """Make a decision under the lock, then tell those it returns."""
        nested = False
        try:
            with self._lock:
                if self._inside:
                    nested = True
                    self._deferred.append((decide, args))
                    return
                self._inside = True
                try:
                    notices = decide(*args)
                finally:
                    self._inside = False
            if notices:
                self._tell(notices)
        finally:
            if self._deferred and not nested:
                self._catch_up()

    def _catch_up(self) -> None:
        """Make the calls that came from inside another one."""
        while True:
            try:
                decide, args = self._deferred.popleft()
            except IndexError:
                return
            try:
                self._act(decide, *args)
            except ChannelFull:
                pass  # counted, and whoever sent it is gone
            except Exception:
                logger.exception("A deferred call of a channel layer failed")

    def _tell(self, notices: Sequence[Notice]) -> None:
        here = running_loop()
        elsewhere: dict[asyncio.AbstractEventLoop, list[Notice]] | None = None
        for notice in notices:
            loop = notice.loop
            if loop is here or loop is None:
                notice.notify()
            elif elsewhere is None:
                elsewhere = {loop: [notice]}
            else:
                elsewhere.setdefault(loop, []).append(notice)
        if elsewhere is None:
            return
        for loop, batch in elsewhere.items():
            try:
                loop.call_soon_threadsafe(_notify_all, batch)
            except RuntimeError:  # the loop is closed
                self._act(self.board.bury_all, batch)


def _refuse(call: str) -> NoReturn:
    raise RuntimeError(
        f"{call} was called from a signal handler or a finalizer that interrupted another call of the same channel "
        "layer. Call it from ordinary code, for example by loop.call_soon_threadsafe()"
    )


def _notify_all(notices: Sequence[Notice]) -> None:
    for notice in notices:
        notice.notify()


_exchanges: weakref.WeakSet[Exchange] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    # The lock may have been held by a thread that the child does not have, and the channels belong to event loops
    # that only the parent runs.
    for exchange in list(_exchanges):
        exchange._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

"""One ordered stream of messages, from several sources, into one handler at a time.

Two tasks at most serve a connection, however many messages it carries. One of them, the *reader*, waits for the
client. A message that arrives while nothing runs is dispatched by the reader itself, so that it crosses no task. While
a handler runs longer than a turn of the event loop, the other task takes over the reading: a client that leaves is
noticed, and a bounded number of messages waits in order. What a channel layer pushes is dispatched by whichever of
the two is free. Both share one context, so context variables set in one handler are seen by the next.
"""

import asyncio
import contextvars
import gc
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from sealane.consumers.ending import finish
from sealane.exceptions import HandlerCancelled
from sealane.types import Message, Receive

__all__ = ["BURST", "Dispatcher", "MessageQueue", "task_context"]

#: What is read ahead of a client while a handler runs, in messages and in bytes. Beyond either, the client waits.
READ_AHEAD = 32
READ_AHEAD_BYTES = 256 * 1024

#: Seconds that a handler may take to end after its cancellation.
HANDLER_TIMEOUT = 5.0

#: Messages dispatched in a row before the other tasks of the event loop get a turn.
BURST = 128


class MessageQueue(Protocol):
    """Where a source that pushes puts its messages: a channel layer's inbox, for one."""

    overflowed: bool

    def take(self) -> Message | None:
        """Return the next message, or None where there is none now. It raises nothing."""

    def __len__(self) -> int:
        """How many messages wait."""


_HANDLED: Message = {}

# Whose message is in a handler.
IDLE, CLIENT, PUSHED = range(3)


class _Failure:
    """Stands in the queue for a source that raised, behind everything it and the others handed out before."""

    __slots__ = ("behind", "error")

    def __init__(self, error: BaseException, behind: int) -> None:
        self.error = error
        #: How many pushed messages waited when it came. More that come later do not put it off.
        self.behind = behind


class Dispatcher:
    """Feed the messages of one client and of one pushing source to handlers, one at a time.

    :meth:`run` is awaited once, in the task of the connection, and returns only by raising: the exception of a handler
    (through ``failed``), of a source, the one given to :meth:`stop`, or the cancellation of its task. By then no task
    of the dispatcher is left.

    Order: each source's messages are dispatched in the order in which it gave them. Two busy sources take turns.
    Loss: what a source has given out is dispatched before another source's failure ends the run. When a handler ends
    the run, or the task is cancelled, what was read ahead is dropped.
    """

    __slots__ = (
        "_burst",
        "_busy",
        "_clean",
        "_context",
        "_dispatch_client",
        "_dispatch_pushed",
        "_failed",
        "_guarded",
        "_helper",
        "_is_due",
        "_last",
        "_loop",
        "_outcome",
        "_overflowed",
        "_owner",
        "_queue",
        "_queued_bytes",
        "_read_ahead",
        "_reading",
        "_ready",
        "_receive",
        "_standby",
        "inbox",
    )

    def __init__(
        self,
        receive: Receive,
        dispatch_client: Callable[[Message], Awaitable[None]],
        dispatch_pushed: Callable[[Message], Awaitable[None]],
        *,
        failed: Callable[[Exception, Message], Awaitable[None]],
        read_ahead: Callable[[Message], bool] | None,
        overflowed: Callable[[], Awaitable[None]] | None = None,
        housekeeping: tuple[Callable[[], bool], Callable[[], Awaitable[None]]] | None = None,
        burst: int = BURST,
    ) -> None:
        """Prepare to dispatch; nothing is read before :meth:`run`.

        ``failed(error, message)`` is awaited for the exception of a handler; it returns to go on and raises to end.
        ``read_ahead(message)`` is told of each message of the client that was read while a handler ran, and says
        whether it is the client's last; without it the client is never read while a handler of its own runs.
        ``overflowed()`` is awaited where the inbox says that it had to drop everything.
        ``housekeeping`` is a pair: what says after each message whether there is any, and what does it then.
        ``burst`` is how many messages are dispatched in a row before the other tasks of the event loop get a turn.
        """
        self._receive = receive
        self._dispatch_client = dispatch_client
        self._dispatch_pushed = dispatch_pushed
        self._failed = failed
        self._overflowed = overflowed
        self._read_ahead = read_ahead
        # bool() is False: there is never any.
        self._is_due, self._clean = housekeeping or (bool, _nothing)
        self._burst = burst
        #: What the pushing source filled; set it before anything calls :meth:`wake`.
        self.inbox: MessageQueue | None = None
        self._ready = False  # the inbox may hold something
        self._queue: deque[Message | _Failure] | None = None  # read from the client ahead of its turn
        self._queued_bytes = 0
        self._busy = IDLE  # whose message is in a handler
        self._reading = False  # a task waits in receive()
        self._last = False  # the client's last message was read
        self._guarded = False  # _guard() runs in the next turn of the loop
        self._standby: asyncio.Future[None] | None = None  # where the idle one of the two tasks waits
        self._helper: asyncio.Task[None] | None = None
        self._outcome: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        self._context: contextvars.Context | None = None

    def __repr__(self) -> str:
        states = [
            name
            for name, is_set in (
                ("dispatching", self._busy),
                ("reading", self._reading),
                ("idle", self._standby is not None),
                ("ended", self._outcome is not None),
            )
            if is_set
        ]
        return f"<Dispatcher {' '.join(states) or 'new'}, {self.waiting} read ahead>"

    @property
    def waiting(self) -> int:
        """How many messages of the client were read and wait for their turn."""
        return sum(not isinstance(waiting, _Failure) for waiting in self._queue or ())

    @property
    def context(self) -> contextvars.Context:
        """The context that handlers run in."""
        if self._context is None:
            assert self._owner is not None
            self._context = task_context(self._owner)
        return self._context

    # The two tasks

    async def run(self) -> None:
        """Read and dispatch until something ends it. See the class for what it raises and leaves behind."""
        owner = self._owner
        if owner is None or owner is not asyncio.current_task():
            raise RuntimeError("A dispatcher runs in the asyncio task that made it")
        try:
            await self._work()
        except GeneratorExit:
            raise  # the event loop is gone, nothing can be awaited any more
        except BaseException as error:
            if self._outcome is None or (owner.uncancel() > 0 and isinstance(error, asyncio.CancelledError)):
                self._outcome = error
        helper = self._helper
        if helper is not None:
            helper.cancel()
            await finish(helper, HANDLER_TIMEOUT, "A cancelled handler")
        assert self._outcome is not None
        # Here, outside of "except": it keeps the cause that it came with.
        raise self._outcome

    async def _help(self) -> None:
        try:
            await self._work()
        except BaseException as error:
            if self._outcome is not None:  # run() is over and ends this task
                raise
            self._outcome = error
            assert self._owner is not None
            self._owner.cancel()

    async def _work(self) -> None:
        receive = self._receive
        dispatch = self._dispatch_client
        is_due = self._is_due
        watched = self._read_ahead is not None
        burst = self._burst
        clients_turn = False
        while self._outcome is None:
            if not clients_turn and not self._busy and (self._ready or self._queue):
                await self._drain()
                if not watched and self._may_read():
                    # A client that is not read ahead would wait for as long as the inbox has something.
                    clients_turn = True
                    if self._ready:
                        self._rouse()
            elif self._may_read():
                clients_turn = False
                # The path of most messages of most connections: this task reads, and dispatches what it read.
                while True:
                    self._reading = True
                    try:
                        message = await receive()
                    except BaseException as error:
                        self._receive_failed(error)
                        break
                    self._reading = False
                    if self._busy or self._ready or self._queue:
                        self._keep(message)
                        break
                    self._busy = CLIENT
                    if watched and not self._guarded:
                        self._guarded = True
                        self._loop.call_soon(self._guard)
                    try:
                        await dispatch(message)
                        if is_due():
                            await self._clean()
                    except BaseException as error:
                        await self._handler_failed(error, message)
                    burst -= 1
                    if not burst:
                        burst = self._burst
                        await asyncio.sleep(0)
                    self._busy = IDLE
                    if self._reading or self._ready or self._queue or self._outcome is not None:
                        break
                    message = _HANDLED  # an idle connection holds nothing of its last message
            else:
                clients_turn = False
                self._standby = standby = self._loop.create_future()
                try:
                    await standby
                finally:
                    self._standby = None

    def _keep(self, message: Message) -> None:
        """Keep a message of the client until it is its turn."""
        if self._read_ahead is not None and self._read_ahead(message):
            self._last = True
        self._put_aside(message)

    def _receive_failed(self, error: BaseException) -> None:
        """Let a failure of the client's source wait for its turn; a cancellation of this task goes on at once."""
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise error
        elif not isinstance(error, Exception):
            raise error
        self._last = True
        self._reading = False
        self._put_aside(_Failure(error, self._pushed()))

    async def _drain(self) -> None:
        """Dispatch everything that waits, the two sources in turn."""
        runs = 0
        while self._outcome is None:
            if self._queue:
                first = self._queue[0]
                if isinstance(first, _Failure) and (first.behind <= 0 or not self._ready):
                    raise first.error
            self._busy = PUSHED
            if not self._reading and not self._guarded:
                self._arm()
            if self._ready:
                assert self.inbox is not None
                pushed = self.inbox.take()
                if pushed is None:
                    # No race: wake() runs in this thread, and only after something came.
                    self._ready = False
                    if self.inbox.overflowed and self._overflowed is not None:
                        await self._overflowed()
                else:
                    try:
                        await self._dispatch_pushed(pushed)
                        if self._is_due():
                            await self._clean()
                    except BaseException as error:
                        await self._handler_failed(error, pushed)
            if self._queue:
                waiting = self._queue[0]
                if isinstance(waiting, _Failure):
                    waiting.behind -= 1
                else:
                    del self._queue[0]
                    self._queued_bytes -= _size(waiting)
                    self._busy = CLIENT
                    self._arm()
                    try:
                        await self._dispatch_client(waiting)
                        if self._is_due():
                            await self._clean()
                    except BaseException as error:
                        await self._handler_failed(error, waiting)
            elif not self._ready:
                break
            runs += 1
            if runs % self._burst == 0:
                await asyncio.sleep(0)
            if self._read_ahead is None:
                break
        self._busy = IDLE

    async def _handler_failed(self, error: BaseException, message: Message) -> None:
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if self._outcome is not None or (task is not None and task.cancelling()):
                raise error
            cancelled = HandlerCancelled()
            cancelled.__cause__ = error
            error = cancelled
        elif not isinstance(error, Exception):
            raise error
        await self._failed(error, message)

    def _pushed(self) -> int:
        return 0 if self.inbox is None else len(self.inbox)

    def _put_aside(self, message: Message | _Failure) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(message)
        if not isinstance(message, _Failure):
            self._queued_bytes += _size(message)

    def _may_read(self) -> bool:
        if self._reading or self._last:
            return False
        if self._read_ahead is None:
            return self._busy != CLIENT and not self._queue
        return not self._queue or (len(self._queue) < READ_AHEAD and self._queued_bytes < READ_AHEAD_BYTES)

    # Waking the idle task

    def wake(self) -> None:
        """Say that the inbox has something, or overflowed. Called in the thread of the event loop."""
        self._ready = True
        if not self._busy:
            self._rouse()

    def stop(self, error: BaseException) -> bool:
        """End the run with an exception, after what was read before and after the handler that runs now.

        Returns False where the run had ended before, so that nobody will see the exception.
        """
        if self._outcome is not None:
            return False
        self._put_aside(_Failure(error, self._pushed()))
        if not self._busy:
            self._rouse()
        return True

    def _arm(self) -> None:
        if not self._guarded and self._may_read():
            self._guarded = True
            self._loop.call_soon(self._guard)

    def _guard(self) -> None:
        """Find a reader where the handler took longer than a turn of the loop."""
        self._guarded = False
        if self._busy and self._may_read():
            self._rouse()

    def _rouse(self) -> None:
        standby = self._standby
        if standby is not None:
            if not standby.done():
                standby.set_result(None)
        elif self._helper is None and self._outcome is None:
            # Not loop.create_task(): an eager task factory would run it here, inside somebody else's step.
            self._helper = asyncio.Task(self._help(), loop=self._loop, name="sealane-dispatch", context=self.context)


def task_context(task: asyncio.Task[Any]) -> contextvars.Context:
    """Return the context that a task runs in, itself and not a copy."""
    if sys.version_info >= (3, 12):
        return task.get_context()
    # Python 3.11 has no call for it, but the task refers to it.
    for referent in gc.get_referents(task):
        if isinstance(referent, contextvars.Context):
            return referent
    return contextvars.copy_context()


async def _nothing() -> None:
    """Do the housekeeping of a dispatcher that has none."""


def _size(message: Message) -> int:
    """The bytes or characters of what a client sent."""
    return len(message.get("text") or message.get("bytes") or message.get("body") or b"")

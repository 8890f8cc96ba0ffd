"""One ordered stream of messages, from several sources, into one handler at a time.

Two tasks at most serve a connection, however many messages it carries. One of them, the *reader*, waits for the
client. A message that arrives while nothing runs is dispatched by the reader itself, so that it crosses no task. While
a handler waits for something, the other task takes over the reading: a client that leaves is noticed, and a bounded
number of messages waits in order. What a channel layer pushes to an idle connection is started by the turn of the
event loop, for all connections at once, and by whichever of the two tasks is free where the connection was busy. Both
share one context, so context variables set in one handler are seen by the next.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

from sealane.consumers.message_queue import Failure, MessageQueue
from sealane.consumers.pair import Pair
from sealane.consumers.stepping import THROUGH, Rest, go_on, start
from sealane.consumers.turn import CLIENT, IDLE, PUSHED, turn_of
from sealane.exceptions import HandlerCancelled, StopConsumer
from sealane.layers.gap import Gap
from sealane.layers.inbox import Inbox
from sealane.types import Message, Receive

__all__ = ["BURST", "Dispatcher"]

#: What is read ahead of a client while a handler runs, in messages and in bytes. Beyond either, the client waits.
READ_AHEAD = 32
READ_AHEAD_BYTES = 256 * 1024

#: Messages dispatched in a row before the other tasks of the event loop get a turn.
BURST = 128


class Dispatcher(Pair):
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
        "_clean",
        "_client_names",
        "_dispatch_client",
        "_failed",
        "_is_due",
        "_last",
        "_missed",
        "_overflowed",
        "_queue",
        "_queued_bytes",
        "_read_ahead",
        "_reading",
        "_receive",
        "dispatch_pushed",
        "inbox",
        "ready",
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
        missed: Callable[[Gap], Awaitable[None]] | None = None,
        shortcut: tuple[Any, Mapping[str, str], Mapping[str, str]] | None = None,
        housekeeping: tuple[Callable[[], bool], Callable[[], Awaitable[None]]] | None = None,
        burst: int = BURST,
    ) -> None:
        """Prepare to dispatch; nothing is read before :meth:`run`.

        ``failed(error, message)`` is awaited for the exception of a handler; it returns to go on and raises to end.
        ``read_ahead(message)`` is told of each message of the client that was read while a handler ran, and says
        whether it is the client's last; without it the client is never read while a handler of its own runs.
        ``overflowed()`` is awaited where the inbox says that it had to drop everything, and ``missed(gap)`` is the
        handler of a gap, which comes before what came after it.
        ``shortcut`` is an object and names of its methods by message type, for the client's and for pushed messages;
        ``dispatch_client`` and ``dispatch_pushed`` are for other types.
        ``housekeeping`` is a pair: what says after a handler that waited whether there is any, and what does it then.
        ``burst`` is how many messages are dispatched in a row before the other tasks of the event loop get a turn.
        """
        super().__init__()
        self._receive = receive
        self._dispatch_client = dispatch_client
        self._failed = failed
        self._overflowed = overflowed
        self._missed = missed
        self._read_ahead = read_ahead
        # bool() is False: there is never any.
        self._is_due, self._clean = housekeeping or (bool, _nothing)
        self._burst = burst
        self._queue: deque[Message | Failure] | None = None  # read from the client ahead of its turn
        self._queued_bytes = 0
        self._reading = False  # a task is with the client: it waits in receive(), or runs a handler that does not wait
        self._last = False  # the client's last message was read

        # What follows is for the turn of the event loop too.
        #: What the pushing source fills; set it, or call :meth:`own`, before anything calls :meth:`wake`.
        self.inbox: MessageQueue | None = None
        #: The inbox or the queue may hold something.
        self.ready = False
        #: An object that has handlers, and their names by message type.
        self.target: Any = None
        self._client_names: Mapping[str, str] | None = None
        self.pushed_names: Mapping[str, str] | None = None
        if shortcut is not None:
            self.target, self._client_names, self.pushed_names = shortcut
        #: Returns what runs the handler of a message. It runs no code of a user by itself: that is for the steps.
        self.dispatch_pushed = dispatch_pushed
        #: Takes a message that is a frame, ready to be sent, while the connection is open and such messages need no
        #: handler.
        self.forward: Callable[[Message], Awaitable[None]] | None = None

    def __repr__(self) -> str:
        states = [
            name
            for name, is_set in (
                ("dispatching", self.busy),
                ("reading", self._reading),
                ("idle", self.standby is not None),
                ("ended", self.outcome is not None),
            )
            if is_set
        ]
        return f"<Dispatcher {' '.join(states) or 'new'}, {self.waiting} read ahead>"

    @property
    def waiting(self) -> int:
        """How many messages of the client were read and wait for their turn."""
        return sum(not isinstance(waiting, Failure) for waiting in self._queue or ())

    # The two tasks

    async def run(self) -> None:
        """Read and dispatch until something ends it. See the class for what it raises and leaves behind."""
        if self._owner is not asyncio.current_task():
            raise RuntimeError("A dispatcher runs in the asyncio task that made it")
        outcome: BaseException | None = None
        try:
            await self.work()
        except GeneratorExit:
            raise  # the event loop is gone, nothing can be awaited any more
        except BaseException as error:
            outcome = await self.close(error)
        assert outcome is not None
        # Here, outside of "except": it keeps the cause that it came with.
        raise outcome

    async def work(self, *, helping: bool = False) -> None:
        """Read and dispatch until something ends it, which is raised; :meth:`close` must follow.

        ``helping``: in the second task, which leaves the reading to the first one where that has nothing else to do,
        and returns where it was dismissed.
        """
        receive = self._receive
        dispatch = self._dispatch_client
        target: Any = self.target
        names = self._client_names
        # False, and the type of no message: it stands for what is not a frame.
        other: Any = []
        method, frame = dispatch, other
        # Where the client is not read ahead, the two sources take turns, and so do the tasks.
        helping = helping and self._read_ahead is not None
        burst = 1 if helping else self._burst
        clients_turn = dismissed = False
        message: Message | None
        steps: Generator[Any, None, None] | None
        while self.outcome is None:
            if not clients_turn and not self.busy and (self.ready or self._queue):
                await self._drain()
                if self._read_ahead is None and self._may_read():
                    # A client that is not read ahead would wait for as long as the inbox has something.
                    clients_turn = True
                    if self.ready:
                        self.rouse()
            elif self._may_read() and not (helping and self.standby is not None):
                clients_turn = False
                # The path of most messages of most connections: this task reads, and dispatches what it read.
                self._reading = True
                while True:
                    try:
                        message = await receive()
                    except BaseException as error:
                        self._receive_failed(error)
                        break
                    if self.busy or self.ready:
                        self._reading = False
                        self._keep(message)
                        break
                    rest = None
                    # What start() does, without two calls more.
                    try:
                        if names is not None:
                            try:
                                kind = message["type"]
                                if kind is not frame:
                                    method = getattr(target, names[kind])
                                    frame = kind if names[kind] == "websocket_receive" else other
                            except (KeyError, TypeError):
                                method, frame = dispatch, other
                        # The interpreter is quicker with a name that stands here than with getattr().
                        steps = (target.websocket_receive(message) if frame else method(message)).__await__()
                        waits_for = next(steps, THROUGH)
                        if waits_for is not THROUGH:
                            rest = Rest(message, None, steps, waits_for)
                    except BaseException as raised:
                        rest = Rest(message, raised)
                    burst -= 1
                    if rest is not None or not burst:
                        self.busy = CLIENT
                        self._reading = False
                        if rest is not None:
                            await self._finish(rest)
                        if helping:
                            burst = 1
                        elif not burst:
                            burst = self._burst
                            await asyncio.sleep(0)
                        self.busy = IDLE
                        break
                    if self.ready:
                        self._reading = False
                        break
                    # An idle connection holds nothing of its last message.
                    message = steps = None
                message = steps = rest = waits_for = None
            else:
                clients_turn = False
                if self._may_read():
                    self.rouse()  # the other task: it is to read
                if dismissed:
                    self._helper = None
                    return
                standby = self._stand_by()
                try:
                    dismissed = await standby
                except BaseException as error:
                    await self._roused(standby, error)
                else:
                    await self._roused(standby)
                del standby
        # The other task ended the run, and the source did not let the cancellation through.
        raise self.outcome

    async def _take_over(self, error: BaseException | None) -> None:
        rest, self._handed = self._handed, None
        assert rest is not None
        if error is not None and rest.error is not None:
            raise rest.error
        await self._finish(rest, error)
        self.busy = IDLE

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
        self._put_aside(Failure(error, self._pushed()))

    async def _drain(self) -> None:
        """Dispatch everything that waits, the two sources in turn."""
        runs = 0
        while self.outcome is None:
            if self._queue:
                first = self._queue[0]
                if isinstance(first, Failure) and (first.behind <= 0 or not self.ready):
                    raise first.error
            if self.ready:
                self.busy = PUSHED
                rest = self._start_pushed()
                if rest is not None:
                    await self._finish(rest)
                elif not self.ready and self.inbox is not None and self.inbox.overflowed and self._overflowed:
                    await self._overflowed()
            if self._queue:
                waiting = self._queue[0]
                if isinstance(waiting, Failure):
                    waiting.behind -= 1
                else:
                    del self._queue[0]
                    if self._read_ahead is not None:
                        self._queued_bytes -= _size(waiting)
                    self.busy = CLIENT
                    rest = start(self._dispatch_client, waiting)
                    if rest is not None:
                        await self._finish(rest)
            elif not self.ready:
                break
            runs += 1
            if runs % self._burst == 0:
                await asyncio.sleep(0)
            if self._read_ahead is None:
                break
        self.busy = IDLE

    # Handlers

    def _start_pushed(self) -> Rest | None:
        """Start what comes next from the inbox; where nothing does, it is not ``ready`` any more."""
        inbox = self.inbox
        if inbox is not None:
            if inbox.gap is not None and self._missed is not None:
                gap, inbox.gap = inbox.gap, None
                return start(self._missed, gap)
            try:
                pushed = inbox.take()
            except Exception as error:
                return Rest({}, error)
            if pushed is not None:
                return start(self.dispatch_pushed, pushed)
        # No race: wake() runs in this thread, and only after something came.
        self.ready = False
        return None

    async def _finish(self, rest: Rest, thrown: BaseException | None = None) -> None:
        """Do the rest for a message, while the other task reads; ``thrown`` is raised in the handler first."""
        message, error, steps, waits_for = rest
        try:
            if error is not None:
                raise error
            if steps is not None:
                if self._may_read():
                    self.rouse()
                await go_on(steps, waits_for, thrown)
            if self._is_due():
                await self._clean()
        except BaseException as error:
            await self._handler_failed(error, message)

    async def _handler_failed(self, error: BaseException, message: Message) -> None:
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if self.outcome is not None or (task is not None and task.cancelling()):
                raise error
            cancelled = HandlerCancelled()
            cancelled.__cause__ = error
            error = cancelled
        elif not isinstance(error, Exception):
            raise error
        if not isinstance(error, StopConsumer) and self._may_read():
            self.rouse()  # on_error() may take its time too
        await self._failed(error, message)

    def _pushed(self) -> int:
        return 0 if self.inbox is None else len(self.inbox)

    def _put_aside(self, message: Message | Failure) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(message)
        self.ready = True
        # Without a bound, as in await_many_dispatch(), a message may be any object.
        if self._read_ahead is not None and not isinstance(message, Failure):
            self._queued_bytes += _size(message)

    def _may_read(self) -> bool:
        if self._reading or self._last:
            return False
        if self._read_ahead is None:
            return self.busy != CLIENT and not self._queue
        return not self._queue or (len(self._queue) < READ_AHEAD and self._queued_bytes < READ_AHEAD_BYTES)

    # Waking the idle task

    def own(self, inbox: Inbox) -> None:
        """Dispatch what comes into an inbox of a channel layer."""
        assert inbox.exchange is not None
        self.inbox = inbox
        inbox.join_turn(turn_of(self._loop, inbox.exchange), self)

    def wake(self) -> None:
        """Say that the inbox has something, or overflowed. Called in the thread of the event loop."""
        self.ready = True
        if not self.busy:
            self.rouse()

    def stop(self, error: BaseException) -> bool:
        """End the run with an exception, after what was read before and after the handler that runs now.

        Returns False where the run had ended before, so that nobody will see the exception.
        """
        if self.outcome is not None:
            return False
        self._put_aside(Failure(error, self._pushed()))
        self.wake()
        return True


async def _nothing() -> None:
    """Do the housekeeping of a dispatcher that has none."""


def _size(message: Message) -> int:
    """The bytes or characters of what a client sent."""
    return len(message.get("text") or message.get("bytes") or message.get("body") or b"")

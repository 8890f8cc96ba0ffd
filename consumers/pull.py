"""Sources that can only be awaited: one message at a time from each, handed over in order."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from sealane.consumers.dispatch import BURST, Dispatcher
from sealane.consumers.ending import finish
from sealane.layers.gap import Gap

__all__ = ["PullQueue", "Source", "await_many_dispatch"]

logger = logging.getLogger("sealane.consumers")

#: What is called for one message, which may be any object.
Source = Callable[[], Awaitable[Any]]

# What take() returns for a message that is None. Its None says that no message waits.
_NONE: Final = object()

#: Seconds that a source may take to end after its cancellation.
SOURCE_TIMEOUT = 5.0


class PullQueue:
    """A dispatcher's inbox, filled by one task per source.

    A source is called again only when the message it gave last was dispatched, so it never gives more than one ahead.
    A source that raises StopAsyncIteration has ended; ``ended`` is called when all have. Any other exception, its own
    cancellation included, goes to the dispatcher, behind what was handed out before.
    """

    overflowed = False
    gap: Gap | None = None

    def __init__(self, dispatcher: Dispatcher, sources: Sequence[Source], ended: Callable[[], None]) -> None:
        self._dispatcher = dispatcher
        self._ended = ended
        self._waiting: deque[tuple[Any, asyncio.Event]] = deque()
        self._given: asyncio.Event | None = None
        self._closing = False
        self._open = len(sources)
        loop = asyncio.get_running_loop()
        self._pumps = [loop.create_task(self._pump(source), name="sealane-source") for source in sources]

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self) -> Any:
        """Return the next message; to ask for it says that the one before was dispatched."""
        self.done()
        if not self._waiting:
            return None
        message, self._given = self._waiting.popleft()
        return _NONE if message is None else message

    def done(self) -> None:
        """Say that the message taken last was dispatched: its source may be called again."""
        if self._given is not None:
            self._given.set()
            self._given = None

    async def close(self) -> None:
        """End the tasks of the sources and wait for it. What a source hands out while it ends is kept in the queue."""
        self._closing = True
        for pump in self._pumps:
            pump.cancel()
        for pump in self._pumps:
            await finish(pump, SOURCE_TIMEOUT, "A source of await_many_dispatch()")

    async def _pump(self, source: Source) -> None:
        dispatched = asyncio.Event()
        while True:
            try:
                message = await source()
            except StopAsyncIteration:
                self._open -= 1
                if not self._open:
                    self._ended()
                return
            except asyncio.CancelledError as error:
                if self._closing:
                    raise
                self._dispatcher.stop(error)
                return
            except Exception as error:
                self._dispatcher.stop(error)
                return
            dispatched.clear()
            self._waiting.append((message, dispatched))
            self._dispatcher.wake()
            if self._closing:
                return  # it answered its cancellation with a message
            await dispatched.wait()


async def await_many_dispatch(
    consumer_callables: Sequence[Source],
    dispatch: Callable[[Any], Awaitable[None]],
) -> None:
    """Await several sources at once and dispatch their messages, one at a time.

    Each of ``consumer_callables`` is called for one message, and called again only when that message was dispatched.
    A message may be any object. The first is awaited in the caller's own task, each of the others in one task that
    lives as long as the call.

    Order: per source, as given. Sources that always have something take turns.
    End: a source that raises StopAsyncIteration has ended and the others go on; when all have, the call returns. Any
    other exception of a source, its own cancellation included, is raised here after every message that the other
    sources had handed out was dispatched. An exception of ``dispatch`` and the cancellation of the caller are raised
    at once; messages that had been handed out and still waited for their turn are then named in one warning.
    No task is left afterwards, on any way out.
    """
    if not consumer_callables:
        return
    first, *others = consumer_callables
    all_ended = StopAsyncIteration()
    open_sources = 1 + bool(others)

    def ended() -> None:
        nonlocal open_sources
        open_sources -= 1
        if not open_sources:
            dispatcher.stop(all_ended)

    async def receive() -> Any:
        try:
            return await first()
        except StopAsyncIteration:
            ended()
            await asyncio.get_running_loop().create_future()  # until stop() ends the run
            raise

    async def failed(error: Exception, message: object) -> None:
        raise error

    async def dispatch_pulled(message: Any) -> None:
        await dispatch(None if message is _NONE else message)
        queue.done()

    dispatcher = Dispatcher(
        receive,
        dispatch,
        dispatch_pulled,
        failed=failed,
        read_ahead=None,
        burst=1 if others else BURST,
    )
    queue = dispatcher.inbox = PullQueue(dispatcher, others, ended)
    try:
        await dispatcher.run()
    except StopAsyncIteration as error:
        if error is not all_ended:
            raise
    finally:
        try:
            await queue.close()
        finally:
            left = len(queue) + dispatcher.waiting
            if left:
                logger.warning(
                    "await_many_dispatch() ended with %d messages that were received and not dispatched", left
                )

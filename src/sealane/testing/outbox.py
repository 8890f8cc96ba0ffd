"""What an application has sent to a communicator, and the wait for more of it."""

import asyncio
from collections import deque

from sealane.testing.patience import stood_still
from sealane.types import Message

__all__ = ["Outbox"]


class Outbox:
    """Hold the events that an application sends until a test takes them, in order.

    It knows nothing of the communicator, so that an application's task, which holds its outbox, does not keep
    a forgotten communicator alive.
    """

    #: How many of the last event types an error tells.
    REMEMBERED = 10

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue()
        #: How many events the application has sent so far.
        self.count = 0
        #: The types of the last of them.
        self.types: deque[str] = deque(maxlen=self.REMEMBERED)
        #: The event with which it has closed its WebSocket, whether taken or not.
        self.close: Message | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    async def send(self, message: Message) -> None:
        """Take an event: the ``send`` of the application. It never waits, whatever the test does."""
        self.count += 1
        self.types.append(str(message.get("type")))
        if message.get("type") == "websocket.close":
            self.close = message
        self.queue.put_nowait(message)
        self.wake()

    def wake(self, _: object = None) -> None:
        """Let everything that waits look again. Also the done callback of the application's task."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def wait_until_filled_or_done(self, application: asyncio.Future[None], timeout: float | None) -> None:
        """Wait for an event or for the end of ``application``, whichever comes first.

        It takes nothing: neither a timeout (a TimeoutError after ``timeout`` seconds, never for None) nor a
        cancellation can lose an event or disturb the application. What comes in the same turn of the loop in
        which the time is over has come in time: on a busy machine that turn may be the first after the call.
        Where the loop stood still meanwhile, the time begins anew. But a timeout of 0 looks once, and what comes
        later is for the next call.
        """
        loop = asyncio.get_running_loop()
        while True:
            deadline = loop.time() + (timeout or 0)
            try:
                async with asyncio.timeout(timeout):
                    await self._filled_or_done(application)
            except TimeoutError:
                if not timeout:
                    raise
                if self.queue.empty() and not application.done():
                    if stood_still(deadline):
                        continue
                    raise
            return

    async def _filled_or_done(self, application: asyncio.Future[None]) -> None:
        while self.queue.empty() and not application.done():
            waiting = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)

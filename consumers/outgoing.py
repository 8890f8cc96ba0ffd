"""What a client that reads slowly may cost: bytes that wait for it, and seconds."""

import asyncio
from collections.abc import Callable
from typing import Literal

from sealane.consumers.outbox import Outbox
from sealane.types import Message, Send

__all__ = ["Outgoing"]

Drop = Literal["dropped_oldest", "dropped_newest", "dropped_closed"]


class Outgoing:
    """Stands before the server's ``send()``, which waits for as long as the client does not read.

    Without an outbox, :meth:`send` waits as the server's own does, for ``timeout`` seconds at most. With one, a frame
    waits in it, and ``send()`` returns at once: a task of its own hands the frames to the server, in their order, while
    there are any. Every other event waits until all frames before it have been handed over.

    A client that has not let the server take a frame within ``timeout`` seconds, or whose outbox overflows under the
    policy ``"close"``, is too slow: ``slow(why)`` is called, and the call raises an OSError, as a server does for a
    client that is gone. ``dropped(name, frames)`` is told of frames that never reach the server, ``lost(error)`` of
    what the server raised where nobody waited for it. All of these are called in the thread of the event loop.

    A call that is cancelled may have handed its event over, as with the server's own. A frame that is in the outbox
    stays there.
    """

    __slots__ = ("_dropped", "_error", "_in_flight", "_lost", "_outbox", "_send", "_slow", "_timeout", "_writer")

    def __init__(
        self,
        send: Send,
        *,
        outbox: Outbox | None,
        timeout: float | None,
        slow: Callable[[str], None],
        dropped: Callable[[Drop, int], None] = lambda name, frames: None,
        lost: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._send = send
        self._outbox = outbox
        self._timeout = timeout
        self._slow = slow
        self._dropped = dropped
        self._lost = lost
        self._writer: asyncio.Task[None] | None = None
        self._in_flight = False
        self._error: Exception | None = None

    async def send(self, event: Message, *, kept: bool = False) -> None:
        """Send an event, or put it into the outbox, where one that is ``kept`` makes others be dropped.

        See the class for when it raises OSError.
        """
        outbox = self._outbox
        if outbox is None:
            return await self._hand_over(event)
        if event["type"] != "websocket.send":
            await self.drain()
            return await self._hand_over(event)
        if self._error is not None:
            raise ConnectionResetError("The server could not send a frame before this one") from self._error
        verdict = outbox.put(event, kept=kept)
        if verdict.outcome == "overflowed":
            self._dropped("dropped_newest", verdict.frames)
            why = f"over {outbox.limit} bytes would wait for it"
            self._slow(why)
            raise ConnectionResetError(f"The client is too slow: {why}")
        if verdict.outcome != "queued":
            self._dropped(verdict.outcome, verdict.frames)
        if self._writer is None:
            # Not create_task(): an eager task factory would run it here, inside somebody else's step.
            self._writer = asyncio.Task(self._write(), loop=asyncio.get_running_loop(), name="sealane-outgoing")

    async def send_now(self, event: Message) -> None:
        """Send an event past the outbox and without a limit in time."""
        await self._send(event)

    async def drain(self) -> None:
        """Wait until the server has taken every frame. Raises OSError where it could not."""
        if self._writer is not None:
            await asyncio.wait([self._writer])
        if self._error is not None:
            raise ConnectionResetError("The server could not send a frame before this one") from self._error

    async def stop(self) -> None:
        """Drop what waits, and end the task. Twice is harmless."""
        writer = self._writer
        if writer is not None:
            writer.cancel()
            await asyncio.wait([writer])
        left = len(self) + self._in_flight
        self._in_flight = False
        if self._outbox is not None:
            self._outbox.clear()
        if left:
            self._dropped("dropped_closed", left)

    async def _write(self) -> None:
        assert self._outbox is not None
        try:
            while (event := self._outbox.take()) is not None:
                self._in_flight = True
                await self._hand_over(event)
                self._in_flight = False
        except Exception as error:
            self._error = error
            self._lost(error)
        finally:
            self._writer = None

    async def _hand_over(self, event: Message) -> None:
        if self._timeout is None:
            return await self._send(event)
        deadline = asyncio.timeout(self._timeout)
        try:
            async with deadline:
                await self._send(event)
        finally:
            # Also where the server made nothing of the cancellation.
            if deadline.expired():
                self._slow(f"it took nothing for {self._timeout:g} seconds")

    def __len__(self) -> int:
        """How many frames wait."""
        return 0 if self._outbox is None else len(self._outbox)

    def __repr__(self) -> str:
        state = "idle" if self._writer is None else "sending"
        return f"<Outgoing {state}, {self._outbox!r}, within {self._timeout} s>"

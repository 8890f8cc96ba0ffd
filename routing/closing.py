"""The end of a server, for WebSockets and event streams: closed in a way that their clients come back."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any

from sealane.exceptions import ServerStopping
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["SERVICE_RESTART", "Closing", "moments"]

logger = logging.getLogger("sealane.routing")

#: The close code of a server that will be back (RFC 6455 leaves it to IANA's registry).
SERVICE_RESTART = 1012

_Close = Callable[[], Coroutine[Any, Any, None]]


class Closing:
    """Wrap an ASGI application: ``close_all()`` closes its WebSockets and event streams, as it could do itself.

    uvicorn's shutdown sends the code too, but drops the connection at once. Where the client's own messages are still
    unread then, the client's system discards what the server has sent, the code included. For a close by the
    application, uvicorn waits for the client's answer (from 0.53 on). A response of the type ``text/event-stream`` is
    brought to its end: an EventSource connects again then.

    The application receives ``websocket.disconnect`` with the code, or ``http.disconnect``; what it sends later raises
    ServerStopping, which may escape. Other responses pass.

    Where the server raises an error in place of closing, as Daphne does for this code, one warning says so, and the
    application is cancelled, so that it has its end. The others are closed all the same.
    """

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application
        self._open: dict[_Close, None] = {}
        self._running = 0
        self._over = False
        self._warned = False
        self._none_runs = asyncio.Event()
        self._none_runs.set()

    def __repr__(self) -> str:
        return f"<Closing: {len(self._open)} connections open>"

    @property
    def open(self) -> int:
        """How many WebSockets and event streams are open."""
        return len(self._open)

    @property
    def running(self) -> int:
        """How many of them the application still works for, those that were closed among them."""
        return self._running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        match scope["type"]:
            case "websocket":
                await self._websocket(scope, receive, send)
            case "http":
                await self._http(scope, receive, send)
            case _:
                await self.application(scope, receive, send)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        closing = False
        task = asyncio.current_task()

        async def close() -> None:
            nonlocal closing
            closing = True
            await self._send_last(send, {"type": "websocket.close", "code": SERVICE_RESTART}, task)

        async def gated_send(message: Message) -> None:
            if closing:
                raise ServerStopping(message["type"])
            if message["type"] == "websocket.close":
                self._open.pop(close, None)
            await send(message)
            if message["type"] == "websocket.accept":
                await self._opened(close)

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self._open.pop(close, None)
            return message

        self._began()
        try:
            await self.application(scope, watched_receive, gated_send)
        except ServerStopping:
            pass
        finally:
            self._open.pop(close, None)
            self._ended()

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        closing = streams = False
        task = asyncio.current_task()

        async def close() -> None:
            nonlocal closing
            closing = True
            await self._send_last(send, {"type": "http.response.body", "body": b"", "more_body": False}, task)

        async def gated_send(message: Message) -> None:
            nonlocal streams
            if closing:
                raise ServerStopping(message["type"])
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self._open.pop(close, None)
            await send(message)
            if message["type"] == "http.response.start" and _is_event_stream(message):
                streams = True
                self._began()
                await self._opened(close)

        try:
            await self.application(scope, receive, gated_send)
        except ServerStopping:
            pass
        finally:
            self._open.pop(close, None)
            if streams:
                self._ended()

    async def close_all(self, spread: float = 0.0) -> None:
        """Close what is open: all at once, or one after the other over ``spread`` seconds, at moments of chance.

        What is opened from now on is closed at the end, or at once when that is past. A client that does not read may
        hold it up: give it a time limit. Cancelled, it leaves open what it had not come to.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        closes = list(self._open)
        under_way = []
        for moment, close in zip(moments(len(closes), spread, random.random), closes, strict=True):
            wait = began + moment - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
            if close in self._open:
                under_way.append(loop.create_task(self._close(close)))
        self._over = True
        while self._open:
            late = next(iter(self._open))
            under_way.append(loop.create_task(self._close(late)))
        try:
            await asyncio.gather(*under_way)
        finally:
            for task in under_way:
                task.cancel()

    async def _send_last(self, send: Send, message: Message, task: "asyncio.Task[Any] | None") -> None:
        """Send what ends a connection; cancel ``task``, which serves it, where the server cannot."""
        try:
            await send(message)
        except OSError:
            # The client has left in the meantime.
            pass
        except Exception as error:
            if not self._warned:
                self._warned = True
                logger.warning(
                    "The server does not take %r (%s: %s): applications are cancelled instead",
                    message,
                    type(error).__name__,
                    error,
                )
            if task is not None:
                task.cancel()

    async def _opened(self, close: _Close) -> None:
        self._open[close] = None
        if self._over:
            await self._close(close)

    def _close(self, close: _Close) -> Coroutine[Any, Any, None]:
        # Before it is started: nobody else is to close it.
        self._open.pop(close, None)
        return close()

    async def wait_until_none_runs(self) -> None:
        """Wait until the application has ended for all WebSockets and event streams: each ``disconnect()`` has run."""
        await self._none_runs.wait()

    def _began(self) -> None:
        self._running += 1
        self._none_runs.clear()

    def _ended(self) -> None:
        self._running -= 1
        if not self._running:
            self._none_runs.set()


def moments(count: int, spread: float, chance: Callable[[], float]) -> list[float]:
    """Return when to close each of ``count`` connections, in seconds from now, in order.

    Each has an equal part of ``spread`` seconds, and a moment of chance in it: clients come back neither all at once
    nor in step. ``chance()`` is a number from 0 up to, and without, 1.
    """
    part = spread / count if count else 0.0
    return [(number + chance()) * part for number in range(count)]


def _is_event_stream(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.lower().startswith(b"text/event-stream")
        for name, value in start.get("headers", ())
    )

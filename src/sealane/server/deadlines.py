"""The time limits of the development server: for a response, and for the answer to a WebSocket handshake."""

import asyncio
import contextlib
import logging

from sealane.exceptions import HandshakeTimeout
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["PATIENCE", "Deadlines"]

logger = logging.getLogger("sealane.server")

#: Seconds that an application gets to end by itself once its client was told, before it is cancelled.
PATIENCE = 1.0


class Deadlines:
    """Wrap an ASGI application: a response and a handshake have to come in time. Times are in seconds.

    ``http``: from the head of a request to the last part of its response, an upload and a long stream
    included. Past it, a client that has nothing yet gets a 503; one that has the beginning loses the
    connection, so that it does not take a part for the whole. The application gets ``http.disconnect``, as if
    the client had left; one that has not ended PATIENCE seconds later is cancelled. A synchronous view goes
    on in its thread; its response is dropped.

    ``handshake``: from the request to ``websocket.accept``, ``websocket.close`` or an HTTP response. Past it,
    the client gets a 503 where the server has the ``websocket.http.response`` extension, else a 403. The
    application gets ``websocket.disconnect``; what it sends later raises HandshakeTimeout, which may escape.

    None, or 0, means no limit.
    """

    def __init__(
        self, application: ASGIApplication, *, http: float | None = None, handshake: float | None = None
    ) -> None:
        self.application = application
        self._http_limit = http
        self._handshake_limit = handshake
        # asyncio itself keeps only weak references to tasks.
        self._abandoned: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and self._http_limit:
            await self._http(scope, receive, send, self._http_limit)
        elif scope["type"] == "websocket" and self._handshake_limit:
            await self._websocket(scope, receive, send, self._handshake_limit)
        else:
            await self.application(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send, limit: float) -> None:
        started = expired = False

        async def gated_send(message: Message) -> None:
            nonlocal started
            if not expired:
                started = True
                await send(message)

        # A task of its own: the client gets its answer on time, however slowly the application ends.
        task = asyncio.ensure_future(self.application(scope, receive, gated_send))
        try:
            await asyncio.wait({task}, timeout=limit)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise
        if task.done():
            await task
            return
        expired = True
        self._abandon(task)
        if not started:
            # When it is sent, the server gives the application its http.disconnect. Where a response has
            # begun, returning without its end makes the server close the connection, with the same effect.
            await _answer_503(send, "http.response", b"No complete response within the server's time limit\n")

    def _abandon(self, task: asyncio.Future[None]) -> None:
        self._abandoned.add(task)
        timer = asyncio.get_running_loop().call_later(PATIENCE, task.cancel)

        def gone(task: asyncio.Future[None]) -> None:
            timer.cancel()
            self._abandoned.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                logger.error("Exception in ASGI application, after its time limit", exc_info=error)

        task.add_done_callback(gone)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send, limit: float) -> None:
        decided = expired = False

        async def gated_send(message: Message) -> None:
            nonlocal decided
            if expired:
                raise HandshakeTimeout(message["type"], limit)
            decided = True
            await send(message)

        async def refuse() -> None:
            nonlocal expired
            await asyncio.sleep(limit)
            if decided:
                return
            expired = True
            with contextlib.suppress(OSError):  # the client has gone, and nobody is to be told
                if "websocket.http.response" in (scope.get("extensions") or {}):
                    await _answer_503(send, "websocket.http.response", b"No answer to the handshake in time\n")
                else:
                    await send({"type": "websocket.close"})

        watch = asyncio.create_task(refuse())
        try:
            await self.application(scope, receive, gated_send)
        except HandshakeTimeout:
            pass
        finally:
            # While the refusal is on its way it is let through: the application's end would cut it.
            if not expired:
                watch.cancel()
            await asyncio.wait({watch})
        if expired:
            await watch


async def _answer_503(send: Send, kind: str, body: bytes) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    await send({"type": f"{kind}.start", "status": 503, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})

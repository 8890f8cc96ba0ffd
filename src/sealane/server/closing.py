"""The end of the development server, for its open WebSockets: closed with 1012, so that their clients come back."""

import asyncio
from collections.abc import Awaitable, Callable

from sealane.exceptions import ServerStopping
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["SERVICE_RESTART", "Closing"]

#: The close code of a server that will be back (RFC 6455 leaves it to IANA's registry).
SERVICE_RESTART = 1012


class Closing:
    """Wrap an ASGI application: ``close_all()`` closes its open WebSockets, as the application itself could do.

    uvicorn's shutdown sends the code too, but drops the connection at once. Where the client's own messages are still
    unread then, the client's system discards what the server has sent, the code included. For a close by the
    application, uvicorn waits for the client's answer (from 0.53 on).

    The application receives ``websocket.disconnect`` with the code; what it sends later raises ServerStopping, which
    may escape.
    """

    def __init__(self, application: ASGIApplication) -> None:
        self.application = application
        self._open: set[Callable[[], Awaitable[None]]] = set()

    def __repr__(self) -> str:
        return f"<Closing: {len(self._open)} WebSockets open>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "websocket":
            await self.application(scope, receive, send)
            return
        closing = False

        async def close() -> None:
            nonlocal closing
            closing = True
            try:
                await send({"type": "websocket.close", "code": SERVICE_RESTART})
            except OSError:
                # The client has left in the meantime.
                pass

        async def gated_send(message: Message) -> None:
            if closing:
                raise ServerStopping(message["type"])
            if message["type"] == "websocket.close":
                self._open.discard(close)
            await send(message)
            if message["type"] == "websocket.accept":
                self._open.add(close)

        async def watched_receive() -> Message:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self._open.discard(close)
            return message

        try:
            await self.application(scope, watched_receive, gated_send)
        except ServerStopping:
            pass
        finally:
            self._open.discard(close)

    async def close_all(self) -> None:
        """Close what is open, all at once. A client that does not read may hold it up: give it a time limit.

        WebSockets that are accepted from now on are not closed by it.
        """
        closing, self._open = self._open, set()
        await asyncio.gather(*(close() for close in closing))

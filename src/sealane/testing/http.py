"""Make one HTTP request to an ASGI application, and read its response, whole or piece by piece."""

from collections.abc import AsyncIterator
from typing import Any

from sealane.exceptions import UnexpectedEvent
from sealane.testing.client import ClientCommunicator, HeadersLike, client_scope
from sealane.types import ASGIApplication, Message

__all__ = ["HttpCommunicator"]


class HttpCommunicator(ClientCommunicator):
    """Be the client of one HTTP request: a ClientCommunicator with the shortcuts of HTTP.

    Read the response whole, with ``get_response()``, or as it comes, with ``get_start()`` and
    ``receive_chunk()``. The request is sent by the first of these calls. A call that times out loses nothing:
    call it again.
    """

    def __init__(
        self,
        application: ASGIApplication,
        method: str,
        path: str,
        body: bytes = b"",
        headers: HeadersLike | None = None,
    ) -> None:
        if not isinstance(body, bytes):
            raise TypeError(f"A request's body is bytes, not {type(body).__name__}")
        scope = client_scope("http", path, headers)
        scope["asgi"]["spec_version"] = "2.4"
        super().__init__(application, scope | {"method": method.upper(), "scheme": "http"})
        self.body = body
        self.sent_request = False
        self._start: Message | None = None
        self._unread = bytearray()
        self._complete = False
        self._response: dict[str, Any] | None = None

    async def get_response(self, timeout: float | None = 1) -> dict[str, Any]:
        """Return the whole response: ``{"status": 200, "headers": [...], "body": b"..."}``.

        ``timeout`` holds for each event, so a long response may take longer. Chunks that were taken before
        are not in the body. Called again, it returns the same.
        """
        if self._response is None:
            start = await self.get_start(timeout)
            while not self._complete:
                await self._receive_body(timeout)
            self._response = {**start, "body": self._take()}
        return self._response

    async def get_start(self, timeout: float | None = 1) -> dict[str, Any]:
        """Return the response's status and headers as soon as they are there: ``{"status": 200, "headers": [...]}``."""
        await self._send_request()
        if self._start is None:
            event = await self._receive("http.response.start", timeout)
            if event["type"] != "http.response.start":
                raise UnexpectedEvent("http.response.start", event)
            self._start = event
        start = {key: value for key, value in self._start.items() if key != "type"}
        start["headers"] = list(start.get("headers", ()))
        return start

    async def receive_chunk(self, timeout: float | None = 1) -> bytes:
        """Return the next piece of the body, as the application sent it; ``b""`` means that the body is complete.

        ``timeout`` holds for each event; empty pieces are passed over.
        """
        await self.get_start(timeout)
        while not self._unread and not self._complete:
            await self._receive_body(timeout)
        return self._take()

    async def iter_body(self, timeout: float | None = 1) -> AsyncIterator[bytes]:
        """Yield the pieces of the body until it is complete, waiting up to ``timeout`` seconds for each."""
        while chunk := await self.receive_chunk(timeout):
            yield chunk

    async def disconnect(self, timeout: float | None = 1) -> None:
        """Leave, as a client that closes its connection, and wait until the application has ended: see ``wait()``."""
        await self._send_request()
        await self.send_input({"type": "http.disconnect"})
        await self.wait(timeout)

    async def _send_request(self) -> None:
        if not self.sent_request:
            self.sent_request = True
            await self.send_input({"type": "http.request", "body": self.body, "more_body": False})

    async def _receive_body(self, timeout: float | None) -> None:
        event = await self._receive("http.response.body", timeout)
        if event["type"] != "http.response.body":
            raise UnexpectedEvent("http.response.body", event)
        body = event.get("body", b"")
        if not isinstance(body, bytes):
            raise UnexpectedEvent("http.response.body with a body of bytes", event)
        self._unread += body
        self._complete = not event.get("more_body", False)

    def _take(self) -> bytes:
        body = bytes(self._unread)
        self._unread.clear()
        return body

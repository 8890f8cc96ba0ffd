"""Open one WebSocket to an ASGI application, and exchange frames with it."""

import json
from types import TracebackType
from typing import Any, Self

from django.core.serializers.json import DjangoJSONEncoder

from sealane.exceptions import UnexpectedEvent, WebsocketDenied
from sealane.testing.client import ClientCommunicator, HeadersLike, client_scope
from sealane.testing.patience import ended_within
from sealane.types import ASGIApplication, Headers, Message

__all__ = ["WebsocketCommunicator"]

DENIAL_EXTENSION = "websocket.http.response"

#: The close code of an application that fails.
_ERROR = 1011


class WebsocketCommunicator(ClientCommunicator):
    """Be the client of one WebSocket: a ClientCommunicator with the shortcuts of WebSockets.

    ``async with WebsocketCommunicator(application, "/ws/") as ws:`` connects, which raises WebsocketDenied
    where the application refuses, and disconnects in the end. Or call ``connect()`` and ``disconnect()``.

    The application is told that the server can refuse a WebSocket with an HTTP response, unless
    ``denial_response`` is false. ``spec_version`` is the version of ASGI's WebSocket specification that the
    scope states.
    """

    def __init__(
        self,
        application: ASGIApplication,
        path: str,
        headers: HeadersLike | None = None,
        subprotocols: list[str] | None = None,
        spec_version: str | None = None,
        *,
        denial_response: bool = True,
    ) -> None:
        scope = client_scope("websocket", path, headers)
        scope["asgi"]["spec_version"] = spec_version or "2.4"
        scope |= {"scheme": "ws", "subprotocols": list(subprotocols or ())}
        if spec_version:
            scope["spec_version"] = spec_version  # where Channels puts it
        if denial_response:
            scope["extensions"] = {DENIAL_EXTENSION: {}}
        super().__init__(application, scope)
        #: The headers of the application's answer to the handshake.
        self.response_headers: Headers | None = None
        #: The HTTP response that refused the WebSocket: ``{"status": 403, "headers": [...], "body": b"..."}``.
        self.denial: dict[str, Any] | None = None
        #: The code and the reason with which the application has closed, as far as the test has seen it.
        self.close_code: int | None = None
        self.close_reason: str = ""
        self._connecting = False
        self._disconnected = False
        self._outcome: tuple[bool, Any] | None = None

    async def connect(self, timeout: float | None = 1) -> tuple[bool, Any]:
        """Open the WebSocket, and return ``(True, subprotocol or None)``, or ``(False, code)`` where it is refused.

        The code is the close code, 1000 where the application names none, or the HTTP status, such as 404,
        where it refuses with an HTTP response: see ``denial``. Called again, it asks nothing of the
        application: it returns the same, or, after a timeout, waits on.
        """
        if not self._connecting:
            self._connecting = True
            await self.send_input({"type": "websocket.connect"})
        if self._outcome is None:
            self._outcome = await self._receive_outcome(timeout)
        return self._outcome

    async def send_to(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Send the application a frame, a text one or a binary one. It may be empty."""
        if (text_data is None) == (bytes_data is None):
            raise TypeError("send_to() takes exactly one of text_data and bytes_data")
        if text_data is not None:
            if not isinstance(text_data, str):
                raise TypeError(f"text_data is a str, not {type(text_data).__name__}")
            await self.send_input({"type": "websocket.receive", "text": text_data})
        else:
            if not isinstance(bytes_data, bytes):
                raise TypeError(f"bytes_data is bytes, not {type(bytes_data).__name__}")
            await self.send_input({"type": "websocket.receive", "bytes": bytes_data})

    async def send_json_to(self, data: Any) -> None:
        """Send the application ``data`` as JSON in a text frame, by the rules of Django's encoder (dates, UUIDs...)."""
        await self.send_to(text_data=json.dumps(data, cls=DjangoJSONEncoder))

    async def receive_from(self, timeout: float | None = 1) -> str | bytes:
        """Return the next frame that the application sends, a str or bytes.

        Raises UnexpectedEvent, an AssertionError, where it closes instead, or the application's exception where it
        closes with 1011 for that; otherwise as ``receive_output()``.
        """
        event = await self._receive_frame("a frame", timeout)
        text, data = event.get("text"), event.get("bytes")
        if (text is None) == (data is None):
            raise UnexpectedEvent("websocket.send with exactly one of 'text' and 'bytes'", event)
        if text is not None:
            if not isinstance(text, str):
                raise UnexpectedEvent("websocket.send with a 'text' that is a str", event)
            return text
        if not isinstance(data, bytes):
            raise UnexpectedEvent("websocket.send with 'bytes' that are bytes", event)
        return data

    async def receive_json_from(self, timeout: float | None = 1) -> Any:
        """Return what the next text frame has as JSON. A binary frame, or text that is not JSON, is an error."""
        payload = await self.receive_from(timeout)
        if not isinstance(payload, str):
            raise UnexpectedEvent("JSON in a text frame", {"type": "websocket.send", "bytes": payload})
        try:
            return json.loads(payload)
        except json.JSONDecodeError as error:
            raise UnexpectedEvent("JSON", {"type": "websocket.send", "text": payload}) from error

    async def receive_close(self, timeout: float | None = 1) -> int:
        """Return the code with which the application closes the WebSocket; its reason is in ``close_reason``.

        Raises UnexpectedEvent where a frame comes first. After a close that another call has met, or a
        refusal with a close code, it returns that code at once.
        """
        if self.close_code is None:
            event = await self._receive("websocket.close", timeout)
            if event["type"] != "websocket.close":
                raise UnexpectedEvent("websocket.close", event)
            return self._note_close(event)
        return self.close_code

    async def disconnect(self, code: int = 1000, timeout: float | None = 1, *, reason: str | None = None) -> None:
        """Leave, as a client that closes the WebSocket, and wait until the application has ended: see ``wait()``.

        Doing it twice is harmless.
        """
        if not self._disconnected:
            self._disconnected = True
            await self.send_input(
                {"type": "websocket.disconnect", "code": code} | ({"reason": reason} if reason is not None else {})
            )
        await self.wait(timeout)

    async def __aenter__(self) -> Self:
        """Connect, within a second. Raises WebsocketDenied where the application refuses."""
        try:
            accepted, code = await self.connect()
            if not accepted:
                status = self.denial["status"] if self.denial else None
                body = self.denial["body"] if self.denial else b""
                raise WebsocketDenied(None if self.denial else code, status, body)
        except BaseException as error:
            # Whoever fails to enter never leaves.
            await super().__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect, with the application's own close code where it has closed, else 1000; see the base class."""
        await super().__aexit__(exc_type, exc, traceback)

    def _farewell(self) -> Message | None:
        # A server tells an application that has closed the code that it closed with.
        close = self._outbox.close
        return {"type": "websocket.disconnect", "code": _code(close) if close else 1000}

    async def _receive_outcome(self, timeout: float | None) -> tuple[bool, Any]:
        expected = "an answer to the handshake"
        while True:
            event = await self._receive(expected, timeout)
            kind = event["type"]
            if self.denial is None:
                if kind == "websocket.accept":
                    self.response_headers = list(event.get("headers", ()))
                    return True, event.get("subprotocol")
                if kind == "websocket.close":
                    return False, self._note_close(event)
                if kind != f"{DENIAL_EXTENSION}.start":
                    raise UnexpectedEvent("websocket.accept or websocket.close", event)
                headers: Headers = list(event.get("headers", ()))
                self.response_headers = headers
                self.denial = {"status": event["status"], "headers": headers, "body": b""}
                expected = f"{DENIAL_EXTENSION}.body"
            elif kind == f"{DENIAL_EXTENSION}.body":
                self.denial["body"] += event.get("body", b"")
                if not event.get("more_body", False):
                    return False, self.denial["status"]
            else:
                raise UnexpectedEvent(f"{DENIAL_EXTENSION}.body", event)

    async def _receive_frame(self, awaited: str, timeout: float | None) -> Message:
        event = await self._receive(awaited, timeout)
        if event["type"] == "websocket.close" and self._note_close(event) == _ERROR:
            # The consumer tells its client before it fails. What went wrong says more than that it did.
            await self._await_failure()
        if event["type"] != "websocket.send":
            raise UnexpectedEvent("websocket.send", event)
        return event

    async def _await_failure(self) -> None:
        await ended_within(self.future, self.exit_timeout)
        self._raise_failure()

    def _note_close(self, event: Message) -> int:
        self.close_code = _code(event)
        self.close_reason = event.get("reason") or ""
        return self.close_code


def _code(close: Message) -> int:
    code: int | None = close.get("code")
    return 1000 if code is None else code

"""What ends a connection or a request, by whom, and what the state of a connection does not allow."""

from collections.abc import Iterable, Sequence

from sealane.exceptions.base import SealaneError
from sealane.types import Headers

__all__ = [
    "AcceptConnection",
    "ConnectionClosed",
    "DenyConnection",
    "HandlerCancelled",
    "HandshakeTimeout",
    "IllegalEvent",
    "RequestAborted",
    "RequestBodyTooLarge",
    "RequestTimeout",
    "ServerStopping",
    "StopConsumer",
    "TooManyGroups",
]


# Asked for by handlers


class StopConsumer(SealaneError):
    """Raise it in a handler to end the consumer. The usual end of the connection follows."""


class AcceptConnection(SealaneError):
    """Raise it in ``connect()`` to accept the WebSocket, with an optional subprotocol and response headers."""

    def __init__(self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(subprotocol, headers)
        self.subprotocol = subprotocol
        self.headers: Headers = list(headers or [])


class DenyConnection(SealaneError):
    """Raise it in ``connect()`` to refuse the WebSocket.

    With a ``status`` (and ``body``, ``headers``) the client gets that HTTP response, where the server has the
    ``websocket.http.response`` extension; a server without it, or no ``status``, answers 403.
    """

    def __init__(
        self,
        status: int | None = None,
        body: bytes | str = b"",
        headers: Iterable[tuple[bytes, bytes]] | None = None,
    ) -> None:
        super().__init__(status, body, headers)
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.headers: Headers = list(headers or [])


# What was sent, or joined, in vain


class ConnectionClosed(SealaneError):
    """Something was sent on a connection that has ended.

    It is normal: the client may leave at any time. A consumer that lets it escape from a handler is not reported;
    the end of the connection follows by itself.
    """

    def __init__(self, event: str, code: int | None = None) -> None:
        super().__init__(event, code)
        self.event = event
        self.code = code

    def __str__(self) -> str:
        code = "" if self.code is None else f" with code {self.code}"
        return f"{self.event!r} was not sent: the connection is closed{code}"


class HandshakeTimeout(SealaneError, OSError):
    """Something was sent on a WebSocket whose handshake had taken longer than ``limit`` seconds.

    The server has refused it. An OSError, as the ASGI specification has it for a send after the end.
    """

    def __init__(self, event: str, limit: float) -> None:
        super().__init__(event, limit)
        self.event = event
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"{self.event!r} was not sent: the WebSocket was neither accepted nor refused within "
            f"{self.limit:g} s, so the server has refused it"
        )


class ServerStopping(SealaneError, OSError):
    """Something was sent on a WebSocket or an event stream that was closed, since the server stops or restarts.

    An OSError, as the ASGI specification has it for a send after the end.
    """

    def __init__(self, event: str) -> None:
        super().__init__(event)
        self.event = event

    def __str__(self) -> str:
        done = "closed the WebSocket with code 1012" if self.event.startswith("websocket.") else "ended the response"
        return f"{self.event!r} was not sent: the server is stopping and has {done}"


class HandlerCancelled(SealaneError):
    """A handler awaited something that was cancelled, though nobody cancelled the connection."""

    def __str__(self) -> str:
        return "A handler awaited something that was cancelled, and let its CancelledError pass"


class IllegalEvent(SealaneError, RuntimeError):
    """An event that the state of the connection does not allow: the program is wrong, not the client."""

    def __init__(self, event: str, state: str, expected: Sequence[str]) -> None:
        super().__init__(event, state, expected)
        self.event = event
        self.state = state
        self.expected = tuple(expected)

    def __str__(self) -> str:
        allowed = " or ".join(repr(name) for name in self.expected) or "nothing"
        return f"{self.event!r} cannot be sent while the connection is {self.state}: expected {allowed}"


class TooManyGroups(SealaneError):
    """A group that was not joined, since the connection is in as many as its ``max_groups`` allows."""

    def __init__(self, group: str, limit: int) -> None:
        super().__init__(group, limit)
        self.group = group
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"Group {self.group!r} was not joined: the connection is in {self.limit} already, which is its max_groups"
        )


# Requests


class RequestAborted(SealaneError):
    """The client left before its request was complete."""


class RequestTimeout(RequestAborted):
    """A request was not complete in time."""


class RequestBodyTooLarge(SealaneError):
    """A request body is over the limit, in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"Request body is over DATA_UPLOAD_MAX_MEMORY_SIZE, which is {self.limit} bytes"

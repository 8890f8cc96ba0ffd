"""The states of a WebSocket connection, and what may be sent in each: decisions only, no I/O.

After the ASGI specification's WebSocket protocol, version 2.5, with its denial response extension.
"""

from collections.abc import Iterable
from enum import Enum

from sealane.exceptions import ConnectionClosed, IllegalEvent
from sealane.types import Message

__all__ = [
    "ConnectionState",
    "accept_event",
    "close_event",
    "denial_events",
    "frame_event",
    "frame_size",
    "is_ready_frame",
    "next_state",
]


class ConnectionState(Enum):
    """Where a WebSocket connection stands."""

    CONNECTING = "connecting"
    OPEN = "open"
    REFUSING = "being refused with a response"
    CLOSED = "closed"


CONNECTING, OPEN, REFUSING, CLOSED = ConnectionState

_NEXT = {
    CONNECTING: {
        "websocket.accept": OPEN,
        "websocket.close": CLOSED,
        "websocket.http.response.start": REFUSING,
    },
    OPEN: {"websocket.send": OPEN, "websocket.close": CLOSED},
    REFUSING: {"websocket.http.response.body": REFUSING},
    CLOSED: {},
}


def next_state(state: ConnectionState, event: Message, code: int | None = None) -> ConnectionState | None:
    """Return the state that sending an event leads to, or None where there is nothing left to send.

    To close twice is harmless: None. Anything else on a closed connection raises
    :exc:`~sealane.exceptions.ConnectionClosed` with the close ``code``; an event that the state does not allow raises
    :exc:`~sealane.exceptions.IllegalEvent`.
    """
    kind = event["type"]
    following = _NEXT[state].get(kind)
    if following is None:
        if state is CLOSED or (state is REFUSING and kind == "websocket.close"):
            if kind == "websocket.close":
                return None
            raise ConnectionClosed(kind, code)
        raise IllegalEvent(kind, state.value, list(_NEXT[state]))
    if kind == "websocket.http.response.body" and not event.get("more_body"):
        return CLOSED
    return following


def accept_event(subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]] | None) -> Message:
    """Return the event that accepts a connection."""
    event: Message = {"type": "websocket.accept", "subprotocol": subprotocol}
    if headers:
        event["headers"] = list(headers)
    return event


def frame_event(text_data: str | None, bytes_data: bytes | None) -> Message:
    """Return the event that sends a frame. Raises ValueError where there is neither text nor bytes."""
    if text_data is not None:
        return {"type": "websocket.send", "text": text_data}
    if bytes_data is not None:
        return {"type": "websocket.send", "bytes": bytes_data}
    raise ValueError("You must pass one of bytes_data or text_data")


def frame_size(event: Message) -> int:
    """Return the bytes of the content of a frame, text as UTF-8."""
    text = event.get("text")
    if text is None:
        return len(event.get("bytes") or b"")
    # Text of a client may hold what UTF-8 does not allow: it is refused elsewhere.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def is_ready_frame(message: Message) -> bool:
    """Tell whether a message of the channel layer is an event that sends a frame, as it is."""
    return len(message) == 2 and message.get("type") == "websocket.send" and type(message.get("text")) is str


def close_event(code: int | bool | None, reason: str | None) -> Message:
    """Return the event that closes a connection. ``True`` stands for the server's own code, 1000."""
    event: Message = {"type": "websocket.close"}
    if code is not None and code is not True:
        event["code"] = code
    if reason:
        event["reason"] = reason
    return event


def denial_events(status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> list[Message]:
    """Return the events that refuse a connection with an HTTP response."""
    named = list(headers)
    if body and not any(name.lower() == b"content-type" for name, _ in named):
        named.append((b"content-type", b"text/plain; charset=utf-8"))
    return [
        {"type": "websocket.http.response.start", "status": status, "headers": named},
        {"type": "websocket.http.response.body", "body": body, "more_body": False},
    ]

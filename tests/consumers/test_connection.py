"""The state machine of a WebSocket connection, without a loop."""

from typing import Any

import pytest

from sealane.consumers.connection import ConnectionState, close_event, denial_events, frame_event, next_state
from sealane.exceptions import ConnectionClosed, IllegalEvent

CONNECTING, OPEN, REFUSING, CLOSED = ConnectionState

EVENTS: dict[str, dict[str, Any]] = {
    "accept": {"type": "websocket.accept"},
    "send": {"type": "websocket.send", "text": "x"},
    "close": {"type": "websocket.close"},
    "start": {"type": "websocket.http.response.start", "status": 401},
    "part": {"type": "websocket.http.response.body", "body": b"x", "more_body": True},
    "last": {"type": "websocket.http.response.body", "body": b"x"},
}

#: Every state with every event: the state that follows, None for nothing to send, or what is raised.
TABLE: dict[ConnectionState, dict[str, ConnectionState | type[Exception] | None]] = {
    CONNECTING: {
        "accept": OPEN,
        "send": IllegalEvent,
        "close": CLOSED,
        "start": REFUSING,
        "part": IllegalEvent,
        "last": IllegalEvent,
    },
    OPEN: {
        "accept": IllegalEvent,
        "send": OPEN,
        "close": CLOSED,
        "start": IllegalEvent,
        "part": IllegalEvent,
        "last": IllegalEvent,
    },
    REFUSING: {
        "accept": IllegalEvent,
        "send": IllegalEvent,
        "close": None,
        "start": IllegalEvent,
        "part": REFUSING,
        "last": CLOSED,
    },
    CLOSED: {
        "accept": ConnectionClosed,
        "send": ConnectionClosed,
        "close": None,
        "start": ConnectionClosed,
        "part": ConnectionClosed,
        "last": ConnectionClosed,
    },
}


@pytest.mark.parametrize("state", ConnectionState, ids=lambda state: state.name.lower())
@pytest.mark.parametrize("event", EVENTS)
def test_what_follows(state: ConnectionState, event: str) -> None:
    expected = TABLE[state][event]
    if isinstance(expected, type):
        with pytest.raises(expected):
            next_state(state, EVENTS[event])
    else:
        assert next_state(state, EVENTS[event]) is expected


def test_the_close_code_is_in_the_error() -> None:
    with pytest.raises(
        ConnectionClosed, match=r"^'websocket.send' was not sent: the connection is closed with code 1001$"
    ):
        next_state(CLOSED, EVENTS["send"], 1001)


def test_events() -> None:
    assert frame_event("", None) == {"type": "websocket.send", "text": ""}
    assert frame_event(None, b"") == {"type": "websocket.send", "bytes": b""}
    assert close_event(True, None) == {"type": "websocket.close"}
    assert close_event(4000, "why") == {"type": "websocket.close", "code": 4000, "reason": "why"}
    start, body = denial_events(429, b"", [(b"retry-after", b"5")])
    assert start["headers"] == [(b"retry-after", b"5")]
    assert body == {"type": "websocket.http.response.body", "body": b"", "more_body": False}
    start, _ = denial_events(403, b"{}", [(b"Content-Type", b"application/json")])
    assert start["headers"] == [(b"Content-Type", b"application/json")]

"""The shapes of ASGI: what a scope, an event and an application are.

A leaf: it imports nothing of Sealane. The event types are asgiref's own TypedDicts, for handlers that want them.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from asgiref.typing import (
    HTTPDisconnectEvent,
    HTTPRequestEvent,
    WebSocketConnectEvent,
    WebSocketDisconnectEvent,
    WebSocketReceiveEvent,
)

__all__ = [
    "ASGIApplication",
    "HTTPDisconnectEvent",
    "HTTPRequestEvent",
    "Headers",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "WebSocketConnectEvent",
    "WebSocketDisconnectEvent",
    "WebSocketReceiveEvent",
]

#: One connection's facts, as the ASGI specification lists them: ``{"type": "websocket", "path": "/", ...}``.
Scope = dict[str, Any]

#: One event, to or from a client or a channel layer: ``{"type": "chat.message", ...}``.
Message = dict[str, Any]

#: Header names and values as bytes, names in lower case.
Headers = list[tuple[bytes, bytes]]

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class ASGIApplication(Protocol):
    """An ASGI 3 application: called once per connection, it returns when it is done with it.

    Its arguments are a Scope, a Receive and a Send. They are not named here, since each framework has types of its own
    for them, and Django's handler, Starlette's application and a plain function must all fit.
    """

    def __call__(self, scope: Any, receive: Any, send: Any, /) -> Awaitable[Any]: ...

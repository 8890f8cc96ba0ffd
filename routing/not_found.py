"""The application for what no route leads to: 404 for HTTP, a denial for a WebSocket."""

import logging

from sealane.exceptions import UnknownScopeType
from sealane.types import Headers, Receive, Scope, Send

__all__ = ["not_found"]

logger = logging.getLogger("sealane.routing")

_BODY = b"Not Found"
_HEADERS: Headers = [
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", str(len(_BODY)).encode()),
]

#: A path comes from anybody: no more characters of it than this go into the log.
_LONGEST_PATH = 200


async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that there is nothing at this path. It is an ASGI application, for a router's ``not_found``.

    An HTTP request gets 404 and a line of plain text; its body is not read. A WebSocket is refused before it
    is accepted: with 404 where the server has the ``websocket.http.response`` extension, otherwise by
    ``websocket.close``, which servers answer with 403. Nothing is sent to a client that has left by then.

    Each of them is one line on the logger ``sealane.routing``, at WARNING: ``Not Found: /path``, with control
    and non-ASCII characters escaped and long paths cut.

    Raises UnknownScopeType for any other scope.
    """
    match scope["type"]:
        case "http":
            _log(scope)
            await _answer(send, "http.response")
        case "websocket":
            # Servers wait for an answer only to a connect that was received.
            message = await receive()
            _log(scope)
            if message["type"] != "websocket.connect":
                return
            if "websocket.http.response" in (scope.get("extensions") or {}):
                await _answer(send, "websocket.http.response")
            else:
                await _send_unless_gone(send, {"type": "websocket.close"})
        case other:
            raise UnknownScopeType(other, ["http", "websocket"])


async def _answer(send: Send, prefix: str) -> None:
    await _send_unless_gone(send, {"type": f"{prefix}.start", "status": 404, "headers": list(_HEADERS)})
    await _send_unless_gone(send, {"type": f"{prefix}.body", "body": _BODY})


async def _send_unless_gone(send: Send, message: dict[str, object]) -> None:
    try:
        await send(message)
    except OSError:
        # ASGI's way to say that the client has left.
        pass


def _log(scope: Scope) -> None:
    path = scope.get("path", "")
    shown = path if len(path) <= _LONGEST_PATH else path[:_LONGEST_PATH] + "..."
    logger.warning("Not Found: %s", shown.encode("unicode_escape").decode("ascii"))

"""A WebSocket without a server: what an application is called with, and what it sends."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sealane.types import ASGIApplication, Message

__all__ = ["Connection", "connected"]


class Connection:
    """One WebSocket, which asks to be accepted. `on_text` is called for each text that the application sends."""

    __slots__ = ("_events", "_on_text", "accepted", "task")

    def __init__(self, application: ASGIApplication, on_text: Callable[[str], None]) -> None:
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._on_text = on_text
        self._events.put_nowait({"type": "websocket.connect"})
        self.accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.ensure_future(application(_scope(), self._events.get, self._send))
        self.task.add_done_callback(self._on_end)

    async def _send(self, event: Any) -> None:
        match event["type"]:
            case "websocket.send":
                self._on_text(event["text"])
            case "websocket.accept":
                self.accepted.set_result(None)
            case other:
                raise RuntimeError(f"the application sent {other}")

    def _on_end(self, task: "asyncio.Future[None]") -> None:
        if not self.accepted.done():
            self.accepted.set_exception(RuntimeError(f"the application ended before it had accepted: {task!r}"))

    def put(self, text: str) -> None:
        """Have the application receive a text."""
        self._events.put_nowait({"type": "websocket.receive", "text": text})

    async def leave(self) -> None:
        """Have the application receive that the client has gone, and wait for its end."""
        self._events.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await self.task


def _scope() -> dict[str, Any]:
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/socket",
        "raw_path": b"/socket",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 50_000),
        "server": ("127.0.0.1", 8_000),
        "subprotocols": [],
        "state": {},
        "extensions": {},
    }


@asynccontextmanager
async def connected(
    count: int, application: ASGIApplication, on_text: Callable[[str], None]
) -> AsyncIterator[list[Connection]]:
    """Open `count` of them, and have them leave in the end."""
    connections = [Connection(application, on_text) for _ in range(count)]
    for connection in connections:
        await connection.accepted
    try:
        yield connections
    finally:
        for connection in connections:
            await connection.leave()

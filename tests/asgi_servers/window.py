"""One person's window into a room of the chat: its WebSocket, and what is said over it."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Origin

from tests.asgi_servers.asgi_server import LIMIT, AsgiServer

__all__ = ["Window", "looking_into"]


class Window:
    """Speaks the language of the example project, which its README lists."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, **content: Any) -> None:
        await self.socket.send(json.dumps(content))

    async def receive(self, kind: str) -> dict[str, Any]:
        """Return what comes next, which must be of this type."""
        async with asyncio.timeout(LIMIT):
            event: dict[str, Any] = json.loads(await self.socket.recv())
        assert event["type"] == kind, event
        return event

    async def join(self, name: str) -> dict[str, Any]:
        """Come in under a name that is new in the room, and return the welcome."""
        await self.send(action="join", name=name, after=0)
        welcome = await self.receive("welcome")
        arrival = await self.receive("presence")
        assert (arrival["name"], arrival["change"]) == (name, "joined")
        return welcome

    async def say(self, text: str) -> dict[str, Any]:
        """Say something, and return the message as the speaker gets it back."""
        await self.send(action="say", text=text, key=uuid.uuid4().hex)
        return await self.receive("message")


@asynccontextmanager
async def looking_into(server: AsgiServer, room: str) -> AsyncIterator[Window]:
    """Open a window into a room, as the room's page would, and close it."""
    url = f"{server.ws_url}/ws/rooms/{room}/"
    async with connect(url, origin=Origin(server.url), open_timeout=LIMIT) as socket:
        yield Window(socket)

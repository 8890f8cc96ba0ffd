"""One connection driven through an ASGI application, without a server or by a real one."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from sealane.db import database_sync_to_async
from sealane.types import ASGIApplication, Headers, Message, Receive, Scope, Send

__all__ = [
    "ACCEPT",
    "CONNECT",
    "Answering",
    "Exchange",
    "busy_database_thread",
    "cookie_headers",
    "served",
    "set_cookies",
]

CONNECT: Message = {"type": "websocket.connect"}
ACCEPT: Message = {"type": "websocket.accept"}


class Exchange:
    """Run an application on one scope. ``sent`` holds what it sent, the very objects."""

    def __init__(self, scope: Scope, *events: Message) -> None:
        self.scope = scope
        self.events = list(events)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if self.events:
            return self.events.pop(0)
        raise AssertionError("the application waits for more than the client sends")

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self, application: ASGIApplication) -> list[Message]:
        async with asyncio.timeout(20):
            await application(self.scope, self.receive, self.send)
        return self.sent

    @classmethod
    def websocket(cls, headers: Iterable[tuple[bytes, bytes]] = (), **scope: Any) -> "Exchange":
        return cls({"type": "websocket", "path": "/chat/", "headers": list(headers), **scope}, CONNECT)

    @classmethod
    def http(cls, headers: Iterable[tuple[bytes, bytes]] = (), **scope: Any) -> "Exchange":
        return cls({"type": "http", "path": "/", "headers": list(headers), **scope})


class Answering:
    """An application that keeps the scope that it was given, and sends what it was told to."""

    def __init__(self, *answer: Message) -> None:
        self.answer: Sequence[Message] = answer or (ACCEPT,)
        self.scope: Scope = {}
        self.send: Send | None = None

    async def prepare(self, scope: Scope) -> None:
        """Do something before the answer begins."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.send = send
        await self.prepare(scope)
        for message in self.answer:
            await send(message)


def cookie_headers(**cookies: str | None) -> Headers:
    """Return the Cookie header of a browser that has these cookies."""
    pairs = "; ".join(f"{name}={value}" for name, value in cookies.items())
    return [(b"cookie", pairs.encode())] if pairs else []


def set_cookies(message: Message) -> list[str]:
    """Return the values of the Set-Cookie headers of an event."""
    return [value.decode() for name, value in message.get("headers", ()) if name == b"set-cookie"]


@asynccontextmanager
async def busy_database_thread() -> AsyncIterator[None]:
    """Occupy the thread of database work. What needs it inside this block does not get on."""
    busy, done = threading.Event(), threading.Event()

    def occupy() -> None:
        busy.set()
        done.wait(30)

    task = asyncio.ensure_future(database_sync_to_async(occupy)())
    try:
        async with asyncio.timeout(10):
            while not busy.is_set():
                await asyncio.sleep(0.001)
        async with asyncio.timeout(20):
            yield
    finally:
        done.set()
        await task


@asynccontextmanager
async def served(application: ASGIApplication) -> AsyncIterator[int]:
    """Serve an application with uvicorn on a free port of 127.0.0.1, which is returned."""
    config = uvicorn.Config(application, port=0, ws="websockets-sansio", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        port: int = server.servers[0].sockets[0].getsockname()[1]
        yield port
    finally:
        server.should_exit = True
        await task

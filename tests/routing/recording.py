"""Applications that note what reaches them, and a real server to reach them through."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from django.urls import URLPattern, URLResolver

from sealane.routing import URLRouter
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["Recorder", "call", "router", "serving"]


class Recorder:
    """An ASGI application that keeps the scopes that it was called with."""

    def __init__(self, name: str = "recorder", error: Exception | None = None) -> None:
        self.name = name
        self.error = error
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        self.scopes.append(scope)
        if self.error is not None:
            raise self.error

    @property
    def url_route(self) -> dict[str, Any]:
        """What the routers captured for the only call."""
        (scope,) = self.scopes
        route: dict[str, Any] = scope["url_route"]
        return route

    @property
    def path_remaining(self) -> str:
        """What the routers left over for the only call."""
        (scope,) = self.scopes
        remaining: str = scope["path_remaining"]
        return remaining

    def __repr__(self) -> str:
        return f"<{self.name}>"


async def _receive() -> Message:
    raise AssertionError("a router receives nothing")


async def _send(message: Message) -> None:
    raise AssertionError(f"a router sends nothing, but it sent {message}")


async def call(application: ASGIApplication, **scope: Any) -> None:
    """Call an application once, with a scope of these keys. A router has no business with its events."""
    await application(scope, _receive, _send)


def router(*routes: URLPattern | URLResolver, **options: Any) -> Any:
    """Make a URLRouter. It is Any, since the stubs want views in the places where applications stand."""
    return URLRouter(routes, **options)


@asynccontextmanager
async def serving(application: ASGIApplication, **options: Any) -> AsyncIterator[int]:
    """Serve an application on uvicorn in this loop, on a free port of 127.0.0.1, and give that port."""
    settings: dict[str, Any] = {"port": 0, "log_config": None, "ws": "websockets-sansio", **options}
    server = uvicorn.Server(uvicorn.Config(application, **settings))
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:
                if task.done():
                    task.result()
                    raise RuntimeError("the server ended before it had started")
                await asyncio.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task

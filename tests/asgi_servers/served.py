"""What the servers of these tests serve: the example project, and beside it probes, which note what they see.

Below ``/probe/`` are the probes; everything else gets to the example project as it came.
"""

import asyncio
import os
from pathlib import Path
from typing import Any

from django.urls import path

from demo.asgi import application as example
from sealane.consumers import AsyncEventStreamConsumer, AsyncWebsocketConsumer
from sealane.routing import ProtocolTypeRouter, URLRouter
from sealane.routing.lifespan import Lifespan
from sealane.types import ASGIApplication, Receive, Scope, Send

#: Seconds after which a call of ``send()`` that has not returned is one that waits. A busy machine may well stand still
#: for one; a server that waits costs its test all of them, once.
WAIT = 3.0


def note(text: str) -> None:
    """Write a line for the test, which reads the file while the server runs."""
    with Path(os.environ["PROBE_NOTES"]).open("a") as notes:
        notes.write(f"{text}\n")


def _token(scope: Scope) -> str:
    """The word by which a test finds its own notes."""
    token: str = scope["url_route"]["kwargs"]["token"]
    return token


class Watch(AsyncWebsocketConsumer):
    """Say that it is there, close with the code that the client asks for, and note the code of the end."""

    async def connect(self) -> None:
        await self.accept()
        await self.send(text_data="here")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        await self.close(int(text_data), "on purpose")

    async def disconnect(self, code: int) -> None:
        note(f"{_token(self.scope)} disconnect {code}")


class Flood(AsyncWebsocketConsumer):
    """Send as many frames of so many bytes as the client says, and note whether that has to wait for it."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        frames, size = map(int, text_data.split())
        token, frame, waited = _token(self.scope), bytes(size), False
        for _ in range(frames):
            sending = asyncio.create_task(self.send(bytes_data=frame))
            await asyncio.wait({sending}, timeout=None if waited else WAIT)
            if not sending.done():
                waited = True
                note(f"{token} waits")
            await sending
        note(f"{token} ends")


class Beat(AsyncEventStreamConsumer):
    """Send events until the client leaves, and note that."""

    async def stream(self) -> None:
        while True:
            await self.send_event("beat")
            await asyncio.sleep(0.02)

    async def disconnect(self) -> None:
        note(f"{_token(self.scope)} disconnect")


def started() -> None:
    note("startup")


def stopped() -> None:
    note("shutdown")


hooks = Lifespan(on_startup=[started], on_shutdown=[stopped])


async def lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    if "state" in scope:
        note("state")
    await hooks(scope, receive, send)


def or_example(probes: ASGIApplication) -> ASGIApplication:
    async def choose(scope: Scope, receive: Receive, send: Send) -> None:
        chosen = probes if scope["path"].startswith("/probe/") else example
        await chosen(scope, receive, send)

    return choose


# Any, because type stubs for Django expect views in path(), and these are ASGI applications.
watch: Any = Watch.as_asgi()
flood: Any = Flood.as_asgi()
beat: Any = Beat.as_asgi()

application = ProtocolTypeRouter(
    {
        "http": or_example(URLRouter([path("probe/beat/<token>/", beat)])),
        "websocket": or_example(
            URLRouter([path("probe/watch/<token>/", watch), path("probe/flood/<token>/", flood)]),
        ),
        "lifespan": lifespan,
    }
)

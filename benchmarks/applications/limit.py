"""The bare limit: what the ASGI server, or asyncio alone, does where no framework stands between."""

import asyncio

from benchmarks.applications import MessageLayer
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["backend", "broadcast", "dispatch", "echo", "join", "joiner", "layer", "member", "ping_pong"]

backend: str | None = None

_members: set[Send] = set()


async def _do_nothing(event: Message) -> None:
    pass


def dispatch() -> ASGIApplication:
    """Return the loop that awaits a handler for each event. It knows how many come: the least there is."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def count(event: Message) -> None:
            scope["count"]()

        handler = count if scope["counted"] else _do_nothing
        for _ in range(scope["events"]):
            await handler(await receive())
        await receive()

    return application


def ping_pong() -> ASGIApplication:
    """Return a task's loop between two queues."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        pong = scope["pong"]
        while (await receive())["type"] != "bench.stop":
            await send(pong)

    return application


def echo() -> ASGIApplication:
    """Return an ASGI application that accepts and echoes."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": event["text"]})

    return application


def member() -> ASGIApplication:
    """Return an ASGI application that accepts and leaves its `send` where `broadcast` finds it."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        _members.add(send)
        try:
            while (await receive())["type"] != "websocket.disconnect":
                pass
        finally:
            _members.discard(send)

    return application


def joiner() -> ASGIApplication:
    """Return an ASGI application that has no groups to join, and says so."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            await send({"type": "websocket.send", "text": "joined"})

    return application


async def broadcast(text: str, *, encoded: bool) -> None:
    """Loop over the connections. There is no handler, so encoded or not is one."""
    event = {"type": "websocket.send", "text": text}
    for send in tuple(_members):
        await send(event)


class _QueueLayer:
    """One asyncio.Queue for each channel, and names in sets."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[Message]] = {}
        self.groups: dict[str, set[str]] = {}
        self._made = 0

    async def new_channel(self) -> str:
        self._made += 1
        return f"channel-{self._made}"

    async def send(self, channel: str, message: Message) -> None:
        self._queues.setdefault(channel, asyncio.Queue()).put_nowait(message)

    async def receive(self, channel: str) -> Message:
        return await self._queues[channel].get()


def layer() -> MessageLayer:
    """Return queues in a dict."""
    return _QueueLayer()


async def join(layer: _QueueLayer, group: str, channel: str) -> None:
    """Note the name."""
    layer.groups.setdefault(group, set()).add(channel)

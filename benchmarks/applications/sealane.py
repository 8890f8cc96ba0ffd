"""The applications as a user of Sealane writes them."""

import asyncio

from benchmarks.applications import MessageLayer
from benchmarks.workload import CAPACITY, groups_to_join
from sealane.consumers import AsyncConsumer, AsyncWebsocketConsumer
from sealane.exceptions import StopConsumer
from sealane.layers import InMemoryChannelLayer, get_channel_layer
from sealane.types import ASGIApplication, Message

__all__ = ["backend", "broadcast", "dispatch", "echo", "join", "joiner", "layer", "member", "ping_pong"]

backend: str | None = "sealane.layers.InMemoryChannelLayer"

GROUP = "everyone"


class _Dispatch(AsyncConsumer):
    async def bench_event(self, event: Message) -> None:
        pass

    async def bench_count(self, event: Message) -> None:
        self.scope["count"]()

    async def bench_stop(self, event: Message) -> None:
        raise StopConsumer


class _PingPong(AsyncConsumer):
    async def bench_ping(self, event: Message) -> None:
        await self.send(self.scope["pong"])

    async def bench_stop(self, event: Message) -> None:
        raise StopConsumer


class _Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data)


class _Member(AsyncWebsocketConsumer):
    groups = [GROUP]

    async def bench_text(self, event: Message) -> None:
        await self.send(text_data=event["text"])


class _Joiner(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert self.channel_layer is not None
        await asyncio.sleep(0)
        for group in groups_to_join(text_data):
            await self.channel_layer.group_add(group, self.channel_name)
        await self.send(text_data="joined")


def dispatch() -> ASGIApplication:
    """Return a consumer with a handler that does nothing."""
    return _Dispatch.as_asgi()


def ping_pong() -> ASGIApplication:
    """Return a consumer that answers."""
    return _PingPong.as_asgi()


def echo() -> ASGIApplication:
    """Return a WebSocket consumer that sends back what it gets."""
    return _Echo.as_asgi()


def member() -> ASGIApplication:
    """Return a WebSocket consumer in a group."""
    return _Member.as_asgi()


def joiner() -> ASGIApplication:
    """Return a WebSocket consumer that joins groups when it is told to."""
    return _Joiner.as_asgi()


async def broadcast(text: str, *, encoded: bool) -> None:
    """Send to the group. A `websocket.send` event goes through its consumers as it is."""
    layer = get_channel_layer()
    assert layer is not None
    await layer.group_send(GROUP, {"type": "websocket.send" if encoded else "bench.text", "text": text})


def layer() -> MessageLayer:
    """Return a new in-memory layer."""
    return InMemoryChannelLayer(capacity=CAPACITY)


async def join(layer: InMemoryChannelLayer, group: str, channel: str) -> None:
    """Add the channel and own it, as a live consumer does."""
    layer.attach(channel, _do_nothing)
    await layer.group_add(group, channel)


def _do_nothing() -> None:
    pass

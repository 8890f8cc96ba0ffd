"""The applications as a user of Channels writes them. Channels has no types: its classes are Any here."""

import asyncio
from typing import Any

from channels.consumer import AsyncConsumer
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer, get_channel_layer

from benchmarks.applications import MessageLayer
from benchmarks.workload import CAPACITY, groups_to_join
from sealane.types import ASGIApplication, Message

__all__ = ["backend", "broadcast", "dispatch", "echo", "join", "joiner", "layer", "member", "ping_pong"]

backend: str | None = "channels.layers.InMemoryChannelLayer"

GROUP = "everyone"


class _Dispatch(AsyncConsumer):  # type: ignore[misc]
    async def bench_event(self, event: Message) -> None:
        pass

    async def bench_count(self, event: Message) -> None:
        self.scope["count"]()

    async def bench_stop(self, event: Message) -> None:
        raise StopConsumer


class _PingPong(AsyncConsumer):  # type: ignore[misc]
    async def bench_ping(self, event: Message) -> None:
        await self.send(self.scope["pong"])

    async def bench_stop(self, event: Message) -> None:
        raise StopConsumer


class _Echo(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data)


class _Member(AsyncWebsocketConsumer):  # type: ignore[misc]
    groups = [GROUP]

    async def bench_text(self, event: Message) -> None:
        await self.send(text_data=event["text"])

    async def websocket_send(self, event: Message) -> None:
        # Channels has no way for an event that is ready to send. This is the shortest to add.
        await self.base_send(event)


class _Joiner(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await asyncio.sleep(0)
        for group in groups_to_join(text_data):
            await self.channel_layer.group_add(group, self.channel_name)
        await self.send(text_data="joined")


def dispatch() -> ASGIApplication:
    """Return a consumer with a handler that does nothing."""
    application: ASGIApplication = _Dispatch.as_asgi()
    return application


def ping_pong() -> ASGIApplication:
    """Return a consumer that answers."""
    application: ASGIApplication = _PingPong.as_asgi()
    return application


def echo() -> ASGIApplication:
    """Return a WebSocket consumer that sends back what it gets."""
    application: ASGIApplication = _Echo.as_asgi()
    return application


def member() -> ASGIApplication:
    """Return a WebSocket consumer in a group."""
    application: ASGIApplication = _Member.as_asgi()
    return application


def joiner() -> ASGIApplication:
    """Return a WebSocket consumer that joins groups when it is told to."""
    application: ASGIApplication = _Joiner.as_asgi()
    return application


async def broadcast(text: str, *, encoded: bool) -> None:
    """Send to the group."""
    await get_channel_layer().group_send(GROUP, {"type": "websocket.send" if encoded else "bench.text", "text": text})


def layer() -> MessageLayer:
    """Return a new in-memory layer that drops nothing."""
    new: MessageLayer = InMemoryChannelLayer(capacity=CAPACITY)
    return new


async def join(layer: Any, group: str, channel: str) -> None:
    """Add the name only, which is Channels' best case.

    A live consumer would wait in `receive` as well. Starting that costs a scan of all that are there already,
    and each one that waits makes the next scan longer: 100,000 of them would take half an hour to set up.
    """
    await layer.group_add(group, channel)

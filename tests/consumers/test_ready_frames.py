"""Frames that come ready from the channel layer: they reach the client without a handler, by the same rules."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sealane.consumers import AsyncConsumer, AsyncWebsocketConsumer, WebsocketConsumer
from sealane.layers import InMemoryChannelLayer
from sealane.testing import WebsocketCommunicator
from sealane.types import Message, Receive, Scope, Send
from tests.consumers.conftest import until

READY = {"type": "websocket.send", "text": "ready"}


class Member(AsyncWebsocketConsumer):
    groups = ["room", "everyone"]

    async def chat_message(self, message: Message) -> None:
        await self.send(text_data=message["text"])

    async def chat_slow(self, message: Message) -> None:
        await asyncio.sleep(0)
        await self.send(text_data=message["text"])

    async def chat_close(self, message: Message) -> None:
        await self.close(4000)


class SyncMember(WebsocketConsumer):
    groups = ["room", "everyone"]

    def chat_message(self, message: Message) -> None:
        self.send(text_data=message["text"])

    chat_slow = chat_message

    def chat_close(self, message: Message) -> None:
        self.close(4000)


both = pytest.mark.parametrize("consumer", [Member, SyncMember], ids=["async", "sync"])

Gate = Callable[[Message, Send], Awaitable[None]]


def gated(consumer: type[AsyncConsumer], gate: Gate) -> Any:
    """Return the consumer as an application whose server sends as ``gate`` says."""
    application = consumer.as_asgi()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def gated_send(message: Message) -> None:
            await gate(message, send)

        await application(scope, receive, gated_send)

    return app


@both
async def test_they_keep_their_place_among_other_messages(
    consumer: type[AsyncConsumer], layer: InMemoryChannelLayer
) -> None:
    async with (
        WebsocketCommunicator(consumer.as_asgi(), "/") as one,
        WebsocketCommunicator(consumer.as_asgi(), "/") as two,
    ):
        for n in range(30):
            kind = ("websocket.send", "chat.message", "websocket.send", "chat.slow")[n % 4]
            await layer.group_send("room", {"type": kind, "text": str(n)})
            if n % 5 == 0:
                await asyncio.sleep(0)
        for client in one, two:
            assert [await client.receive_from() for _ in range(30)] == [str(n) for n in range(30)]


@both
async def test_a_server_that_holds_one_back_holds_back_what_follows(
    consumer: type[AsyncConsumer], layer: InMemoryChannelLayer
) -> None:
    opened = asyncio.Event()

    async def gate(message: Message, send: Send) -> None:
        if message.get("text") == "held":
            await opened.wait()
        await send(message)

    async with WebsocketCommunicator(gated(consumer, gate), "/") as client:
        for text in "first", "held", "last":
            await layer.group_send("room", {"type": "websocket.send", "text": text})
        assert await client.receive_from() == "first"
        assert await client.receive_nothing()
        opened.set()
        assert [await client.receive_from(), await client.receive_from()] == ["held", "last"]


@both
async def test_a_client_that_is_gone_is_nobodys_error(
    consumer: type[AsyncConsumer], layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[str] = []

    async def gate(message: Message, send: Send) -> None:
        if message["type"] == "websocket.send":
            refused.append(message["text"])
            raise ConnectionResetError("gone")
        await send(message)

    client = WebsocketCommunicator(gated(consumer, gate), "/")
    await client.connect()
    for n in range(3):
        await layer.group_send("room", {"type": "websocket.send", "text": str(n)})
    await until(lambda: refused)
    await client.disconnect()
    assert refused == ["0"], "the connection was known to be lost"
    assert [record for record in caplog.records if record.levelno > logging.DEBUG and "sealane" in record.name] == []


@both
async def test_a_closed_connection_sends_none(consumer: type[AsyncConsumer], layer: InMemoryChannelLayer) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    await client.connect()
    await layer.group_send("room", READY)
    await layer.group_send("room", {"type": "chat.close"})
    await layer.group_send("room", READY)
    assert await client.receive_from() == "ready"
    assert await client.receive_output() == {"type": "websocket.close", "code": 4000}
    assert await client.receive_nothing()
    await client.disconnect()


async def test_one_that_comes_before_the_handshake_is_done_is_refused_as_ever(layer: InMemoryChannelLayer) -> None:
    seen: list[Exception] = []

    class Slow(AsyncWebsocketConsumer):
        groups = ["room"]

        async def connect(self) -> None:
            await layer.group_send("room", READY)
            self.spawn(self.accept_later())

        async def accept_later(self) -> None:
            await until(lambda: seen)
            await self.accept()

        async def on_error(self, error: Exception, message: Message | None) -> None:
            seen.append(error)

    async with WebsocketCommunicator(Slow.as_asgi(), "/") as client:
        await layer.group_send("room", READY)
        assert await client.receive_from() == "ready"
    (error,) = seen
    assert str(error).startswith("'websocket.send' cannot be sent while the connection is connecting")


async def test_a_consumers_own_websocket_send_gets_them(layer: InMemoryChannelLayer) -> None:
    class Shouts(Member):
        async def websocket_send(self, message: Message) -> None:
            await super().websocket_send({**message, "text": message["text"].upper()})

    async with WebsocketCommunicator(Shouts.as_asgi(), "/") as client:
        await layer.group_send("room", READY)
        await layer.group_send("room", READY)
        assert [await client.receive_from(), await client.receive_from()] == ["READY", "READY"]


async def test_a_consumers_own_dispatch_gets_them(layer: InMemoryChannelLayer) -> None:
    class Counts(Member):
        async def dispatch(self, message: Message) -> None:
            self.scope["seen"].append(message["type"])
            await super().dispatch(message)

    client = WebsocketCommunicator(Counts.as_asgi(), "/")
    seen = client.scope["seen"] = []
    async with client:
        for _ in range(3):
            await layer.group_send("room", READY)
            assert await client.receive_from() == "ready"
    assert seen.count("websocket.send") == 3


async def test_a_synchronous_consumer_needs_no_thread_for_them(layer: InMemoryChannelLayer) -> None:
    threads: list[str] = []

    async def gate(message: Message, send: Send) -> None:
        threads.append(threading.current_thread().name)
        await send(message)

    busy = threading.active_count()
    async with WebsocketCommunicator(gated(SyncMember, gate), "/") as client:
        await layer.group_send("room", READY)
        assert await client.receive_from() == "ready"
        for _ in range(20):
            await layer.group_send("room", READY)
        assert [await client.receive_from() for _ in range(20)] == ["ready"] * 20
        assert threading.active_count() <= busy + 1  # that of connect()
    assert set(threads) == {threading.current_thread().name}


async def test_each_receiver_gets_an_event_of_its_own(layer: InMemoryChannelLayer) -> None:
    events: list[Message] = []

    async def gate(message: Message, send: Send) -> None:
        if message["type"] == "websocket.send":
            events.append(message)
            message["text"] += "!"  # as a middleware might
        await send(message)

    async with (
        WebsocketCommunicator(gated(Member, gate), "/") as one,
        WebsocketCommunicator(gated(Member, gate), "/") as two,
    ):
        for _ in range(2):
            await layer.group_send("room", READY)
            assert [await one.receive_from(), await two.receive_from()] == ["ready!", "ready!"]
    assert len({id(event) for event in events}) == 4

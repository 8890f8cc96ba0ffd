"""What a consumer is told of messages that never came, and of those that cannot be read."""

import asyncio
import logging

import pytest

from sealane.consumers import AsyncConsumer, AsyncWebsocketConsumer, WebsocketConsumer
from sealane.exceptions import UndecodableMessage
from sealane.layers import Gap, Inbox, InMemoryChannelLayer
from sealane.testing import WebsocketCommunicator
from sealane.types import Message
from tests.consumers.conftest import LIMIT

GAP = Gap("forgotten", lost=3, seconds=1.5)


class Member(AsyncWebsocketConsumer):
    groups = ["room"]

    async def on_gap(self, gap: Gap) -> None:
        await self.send(f"gap {gap.reason} {gap.lost}")

    async def chat(self, message: Message) -> None:
        await self.send(message["text"])


class SyncMember(WebsocketConsumer):
    groups = ["room"]

    def on_gap(self, gap: Gap) -> None:  # type: ignore[override]
        self.send(f"gap {gap.reason} {gap.lost}")

    def chat(self, message: Message) -> None:
        self.send(message["text"])


both = pytest.mark.parametrize("consumer", [Member, SyncMember], ids=["async", "sync"])


def inboxes(layer: InMemoryChannelLayer) -> list[Inbox]:
    return list(layer._exchange.board.groups["room"].members.values())


def tell(layer: InMemoryChannelLayer, gap: Gap) -> None:
    for inbox in inboxes(layer):
        inbox.gap = gap
        inbox.notify()


@both
async def test_an_idle_consumer_is_told_before_what_comes_after(
    consumer: type[AsyncConsumer], layer: InMemoryChannelLayer
) -> None:
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        await client.connect()
        for text in "one", "two":
            tell(layer, GAP)
            await layer.group_send("room", {"type": "chat", "text": text})
            assert [await client.receive_from(LIMIT) for _ in range(2)] == ["gap forgotten 3", text]


async def test_a_busy_consumer_is_told_when_its_handler_is_through(layer: InMemoryChannelLayer) -> None:
    going_on = asyncio.Event()

    class Slow(Member):
        async def slow(self, message: Message) -> None:
            await self.send("begun")
            await going_on.wait()
            await self.send("done")

    async with WebsocketCommunicator(Slow.as_asgi(), "/") as client:
        await client.connect()
        await layer.group_send("room", {"type": "slow"})
        assert await client.receive_from() == "begun"
        tell(layer, GAP)
        await client.receive_nothing()
        going_on.set()
        assert [await client.receive_from(), await client.receive_from()] == ["done", "gap forgotten 3"]


async def test_by_default_a_gap_does_nothing(layer: InMemoryChannelLayer) -> None:
    class Plain(AsyncWebsocketConsumer):
        groups = ["room"]

    async with WebsocketCommunicator(Plain.as_asgi(), "/") as client:
        await client.connect()
        tell(layer, GAP)
        await layer.group_send("room", {"type": "websocket.send", "text": "on"})
        assert await client.receive_from() == "on"
        assert inboxes(layer)[0].gap is None


async def test_an_error_of_on_gap_goes_to_on_error(layer: InMemoryChannelLayer) -> None:
    class Failing(Member):
        async def on_gap(self, gap: Gap) -> None:
            raise ValueError("no state")

        async def on_error(self, error: Exception, message: Message | None) -> None:
            await self.send(f"{error} {message}")

    async with WebsocketCommunicator(Failing.as_asgi(), "/") as client:
        await client.connect()
        tell(layer, GAP)
        assert await client.receive_from() == f"no state {GAP}"


async def test_a_message_cannot_name_the_handler_of_gaps(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with WebsocketCommunicator(Member.as_asgi(), "/") as client:
        await client.connect()
        await layer.group_send("room", {"type": "on_gap"})
        await layer.group_send("room", {"type": "chat", "text": "on"})
        assert await client.receive_from() == "on"
    assert "on_gap() is a method of the framework" in caplog.text


def test_gaps_of_which_nobody_was_told_become_one() -> None:
    assert Gap("trimmed", 2, 0.5).merge(Gap("forgotten", 3, 2.0)) == Gap("forgotten", 5, 2.0)
    assert Gap("trimmed", 2).merge(Gap("rewound", None)) == Gap("rewound", None)


@pytest.mark.parametrize("data", [b"\xc1", b"\x07"], ids=["no msgpack", "no dict"])
@pytest.mark.parametrize("others", [0, 1], ids=["alone", "among others"])
@both
async def test_what_is_no_message_is_dropped_with_one_line(
    consumer: type[AsyncConsumer],
    layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
    others: int,
    data: bytes,
) -> None:
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        await client.connect()
        for _ in range(2):  # the first finds no idle task, the second does
            if others:
                await layer.group_add("room", "another")
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                layer._exchange.group_send("room", data)
                await layer.group_send("room", {"type": "chat", "text": "on"})
                assert await client.receive_from(LIMIT) == "on"
            assert len(caplog.records) == 1
            assert "What came through the channel layer cannot be decoded" in caplog.text
            assert caplog.records[0].exc_info is None
        await layer.close_channel("another")


async def test_receive_raises_for_what_is_no_message() -> None:
    async with InMemoryChannelLayer() as layer:
        layer._exchange.send("channel", b"\xc1")
        with pytest.raises(UndecodableMessage, match="Do all processes use the same serializer_format and prefix"):
            await layer.receive("channel")

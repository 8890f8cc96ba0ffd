"""The limits of a consumer: what closes with which code, what is counted and logged, what costs nothing."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from sealane.consumers import AsyncHttpConsumer, AsyncWebsocketConsumer, WebsocketConsumer
from sealane.consumers.outbox import OVERHEAD
from sealane.exceptions import FrameError, FrameTooLarge, TooManyFrames, TooManyGroups
from sealane.layers import InMemoryChannelLayer
from sealane.testing import HttpCommunicator, WebsocketCommunicator
from sealane.types import Message, Receive, Scope, Send
from tests.consumers.conftest import LIMIT, until

READY = {"type": "websocket.send", "text": "r" * 100}


class Echo(AsyncWebsocketConsumer):
    groups = ["room"]
    codes: list[int]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data, bytes_data)

    async def chat_message(self, message: Message) -> None:
        await self.send(text_data=message["text"])

    async def disconnect(self, code: int) -> None:
        self.codes.append(code)


class SyncEcho(WebsocketConsumer):
    groups = ["room"]
    codes: list[int]

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data, bytes_data)

    def chat_message(self, message: Message) -> None:
        self.send(text_data=message["text"])

    def disconnect(self, code: int) -> None:
        self.codes.append(code)


class DispatchingEcho(Echo):
    async def dispatch(self, message: Message) -> None:
        await super().dispatch(message)


every = pytest.mark.parametrize("base", [Echo, SyncEcho, DispatchingEcho], ids=["async", "sync", "own dispatch"])
both = pytest.mark.parametrize("base", [Echo, SyncEcho], ids=["async", "sync"])


def limited(base: type, **limits: Any) -> Any:
    return type("Limited", (base,), {"codes": [], "__module__": __name__, **limits})


def slow(consumer: Any, reads: asyncio.Event, sent: list[str] | None = None) -> Any:
    """The consumer behind a server whose client takes frames only when it reads."""
    application = consumer.as_asgi()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def slow_send(message: Message) -> None:
            if message["type"] != "websocket.accept":
                await reads.wait()
            if sent is not None:
                sent.append(message.get("text") or message["type"])
            await send(message)

        await application(scope, receive, slow_send)

    return app


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "sealane.consumers" and record.levelno >= logging.WARNING
    ]


# From the client


@every
@pytest.mark.parametrize("data", [{"text_data": "x" * 11}, {"bytes_data": b"x" * 11}], ids=["text", "binary"])
async def test_a_frame_that_is_too_large_closes_with_1009(
    base: type, data: Any, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = limited(base, max_message_size=10)
    async with WebsocketCommunicator(consumer.as_asgi(), "/chat") as client:
        await client.send_to("x" * 10)
        assert await client.receive_from() == "x" * 10
        await client.send_to(**data)
        await client.send_to(**data)  # it went out before the close came
        assert await client.receive_close() == 1009
    assert consumer.codes == [1009]
    assert consumer.limit_counters.as_dict() | {"refused_size": 1} == consumer.limit_counters.as_dict()
    assert warnings(caplog) == [
        "Limited at '/chat': refused a frame: Frame is 11 bytes; the limit is 10 (refused_size: 1 so far)"
    ]


@every
async def test_frames_that_come_too_fast_close_with_1008(
    base: type, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = limited(base, max_message_rate=0.1, message_burst=3)
    async with WebsocketCommunicator(consumer.as_asgi(), "/chat") as client:
        for n in range(3):
            await client.send_to(str(n))
            assert await client.receive_from() == str(n)
        await client.send_to("3")
        assert await client.receive_close() == 1008
    assert consumer.codes == [1008]
    assert consumer.limit_counters["refused_rate"] == 1
    assert warnings(caplog) == [
        "Limited at '/chat': refused a frame: Frames come faster than 0.1 per second, with up to 3 at once "
        "(refused_rate: 1 so far)"
    ]


@both
async def test_on_error_may_let_a_frame_go_and_stay(
    base: type, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[type, Message | None]] = []

    async def on_error(self: Any, error: Exception, message: Message | None) -> None:
        assert isinstance(error, FrameError)
        seen.append((type(error), message))

    def sync_on_error(self: Any, error: Exception, message: Message | None) -> None:
        seen.append((type(error), message))

    consumer = limited(
        base,
        max_message_size=10,
        max_message_rate=0.1,
        message_burst=3,
        on_error=on_error if base is Echo else sync_on_error,
    )
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        for content in "one", "x" * 11, "two", "three":
            await client.send_to(content)
        assert [await client.receive_from(), await client.receive_from()] == ["one", "two"]
        assert await client.receive_nothing()
    assert seen == [
        (FrameTooLarge, {"type": "websocket.receive"}),
        (TooManyFrames, {"type": "websocket.receive", "text": "three"}),
    ]
    assert len(warnings(caplog)) == 2


async def test_a_flood_is_one_line_in_the_log(layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture) -> None:
    class Patient(Echo):
        codes: list[int] = []
        max_message_rate = 0.1

        async def on_error(self, error: Exception, message: Message | None) -> None:
            assert isinstance(error, TooManyFrames)

    async with WebsocketCommunicator(Patient.as_asgi(), "/") as client:
        for n in range(200):
            await client.send_to(str(n))
        assert await client.receive_from() == "0"
        await until(lambda: Patient.limit_counters["refused_rate"] == 199)
    assert len(warnings(caplog)) == 1


async def test_a_layer_cannot_send_the_note_that_refuses_a_frame(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = limited(Echo, max_message_size=10)
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        await layer.group_send("room", {"type": "sealane.refused", "error": "x"})
        await layer.group_send("room", READY)
        assert await client.receive_from() == READY["text"]
    assert "No handler for message type 'sealane.refused'" in caplog.text


# Groups


async def test_a_group_too_many_is_an_error_of_the_program(layer: InMemoryChannelLayer) -> None:
    errors: list[Exception] = []

    class Joins(Echo):
        codes: list[int] = []
        max_groups = 2

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            assert text_data is not None
            await self.channel_layer.group_add(text_data, self.channel_name)
            await self.send(text_data="joined")

        async def on_error(self, error: Exception, message: Message | None) -> None:
            errors.append(error)
            await self.send(text_data="refused")

    async with WebsocketCommunicator(Joins.as_asgi(), "/") as client:
        for group, answer in [("room", "joined"), ("second", "joined"), ("third", "refused"), ("second", "joined")]:
            await client.send_to(group)
            assert await client.receive_from() == answer
        assert layer.stats()["groups"] == 2
    [error] = errors
    assert isinstance(error, TooManyGroups)
    assert str(error) == "Group 'third' was not joined: the connection is in 2 already, which is its max_groups"
    assert Joins.limit_counters["refused_groups"] == 1


async def test_a_synchronous_consumer_joins_so_many_too(layer: InMemoryChannelLayer) -> None:
    class Joins(SyncEcho):
        codes: list[int] = []
        max_groups = 2
        error_policy = "log"

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            assert text_data is not None
            try:
                self.channel_layer.sync.group_add(text_data, self.channel_name)
            except TooManyGroups as error:
                self.send(text_data=f"not {error.group}")
            else:
                self.send(text_data=text_data)

    async with WebsocketCommunicator(Joins.as_asgi(), "/") as client:
        for group, answer in [("second", "second"), ("third", "not third")]:
            await client.send_to(group)
            assert await client.receive_from(LIMIT) == answer


async def test_the_groups_of_the_class_count(layer: InMemoryChannelLayer) -> None:
    consumer = limited(Echo, max_groups=1, groups=["a", "b"])
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    with pytest.raises(TooManyGroups, match="'b' was not joined"):
        await client.connect()


async def test_the_group_of_the_user_does_not_count(layer: InMemoryChannelLayer) -> None:
    class User:
        is_authenticated = True
        is_active = True
        pk = 1

    client = WebsocketCommunicator(limited(Echo, max_groups=1).as_asgi(), "/")
    client.scope["user"] = User()
    async with client:
        assert layer.stats()["groups"] == 2


# To the client


@both
async def test_without_limits_a_slow_client_holds_up_its_handlers_and_nothing_is_lost(
    base: type, layer: InMemoryChannelLayer
) -> None:
    reads = asyncio.Event()
    consumer = limited(base)
    async with WebsocketCommunicator(slow(consumer, reads), "/") as client:
        for n in range(50):
            await layer.group_send("room", {"type": "chat.message", "text": str(n)})
        # A thread of its own may be long in taking the first one. Only then does nothing more happen.
        await until(lambda: layer.stats()["waiting"] == 49)
        assert await client.receive_nothing()
        assert layer.stats()["waiting"] == 49
        reads.set()
        assert [await client.receive_from(LIMIT) for _ in range(50)] == [str(n) for n in range(50)]
    assert set(consumer.limit_counters.as_dict().values()) == {0}


@both
@pytest.mark.parametrize("kind", ["websocket.send", "chat.message"], ids=["ready frames", "a handler"])
@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_a_send_queue_drops_by_its_policy(
    base: type, kind: str, policy: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    reads = asyncio.Event()
    consumer = limited(base, max_send_queue=3 * (OVERHEAD + 2), slow_client=policy)
    counters = consumer.limit_counters
    async with WebsocketCommunicator(slow(consumer, reads), "/chat") as client:
        for n in range(10, 60):
            await layer.group_send("room", {"type": kind, "text": str(n)})
            # No message waits behind a client that does not read.
            await until(lambda: layer.stats()["waiting"] == 0)
        await until(lambda: sum(counters.as_dict().values()) == 46)
        reads.set()
        got = [await client.receive_from(LIMIT) for _ in range(4)]
        assert got == (["10", "57", "58", "59"] if policy == "drop_oldest" else ["10", "11", "12", "13"])
        await client.send_to("back")
        assert await client.receive_from(LIMIT) == "back"
    assert counters.as_dict() == dict.fromkeys(counters.as_dict(), 0) | {f"dropped_{policy[5:]}": 46}
    [line] = warnings(caplog)
    assert line.startswith("Limited at '/chat': dropped frames for a client that is too slow")


@both
@pytest.mark.parametrize("kind", ["websocket.send", "chat.message"], ids=["ready frames", "a handler"])
async def test_a_full_send_queue_closes_with_1013(
    base: type, kind: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    reads = asyncio.Event()
    sent: list[str] = []
    consumer = limited(base, max_send_queue=3 * (OVERHEAD + 2))
    client = WebsocketCommunicator(slow(consumer, reads, sent), "/chat")
    await client.connect()
    for n in range(10, 60):
        await layer.group_send("room", {"type": kind, "text": str(n)})
    await until(lambda: consumer.limit_counters["closed_slow"])
    reads.set()  # it can be told, if it reads again at once
    assert await until_closed(client) == 1013
    assert client.close_reason == "Too slow"
    await client.wait()
    assert consumer.codes == [1013]
    assert "websocket.close" in sent
    assert consumer.limit_counters["closed_slow"] == 1
    assert any("too slow, and the connection is closed: over 1542 bytes" in line for line in warnings(caplog))


async def until_closed(client: WebsocketCommunicator) -> int:
    """Take the frames that came before the close, and its code."""
    while True:
        event = await client.receive_output()
        if event["type"] == "websocket.close":
            client.close_code = event["code"]
            client.close_reason = event["reason"]
            return client.close_code or 0


@both
@pytest.mark.parametrize("kind", ["websocket.send", "chat.message"], ids=["ready frames", "a handler"])
@pytest.mark.parametrize("queue", [None, 10_000], ids=["without a queue", "with a queue"])
async def test_a_client_that_takes_nothing_within_send_timeout_is_closed(
    base: type, kind: str, queue: int | None, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    # Time enough for all five to come to the queue, also on a busy machine.
    limit = 0.5 if queue is None else 2
    consumer = limited(base, send_timeout=limit, max_send_queue=queue, end_timeout=0.2)
    client = WebsocketCommunicator(slow(consumer, asyncio.Event()), "/chat")
    await client.connect()
    for n in range(5):
        await layer.group_send("room", {"type": kind, "text": str(n)})
    await client.wait(20)
    assert consumer.codes == [1013]
    assert consumer.limit_counters["closed_slow"] == 1
    if queue is None:
        assert consumer.limit_counters["dropped_closed"] == 0
    else:
        assert consumer.limit_counters["dropped_closed"] == 5
    lines = warnings(caplog)
    assert lines[0].startswith(
        f"Limited at '/chat': the client is too slow, and the connection is closed: it took nothing for {limit} seconds"
    )
    assert len(lines) == (1 if queue is None else 2)


@both
async def test_frames_keep_their_order_through_a_queue(base: type, layer: InMemoryChannelLayer) -> None:
    consumer = limited(base, max_send_queue=1_000_000, send_timeout=60)
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        for n in range(200):
            kind = ("websocket.send", "chat.message")[n % 2]
            await layer.group_send("room", {"type": kind, "text": str(n)})
            if n % 50 == 0:
                await until(lambda: layer.stats()["waiting"] == 0)
        assert [await client.receive_from(LIMIT) for _ in range(200)] == [str(n) for n in range(200)]


async def test_close_comes_after_the_frames_before_it(layer: InMemoryChannelLayer) -> None:
    class Leaves(Echo):
        codes: list[int] = []
        max_send_queue = 100_000

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            for n in range(20):
                await self.send(text_data=str(n))
            await self.close(4000)

    async with WebsocketCommunicator(Leaves.as_asgi(), "/") as client:
        await client.send_to("go")
        assert [await client.receive_from() for _ in range(20)] == [str(n) for n in range(20)]
        assert await client.receive_close() == 4000


async def test_a_defect_of_the_server_ends_the_connection_as_without_a_queue(layer: InMemoryChannelLayer) -> None:
    application = limited(Echo, max_send_queue=1000).as_asgi()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def broken(message: Message) -> None:
            if message["type"] == "websocket.send":
                raise RuntimeError("a defect")
            await send(message)

        await application(scope, receive, broken)

    client = WebsocketCommunicator(app, "/")
    await client.connect()
    await client.send_to("x")
    with pytest.raises(RuntimeError, match="a defect"):
        await client.wait()


async def test_a_response_ends_where_its_client_takes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    class Stream(AsyncHttpConsumer):
        send_timeout = 0.02

        async def handle(self, body: bytes) -> None:
            await self.send_headers()
            while True:
                await self.send_body(b"x", more_body=True)

        async def disconnect(self) -> None:
            ended.append("disconnect")

    application = Stream.as_asgi()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def stuck(message: Message) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()
            await send(message)

        await application(scope, receive, stuck)

    client = HttpCommunicator(app, "GET", "/stream")
    assert (await client.get_start())["status"] == 200
    await client.wait(20)
    assert ended == ["disconnect"]
    assert Stream.limit_counters["closed_slow"] == 1
    assert "Stream at '/stream': the client is too slow, and the response ends" in caplog.text


# What they may be


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"max_message_size": 0}, "Limited.max_message_size is 0; expected a whole number of bytes above 0"),
        ({"max_message_size": 1.5}, "max_message_size is 1.5; expected a whole number of bytes"),
        ({"max_message_rate": "10"}, "max_message_rate is '10'; expected messages per second above 0, or None for any"),
        ({"message_burst": True}, "message_burst is True; expected a whole number of messages"),
        ({"max_groups": -1}, "max_groups is -1; expected a whole number of groups"),
        ({"max_send_queue": float("inf")}, "max_send_queue is inf; expected a whole number of bytes"),
        ({"send_timeout": float("nan")}, "send_timeout is nan; expected seconds above 0"),
        (
            {"slow_client": "wait"},
            "Limited.slow_client is 'wait'; expected one of 'close', 'drop_oldest', 'drop_newest'",
        ),
    ],
    ids=str,
)
def test_a_limit_that_cannot_be_is_refused_when_the_class_is_defined(limit: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        limited(Echo, **limit)


def test_a_subclass_takes_a_limit_off() -> None:
    strict = limited(Echo, max_message_size=10)
    assert limited(strict, max_message_size=None).max_message_size is None
    assert limited(strict).limit_counters is not strict.limit_counters


async def test_without_limits_nothing_stands_between_the_server_and_the_consumer(layer: InMemoryChannelLayer) -> None:
    seen: list[tuple[Any, Any]] = []
    servers: list[Callable[..., Any]] = []

    class Bare(Echo):
        codes: list[int] = []

        async def connect(self) -> None:
            await self.accept()
            seen.append((self.base_send, self._dispatcher.forward))
            assert type(self.channel_layer) is InMemoryChannelLayer

    application = Bare.as_asgi()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        servers.append(send)
        await application(scope, receive, send)

    async with WebsocketCommunicator(app, "/"):
        assert seen == [(servers[0], servers[0])]

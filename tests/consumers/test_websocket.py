"""WebSocket consumers: what both faces promise, and the end that is certain. No database, no real server."""

import asyncio
import json
import logging
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation
from django.core.serializers.json import DjangoJSONEncoder
from django.test import override_settings
from django.utils.translation import gettext_lazy

from sealane.consumers import (
    AsyncConsumer,
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from sealane.exceptions import (
    AcceptConnection,
    ConnectionClosed,
    DenyConnection,
    IllegalEvent,
    InvalidChannelLayerError,
    StopConsumer,
    UnhandledMessage,
)
from sealane.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from sealane.testing import WebsocketCommunicator

LIMIT = 20.0


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What Sealane logged. On a busy machine asyncio's debug mode adds lines about slow steps."""
    return [record for record in caplog.records if record.name.startswith("sealane")]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in ours(caplog)]


pytestmark = pytest.mark.usefixtures("layer")


async def until(condition: Any) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.001)


class AsyncEcho(AsyncWebsocketConsumer):
    codes: list[int]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data=text_data, bytes_data=bytes_data)


class SyncEcho(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data=text_data, bytes_data=bytes_data)


@pytest.mark.parametrize("consumer", [AsyncEcho, SyncEcho], ids=["async", "sync"])
async def test_frames_come_back_in_their_order(consumer: type[AsyncConsumer]) -> None:
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        for n in range(20):
            await client.send_to(text_data=f"text {n}")
            await client.send_to(bytes_data=b"bytes %d" % n)
        for n in range(20):
            assert await client.receive_from() == f"text {n}"
            assert await client.receive_from() == b"bytes %d" % n


# Accepting and refusing


class AsyncAccepts(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept("chat", headers=[(b"x-a", b"b")])


class SyncAccepts(WebsocketConsumer):
    def connect(self) -> None:
        self.accept("chat", headers=[(b"x-a", b"b")])


class AsyncAcceptsByException(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        raise AcceptConnection("chat", [(b"x-a", b"b")])


class SyncAcceptsByException(WebsocketConsumer):
    def connect(self) -> None:
        raise AcceptConnection("chat", [(b"x-a", b"b")])


@pytest.mark.parametrize(
    "consumer", [AsyncAccepts, SyncAccepts, AsyncAcceptsByException, SyncAcceptsByException], ids=lambda c: c.__name__
)
async def test_a_connection_is_accepted_with_a_subprotocol_and_headers(consumer: type[AsyncConsumer]) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/", subprotocols=["chat"])
    await client.send_input({"type": "websocket.connect"})
    event = await client.receive_output()
    assert event == {"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-a", b"b")]}
    await client.disconnect()


class AsyncDenies(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        raise DenyConnection(401, "log in first", headers=[(b"x-why", b"login")])


class SyncDenies(WebsocketConsumer):
    def connect(self) -> None:
        self.deny(401, "log in first", headers=[(b"x-why", b"login")])


@pytest.mark.parametrize("consumer", [AsyncDenies, SyncDenies], ids=["async", "sync"])
async def test_a_denial_is_an_http_response_where_the_server_can(consumer: type[AsyncConsumer]) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    client.scope["extensions"] = {"websocket.http.response": {}}
    await client.send_input({"type": "websocket.connect"})
    assert await client.receive_output() == {
        "type": "websocket.http.response.start",
        "status": 401,
        "headers": [(b"x-why", b"login"), (b"content-type", b"text/plain; charset=utf-8")],
    }
    assert await client.receive_output() == {
        "type": "websocket.http.response.body",
        "body": b"log in first",
        "more_body": False,
    }
    await client.send_input({"type": "websocket.disconnect", "code": 1006})
    await client.wait()


@pytest.mark.parametrize("consumer", [AsyncDenies, SyncDenies], ids=["async", "sync"])
async def test_a_denial_is_a_close_where_the_server_cannot(consumer: type[AsyncConsumer]) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    client.scope["extensions"] = {}
    await client.send_input({"type": "websocket.connect"})
    assert await client.receive_output() == {"type": "websocket.close"}
    await client.send_input({"type": "websocket.disconnect", "code": 1006})
    await client.wait()


class AsyncCloses(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.close()


class SyncCloses(WebsocketConsumer):
    def connect(self) -> None:
        raise DenyConnection


@pytest.mark.parametrize("consumer", [AsyncCloses, SyncCloses], ids=["async", "sync"])
async def test_closing_before_accepting_refuses(consumer: type[AsyncConsumer]) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    accepted, _ = await client.connect()
    assert not accepted
    await client.disconnect()


# The state machine


class StateProbe(AsyncWebsocketConsumer):
    raised: list[Exception]

    async def connect(self) -> None:
        self.raised = self.scope["raised"]
        await self.note(self.send(text_data="too early"))
        await self.accept()
        await self.note(self.accept())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.close(4000, "enough")
        await self.close(4001)
        await self.note(self.send(text_data="too late"))
        await self.note(self.send())

    async def note(self, call: Any) -> None:
        try:
            await call
        except Exception as error:
            self.raised.append(error)


async def test_an_illegal_event_names_the_state_and_what_was_expected_and_closing_twice_is_harmless() -> None:
    client = WebsocketCommunicator(StateProbe.as_asgi(), "/")
    raised = client.scope["raised"] = []
    await client.connect()
    await client.send_to(text_data="go")
    assert await client.receive_output() == {"type": "websocket.close", "code": 4000, "reason": "enough"}
    assert await client.receive_nothing()
    await client.disconnect()
    assert [type(error) for error in raised] == [IllegalEvent, IllegalEvent, ConnectionClosed, ValueError]
    assert [str(error) for error in raised] == [
        "'websocket.send' cannot be sent while the connection is connecting: expected 'websocket.accept' or "
        "'websocket.close' or 'websocket.http.response.start'",
        "'websocket.accept' cannot be sent while the connection is open: expected 'websocket.send' or "
        "'websocket.close'",
        "'websocket.send' was not sent: the connection is closed with code 4000",
        "You must pass one of bytes_data or text_data",
    ]


class SendsAndCloses(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data="bye", close=True if text_data == "true" else 4002)


class SyncSendsAndCloses(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data="bye", close=True if text_data == "true" else 4002)


@pytest.mark.parametrize("consumer", [SendsAndCloses, SyncSendsAndCloses], ids=["async", "sync"])
@pytest.mark.parametrize(("text", "close"), [("true", {}), ("code", {"code": 4002})])
async def test_send_can_close(consumer: type[AsyncConsumer], text: str, close: dict[str, int]) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    await client.connect()
    await client.send_to(text_data=text)
    assert await client.receive_from() == "bye"
    assert await client.receive_output() == {"type": "websocket.close", **close}
    await client.disconnect()


class TalksToTheGone(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.scope["started"].set()
        await until(lambda: self.disconnected)
        await self.send(text_data="is anybody there?")
        raise AssertionError("send() must raise")

    async def disconnect(self, code: int) -> None:
        self.scope["codes"].append(code)


async def test_a_client_that_leaves_is_noticed_while_a_handler_runs_and_the_late_send_is_quiet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = WebsocketCommunicator(TalksToTheGone.as_asgi(), "/")
    client.scope["started"] = asyncio.Event()
    codes = client.scope["codes"] = []
    await client.connect()
    await client.send_to(text_data="go")
    await client.scope["started"].wait()
    with caplog.at_level(logging.INFO, logger="sealane.consumers"):
        await client.disconnect(code=1001)
    assert codes == [1001]
    assert lines(caplog) == []


async def test_a_server_that_says_the_client_is_gone_is_believed() -> None:
    """The ASGI specification lets ``send`` raise a subclass of OSError."""
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    sent: list[str] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.send":
            raise ConnectionResetError
        sent.append(message["type"])

    received.put_nowait({"type": "websocket.connect"})
    received.put_nowait({"type": "websocket.receive", "text": "x"})
    received.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await AsyncEcho.as_asgi()({"type": "websocket", "path": "/"}, received.get, send)
    assert sent == ["websocket.accept"]


# Groups and messages of the channel layer


class AsyncMember(AsyncWebsocketConsumer):
    groups = ["room"]

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])

    async def explode(self, event: dict[str, Any]) -> None:
        raise ZeroDivisionError("handler")

    async def disconnect(self, code: int) -> None:
        self.scope.setdefault("codes", []).append(code)


class SyncMember(WebsocketConsumer):
    groups = ["room"]

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send(text_data=event["text"])

    def explode(self, event: dict[str, Any]) -> None:
        raise ZeroDivisionError("handler")

    def disconnect(self, code: int) -> None:
        self.scope.setdefault("codes", []).append(code)


both_members = pytest.mark.parametrize("consumer", [AsyncMember, SyncMember], ids=["async", "sync"])


@both_members
async def test_a_group_message_reaches_every_member(consumer: type[AsyncConsumer], layer: InMemoryChannelLayer) -> None:
    async with (
        WebsocketCommunicator(consumer.as_asgi(), "/") as one,
        WebsocketCommunicator(consumer.as_asgi(), "/") as two,
    ):
        for n in range(5):
            await layer.group_send("room", {"type": "chat.message", "text": str(n)})
        for client in one, two:
            assert [await client.receive_from() for _ in range(5)] == ["0", "1", "2", "3", "4"]


@both_members
async def test_a_frame_that_is_ready_goes_out_as_it_is(
    consumer: type[AsyncConsumer], layer: InMemoryChannelLayer
) -> None:
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        await layer.group_send("room", {"type": "websocket.send", "text": "ready"})
        assert await client.receive_output() == {"type": "websocket.send", "text": "ready"}


@both_members
@pytest.mark.parametrize(
    ("message", "line"),
    [
        ({"type": "unknown.kind"}, "it has no method unknown_kind()"),
        ({"type": "close"}, "close() is a method of the framework, not a handler"),
        ({"type": "send"}, "send() is a method of the framework, not a handler"),
        ({"type": "accept"}, "accept() is a method of the framework, not a handler"),
        ({"type": "dispatch"}, "dispatch() is a method of the framework, not a handler"),
        ({"type": "disconnect"}, "disconnect() is a method of the framework, not a handler"),
        ({"type": "spawn"}, "spawn() is a method of the framework, not a handler"),
        ({"type": "on_error"}, "on_error() is a method of the framework, not a handler"),
        ({"type": "websocket.receive", "text": "x"}, "only the server may send it, not a channel layer"),
        ({"type": "websocket.disconnect", "code": 1}, "only the server may send it, not a channel layer"),
        ({"type": "_end"}, "Malformed type in message (leading underscore)"),
        ({"type": ".end"}, "Malformed type in message (leading underscore)"),
        ({"type": "groups"}, "its attribute 'groups' is not a method"),
        ({"text": "x"}, "Incoming message has no 'type' attribute (its keys: 'text')"),
        ({"type": 5}, "Incoming message has no 'type' attribute (its keys: 'type')"),
    ],
    ids=lambda value: str(value.get("type")) if isinstance(value, dict) else "",
)
async def test_a_stray_message_is_dropped_with_one_line_and_the_socket_lives(
    consumer: type[AsyncConsumer],
    layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
    message: dict[str, Any],
    line: str,
) -> None:
    async with WebsocketCommunicator(consumer.as_asgi(), "/room/") as client:
        with caplog.at_level(logging.INFO, logger="sealane.consumers"):
            await layer.group_send("room", message)
            await layer.group_send("room", {"type": "chat.message", "text": "still here"})
            assert await client.receive_from() == "still here"
        assert len(ours(caplog)) == 1
        assert line in lines(caplog)[0]
        assert f"{consumer.__name__} at '/room/' dropped a message of the channel layer" in lines(caplog)[0]
        assert ours(caplog)[0].exc_info is None


class Helpers(AsyncWebsocketConsumer):
    groups = ["room"]

    def plain(self, event: dict[str, Any]) -> None:
        pass

    async def two_arguments(self, event: dict[str, Any], other: int) -> None:
        raise AssertionError

    async def fine(self, event: dict[str, Any]) -> None:
        await self.send(text_data="fine")


async def test_only_what_can_be_awaited_and_takes_one_message_is_a_handler(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async with WebsocketCommunicator(Helpers.as_asgi(), "/") as client:
        await layer.group_send("room", {"type": "plain"})
        await layer.group_send("room", {"type": "two.arguments"})
        await layer.group_send("room", {"type": "fine"})
        assert await client.receive_from() == "fine"
    assert [message.rsplit(": ", 1)[1] for message in lines(caplog)] == [
        "plain() must be a coroutine function (async def)",
        "two_arguments() does not take exactly one message",
    ]


async def test_a_handler_that_a_test_patches_is_the_one_that_is_called(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def patched(self: AsyncMember, event: dict[str, Any]) -> None:
        await self.send(text_data="patched")

    async with WebsocketCommunicator(AsyncMember.as_asgi(), "/") as client:
        await layer.group_send("room", {"type": "chat.message", "text": "before"})
        assert await client.receive_from() == "before"
        monkeypatch.setattr(AsyncMember, "chat_message", patched)
        await layer.group_send("room", {"type": "chat.message", "text": "after"})
        assert await client.receive_from() == "patched"


async def test_groups_without_a_layer_are_a_clear_error() -> None:
    class Lost(AsyncWebsocketConsumer):
        groups = ["room"]
        channel_layer_alias = "missing"

    client = WebsocketCommunicator(Lost.as_asgi(), "/")
    with pytest.raises(
        InvalidChannelLayerError,
        match=r"BACKEND is unconfigured or doesn't support groups: Lost has groups = \['room'\], and "
        r"CHANNEL_LAYERS has no 'missing'",
    ):
        await client.connect()


async def test_a_consumer_without_a_layer_works() -> None:
    class Alone(AsyncEcho):
        channel_layer_alias = "missing"

    async with WebsocketCommunicator(Alone.as_asgi(), "/") as client:
        await client.send_to(text_data="x")
        assert await client.receive_from() == "x"


# The end


@both_members
async def test_disconnect_runs_once_with_the_clients_code(consumer: type[AsyncConsumer]) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    await client.connect()
    await client.disconnect(code=3456)
    assert client.scope["codes"] == [3456]


@both_members
async def test_a_handler_that_raises_ends_the_connection_with_1011_and_disconnect_still_runs_once(
    consumer: type[AsyncConsumer], layer: InMemoryChannelLayer
) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    await client.connect()
    await layer.group_send("room", {"type": "explode"})
    with pytest.raises(ZeroDivisionError, match="handler"):
        await client.wait()
    assert client.output_queue.get_nowait() == {"type": "websocket.close", "code": 1011}
    assert client.scope["codes"] == [1011]


@both_members
async def test_a_cancelled_connection_closes_with_1012_and_disconnect_runs_once(
    consumer: type[AsyncConsumer],
) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    await client.connect()
    client.future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.future
    assert client.output_queue.get_nowait() == {"type": "websocket.close", "code": 1012}
    assert client.scope["codes"] == [1012]


async def test_disconnect_is_not_cut_short_by_a_second_cancellation() -> None:
    class Slow(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            self.scope["entered"].set()
            await self.scope["leave"].wait()
            self.scope["done"].append(code)

    client = WebsocketCommunicator(Slow.as_asgi(), "/")
    client.scope |= {"entered": asyncio.Event(), "leave": asyncio.Event(), "done": []}
    await client.connect()
    client.future.cancel()
    await client.scope["entered"].wait()
    client.future.cancel()
    client.future.cancel()
    await asyncio.sleep(0)
    assert not client.future.done()
    client.scope["leave"].set()
    with pytest.raises(asyncio.CancelledError):
        await client.future
    assert client.scope["done"] == [1012]


async def test_the_end_has_a_deadline_and_the_channel_is_closed_after_it(caplog: pytest.LogCaptureFixture) -> None:
    class Hangs(AsyncWebsocketConsumer):
        end_timeout = 0.05
        groups = ["room"]

        async def connect(self) -> None:
            assert self.channel_layer is not None
            await self.channel_layer.group_add("another", self.channel_name)
            await self.accept()

        async def disconnect(self, code: int) -> None:
            await asyncio.get_running_loop().create_future()

    client = WebsocketCommunicator(Hangs.as_asgi(), "/slow/")
    await client.connect()
    await client.disconnect()
    assert lines(caplog) == ["disconnect() of Hangs at '/slow/' did not end within 0.05 seconds"]
    layer = get_channel_layer()
    assert isinstance(layer, InMemoryChannelLayer)
    await until(lambda: layer.stats()["groups"] == 0)


async def test_an_end_over_which_the_loop_stood_still_has_its_time(caplog: pytest.LogCaptureFixture) -> None:
    class Waits(AsyncWebsocketConsumer):
        end_timeout = 0.2

        async def disconnect(self, code: int) -> None:
            # As something blocks, anywhere in the process.
            asyncio.get_running_loop().call_later(0.02, time.sleep, 0.4)
            try:
                async with asyncio.timeout(0.1):
                    await asyncio.get_running_loop().create_future()
            except TimeoutError:
                self.scope["ends"].append(code)

    client = WebsocketCommunicator(Waits.as_asgi(), "/")
    client.scope["ends"] = []
    await client.connect()
    await client.disconnect(4000)
    assert client.scope["ends"] == [4000]
    assert lines(caplog) == []


async def test_an_error_in_disconnect_is_reported_and_the_channel_closed(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(AsyncWebsocketConsumer):
        groups = ["room"]

        async def disconnect(self, code: int) -> None:
            raise ZeroDivisionError

    client = WebsocketCommunicator(Fails.as_asgi(), "/")
    await client.connect()
    await client.disconnect()
    assert lines(caplog) == ["disconnect() of Fails at '/' failed"]
    assert ours(caplog)[0].exc_info is not None


async def test_stop_consumer_ends_with_an_ordinary_close() -> None:
    class Stops(AsyncMember):
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            raise StopConsumer

    client = WebsocketCommunicator(Stops.as_asgi(), "/")
    await client.connect()
    await client.send_to(text_data="x")
    await client.wait()
    assert client.output_queue.get_nowait() == {"type": "websocket.close", "code": 1000}
    assert client.scope["codes"] == [1000]


async def test_a_slow_consumer_is_closed_with_1013_where_the_layer_says_so() -> None:
    layer = InMemoryChannelLayer(capacity=2, overflow="close")
    before = channel_layers.set("default", layer)

    class Slow(AsyncMember):
        async def chat_message(self, event: dict[str, Any]) -> None:
            await self.scope["go_on"].wait()

    client = WebsocketCommunicator(Slow.as_asgi(), "/")
    client.scope["go_on"] = asyncio.Event()
    await client.connect()
    for _ in range(5):
        await layer.group_send("room", {"type": "chat.message"})
        await asyncio.sleep(0)
    client.scope["go_on"].set()
    await client.wait()
    assert client.output_queue.get_nowait()["code"] == 1013
    assert client.scope["codes"] == [1013]
    assert layer.stats()["channels"] == 0
    channel_layers.set("default", before)


# Errors


async def test_on_error_decides_what_follows(layer: InMemoryChannelLayer) -> None:
    class Forgives(AsyncMember):
        async def on_error(self, error: Exception, message: dict[str, Any] | None) -> None:
            await self.send(text_data=f"{type(error).__name__}: {error} in {message}")

    async with WebsocketCommunicator(Forgives.as_asgi(), "/") as client:
        await layer.group_send("room", {"type": "explode"})
        assert await client.receive_from() == "ZeroDivisionError: handler in {'type': 'explode'}"


async def test_sync_on_error_decides_what_follows(layer: InMemoryChannelLayer) -> None:
    class Forgives(SyncMember):
        def on_error(self, error: Exception, message: dict[str, Any] | None) -> None:  # type: ignore[override]
            self.send(text_data=f"{type(error).__name__}: {error}")

    async with WebsocketCommunicator(Forgives.as_asgi(), "/") as client:
        await layer.group_send("room", {"type": "explode"})
        assert await client.receive_from() == "ZeroDivisionError: handler"


@both_members
async def test_the_policy_log_reports_and_goes_on(
    consumer: type[AsyncConsumer],
    layer: InMemoryChannelLayer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "error_policy", "log")
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        await layer.group_send("room", {"type": "explode"})
        await layer.group_send("room", {"type": "chat.message", "text": "still here"})
        assert await client.receive_from() == "still here"
    assert lines(caplog) == [f"{consumer.__name__} at '/': a handler failed"]
    assert ours(caplog)[0].exc_info is not None


@pytest.mark.parametrize("consumer", [AsyncMember, SyncMember], ids=["async", "sync"])
@pytest.mark.parametrize(
    ("event", "keys"), [({}, "none"), ({"text": "x"}, "'text'"), ({"type": 5}, "'type'")], ids=repr
)
async def test_an_event_of_the_server_without_a_type_is_dropped_with_one_line(
    consumer: type[AsyncConsumer], event: dict[str, Any], keys: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/room/")
    await client.connect()
    with caplog.at_level(logging.INFO, logger="sealane.consumers"):
        await client.send_input(event)
        await client.disconnect()
    name = consumer.__name__
    assert lines(caplog) == [
        f"{name} at '/room/' dropped an event of the server: Incoming message has no 'type' attribute "
        f"(its keys: {keys}); {name} needs a string such as 'chat.message' to choose a handler"
    ]
    assert ours(caplog)[0].exc_info is None


async def test_an_event_of_the_server_without_a_handler_is_a_clear_error() -> None:
    client = WebsocketCommunicator(AsyncEcho.as_asgi(), "/")
    await client.connect()
    await client.send_input({"type": "websocket.strange"})
    with pytest.raises(
        UnhandledMessage,
        match=r"No handler for message type 'websocket.strange' on AsyncEcho: it has no method websocket_strange\(\)",
    ):
        await client.wait()


# Spawned tasks


class Spawns(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.spawn(self.work(str(text_data)), name="work")

    async def work(self, text: str) -> None:
        if text == "fail":
            raise ZeroDivisionError("spawned")
        if text == "wait":
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.scope["order"].append("spawned task ended")
        await self.send(text_data=f"{text} done")

    async def disconnect(self, code: int) -> None:
        self.scope["order"].append("disconnect")


async def test_a_spawned_task_runs_beside_the_handlers_and_ends_with_the_connection() -> None:
    client = WebsocketCommunicator(Spawns.as_asgi(), "/")
    client.scope["order"] = []
    await client.connect()
    await client.send_to(text_data="wait")
    await client.send_to(text_data="now")
    assert await client.receive_from() == "now done"
    await client.disconnect()
    assert client.scope["order"] == ["spawned task ended", "disconnect"]


async def test_the_error_of_a_spawned_task_reaches_on_error() -> None:
    class Forgives(Spawns):
        async def on_error(self, error: Exception, message: dict[str, Any] | None) -> None:
            await self.send(text_data=f"{error} with {message}")

    client = WebsocketCommunicator(Forgives.as_asgi(), "/")
    client.scope["order"] = []
    await client.connect()
    await client.send_to(text_data="fail")
    assert await client.receive_from() == "spawned with None"
    await client.disconnect()


async def test_the_error_of_a_spawned_task_ends_the_connection_by_default() -> None:
    client = WebsocketCommunicator(Spawns.as_asgi(), "/")
    client.scope["order"] = []
    await client.connect()
    await client.send_to(text_data="fail")
    with pytest.raises(ZeroDivisionError, match="spawned"):
        await client.wait()
    assert client.output_queue.get_nowait() == {"type": "websocket.close", "code": 1011}


# JSON


class AsyncJson(AsyncJsonWebsocketConsumer):
    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)

    async def disconnect(self, code: int) -> None:
        self.scope.setdefault("codes", []).append(code)


class SyncJson(JsonWebsocketConsumer):
    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.send_json(content)

    def disconnect(self, code: int) -> None:
        self.scope.setdefault("codes", []).append(code)


both_json = pytest.mark.parametrize("consumer", [AsyncJson, SyncJson], ids=["async", "sync"])


@both_json
async def test_json_comes_back(consumer: type[AsyncConsumer]) -> None:
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        contents: list[Any] = [{"a": [1, 2.5, None, True, "ü"]}, [], 0, "", None]
        for content in contents:
            await client.send_json_to(content)
            assert await client.receive_json_from() == content


@both_json
@pytest.mark.parametrize(
    ("frame", "code", "problem"),
    [
        ({"text": "{"}, 1007, "Text frame is not JSON: Expecting property name enclosed in double quotes"),
        ({"text": ""}, 1007, "Text frame is not JSON: Expecting value"),
        ({"text": "[" * 200_000}, 1007, "Text frame is not JSON that can be read: it is nested too deeply"),
        ({"text": "9" * 5000}, 1007, "Text frame is not JSON that can be read: Exceeds the limit"),
        ({"text": "\ud800"}, 1007, "Text frame is not UTF-8: surrogates not allowed at 0"),
        ({"bytes": b"{}"}, 1003, "No text section for incoming WebSocket frame: a JSON consumer takes text frames"),
        ({}, 1007, "websocket.receive has neither text nor bytes"),
    ],
    ids=["malformed", "empty", "deep", "huge number", "not UTF-8", "binary", "nothing"],
)
async def test_a_frame_that_cannot_be_read_closes_with_its_code_and_one_line(
    consumer: type[AsyncConsumer],
    caplog: pytest.LogCaptureFixture,
    frame: dict[str, Any],
    code: int,
    problem: str,
) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/json/")
    await client.connect()
    await client.send_input({"type": "websocket.receive", **frame})
    await client.send_input({"type": "websocket.receive", "text": "[]"})
    assert await client.receive_output(5) == {"type": "websocket.close", "code": code}
    assert await client.receive_nothing()
    await client.disconnect(code=code)
    assert client.scope["codes"] == [code]
    assert len(ours(caplog)) == 1
    assert lines(caplog)[0].startswith(f"{consumer.__name__} at '/json/' refused a frame: {problem}")
    assert ours(caplog)[0].exc_info is None


@both_json
async def test_no_encoder_is_made_for_a_frame(consumer: type[AsyncConsumer], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Counted(DjangoJSONEncoder):
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            made.append(cls)
            return super().__new__(cls)

    # Whoever makes one makes a class that the module names, or says so to the json module.
    monkeypatch.setattr("sealane.consumers.json.DjangoJSONEncoder", Counted)
    monkeypatch.setattr(json.JSONEncoder, "__init__", lambda self, **kwargs: made.append(self))
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        for _ in range(3):
            await client.send_to(text_data='{"number": 1}')
            assert await client.receive_from() == '{"number": 1}'
    assert made == []


async def test_json_is_encoded_by_djangos_rules() -> None:
    class Sends(AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            await self.send_json(
                {
                    "when": datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC),
                    "how long": timedelta(hours=1),
                    "id": uuid.UUID(int=5),
                    "price": Decimal("1.10"),
                    "lazy": gettext_lazy("Yes"),
                },
                close=True,
            )

    client = WebsocketCommunicator(Sends.as_asgi(), "/")
    await client.connect()
    assert await client.receive_json_from() == {
        "when": "2026-01-02T03:04:05.678Z",
        "how long": "P0DT01H00M00S",
        "id": "00000000-0000-0000-0000-000000000005",
        "price": "1.10",
        "lazy": "Yes",
    }
    await client.disconnect()


# Synchronous consumers and their threads


async def test_sync_connections_do_not_wait_for_each_other() -> None:
    """Each handler waits for the other, which can only end well where both run at once."""
    barrier = threading.Barrier(2, timeout=LIMIT)

    class Meets(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            barrier.wait()
            self.send(text_data="met")

    async with (
        WebsocketCommunicator(Meets.as_asgi(), "/") as one,
        WebsocketCommunicator(Meets.as_asgi(), "/") as two,
    ):
        await one.send_to(text_data="x")
        await two.send_to(text_data="x")
        assert await one.receive_from(LIMIT) == "met"
        assert await two.receive_from(LIMIT) == "met"


async def test_async_to_sync_in_a_sync_handler_comes_back_to_its_loop(layer: InMemoryChannelLayer) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    class Bridges(WebsocketConsumer):
        def connect(self) -> None:
            async_to_sync(self.join)()
            self.accept()

        async def join(self) -> None:
            assert self.channel_layer is not None
            loops.append(asyncio.get_running_loop())
            await self.channel_layer.group_add("bridge", self.channel_name)
            with pytest.raises(SynchronousOnlyOperation, match="Bridges is synchronous: to wait here would block"):
                self.send(text_data="x")

        def chat_message(self, event: dict[str, Any]) -> None:
            assert self.channel_layer is not None
            self.channel_layer.sync.group_send("bridge", {"type": "second"})

        def second(self, event: dict[str, Any]) -> None:
            self.send(text_data="second")

    async with WebsocketCommunicator(Bridges.as_asgi(), "/") as client:
        await layer.group_send("bridge", {"type": "chat.message"})
        assert await client.receive_from() == "second"
    assert loops == [asyncio.get_running_loop()]


async def test_disconnect_of_a_cancelled_sync_consumer_comes_after_its_handler() -> None:
    order: list[str] = []
    entered = threading.Event()
    waiting = threading.Event()
    go_on = threading.Event()

    class Slow(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            entered.set()
            assert go_on.wait(LIMIT)
            order.append("handler")

        def disconnect(self, code: int) -> None:
            order.append(f"disconnect {code}")

        async def _wait_for_threads(self) -> None:
            waiting.set()
            await super()._wait_for_threads()

    client = WebsocketCommunicator(Slow.as_asgi(), "/")
    await client.connect()
    await client.send_to(text_data="x")
    await until(entered.is_set)
    client.future.cancel()
    # The thread cannot be stopped, so its task is not over, and the end waits for it.
    await until(waiting.is_set)
    assert order == []
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await client.future
    assert order == ["handler", "disconnect 1012"]


async def test_a_sync_consumer_spawns_into_another_thread() -> None:
    threads: set[int] = set()

    class SpawnsSync(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            threads.add(threading.get_ident())
            self.spawn(self.work, text_data)
            done.wait(LIMIT)

        def work(self, text: str) -> None:
            threads.add(threading.get_ident())
            done.set()
            if text == "fail":
                raise ZeroDivisionError("spawned")
            self.send(text_data=f"{text} done")

        def on_error(self, error: Exception, message: dict[str, Any] | None) -> None:  # type: ignore[override]
            self.send(text_data=f"error: {error}")

    done = threading.Event()
    async with WebsocketCommunicator(SpawnsSync.as_asgi(), "/") as client:
        await client.send_to(text_data="work")
        assert await client.receive_from() == "work done"
        await client.send_to(text_data="fail")
        assert await client.receive_from() == "error: spawned"
    assert len(threads) >= 2


@override_settings(SEALANE_THREADS=3)
def test_the_number_of_threads_is_a_setting() -> None:
    from sealane.consumers.threads import thread_count

    assert thread_count() == 3


# dispatch() and as_asgi()


async def test_dispatch_can_be_overridden(layer: InMemoryChannelLayer) -> None:
    seen: list[str] = []

    class Watches(AsyncMember):
        async def dispatch(self, message: dict[str, Any]) -> None:
            seen.append(message["type"])
            await super().dispatch(message)

    class SyncWatches(SyncMember):
        def dispatch(self, message: dict[str, Any]) -> None:  # type: ignore[override]
            seen.append(message["type"])
            super().dispatch(message)

    for consumer in Watches, SyncWatches:
        seen.clear()
        async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
            await layer.group_send("room", {"type": "close"})
            await layer.group_send("room", {"type": "chat.message", "text": "x"})
            await layer.group_send("room", {"type": "websocket.send", "text": "y"})
            assert await client.receive_from() == "x"
            assert await client.receive_from() == "y"
        assert seen == ["websocket.connect", "chat.message", "websocket.send", "websocket.disconnect"]


async def test_as_asgi_makes_an_instance_per_connection_from_its_arguments() -> None:
    class Configured(AsyncWebsocketConsumer):
        """Its docstring."""

        def __init__(self, *, greeting: str) -> None:
            super().__init__()
            self.greeting = greeting

        async def connect(self) -> None:
            await self.accept()
            await self.send(text_data=f"{self.greeting} {id(self)}")

    app = Configured.as_asgi(greeting="hello")
    assert app.consumer_class is Configured
    assert app.consumer_initkwargs == {"greeting": "hello"}
    assert app.__doc__ == "Its docstring."
    async with WebsocketCommunicator(app, "/") as one, WebsocketCommunicator(app, "/") as two:
        first, second = await one.receive_from(), await two.receive_from()
    assert isinstance(first, str)
    assert first.startswith("hello ")
    assert first != second


async def test_its_repr_says_where_it_is() -> None:
    reprs: list[str] = []

    class Shows(AsyncEcho):
        async def connect(self) -> None:
            reprs.append(repr(self))
            await self.accept()

    assert repr(Shows()) == "<Shows not connected>"
    async with WebsocketCommunicator(Shows.as_asgi(), "/a/"):
        assert reprs[0].startswith("<Shows at '/a/' specific.inmemory!")


async def test_a_consumer_may_keep_in_mind_that_it_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    """A library does so, by an attribute with this name."""

    class Page(AsyncWebsocketConsumer):
        _closed = False

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            await self.close()

        async def close(self, code: int | None = None, reason: str | None = None) -> None:
            self._closed = True
            await super().close(code, reason)

        async def disconnect(self, code: int) -> None:
            self._closed = True

    for text in ("close", None):
        async with WebsocketCommunicator(Page.as_asgi(), "/") as page:
            if text is not None:
                await page.send_to(text)
                assert await page.receive_close() == 1000
    assert caplog.records == []

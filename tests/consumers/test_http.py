"""HTTP consumers: a request handled while its connection is watched, and event streams."""

import asyncio
import logging
from typing import Any

import pytest
from django.test import override_settings

from sealane.consumers import AsyncEventStreamConsumer, AsyncHttpConsumer
from sealane.consumers.event_stream import format_event
from sealane.exceptions import ConnectionClosed, IllegalEvent
from sealane.layers import InMemoryChannelLayer
from sealane.testing import HttpCommunicator

pytestmark = pytest.mark.usefixtures("layer")


class Echo(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        await self.send_response(201, body, headers={b"content-type": b"text/plain"})

    async def disconnect(self) -> None:
        self.scope.setdefault("log", []).append("disconnect")


async def test_a_request_is_answered_and_disconnect_runs_once() -> None:
    client = HttpCommunicator(Echo.as_asgi(), "POST", "/", body=b"hello")
    response = await client.get_response()
    assert response == {"status": 201, "headers": [(b"content-type", b"text/plain")], "body": b"hello"}
    await client.wait()
    assert client.scope["log"] == ["disconnect"]


async def test_a_body_in_parts_is_collected() -> None:
    client = HttpCommunicator(Echo.as_asgi(), "POST", "/")
    for part, more in ((b"a", True), (b"", True), (b"bc", False)):
        await client.send_input({"type": "http.request", "body": part, "more_body": more})
    assert (await client.receive_output())["status"] == 201
    assert (await client.receive_output())["body"] == b"abc"
    await client.wait()


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "found out"])
@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10)
async def test_a_body_over_the_limit_is_refused_with_413(declared: bool, caplog: pytest.LogCaptureFixture) -> None:
    headers = [(b"content-length", b"11")] if declared else []
    client = HttpCommunicator(Echo.as_asgi(), "POST", "/up/", headers=headers)
    parts = [b"1"] if declared else [b"123456", b"78901"]
    for part in parts:
        await client.send_input({"type": "http.request", "body": part, "more_body": True})
    start = await client.receive_output()
    assert start["status"] == 413
    assert (b"connection", b"close") in start["headers"]
    assert (await client.receive_output())[
        "body"
    ] == b"Request body is over DATA_UPLOAD_MAX_MEMORY_SIZE, which is 10 bytes"
    await client.wait()
    assert client.scope["log"] == ["disconnect"]
    assert [record.getMessage() for record in caplog.records if record.name == "sealane.consumers"] == [
        "Echo at '/up/' refused a request: Request body is over DATA_UPLOAD_MAX_MEMORY_SIZE, which is 10 bytes"
    ]


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None)
async def test_the_limit_can_be_lifted() -> None:
    body = b"x" * 3_000_000
    async with HttpCommunicator(Echo.as_asgi(), "POST", "/", body=body) as client:
        assert (await client.get_response())["body"] == body


async def test_a_client_that_leaves_cancels_handle(layer: InMemoryChannelLayer) -> None:
    class Long(AsyncHttpConsumer):
        groups = ["feed"]

        async def handle(self, body: bytes) -> None:
            await self.send_headers()
            try:
                while True:
                    await self.send_body(b"chunk", more_body=True)
                    await asyncio.sleep(0.001)
            finally:
                self.scope["log"].append("handle ended")

        async def disconnect(self) -> None:
            self.scope["log"].append("disconnect")

    client = HttpCommunicator(Long.as_asgi(), "GET", "/")
    log = client.scope["log"] = []
    await client.send_input({"type": "http.request", "body": b""})
    for _ in range(3):
        await client.receive_output()
    await client.send_input({"type": "http.disconnect"})
    await client.wait()
    assert log == ["handle ended", "disconnect"]


async def test_a_client_that_leaves_before_its_request_is_complete() -> None:
    client = HttpCommunicator(Echo.as_asgi(), "POST", "/")
    await client.send_input({"type": "http.request", "body": b"a", "more_body": True})
    await client.send_input({"type": "http.disconnect"})
    await client.wait()
    assert client.scope["log"] == ["disconnect"]


async def test_messages_of_the_layer_arrive_during_a_long_response(layer: InMemoryChannelLayer) -> None:
    class Feed(AsyncHttpConsumer):
        groups = ["feed"]

        async def handle(self, body: bytes) -> None:
            self.over = asyncio.Event()
            await self.send_headers()
            await self.send_body(b"first", more_body=True)
            await self.over.wait()
            await self.send_body(b"last")

        async def news(self, event: dict[str, Any]) -> None:
            await self.send_body(event["text"].encode(), more_body=True)
            if event["text"] == "over":
                self.over.set()

    client = HttpCommunicator(Feed.as_asgi(), "GET", "/")
    await client.send_input({"type": "http.request", "body": b""})
    assert (await client.receive_output())["type"] == "http.response.start"
    assert (await client.receive_output())["body"] == b"first"
    for text in "one", "two", "over":
        await layer.group_send("feed", {"type": "news", "text": text})
    assert [(await client.receive_output())["body"] for _ in range(4)] == [b"one", b"two", b"over", b"last"]
    await client.wait()


async def test_an_error_in_handle_is_raised_to_the_server() -> None:
    class Fails(Echo):
        async def handle(self, body: bytes) -> None:
            raise ZeroDivisionError("handle")

    client = HttpCommunicator(Fails.as_asgi(), "GET", "/")
    with pytest.raises(ZeroDivisionError, match="handle"):
        await client.get_response()
    assert client.scope["log"] == ["disconnect"]


async def test_an_error_in_handle_that_on_error_lets_pass_is_answered_with_500() -> None:
    class Forgives(Echo):
        async def handle(self, body: bytes) -> None:
            raise ZeroDivisionError("handle")

        async def on_error(self, error: Exception, message: dict[str, Any] | None) -> None:
            self.scope["error"] = (str(error), message)

    client = HttpCommunicator(Forgives.as_asgi(), "GET", "/")
    assert (await client.get_response())["status"] == 500
    assert client.scope["error"] == ("handle", None)
    await client.wait()


async def test_handle_must_be_provided() -> None:
    client = HttpCommunicator(AsyncHttpConsumer.as_asgi(), "GET", "/")
    with pytest.raises(NotImplementedError, match=r"must provide a handle\(\) method"):
        await client.get_response()


async def test_a_response_keeps_its_order() -> None:
    raised: list[Exception] = []

    class Confused(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            for call in (
                self.send_body(b"early"),
                self.send_headers(),
                self.send_headers(),
                self.send_body("text"),  # type: ignore[arg-type]
                self.send_body(b"all"),
                self.send_body(b"late"),
            ):
                try:
                    await call
                except Exception as error:
                    raised.append(error)

    async with HttpCommunicator(Confused.as_asgi(), "GET", "/") as client:
        assert (await client.get_response())["body"] == b"all"
    assert [(type(error), str(error)) for error in raised] == [
        (
            IllegalEvent,
            "'http.response.body' cannot be sent while the connection is without response headers: "
            "expected 'http.response.start'",
        ),
        (
            IllegalEvent,
            "'http.response.start' cannot be sent while the connection is answered already: "
            "expected 'http.response.body'",
        ),
        (TypeError, "Body is not bytes but str: encode it first"),
        (ConnectionClosed, "'http.response.body' was not sent: the connection is closed"),
    ]


async def test_a_cancelled_request_cancels_handle_and_disconnects_once() -> None:
    class Waits(Echo):
        async def handle(self, body: bytes) -> None:
            self.scope["log"] = []
            self.scope["entered"].set()
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.scope["log"].append("handle ended")

    client = HttpCommunicator(Waits.as_asgi(), "GET", "/")
    client.scope["entered"] = asyncio.Event()
    await client.send_input({"type": "http.request", "body": b""})
    await client.scope["entered"].wait()
    client.future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await client.future
    assert client.scope["log"] == ["handle ended", "disconnect"]


async def test_a_server_that_says_the_client_is_gone_ends_the_request_quietly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    received.put_nowait({"type": "http.request", "body": b""})

    async def send(message: dict[str, Any]) -> None:
        raise BrokenPipeError

    with caplog.at_level(logging.INFO):
        await Echo.as_asgi()({"type": "http", "path": "/"}, received.get, send)
    assert [record.getMessage() for record in caplog.records if record.name == "sealane.consumers"] == []


# Event streams


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"data": "x"}, b"data: x\n\n"),
        ({"data": ""}, b"data: \n\n"),
        ({"data": "a\nb\r\nc\rd"}, b"data: a\ndata: b\ndata: c\ndata: d\n\n"),
        ({"data": "x", "event": "tick", "id": "5", "retry": 100}, b"event: tick\nid: 5\nretry: 100\ndata: x\n\n"),
        ({"data": "ü"}, "data: ü\n\n".encode()),
    ],
)
def test_an_event_is_written_as_the_standard_says(arguments: dict[str, Any], expected: bytes) -> None:
    assert format_event(**arguments) == expected


@pytest.mark.parametrize("name", ["event", "id"])
@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_an_event_cannot_smuggle_a_field(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"The {name} of an event cannot hold a line break or NUL"):
        format_event("x", **{name: value})  # type: ignore[arg-type]


class Ticker(AsyncEventStreamConsumer):
    groups = ["ticks"]
    retry = 1500

    async def stream(self) -> None:
        await self.send_event({"from": self.last_event_id}, id="1")
        await super().stream()

    async def tick(self, event: dict[str, Any]) -> None:
        await self.send_event(event["text"], event="tick")


async def test_an_event_stream_sends_events_from_its_stream_and_from_the_layer(layer: InMemoryChannelLayer) -> None:
    client = HttpCommunicator(Ticker.as_asgi(), "GET", "/", headers=[(b"last-event-id", b"41")])
    await client.send_input({"type": "http.request", "body": b""})
    start = await client.receive_output()
    assert start["status"] == 200
    assert dict(start["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert (await client.receive_output())["body"] == b"retry: 1500\n\n"
    assert (await client.receive_output())["body"] == b'id: 1\ndata: {"from": "41"}\n\n'
    await layer.group_send("ticks", {"type": "tick", "text": "now"})
    assert (await client.receive_output())["body"] == b"event: tick\ndata: now\n\n"
    await client.send_input({"type": "http.disconnect"})
    await client.wait()


async def test_an_event_stream_is_kept_alive_and_ends_with_stream() -> None:
    class Short(AsyncEventStreamConsumer):
        keep_alive = 0.001

        async def stream(self) -> None:
            await self.scope["over"].wait()

    client = HttpCommunicator(Short.as_asgi(), "GET", "/")
    client.scope["over"] = asyncio.Event()
    await client.send_input({"type": "http.request", "body": b""})
    await client.receive_output()
    assert [(await client.receive_output())["body"] for _ in range(3)] == [b":\n\n"] * 3
    client.scope["over"].set()
    while (await client.receive_output())["more_body"]:
        pass
    await client.wait()

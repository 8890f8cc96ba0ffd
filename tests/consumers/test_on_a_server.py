"""Consumers on a real uvicorn, with a real WebSocket client: what the communicators cannot show."""

import asyncio
import http.client
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import path
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from sealane.consumers import (
    AsyncEventStreamConsumer,
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)
from sealane.exceptions import DenyConnection
from sealane.layers import get_channel_layer
from sealane.routing import ProtocolTypeRouter, URLRouter
from sealane.testing import LiveServer

ended: list[tuple[str, int]] = []


class Noted:
    """Note the code of the end."""

    async def disconnect(self, code: int) -> None:
        ended.append((type(self).__name__, code))


class Json(Noted, AsyncJsonWebsocketConsumer):
    groups = ["everyone"]

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.send_json(content)

    async def news(self, event: dict[str, Any]) -> None:
        await self.send_json(event["text"])


class SyncJson(JsonWebsocketConsumer):
    def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.send_json(content)

    def disconnect(self, code: int) -> None:
        ended.append((type(self).__name__, code))


class Denies(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        raise DenyConnection(401, b"who are you?", headers=[(b"www-authenticate", b"Session")])


class SyncDenies(WebsocketConsumer):
    def connect(self) -> None:
        self.close()


class Talks(Noted, AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        while True:
            await self.send(text_data="blah")
            await asyncio.sleep(0.001)


class Fails(Noted, AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise ZeroDivisionError("on purpose")


class Stream(AsyncEventStreamConsumer):
    async def stream(self) -> None:
        n = int(self.last_event_id or 0)
        while True:
            n += 1
            await self.send_event({"n": n}, id=str(n))
            await asyncio.sleep(0.001)

    async def disconnect(self) -> None:
        ended.append(("Stream", 0))


application = ProtocolTypeRouter(
    {
        "http": URLRouter([path("stream", Stream.as_asgi())]),
        "websocket": URLRouter(
            [
                path("json", Json.as_asgi()),
                path("sync-json", SyncJson.as_asgi()),
                path("denies", Denies.as_asgi()),
                path("sync-denies", SyncDenies.as_asgi()),
                path("talks", Talks.as_asgi()),
                path("fails", Fails.as_asgi()),
            ]
        ),
    }
)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(application) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_ended() -> None:
    ended.clear()


async def until_ended(name: str) -> int:
    async with asyncio.timeout(20):
        while True:
            for who, code in ended:
                if who == name:
                    return code
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("where", "name"), [("json", "Json"), ("sync-json", "SyncJson")])
async def test_json_goes_there_and_back(server: LiveServer, where: str, name: str) -> None:
    async with connect(f"{server.ws_url}/{where}") as client:
        contents: list[Any] = [{"a": "ü", "b": [1, 2.5, None]}, [], "x" * 100_000]
        for content in contents:
            await client.send(json.dumps(content))
            assert json.loads(await client.recv()) == content
    # Else the next test may take this end for its own.
    await until_ended(name)


@pytest.mark.parametrize(("where", "name"), [("json", "Json"), ("sync-json", "SyncJson")])
@pytest.mark.parametrize(
    ("data", "code"), [("{", 1007), (b"{}", 1003)], ids=["a text that is not JSON", "a binary frame"]
)
async def test_a_frame_that_cannot_be_read_closes_with_its_code(
    server: LiveServer, where: str, name: str, data: str | bytes, code: int
) -> None:
    async with connect(f"{server.ws_url}/{where}") as client:
        await client.send(data)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
    assert await until_ended(name) == code


async def test_a_text_frame_that_is_not_utf8_closes_with_1007(server: LiveServer) -> None:
    async with connect(f"{server.ws_url}/json") as client:
        client.transport.write(Frame(Opcode.TEXT, b'"\xff"').serialize(mask=True))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007
    assert await until_ended("Json") == 1007


async def test_a_denied_websocket_gets_its_status_and_body(server: LiveServer) -> None:
    with pytest.raises(InvalidStatus) as denied:
        await connect(f"{server.ws_url}/denies")
    response = denied.value.response
    assert response.status_code == 401
    assert response.body == b"who are you?"
    assert response.headers["www-authenticate"] == "Session"

    with pytest.raises(InvalidStatus) as denied:
        await connect(f"{server.ws_url}/sync-denies")
    assert denied.value.response.status_code == 403


async def test_a_client_that_vanishes_during_a_handler_ends_it_quietly(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect(f"{server.ws_url}/talks")
    await client.send("go")
    assert await client.recv() == "blah"
    client.transport.abort()
    await until_ended("Talks")
    assert [record for record in caplog.records if record.levelno > logging.INFO and record.name != "asyncio"] == []


async def test_a_handler_that_raises_closes_with_1011(server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    async with connect(f"{server.ws_url}/fails") as client:
        await client.send("x")
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
    assert await until_ended("Fails") == 1011
    async with asyncio.timeout(20):
        while not any(record.exc_info and "on purpose" in str(record.exc_info[1]) for record in caplog.records):
            await asyncio.sleep(0.01)


async def test_a_thread_without_a_loop_broadcasts_to_real_sockets(server: LiveServer) -> None:
    layer = get_channel_layer()
    assert layer is not None
    async with connect(f"{server.ws_url}/json") as one, connect(f"{server.ws_url}/json") as two:
        for client in one, two:
            await client.send('"ready"')
            await client.recv()
        await asyncio.to_thread(layer.sync.group_send, "everyone", {"type": "news", "text": "hello"})
        assert [json.loads(await one.recv()), json.loads(await two.recv())] == ["hello", "hello"]
    # Else a test of the same consumer may take one of these ends for its own.
    async with asyncio.timeout(20):
        while len(ended) < 2:
            await asyncio.sleep(0.01)


def test_an_event_stream_ends_when_its_client_leaves(server: LiveServer) -> None:
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    client.request("GET", "/stream", headers={"Last-Event-ID": "41"})
    response = client.getresponse()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    lines = [response.fp.readline() for _ in range(20)]
    assert any(b"id: 42" in line for line in lines)
    assert any(b'data: {"n": 42}' in line for line in lines)
    response.close()
    client.close()
    asyncio.run(until_ended("Stream"))

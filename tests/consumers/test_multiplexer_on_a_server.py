"""Several consumers over one WebSocket of a real uvicorn, with a real client."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.urls import path
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sealane.consumers import AsyncWebsocketConsumer
from sealane.routing import ProtocolTypeRouter, URLRouter
from sealane.testing import LiveServer
from tests.consumers.multiplexing import LIMIT, closed, demultiplexer


class Flooding(AsyncWebsocketConsumer):
    """Send for as long as somebody takes it."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        while True:
            await self.send(text_data="x" * 10_000)
            await asyncio.sleep(0)  # the server's send() need not wait


Demultiplexer = demultiplexer(streams={"flooding": Flooding}, max_streams=4)
Impatient = demultiplexer(streams={"flooding": Flooding}, send_timeout=0.5)

application = ProtocolTypeRouter(
    {
        "http": URLRouter([]),
        "websocket": URLRouter([path("socket", Demultiplexer.as_asgi()), path("impatient", Impatient.as_asgi())]),
    }
)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with LiveServer(application) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_ended() -> None:
    Demultiplexer.ended.clear()
    Impatient.ended.clear()


async def say(client: ClientConnection, stream: str, **envelope: Any) -> None:
    await client.send(json.dumps({"stream": stream, **envelope}))


async def get(client: ClientConnection) -> Any:
    async with asyncio.timeout(LIMIT):
        return json.loads(await client.recv())


@asynccontextmanager
async def opened(server: LiveServer, *streams: str, where: str = "socket") -> AsyncIterator[ClientConnection]:
    # What compresses well would never fill a buffer.
    async with connect(f"{server.ws_url}/{where}", compression=None) as client:
        for stream in streams:
            await say(client, stream, event="open")
            assert await get(client) == {"stream": stream, "event": "open"}
        yield client


async def until_ended(consumer: Any, *expected: tuple[str, int]) -> None:
    async with asyncio.timeout(LIMIT):
        while sorted(consumer.ended) != sorted(expected):
            await asyncio.sleep(0.01)


async def test_two_streams_of_which_one_ends(server: LiveServer) -> None:
    async with opened(server, "chat", "notices") as client:
        contents: list[Any] = [{"a": "ü😀", "b": [1, 2.5, None]}, [], "x" * 100_000]
        for content in contents:
            for stream in "chat", "notices":
                await say(client, stream, payload=content)
                assert await get(client) == {"stream": stream, "payload": {"echo": content}}
        await say(client, "chat", payload={"close": 4321})
        assert await get(client) == closed("chat", 4321, "as you wish")
        await say(client, "notices", payload=1)
        assert await get(client) == {"stream": "notices", "payload": {"echo": 1}}
        await say(client, "chat", event="open")
        assert await get(client) == {"stream": "chat", "event": "open"}
        await client.close(4000)
    await until_ended(Demultiplexer, ("chat", 4321), ("chat", 4000), ("notices", 4000))


async def test_a_client_that_vanishes(server: LiveServer) -> None:
    async with opened(server, "chat", "notices", "flooding") as client:
        await say(client, "flooding", text="go")
        while (await get(client))["stream"] != "flooding":
            pass
        client.transport.abort()
        async with asyncio.timeout(LIMIT):
            while len(Demultiplexer.ended) < 2:
                await asyncio.sleep(0.01)
    assert {code for _, code in Demultiplexer.ended} <= {1005, 1006}


async def test_a_stream_that_floods_leaves_the_others_their_turn(server: LiveServer) -> None:
    async with opened(server, "chat", "flooding") as client:
        await say(client, "flooding", text="go")
        for number in range(10):
            await say(client, "chat", payload=number)
            while (envelope := await get(client))["stream"] != "chat":
                pass
            assert envelope == {"stream": "chat", "payload": {"echo": number}}
        await say(client, "flooding", event="close")
        while await get(client) != closed("flooding", 1005):
            pass
        await say(client, "chat", payload="after it")
        assert await get(client) == {"stream": "chat", "payload": {"echo": "after it"}}
    # Else the next test may take this end for one of its own.
    await until_ended(Demultiplexer, ("chat", 1000))


async def test_a_client_that_does_not_read_is_ended_with_all_its_streams(server: LiveServer) -> None:
    async with opened(server, "chat", "flooding", where="impatient") as client:
        client.transport.pause_reading()
        await say(client, "flooding", text="go")
        await until_ended(Impatient, ("chat", 1013))
        assert Impatient.limit_counters["closed_slow"] == 1
        client.transport.abort()


async def test_a_server_that_stops_ends_every_stream_with_1012() -> None:
    with LiveServer(application) as server:
        async with opened(server, "chat", "notices") as client:
            await asyncio.to_thread(server.close_connections)
            with pytest.raises(ConnectionClosed) as ended:
                await get(client)
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code == 1012
    await until_ended(Demultiplexer, ("chat", 1012), ("notices", 1012))

"""A thousand WebSockets that come and go while ten thousand messages are sent to their group."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from sealane.consumers import AsyncWebsocketConsumer
from sealane.layers import channel_layers
from sealane.layers.redis.layer import RedisLayer
from sealane.types import Message
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Sender
from tests.servers import Server

pytestmark = pytest.mark.untraced

MESSAGES = 10_000
SOCKETS = 1_000

#: Sockets that are there from the first message to the last.
STAYING = 20

#: How many others are there at any time.
COMING = 12

#: Messages that are sent at once.
BURST = 50


class Member(AsyncWebsocketConsumer):
    groups = ["news"]

    async def numbered(self, message: Message) -> None:
        await self.send(str(message["number"]))


class MemberHere(Member):
    channel_layer_alias = "here"


class MemberThere(Member):
    channel_layer_alias = "there"


class Socket:
    """One WebSocket as a server has it: what it sends to the client is kept."""

    def __init__(self, application: Any) -> None:
        self.numbers: list[int] = []
        self._application = application
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._accepted = asyncio.Event()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def _send(self, event: Message) -> None:
        if event["type"] == "websocket.accept":
            self._accepted.set()
        elif event["type"] == "websocket.send":
            self.numbers.append(int(event["text"]))
            self._changed.set()

    async def open(self) -> None:
        """Connect, and return when the socket is a member of its groups."""
        scope = {"type": "websocket", "path": "/", "headers": [], "subprotocols": []}
        self._task = asyncio.create_task(self._application(scope, self._events.get, self._send))
        self._events.put_nowait({"type": "websocket.connect"})
        await self._accepted.wait()

    async def has(self, count: int) -> None:
        while len(self.numbers) < count:
            self._changed.clear()
            await self._changed.wait()

    async def leave(self, *, rudely: bool = False) -> None:
        """Disconnect; rudely: the server ends the application without a word."""
        assert self._task is not None
        if rudely:
            self._task.cancel()
        else:
            self._events.put_nowait({"type": "websocket.disconnect", "code": 1001})
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@pytest.fixture
async def layers(valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer]) -> AsyncIterator[list[RedisLayer]]:
    """Two processes with sockets, and a third that only sends."""
    layers = [new_layer([valkey_server.url], kind) for _ in range(3)]
    before = [channel_layers.set(alias, layer) for alias, layer in zip(("here", "there"), layers, strict=False)]
    yield layers
    for alias, layer in zip(("here", "there"), before, strict=False):
        channel_layers.set(alias, layer)


async def test_a_thousand_sockets(layers: list[RedisLayer]) -> None:
    """Each has every message from the moment when it was accepted until it leaves, exactly once and in order."""
    # Ten times as fast; the other tests look for what debugging finds.
    asyncio.get_running_loop().set_debug(False)
    applications = [MemberHere.as_asgi(), MemberThere.as_asgi()]
    staying = [Socket(applications[index % 2]) for index in range(STAYING)]
    await asyncio.gather(*(socket.open() for socket in staying))
    sender = Sender("news", partial(layers[2].group_send, "news"))
    coming = iter(range(STAYING, SOCKETS))
    came = 0
    tick = asyncio.Event()

    async def come_and_go() -> None:
        nonlocal came
        for index in coming:
            while sender.number < index * MESSAGES // SOCKETS:
                await tick.wait()
            socket = Socket(applications[index % 2])
            await socket.open()
            begun = sender.number
            # A few leave right away.
            await socket.has(index % 5 * 20)
            await socket.leave(rudely=index % 3 == 0)
            came += 1
            numbers = socket.numbers
            assert len(numbers) >= index % 5 * 20
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
            assert not numbers or numbers[0] <= begun + 1

    async with asyncio.timeout(50), asyncio.TaskGroup() as group:
        for _ in range(COMING):
            group.create_task(come_and_go())
        # The last sockets to come wait for the last messages.
        while sender.number < MESSAGES or came < SOCKETS - STAYING:
            tick.set()
            tick.clear()
            assert all(await asyncio.gather(*(sender.step() for _ in range(BURST))))
    assert sender.number < 2 * MESSAGES
    last = sender.number
    for socket in staying:
        await socket.has(last)
        assert socket.numbers == list(range(1, last + 1))
        await socket.leave()
    assert came == SOCKETS - STAYING
    for layer in layers[:2]:
        stats = layer.stats()
        assert stats["lost"] == stats["gaps"] == stats["dropped_full"] == stats["dropped_expired"] == 0
        assert stats["channels"] == stats["groups"] == 0

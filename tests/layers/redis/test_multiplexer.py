"""Streams of one WebSocket in groups of their own, over layers between processes, and in memory for comparison."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sealane.layers import BaseChannelLayer, InMemoryChannelLayer, RedisChannelLayer, channel_layers
from tests.consumers.conftest import until
from tests.consumers.multiplexing import Client, demultiplexer
from tests.servers import SentinelGroup


class Processes:
    """The layer of the process that has the sockets, and that of another one."""

    def __init__(self, here: BaseChannelLayer, there: BaseChannelLayer) -> None:
        self.here = here
        self.there = there

    async def say(self, group: str, text: str) -> None:
        await self.there.group_send(group, {"type": "chat.message", "text": text})

    def left(self) -> tuple[int, int]:
        """How many channels and groups the process of the sockets has."""
        stats: Any = self.here.stats()
        return stats["channels"], stats["groups"]


@pytest.fixture(
    params=[
        "memory",
        "valkey",
        pytest.param("redis", marks=pytest.mark.untraced),
        pytest.param("sentinel", marks=pytest.mark.untraced),
    ]
)
async def processes(request: pytest.FixtureRequest, key_prefix: str) -> AsyncIterator[Processes]:
    async with AsyncExitStack() as stack:
        here: BaseChannelLayer
        there: BaseChannelLayer
        if request.param == "memory":
            here = there = InMemoryChannelLayer()
        else:
            if request.param == "sentinel":
                group: SentinelGroup = request.getfixturevalue("sentinel_group")
                hosts: list[Any] = [group.hosts]
            else:
                hosts = [request.getfixturevalue(f"{request.param}_server").url]
            here, there = [
                await stack.enter_async_context(RedisChannelLayer(hosts, prefix=key_prefix)) for _ in range(2)
            ]
        before = channel_layers.set("default", here)
        yield Processes(here, there)
        channel_layers.set("default", before)


async def test_groups_of_streams_reach_their_streams_and_end_with_them(processes: Processes) -> None:
    consumer = demultiplexer()
    async with Client(consumer) as one, Client(consumer) as two:
        for client in one, two:
            await client.open("chat", "notices")
        await processes.say("notices", "for notices")
        await processes.say("chat", "for chat")
        for client in one, two:
            got = [await client.get(), await client.get()]
            assert sorted(got, key=lambda envelope: envelope["stream"]) == [
                {"stream": "chat", "payload": {"said": "for chat"}},
                {"stream": "notices", "payload": {"said": "for notices"}},
            ]

        # One of them leaves its group with its stream, and is there again when it is opened again.
        await one.close("chat")
        await until(lambda: len(consumer.ended) == 1)
        await two.say("chat", {"fail": "on purpose"})
        assert (await two.get())["code"] == 1011
        await until(lambda: len(consumer.ended) == 2)
        await processes.say("chat", "nobody hears it")
        await processes.say("notices", "still there")
        for client in one, two:
            assert await client.get() == {"stream": "notices", "payload": {"said": "still there"}}
        await one.open("chat")
        for number in range(20):
            await processes.say("chat", str(number))
        for number in range(20):
            assert await one.get() == {"stream": "chat", "payload": {"said": str(number)}}
    assert sorted(consumer.ended) == sorted(
        [("chat", 1005), ("chat", 1011), ("chat", 1000), ("notices", 1000), ("notices", 1000)]
    )
    assert processes.left() == (0, 0), "nothing is left of a socket that is gone"
    # A socket that opens neither of them: what is sent now is for nobody.
    async with Client(demultiplexer()) as client:
        await client.open("terminal")
        for group in "chat", "notices":
            await processes.say(group, "nobody hears it")
        await client.send_json_to({"stream": "terminal", "text": "all that comes"})
        assert await client.get() == {"stream": "terminal", "text": "all that comes"}


@pytest.mark.untraced
async def test_streams_go_on_with_the_new_master(sentinel_group: SentinelGroup, key_prefix: str) -> None:
    hosts: list[Any] = [sentinel_group.hosts]
    async with (
        RedisChannelLayer(hosts, prefix=key_prefix, lease=3, timeout=15) as here,
        RedisChannelLayer(hosts, prefix=key_prefix, lease=3, timeout=15) as there,
    ):
        before = channel_layers.set("default", here)
        try:
            async with Client(demultiplexer()) as client:
                await client.open("chat", "notices")
                await asyncio.to_thread(sentinel_group.failover)
                await client.send_json_to({"stream": "chat", "payload": "the socket does not notice"})
                assert await client.get() == {"stream": "chat", "payload": {"echo": "the socket does not notice"}}
                heard: set[str] = set()
                number = 0
                while heard != {"chat", "notices"}:
                    for stream in {"chat", "notices"} - heard:
                        await there.group_send(stream, {"type": "chat.message", "text": str(number)})
                    number += 1
                    if not await client.receive_nothing(0.2):
                        heard.add((await client.get())["stream"])
        finally:
            channel_layers.set("default", before)

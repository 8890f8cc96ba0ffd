"""A server that is killed and comes back: with its data, and empty; and one whose data is deleted under way."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import (
    Listener,
    Sender,
    ThreadSender,
    check,
    sending,
    sending_in_thread,
)
from tests.servers import Flavour, Server

NewServer = Callable[..., Server]


@pytest.mark.parametrize(
    ("kind", "flavour"),
    [(RedisChannelLayer, "valkey"), (RedisChannelLayer, "redis"), (RedisPubSubChannelLayer, "valkey")],
)
async def test_kill_and_restart_with_data(
    new_server: NewServer, new_layer: NewLayer, kind: type[RedisLayer], flavour: Flavour
) -> None:
    """The streams layer loses nothing at all; pub/sub what was published while it was not there, and tells of it."""
    server = new_server(flavour, appendonly=True)
    here, there = new_layer([server.url], kind), new_layer([server.url], kind)
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    owner = Listener(there, "jobs")
    group = Sender("group", partial(there.group_send, "news"))
    direct = Sender("direct", partial(there.send, first.channel))
    jobs = Sender("jobs", partial(here.send, "jobs"))
    thread = ThreadSender("thread", partial(there.sync.group_send, "news"))
    with sending_in_thread(thread):
        # A pub/sub send that nobody hears is tried once more, and may be overtaken by those that do not wait for it.
        async with sending(group, jobs, width=4), sending(direct, width=4 if kind is RedisChannelLayer else 1):
            for _ in range(2):
                await asyncio.gather(*(sender.more(30) for sender in (group, direct, jobs, thread)))
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.restart)
                # What receives is back as well: else the next kill is part of the same outage to it.
                await asyncio.gather(*(listener.more("group", 30) for listener in (first, second)))
            await asyncio.gather(*(sender.more(30) for sender in (group, direct, jobs, thread)))
    lossless = kind is RedisChannelLayer
    await check(group, first, second, lossless=lossless)
    await check(direct, first, lossless=lossless)
    await check(thread, first, second, lossless=lossless)
    await check(jobs, owner, lossless=lossless)
    if lossless:
        assert not first.gaps
        assert not second.gaps
        # The server was back in time for every call.
        assert not group.errors
        assert not thread.errors
        assert here.stats()["lost"] == there.stats()["lost"] == 0
    else:
        assert first.gaps
        assert here.stats()["gaps"] == 2
    assert here.stats()["reconnects"] >= 4


@pytest.mark.parametrize("fault", ["restart", "flushall"])
async def test_data_is_gone(new_server: NewServer, new_layer: NewLayer, kind: type[RedisLayer], fault: str) -> None:
    """Every membership, owner and waiter comes back by itself; what was lost is told, the same to every owner."""
    server = new_server()
    options = {"lease": 4}
    here, there = new_layer([server.url], kind, **options), new_layer([server.url], kind, **options)
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    owner = Listener(there, "jobs")
    waiter = asyncio.create_task(here.receive("waiting"))
    group = Sender("group", partial(there.group_send, "news"))
    direct = Sender("direct", partial(there.send, first.channel))
    jobs = Sender("jobs", partial(here.send, "jobs"))
    async with sending(group, jobs, width=2), sending(direct):
        await group.more(30)
        if fault == "restart":
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.restart, keep_data=False)
        else:
            await asyncio.to_thread(server.flush)
        for listener in (first, second):
            if kind is RedisChannelLayer:
                await listener.until(lambda listener=listener: listener.gaps, "a gap")  # type: ignore[misc]
            await listener.more("group", 30)
        await asyncio.gather(group.more(20), direct.more(20), jobs.more(20))
    for sender, listeners in ((group, [first, second]), (direct, [first]), (jobs, [owner])):
        await check(sender, *listeners, lossless=False)
    if kind is RedisChannelLayer:
        assert {gap.reason for gap in first.gaps} == {"forgotten"}
        assert len(first.gaps) == len(second.gaps) == 1
    await there.send("waiting", {"type": "found"})
    async with asyncio.timeout(20):
        assert (await waiter)["type"] == "found"

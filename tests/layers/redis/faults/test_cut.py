"""Connections of each kind that are cut by the server in the midst of traffic."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from sealane.testing.layer_contract._harness import until
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, ThreadSender, check, sending, sending_in_thread
from tests.servers import Flavour, Server, wait_until

NewServer = Callable[..., Server]

#: How often each connection is cut.
CUTS = 4


def _cut(server: Server, name: str) -> None:
    """Cut the connections of that name: one at least, which may not be back yet since the last time."""
    wait_until(lambda: server.kill_clients(name=name), what=f"a connection {name} to cut")


@pytest.mark.parametrize(
    ("name", "flavour"),
    [
        ("sealane", "valkey"),
        ("sealane-reader", "valkey"),
        ("sealane-sync", "valkey"),
        ("sealane*", "valkey"),
        ("sealane*", "redis"),
    ],
)
async def test_streams_lose_nothing(new_server: NewServer, new_layer: NewLayer, name: str, flavour: Flavour) -> None:
    """Whatever connection is cut, and all at once: every message comes exactly once, in order, and no call fails."""
    server = new_server(flavour)
    here, there = new_layer([server.url]), new_layer([server.url])
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    owner = Listener(there, "jobs")
    group = Sender("group", partial(there.group_send, "news"))
    own = Sender("own", partial(here.send, first.channel))
    jobs = Sender("jobs", partial(here.send, "jobs"))
    thread = ThreadSender("thread", partial(here.sync.group_send, "news"))
    with sending_in_thread(thread):
        async with sending(group, own, jobs, width=4):
            await thread.more(1)
            for _ in range(CUTS):
                await asyncio.gather(group.more(10), thread.more(5))
                await asyncio.to_thread(_cut, server, name)
            await asyncio.gather(group.more(10), thread.more(5))
    await check(group, first, second)
    await check(own, first)
    await check(jobs, owner)
    await check(thread, first, second)
    assert not [*first.gaps, *second.gaps, *owner.gaps]
    for sender in (group, own, jobs, thread):
        assert not sender.errors
    if name != "sealane-sync":
        # A reader that had just begun to connect was not there to be cut.
        assert here.stats()["reconnects"] >= 1


@pytest.mark.parametrize("name", ["sealane", "sealane-subscriber", "sealane-sync"])
async def test_pubsub_tells_what_it_missed(valkey_server: Server, new_layer: NewLayer, name: str) -> None:
    """A subscriber's loss is a gap, told to every owner. Of the others only calls under way are in doubt, and tell."""
    here = new_layer([valkey_server.url], RedisPubSubChannelLayer)
    there = new_layer([valkey_server.url], RedisPubSubChannelLayer)
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    group = Sender("group", partial(there.group_send, "news"))
    own = Sender("own", partial(here.send, first.channel))
    thread = ThreadSender("thread", partial(here.sync.group_send, "news"))
    with sending_in_thread(thread):
        # A send that nobody hears is tried once more, and may be overtaken by those that do not wait for it.
        async with sending(group, width=4), sending(own):
            await thread.more(1)
            for _ in range(CUTS):
                await asyncio.gather(group.more(10), own.more(1), thread.more(5))
                await asyncio.to_thread(_cut, valkey_server, name)
            await asyncio.gather(group.more(10), own.more(1), thread.more(5))
    lossless = name != "sealane-subscriber"
    await check(group, first, second, lossless=lossless)
    await check(own, first, lossless=lossless)
    await check(thread, first, second, lossless=lossless)
    assert not group.errors
    assert not thread.errors
    # PUBLISH may not be sent twice: whoever was just sending is told that it may have been sent, or not.
    assert not own.unsent
    if lossless:
        assert not [*first.gaps, *second.gaps]
        assert here.stats()["gaps"] == 0
    else:
        assert not own.errors
        assert first.gaps
        assert {gap.reason for gap in first.gaps} == {"disconnected"}
        assert here.stats()["gaps"] >= 1


async def _bytes_of_a_return(server: Server, layer: RedisLayer) -> int:
    """Cut both connections of a process; return how many bytes the server has got when they are back."""
    made = layer.stats()["reconnects"]
    before, _ = server.net_bytes()
    await asyncio.to_thread(_cut, server, "sealane*")
    await until(lambda: layer.stats()["reconnects"] >= made + 2)
    after, _ = server.net_bytes()
    return after - before


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_connections_that_come_back_load_no_scripts(
    new_server: NewServer, new_layer: NewLayer, kind: type[RedisLayer], flavour: Flavour
) -> None:
    """The scripts are 145 kB."""
    server = new_server(flavour)
    layer = new_layer([server.url], kind)
    listener = await Listener.of(layer, "news")
    news = Sender("news", partial(layer.group_send, "news"))
    await news.step()
    loaded = server.command_calls()["script|load"]
    for _ in range(CUTS):
        assert await _bytes_of_a_return(server, layer) < 5000
        await check(news, listener, lossless=False)
    assert server.command_calls()["script|load"] == loaded


@pytest.mark.parametrize("name", ["sealane", "sealane-reader", "sealane*"])
async def test_streams_lose_nothing_with_the_scripts(new_server: NewServer, new_layer: NewLayer, name: str) -> None:
    """Whichever connection comes back first to a server that has lost the scripts, it has what it needs."""
    server = new_server()
    here, there = new_layer([server.url]), new_layer([server.url])
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    news = Sender("news", partial(there.group_send, "news"))
    thread = ThreadSender("thread", partial(here.sync.group_send, "news"))
    with sending_in_thread(thread):
        async with sending(news, width=4):
            for _ in range(CUTS):
                await asyncio.gather(news.more(10), thread.more(5))
                await asyncio.to_thread(server.command, "SCRIPT", "FLUSH")
                await asyncio.to_thread(_cut, server, name)
            await asyncio.gather(news.more(10), thread.more(5))
    await check(news, first, second)
    await check(thread, first, second)
    assert not [*first.gaps, *second.gaps, *news.errors, *thread.errors]


async def test_waiting_for_a_held_channel(valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer]) -> None:
    """One message for each receive(), in an event loop and in a thread, although connections are cut."""
    here, there = new_layer([valkey_server.url], kind), new_layer([valkey_server.url], kind)
    got: list[int] = []

    async def take(count: int) -> None:
        while len(got) < count:
            got.append((await here.receive("jobs"))["number"])

    def take_in_thread(count: int) -> list[int]:
        return [here.sync.receive("threads", timeout=10)["number"] for _ in range(count)]

    jobs = Sender("jobs", partial(there.send, "jobs"))
    threads = Sender("threads", partial(there.send, "threads"))
    count = 60
    async with asyncio.timeout(20):
        taking = asyncio.create_task(take(count))
        in_thread = asyncio.create_task(asyncio.to_thread(take_in_thread, count))
        async with sending(jobs, threads):
            for name in ("sealane", "sealane-sync", "sealane*"):
                await asyncio.gather(jobs.more(15), threads.more(15))
                await asyncio.to_thread(valkey_server.kill_clients, name=name)
            await asyncio.gather(jobs.more(count), threads.more(count))
        if kind is RedisChannelLayer:
            await taking
            assert got == list(range(1, count + 1))
            assert await in_thread == list(range(1, count + 1))
        else:
            # What was on its way to a connection that was cut is gone; the rest comes once, in order.
            await taking
            found = await in_thread
            assert got == sorted(set(got))
            assert found == sorted(set(found))

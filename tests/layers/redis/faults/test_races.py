"""Calls that are cancelled, and layers that are closed, at any moment, also while connections are lost."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from sealane.exceptions import ChannelClosed, ChannelLayerUnavailable
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, sending
from tests.servers import SentinelGroup, Server

#: Calls that are cancelled: some before they were sent, some after they were answered.
TRIES = 60


async def _cancelled(call: Coroutine[Any, Any, Any], turns: int) -> bool:
    """Begin a call, let the loop turn so often, and cancel it; return whether it was done by then."""
    task = asyncio.create_task(call)
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return not task.cancelled()


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
async def test_receive_is_cancelled(
    valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer], cut: bool
) -> None:
    """However often, every message is received exactly once, in order."""
    here, there = new_layer([valkey_server.url], kind), new_layer([valkey_server.url], kind)
    jobs = Sender("jobs", partial(there.send, "jobs"))
    luck = random.Random(1)
    got: list[int] = []
    async with asyncio.timeout(30):
        async with sending(jobs):
            for number in range(TRIES):
                task = asyncio.create_task(here.receive("jobs"))
                done, _ = await asyncio.wait([task], timeout=luck.choice([0, 0, 0.0003, 0.001, 0.003]))
                if not done:
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    got.append((await task)["number"])
                if cut and number % 20 == 10:
                    await asyncio.to_thread(valkey_server.kill_clients, name="sealane*")
        last = await jobs.finish()
        while not got or got[-1] < last:
            got.append((await here.receive("jobs"))["number"])
    assert got == sorted(set(got))
    if kind is RedisChannelLayer or not cut:
        assert got == list(range(1, last + 1))
    else:
        # What was on its way to a subscriber that was cut; the mailbox has noted that.
        assert len(got) == last or here.stats()["gaps"]


async def test_memberships_are_cancelled(valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer]) -> None:
    """A call that was cancelled has taken place, or not; the next one counts, and nobody else's membership suffers."""
    here, there = new_layer([valkey_server.url], kind), new_layer([valkey_server.url], kind)
    steady = await Listener.of(here, "news")
    listener = Listener(here, await here.new_channel())
    luck = random.Random(2)
    for number in range(TRIES):
        for call in luck.sample([here.group_add, here.group_discard, here.group_add], 3):
            await _cancelled(call("news", listener.channel), luck.randrange(6))
        is_member = luck.random() < 0.5
        await (here.group_add if is_member else here.group_discard)("news", listener.channel)
        await there.group_send("news", {"type": "numbered", "sender": "news", "number": number})
        await steady.has("news", number)
        assert (number in listener.numbers("news")) == is_member
    assert steady.numbers("news") == list(range(TRIES))
    await here.group_discard("news", listener.channel)
    await here.group_discard("news", steady.channel)
    await there.group_send("news", {"type": "numbered", "sender": "news", "number": -1})
    await there.send(steady.channel, {"type": "numbered", "sender": "end", "number": 1})
    await steady.has("end", 1)
    assert -1 not in steady.numbers("news")
    assert -1 not in listener.numbers("news")


async def test_close_channel_is_cancelled(valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer]) -> None:
    """A channel whose close was cancelled is closed, or as it was; what is sent to it is delivered or counted."""
    here, there = new_layer([valkey_server.url], kind), new_layer([valkey_server.url], kind)
    for turns in range(8):
        name = f"held{turns}"
        for number in range(3):
            await there.send(name, {"type": "n", "number": number})
        waiting = asyncio.create_task(here.receive(f"waiting{turns}"))
        await asyncio.sleep(0)
        await _cancelled(here.close_channel(name), turns)
        await _cancelled(here.close_channel(f"waiting{turns}"), turns)
        # A close that was begun may still be on its way, and would drop what the other process sends before it comes.
        # The next call of this process comes after it.
        await here.health()
        # A closed name can be used again: a plain one is anybody's.
        await there.send(name, {"type": "n", "number": 3})
        async with asyncio.timeout(20):
            got = [(await here.receive(name))["number"]]
            while got[-1] != 3:
                got.append((await here.receive(name))["number"])
            assert got in ([3], [0, 1, 2, 3])
            try:
                await there.send(f"waiting{turns}", {"type": "n", "number": 4})
                assert (await waiting)["number"] == 4
            except ChannelClosed:
                assert (await here.receive(f"waiting{turns}"))["number"] == 4


@pytest.mark.parametrize("turns", [0, 1, 3, 8, 21])
async def test_close_while_connecting(
    valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer], turns: int
) -> None:
    """At any step of connecting, for the first time and again: no task is left, and every caller is answered."""
    layer = new_layer([valkey_server.url], kind)
    for again in (False, True):
        if again:
            await layer.health()
            layer.attach(await layer.new_channel(), lambda: None)
            await asyncio.to_thread(valkey_server.kill_clients, name="sealane*")
        calls: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(call)
            for call in (
                layer.receive("held"),
                layer.group_add("news", await layer.new_channel() if again else "held"),
                layer.group_send("news", {"type": "x"}),
                layer.send("other", {"type": "x"}),
            )
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await layer.close()
            results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            # The group's message may have come to the one who waits.
            assert result in (None, {"type": "x"}) or isinstance(result, (ChannelLayerUnavailable, ChannelClosed))


async def test_close_while_the_server_is_away(
    new_server: Callable[..., Server], new_layer: NewLayer, kind: type[RedisLayer]
) -> None:
    """Closing needs no server; used again afterwards, the layer is as new."""
    server = new_server()
    layer = new_layer([server.url], kind)
    await Listener.of(layer, "news")
    await asyncio.to_thread(server.kill)
    sending_now = asyncio.create_task(layer.group_send("news", {"type": "x"}))
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await layer.close()
        with pytest.raises(ChannelLayerUnavailable):
            await sending_now
    await asyncio.to_thread(server.restart)
    listener = await Listener.of(layer, "news")
    news = Sender("news", partial(layer.group_send, "news"))
    await news.step()
    await listener.has("news", 1)


async def test_data_is_lost_at_a_failover(sentinel_group: SentinelGroup, new_layer: NewLayer) -> None:
    """Healing and failing over at once: in the end every member is where it was, at the new master."""
    here, there = (new_layer([sentinel_group.hosts], lease=0.9, timeout=8) for _ in range(2))
    listeners = [await Listener.of(here, f"g{number}") for number in range(20)]
    await here.group_add("all", listeners[0].channel)
    flushed = asyncio.create_task(asyncio.to_thread(sentinel_group.master().flush))
    failing = asyncio.create_task(asyncio.to_thread(sentinel_group.failover))
    await flushed
    news = Sender("all", partial(there.group_send, "all"))
    async with sending(news):
        await failing
        await asyncio.to_thread(sentinel_group.master().flush)
        await listeners[0].until(lambda: listeners[0].gaps and listeners[0].numbers("all")[-1:] > [news.number - 20])
    for number, listener in enumerate(listeners):
        before = len(listener.messages)
        async with asyncio.timeout(20):
            while len(listener.messages) == before:
                await there.group_send(f"g{number}", {"type": "x"})
                await asyncio.sleep(0.01)
        assert listener.gaps

"""Sentinel makes another server the master: because it was asked to, and because the master is gone."""

import asyncio
from collections.abc import Callable
from functools import partial

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, ThreadSender, check, sending, sending_in_thread
from tests.servers import SentinelGroup

OPTIONS = {"lease": 3.0, "timeout": 8.0}


async def test_a_failover_on_demand(sentinel_group: SentinelGroup, new_layer: NewLayer, kind: type[RedisLayer]) -> None:
    """The old master takes writes for a while, which are lost with it: nothing is missing of which nobody was told."""
    await _fail_over(sentinel_group, sentinel_group.failover, new_layer, kind)


async def test_a_master_that_is_killed(
    new_sentinel_group: Callable[..., SentinelGroup], new_layer: NewLayer, kind: type[RedisLayer]
) -> None:
    group = new_sentinel_group()
    await _fail_over(group, group.kill_master, new_layer, kind)


async def _fail_over(
    group: SentinelGroup, fault: Callable[[], object], new_layer: NewLayer, kind: type[RedisLayer]
) -> None:
    here, there = new_layer([group.hosts], kind, **OPTIONS), new_layer([group.hosts], kind, **OPTIONS)
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    owner = Listener(here, "jobs")
    old = group.master()
    news = Sender("news", partial(there.group_send, "news"))
    direct = Sender("direct", partial(there.send, first.channel))
    jobs = Sender("jobs", partial(there.send, "jobs"))
    thread = ThreadSender("thread", partial(there.sync.group_send, "news"))
    with sending_in_thread(thread):
        async with sending(news, direct, jobs, width=2):
            await asyncio.gather(news.more(20), thread.more(10))
            await asyncio.to_thread(fault)
            new = group.master()
            # All have found the new master, and are at home there.
            before = here.stats()["reconnects"], there.stats()["reconnects"]
            if min(before) < 2:
                await first.until(lambda: here.stats()["reconnects"] > 1)
                await second.until(lambda: there.stats()["reconnects"] > 1)
            await asyncio.gather(news.more(20), direct.more(20), jobs.more(20), thread.more(20))
    assert new is not old
    await check(news, first, second, lossless=False)
    await check(direct, first, lossless=False)
    await check(thread, first, second, lossless=False)
    await check(jobs, owner, lossless=False)
    for layer in (here, there):
        assert (await layer.health()).shards[0].role == "master"
        if kind is RedisChannelLayer:
            assert layer.stats()["lost"] == 0

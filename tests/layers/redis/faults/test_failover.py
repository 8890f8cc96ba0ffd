"""Sentinel makes another server the master: because it was asked to, and because the master is gone."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import pytest

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, ThreadSender, check, sending, sending_in_thread
from tests.servers import SentinelGroup

pytestmark = pytest.mark.untraced


async def test_a_failover_on_demand(sentinel_group: SentinelGroup, new_layer: NewLayer, key_prefix: str) -> None:
    """The old master takes writes for a while, which are lost with it: nothing is missing of which nobody was told."""
    await _fail_over(sentinel_group, sentinel_group.failover, new_layer, key_prefix)


async def test_a_master_that_is_killed(
    new_sentinel_group: Callable[..., SentinelGroup], new_layer: NewLayer, key_prefix: str
) -> None:
    group = new_sentinel_group()
    await _fail_over(group, group.kill_master, new_layer, key_prefix)


class _Traffic:
    """Two processes of one kind of layer, and all kinds of senders and listeners between them."""

    def __init__(self, layers: tuple[RedisLayer, RedisLayer], first: Listener, second: Listener) -> None:
        self.here, self.there = layers
        self.first, self.second = first, second
        self.owner = Listener(self.here, "jobs")
        self.news = Sender("news", partial(self.there.group_send, "news"))
        self.direct = Sender("direct", partial(self.there.send, first.channel))
        self.jobs = Sender("jobs", partial(self.there.send, "jobs"))
        self.thread = ThreadSender("thread", partial(self.there.sync.group_send, "news"))

    @classmethod
    async def make(cls, here: RedisLayer, there: RedisLayer) -> "_Traffic":
        return cls((here, there), await Listener.of(here, "news"), await Listener.of(there, "news"))

    async def more(self, count: int) -> None:
        await asyncio.gather(*(sender.more(count) for sender in (self.news, self.direct, self.jobs, self.thread)))

    async def check(self) -> None:
        await check(self.news, self.first, self.second, lossless=False)
        await check(self.direct, self.first, lossless=False)
        await check(self.thread, self.first, self.second, lossless=False)
        await check(self.jobs, self.owner, lossless=False)


async def _fail_over(group: SentinelGroup, fault: Callable[[], object], new_layer: NewLayer, key_prefix: str) -> None:
    # Both layers at once, since a failover takes seconds.
    traffic = []
    for kind in (RedisChannelLayer, RedisPubSubChannelLayer):
        prefix = f"{key_prefix}{kind.__name__}"
        # Sentinels that vote for different ones try again six seconds later.
        layers = [new_layer([group.hosts], kind, prefix=prefix, lease=3, timeout=8) for _ in range(2)]
        traffic.append(await _Traffic.make(*layers))
    old = group.master()
    async with AsyncExitStack() as stack:
        for each in traffic:
            stack.enter_context(sending_in_thread(each.thread))
            await stack.enter_async_context(sending(each.news, each.direct, each.jobs))
        await asyncio.gather(*(each.more(20) for each in traffic))
        await asyncio.to_thread(fault)
        for each in traffic:
            for layer, listener in ((each.here, each.first), (each.there, each.second)):
                # Until the old master has cut them off.
                await listener.until(lambda layer=layer: layer.stats()["reconnects"] > 1, "the new master")  # type: ignore[misc]
        await asyncio.gather(*(each.more(20) for each in traffic))
    assert group.master() is not old
    for each in traffic:
        await each.check()
        for layer in (each.here, each.there):
            assert (await layer.health()).shards[0].role == "master"
            # Nobody knows how many.
            assert layer.stats()["lost"] == 0

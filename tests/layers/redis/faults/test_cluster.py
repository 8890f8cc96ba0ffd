"""A Cluster whose slots move to other nodes, and one that loses a master."""

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, ThreadSender, check, sending, sending_in_thread
from tests.servers import Cluster, Server, slot_of

pytestmark = pytest.mark.untraced


def _slot(layer: RedisLayer, shard: int) -> int:
    """Return the hash slot of a shard."""
    return slot_of(layer.places[shard].tag)


def _other(cluster: Cluster, slot: int) -> Server:
    """Return a master that does not own the slot."""
    owner = cluster.owner_of(slot)
    return next(node for node in cluster.masters() if node is not owner)


@pytest.mark.parametrize("way", ["steps", "atomic"])
async def test_a_slot_moves(cluster: Cluster, new_layer: NewLayer, kind: type[RedisLayer], way: str) -> None:
    """The mailboxes move with it: the streams layer loses nothing, pub/sub tells of what it may have missed."""
    if way == "atomic" and not cluster.has_atomic_migration:
        pytest.skip("this server knows no atomic migration")
    here, there = (new_layer(cluster.hosts, kind, shards=1) for _ in range(2))
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    owner = Listener(there, "jobs")
    news = Sender("news", partial(there.group_send, "news"))
    direct = Sender("direct", partial(there.send, first.channel))
    jobs = Sender("jobs", partial(here.send, "jobs"))
    thread = ThreadSender("thread", partial(there.sync.group_send, "news"))
    slot = _slot(here, 0)
    target = _other(cluster, slot)
    with sending_in_thread(thread):
        async with sending(news, jobs, width=3), sending(direct):
            await asyncio.gather(news.more(20), thread.more(10))
            if way == "steps":
                migration = cluster.migration(slot, target)
                await asyncio.to_thread(migration.begin)
                await asyncio.to_thread(migration.move_keys, limit=3)
                # Some of the keys are here, some there: what is sent now waits.
                await asyncio.to_thread(cluster.owner_of, slot)
                await asyncio.to_thread(migration.finish)
                await asyncio.to_thread(cluster.owner_of, slot)
            else:
                await asyncio.to_thread(cluster.migrate_slot, slot, target, atomic=True)
            await asyncio.gather(*(sender.more(20) for sender in (news, direct, jobs, thread)))
    assert cluster.owner_of(slot) is target
    lossless = kind is RedisChannelLayer
    await check(news, first, second, lossless=lossless)
    await check(direct, first, lossless=lossless)
    await check(thread, first, second, lossless=lossless)
    await check(jobs, owner, lossless=lossless)
    if lossless:
        assert not [*first.gaps, *second.gaps]
        assert not news.errors
        assert not thread.errors


async def test_a_master_is_lost(new_cluster: Callable[..., Cluster], new_layer: NewLayer, key_prefix: str) -> None:
    """A replica takes over, and what it did not have is told. The shards of other masters go on meanwhile."""
    cluster = new_cluster(replicas=1)
    slots: list[int] = []
    dying: list[tuple[Sender, list[Listener]]] = []
    living: list[tuple[Sender, list[Listener]]] = []
    # Both layers at once, since it takes seconds.
    for kind in (RedisChannelLayer, RedisPubSubChannelLayer):
        prefix = f"{key_prefix}{kind.__name__}"
        here, there = (new_layer(cluster.hosts, kind, prefix=prefix, shards=4, timeout=15, lease=3) for _ in range(2))
        of_group = here.options.shards.of_group
        # One group on each shard.
        groups = [next(f"g{n}" for n in range(1000) if of_group(f"g{n}") == shard) for shard in range(4)]
        listeners = [await Listener.of(here, *groups), await Listener.of(there, *groups)]
        slots = [_slot(here, shard) for shard in range(4)]
        lost = cluster.owner_of(slots[0])
        for slot, group in zip(slots, groups, strict=True):
            sender = Sender(f"to {group}", partial(there.group_send, group))
            side = dying if cluster.owner_of(slot) is lost else living
            side.append((sender, listeners))
    assert living
    assert dying
    every = [sender for sender, _ in (*living, *dying)]
    async with sending(*every):
        await asyncio.gather(*(sender.more(20) for sender in every))
        kill = asyncio.create_task(asyncio.to_thread(cluster.kill_master, slots[0]))
        await asyncio.gather(*(sender.more(20) for sender, _ in living))
        await kill
        await asyncio.gather(*(sender.more(20) for sender in every))
    for sender, listeners in living:
        await check(sender, *listeners)
        assert not sender.errors
    for sender, listeners in dying:
        await check(sender, *listeners, lossless=False)

"""What a group of one channel's own leaves in a process: its entry, and nothing of the call that joined it."""

import asyncio
import gc

import pytest

from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.servers import Server


def pending_or_done() -> int:
    gc.collect()
    # By its type: a lazy object of another test's, asked by isinstance() for its class, looks for what has gone.
    return sum(issubclass(type(thing), asyncio.Future) for thing in gc.get_objects())


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer], ids=["streams", "pubsub"])
async def test_a_join_that_was_answered_leaves_no_future(
    kind: type[RedisChannelLayer | RedisPubSubChannelLayer], valkey_server: Server, key_prefix: str
) -> None:
    groups = 100
    layer = kind([valkey_server.url], prefix=key_prefix)
    try:
        channel = await layer.new_channel()
        layer.attach(channel, lambda: None)
        await layer.group_add("first", channel)
        before = pending_or_done()
        for number in range(groups):
            await layer.group_add(f"group-{number}", channel)
        # A few are of the layer's own work, whatever it is at.
        assert pending_or_done() - before < groups / 10
    finally:
        await layer.close()

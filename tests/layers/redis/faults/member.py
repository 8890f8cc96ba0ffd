"""A process that is a member of a group until it is killed. Its arguments: layer class, URL, prefix, lease."""

import asyncio
import sys

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer

KINDS: dict[str, type[RedisLayer]] = {kind.__name__: kind for kind in (RedisChannelLayer, RedisPubSubChannelLayer)}


async def main(kind: str, url: str, prefix: str, lease: str) -> None:
    layer = KINDS[kind]([url], prefix=prefix, lease=float(lease))
    channel = await layer.new_channel()
    await layer.group_add("news", channel)
    layer.attach("jobs", lambda: None)
    waiting = asyncio.ensure_future(layer.receive("tasks"))
    # What it has asked for is done when a later call is.
    await layer.health()
    sys.stdout.write(f"{channel}\n")
    sys.stdout.flush()
    while True:
        await layer.receive(channel)
        sys.stdout.write("got\n")
        sys.stdout.flush()
        assert not waiting.done()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

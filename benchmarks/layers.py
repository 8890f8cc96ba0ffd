"""The channel layers of the Redis rows, one for each side: both frameworks' layers, and the bare limits.

Channels has no types: its layers are Any here.
"""

import asyncio
import functools
import importlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from asgiref.sync import async_to_sync

from benchmarks.store import Store
from benchmarks.workload import CAPACITY
from sealane.types import Message

__all__ = ["Layer", "blocking_group_send", "close", "join_all", "layer_for", "setting"]

#: Calls that set something up at once.
_AT_ONCE = 200

_BACKENDS = {
    "channels-core": "channels_redis.core.RedisChannelLayer",
    "channels-pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
    "sealane-streams": "sealane.layers.RedisChannelLayer",
    "sealane-pubsub": "sealane.layers.RedisPubSubChannelLayer",
}


class Layer(Protocol):
    """What a workload asks of a layer, whoever made it."""

    async def new_channel(self) -> str: ...
    async def send(self, channel: str, message: Message) -> None: ...
    async def receive(self, channel: str) -> Message: ...
    async def group_add(self, group: str, channel: str) -> None: ...
    async def group_send(self, group: str, message: Message) -> None: ...


def setting(side: str, store: Store) -> dict[str, Any]:
    """Return what CHANNEL_LAYERS has for a side: the same options for both frameworks."""
    host: Any = store.url
    if side.startswith("channels"):
        # redis-py 8 has limits of its own that older ones do not have, and the core layer at 1,000 consumers runs into
        # each: a read may take five seconds, which is how long channels_redis lets Redis wait for a message; opening a
        # connection too; and there are 100 connections at most, where consumers that end together need one each.
        host = {
            "address": store.url,
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "max_connections": CAPACITY,
        }
    return {"BACKEND": _BACKENDS[side], "CONFIG": {"hosts": [host], "capacity": CAPACITY}}


def layer_for(side: str, store: Store | None) -> Any:
    """Return a new layer of a side."""
    if store is None:
        bare: Any = importlib.import_module("benchmarks.bare")
        return bare.BareTasks()
    if side.startswith("limit"):
        bare = importlib.import_module("benchmarks.bare")
        return (bare.BareStreams if side == "limit-streams" else bare.BarePubSub)(store.url)
    described = setting(side, store)
    module, _, name = described["BACKEND"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**described["CONFIG"])


async def close(layer: Any) -> None:
    """Close a layer, whoever made it: channels_redis has a name of its own for that in each layer."""
    for name in ("close", "close_pools", "flush"):
        if hasattr(layer, name):
            await getattr(layer, name)()
            return


async def join_all(side: str, layer: Any, groups: Sequence[str], channel: str) -> None:
    """Add a channel to many groups.

    The core layer's members are only names in Redis, so they are written there at once, by the commands that it has
    for one: 100,000 calls of its own would take half a minute.
    """
    for start in range(0, len(groups), _AT_ONCE):
        some = groups[start : start + _AT_ONCE]
        if side == "channels-core":
            async with layer.connection(0).pipeline(transaction=False) as pipeline:
                for group in some:
                    key = f"{layer.prefix}:group:{group}"
                    pipeline.zadd(key, {channel: time.time()})
                    pipeline.expire(key, layer.group_expiry)
                await pipeline.execute()
        else:
            await asyncio.gather(*(layer.group_add(group, channel) for group in some))


def blocking_group_send(side: str, store: Store, group: str) -> Callable[[Message], object]:
    """Return what sends to a group from code without an event loop, as each side's users do."""
    if side.startswith("limit"):
        bare: Any = importlib.import_module("benchmarks.bare")
        send: Callable[[Message], object] = (
            bare.blocking_script if side == "limit-streams" else bare.blocking_publish
        )(store.url, group)
        return send
    layer = layer_for(side, store)
    return functools.partial(
        async_to_sync(layer.group_send) if side.startswith("channels") else layer.sync.group_send, group
    )

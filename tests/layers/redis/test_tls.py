"""TLS where the servers are found through others: a service of Sentinel, and a Cluster."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.servers import Server, wait_until

pytestmark = pytest.mark.untraced

NewServer = Callable[..., Server]

PASSWORD = "p@ss/word"


def _of_sentinel(new_server: NewServer) -> dict[str, Any]:
    """A master over TLS only, and a sentinel without TLS, which says where it is."""
    master = new_server("redis", tls=True, password=PASSWORD)
    sentinel = new_server("redis", sentinel=True, lines=[f"sentinel monitor chat {master.host} {master.port} 1"])
    access = {"ssl": True, "password": PASSWORD, **master.tls_options}
    return {"sentinels": [(sentinel.host, sentinel.port)], "master_name": "chat", **access}


def _of_cluster(new_server: NewServer) -> dict[str, Any]:
    """A Cluster of one node, which names its TLS port to those who ask."""
    node = new_server("redis", tls=True, password=PASSWORD, config={"cluster-enabled": "yes", "tls-cluster": "yes"})
    node.command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    wait_until(lambda: b"cluster_state:ok" in node.command("CLUSTER", "INFO"), what="the cluster is up")
    access = {"ssl": True, "password": PASSWORD, **node.tls_options}
    return {"cluster": True, "hosts": [(node.host, node.port)], "shards": 2, **access}


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer])
@pytest.mark.parametrize("make", [_of_sentinel, _of_cluster])
async def test_every_kind_of_connection_is_encrypted(
    new_server: NewServer, make: Callable[[NewServer], dict[str, Any]], kind: type[RedisLayer]
) -> None:
    """The servers take nothing else: calls, what is received by, and the blocking calls of a thread."""
    async with kind([await asyncio.to_thread(make, new_server)]) as layer:
        channel = await layer.new_channel()
        await layer.group_add("news", channel)
        async with asyncio.timeout(20):
            await layer.group_send("news", {"type": "here"})
            assert await layer.receive(channel) == {"type": "here"}
            await asyncio.to_thread(layer.sync.group_send, "news", {"type": "thread"})
            assert await layer.receive(channel) == {"type": "thread"}
        health = await layer.health()
        assert health.reachable
        assert {shard.role for shard in health.shards} == {"master"}

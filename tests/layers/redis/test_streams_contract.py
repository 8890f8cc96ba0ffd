"""RedisChannelLayer keeps the contract, on real servers in every arrangement."""

import secrets
from typing import Any

import pytest

from sealane.layers import BaseChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from sealane.testing.layer_contract import ChannelLayerContract
from tests.servers import Cluster, SentinelGroup, Server


class StreamsContract(ChannelLayerContract):
    hosts: Any
    options: dict[str, Any] = {}

    def make_layer(self, **options: Any) -> BaseChannelLayer:
        return RedisChannelLayer(self.hosts, prefix=f"t{secrets.token_hex(4)}", **self.options, **options)


class TestOneServer(StreamsContract):
    @pytest.fixture(autouse=True)
    def _server(self, valkey_server: Server) -> None:
        self.hosts = [valkey_server.url]


@pytest.mark.untraced
class TestRedis(StreamsContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: Server) -> None:
        self.hosts = [redis_server.url]


@pytest.mark.untraced
class TestEncrypted(StreamsContract):
    options = {"symmetric_encryption_keys": ["first", "second"], "serializer_format": "json"}

    @pytest.fixture(autouse=True)
    def _server(self, valkey_server: Server) -> None:
        self.hosts = [valkey_server.url]


@pytest.mark.untraced
class TestTwoServers(StreamsContract):
    @pytest.fixture(autouse=True)
    def _servers(self, valkey_server: Server, second_server: Server) -> None:
        self.hosts = [valkey_server.url, second_server.url]


@pytest.mark.untraced
class TestSentinel(StreamsContract):
    @pytest.fixture(autouse=True)
    def _servers(self, sentinel_group: SentinelGroup) -> None:
        self.hosts = [sentinel_group.hosts]


@pytest.mark.untraced
class TestCluster(StreamsContract):
    options = {"shards": 4}

    @pytest.fixture(autouse=True)
    def _servers(self, cluster: Cluster) -> None:
        self.hosts = cluster.hosts

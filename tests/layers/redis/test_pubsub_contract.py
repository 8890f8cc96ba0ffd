"""The pub/sub layer keeps the contract, on each kind of server and over each topology."""

from typing import Any

import pytest

from sealane.layers import BaseChannelLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.testing.layer_contract import ChannelLayerContract
from tests.servers import Cluster, SentinelGroup, Server


class PubSubContract(ChannelLayerContract):
    hosts: Any
    prefix: str

    def make_layer(self, **options: Any) -> BaseChannelLayer:
        return RedisPubSubChannelLayer(hosts=self.hosts, prefix=self.prefix, **options)


class TestOneServer(PubSubContract):
    @pytest.fixture(autouse=True)
    def _hosts(self, plain_server: Server, key_prefix: str) -> None:
        self.hosts, self.prefix = [plain_server.address], key_prefix


@pytest.mark.untraced
class TestTwoHosts(PubSubContract):
    @pytest.fixture(autouse=True)
    def _hosts(self, valkey_server: Server, second_server: Server, key_prefix: str) -> None:
        self.hosts, self.prefix = [valkey_server.address, second_server.address], key_prefix


@pytest.mark.untraced
class TestSentinel(PubSubContract):
    @pytest.fixture(autouse=True)
    def _hosts(self, sentinel_group: SentinelGroup, key_prefix: str) -> None:
        self.hosts, self.prefix = [sentinel_group.hosts], key_prefix


@pytest.mark.untraced
class TestCluster(PubSubContract):
    @pytest.fixture(autouse=True)
    def _hosts(self, cluster: Cluster, key_prefix: str) -> None:
        self.hosts, self.prefix = [cluster.hosts], key_prefix

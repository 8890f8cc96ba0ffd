"""Real servers for the tests of the layers. Each is started when the first test asks for it.

The servers of the whole session are shared: a test keeps to the keys of its own `key_prefix`, and does nothing to them
that other tests would feel. Who wants to kill, pause, fill or flush a server makes one by `new_server` and its like.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator

import pytest

from tests.servers import Cluster, Flavour, SentinelGroup, Server, available

#: Seconds for which a node of a shared group may stand still before the others hold it for dead.
PATIENCE = 5.0


def need(flavour: Flavour) -> None:
    """Skip the test where there is no such server; fail it where SEALANE_REQUIRE_REDIS=1 demands both."""
    if available(flavour):
        return
    reason = f"there is no {flavour}-server here"
    if os.environ.get("SEALANE_REQUIRE_REDIS") == "1":
        pytest.fail(f"SEALANE_REQUIRE_REDIS=1, but {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def key_prefix() -> str:
    """A prefix of keys that no other test has: to it, a shared server is empty."""
    return f"t{secrets.token_hex(4)}"


# Shared by the whole session. There a failover only happens when a test asks for it, however busy the machine is.


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    need("valkey")
    with Server("valkey") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    need("redis")
    with Server("redis") as server:
        yield server


@pytest.fixture(params=["valkey", pytest.param("redis", marks=pytest.mark.untraced)])
def plain_server(request: pytest.FixtureRequest) -> Server:
    """The shared server of each flavour in turn."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture(scope="session")
def second_server() -> Iterator[Server]:
    """Another Valkey, for layers with two hosts."""
    need("valkey")
    with Server("valkey") as server:
        yield server


@pytest.fixture(scope="session")
def unix_server() -> Iterator[Server]:
    need("valkey")
    with Server("valkey", unix=True) as server:
        yield server


@pytest.fixture(scope="session")
def tls_server() -> Iterator[Server]:
    """Redis over TLS only: the wheel's Valkey is built without it."""
    need("redis")
    with Server("redis", tls=True) as server:
        yield server


@pytest.fixture(scope="session")
def _shared_sentinel_group() -> Iterator[SentinelGroup]:
    need("valkey")
    with SentinelGroup("valkey", down_after=PATIENCE) as group:
        yield group


@pytest.fixture
def sentinel_group(_shared_sentinel_group: SentinelGroup) -> SentinelGroup:
    """A master, a replica and three sentinels, whole at the start of each test. failover() is allowed."""
    _shared_sentinel_group.heal()
    return _shared_sentinel_group


@pytest.fixture(scope="session")
def _shared_redis_sentinel_group() -> Iterator[SentinelGroup]:
    need("redis")
    with SentinelGroup("redis", down_after=PATIENCE) as group:
        yield group


@pytest.fixture
def redis_sentinel_group(_shared_redis_sentinel_group: SentinelGroup) -> SentinelGroup:
    _shared_redis_sentinel_group.heal()
    return _shared_redis_sentinel_group


@pytest.fixture(scope="session")
def _shared_cluster() -> Iterator[Cluster]:
    need("valkey")
    with Cluster("valkey", node_timeout=PATIENCE) as cluster:
        yield cluster


@pytest.fixture
def cluster(_shared_cluster: Cluster) -> Cluster:
    """Three masters without replicas, whole at the start of each test. Moving slots is allowed."""
    _shared_cluster.heal()
    return _shared_cluster


@pytest.fixture(scope="session")
def _shared_redis_cluster() -> Iterator[Cluster]:
    need("redis")
    with Cluster("redis", node_timeout=PATIENCE) as cluster:
        yield cluster


@pytest.fixture
def redis_cluster(_shared_redis_cluster: Cluster) -> Cluster:
    _shared_redis_cluster.heal()
    return _shared_redis_cluster


# For one test each


@pytest.fixture
def new_server() -> Iterator[Callable[..., Server]]:
    """Call it with Server's arguments for a server of the test's own. It runs, and is killed after the test."""
    with contextlib.ExitStack() as stack:

        def make(flavour: Flavour = "valkey", **options: object) -> Server:
            need(flavour)
            return stack.enter_context(Server(flavour, **options))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def new_sentinel_group() -> Iterator[Callable[..., SentinelGroup]]:
    """Call it with SentinelGroup's arguments for a group of the test's own."""
    with contextlib.ExitStack() as stack:

        def make(flavour: Flavour = "valkey", **options: object) -> SentinelGroup:
            need(flavour)
            return stack.enter_context(SentinelGroup(flavour, **options))  # type: ignore[arg-type]

        yield make


@pytest.fixture
def new_cluster() -> Iterator[Callable[..., Cluster]]:
    """Call it with Cluster's arguments for a Cluster of the test's own."""
    with contextlib.ExitStack() as stack:

        def make(flavour: Flavour = "valkey", **options: object) -> Cluster:
            need(flavour)
            return stack.enter_context(Cluster(flavour, **options))  # type: ignore[arg-type]

        yield make

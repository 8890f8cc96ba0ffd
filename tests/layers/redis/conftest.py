"""Layers with streams, which are closed at the end of the test."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.streams import Make
from tests.servers import Server


@pytest.fixture(params=["one server", "two servers"])
async def make(request: pytest.FixtureRequest, valkey_server: Server, key_prefix: str) -> AsyncIterator[Make]:
    """Make layers that are one layer: with the same servers and the same prefix."""
    hosts = [valkey_server.url]
    if request.param == "two servers":
        hosts.append(request.getfixturevalue("second_server").url)
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> RedisChannelLayer:
            layer = RedisChannelLayer(hosts, prefix=key_prefix, **options)
            stack.push_async_exit(layer)
            return layer

        yield make


@pytest.fixture
async def make_on(key_prefix: str, new_server: Callable[..., Server]) -> AsyncIterator[Make]:
    """Make layers on a server that is given. They end before it does, where it is one of ``new_server``."""
    async with AsyncExitStack() as stack:

        def make(server: Server, **options: Any) -> RedisChannelLayer:
            layer = RedisChannelLayer([server.url], prefix=key_prefix, **options)
            stack.push_async_exit(layer)
            return layer

        yield make

"""Layers of the fault tests: closed after each test, with nothing of them left behind."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

import pytest
import uvloop

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer

#: Seconds for what was told to end.
ENDING = 10.0

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class NewLayer(Protocol):
    """Makes a layer, on servers, with the key prefix of the test. Two of them are like two processes."""

    def __call__(self, hosts: Any, kind: type[RedisLayer] = RedisChannelLayer, **options: Any) -> RedisLayer: ...


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run these tests on the kind of event loop that SEALANE_LOOP names: asyncio's own, or uvloop's."""
    kind = os.environ.get("SEALANE_LOOP", "asyncio")
    return {kind: LOOPS[kind]}


@pytest.fixture
async def new_layer(key_prefix: str) -> AsyncIterator[NewLayer]:
    """Make layers that hold more than any test sends; see that their end leaves no task and no thread."""
    threads = set(threading.enumerate())
    layers: list[RedisLayer] = []

    def make(hosts: Any, kind: type[RedisLayer] = RedisChannelLayer, **options: Any) -> RedisLayer:
        layer = kind(hosts, **{"prefix": key_prefix, "capacity": 100_000, **options})
        layers.append(layer)
        return layer

    yield make
    for layer in layers:
        async with asyncio.timeout(20):
            await layer.close()
    here = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not here]
    if left:
        _, late = await asyncio.wait(left, timeout=ENDING)
        assert not late, f"tasks are left: {late}"
    strange = [
        thread
        for thread in threading.enumerate()
        # The loop's own for to_thread() end with it.
        if thread not in threads and not thread.name.startswith(tuple(f"{kind}_" for kind in LOOPS))
    ]
    assert not strange, f"threads are left: {strange}"


@pytest.fixture(params=[RedisChannelLayer, RedisPubSubChannelLayer], ids=["streams", "pubsub"])
def kind(request: pytest.FixtureRequest) -> type[RedisLayer]:
    """Each of the two layers in turn."""
    found: type[RedisLayer] = request.param
    return found

"""What the layers do at their edges: standing loops, cancelled calls, impossible options, foreign keys."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest

from sealane.exceptions import CallRefused, InvalidChannelLayerError
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.link import Link
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.servers import Server

#: Seconds in which anything that a layer owes must have happened.
LIMIT = 10.0


class NewLayer(Protocol):
    """Makes a layer with the test's key prefix."""

    def __call__(self, **options: Any) -> RedisLayer: ...


@pytest.fixture(params=[RedisChannelLayer, RedisPubSubChannelLayer], ids=["streams", "pubsub"])
def kind(request: pytest.FixtureRequest) -> type[RedisLayer]:
    found: type[RedisLayer] = request.param
    return found


@pytest.fixture
async def new_layer(kind: type[RedisLayer], valkey_server: Server, key_prefix: str) -> AsyncIterator[NewLayer]:
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> RedisLayer:
            layer = kind([valkey_server.url], prefix=key_prefix, **options)
            stack.push_async_exit(layer)
            return layer

        yield make


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.005)


async def written(link: Link) -> None:
    """Wait until a call is under way. Turn by turn: an answer comes soon."""
    async with asyncio.timeout(LIMIT):
        while not link.in_flight:
            await asyncio.sleep(0)


async def cancelled_on_its_way(layer: RedisLayer, call: Any) -> None:
    """Make a call, and cancel it when it was written."""
    link = layer.here().branch(0).link
    await eventually(lambda: not link.in_flight)
    task = asyncio.ensure_future(call)
    await written(link)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# A loop that stands still


async def test_a_loop_that_stood_still_gets_the_replies_that_came(new_layer: NewLayer) -> None:
    layer = new_layer(timeout=1.5)
    channel = await layer.new_channel()
    await layer.send("jobs", {"type": "warm"})
    await layer.receive("jobs")
    link = layer.here().branch(0).link
    calls = [
        asyncio.ensure_future(layer.send("jobs", {"type": "x"})),
        asyncio.ensure_future(layer.group_add("room", channel)),
    ]
    await written(link)
    time.sleep(1.6)  # noqa: ASYNC251
    assert await asyncio.gather(*calls) == [None, None]
    assert link.reconnects == 0


# Calls that were cancelled


async def test_what_a_cancelled_call_did_is_counted(new_layer: NewLayer) -> None:
    layer = new_layer(capacity=2, overflow="drop_oldest")
    for number in range(2):
        await layer.send("jobs", {"type": "x", "number": number})
    for number in range(2, 6):
        await cancelled_on_its_way(layer, layer.send("jobs", {"type": "x", "number": number}))
    await cancelled_on_its_way(layer, layer.group_send("empty", {"type": "x"}))
    await eventually(lambda: layer.stats()["group_sent"] == 1)
    assert [(await layer.receive("jobs"))["number"] for _ in range(2)] == [4, 5]
    stats = layer.stats()
    assert (stats["sent"], stats["addressed"], stats["delivered"], stats["dropped_full"]) == (6, 6, 2, 4)
    assert stats["waiting"] == 0


async def test_a_cancelled_call_comes_before_a_channel_that_joins_after_it(new_layer: NewLayer) -> None:
    layer = new_layer()
    first, second = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("room", first)
    for number in range(20):
        await cancelled_on_its_way(layer, layer.group_send("room", {"type": "before"}))
        await layer.group_add("room", second)
        await layer.group_send("room", {"type": "after", "number": number})
        async with asyncio.timeout(LIMIT):
            assert await layer.receive(second) == {"type": "after", "number": number}
        await layer.group_discard("room", second)


# Options


@pytest.mark.parametrize("prefix", ["site:c", "site:g:x", "site:b:"])
def test_a_prefix_whose_keys_could_be_those_of_another_layer_is_refused(kind: type[RedisLayer], prefix: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=f"prefix is '{prefix}'; expected one without a single letter"):
        kind(prefix=prefix)
    assert kind(prefix=f"{prefix.replace(':', '-')}:site").prefix


def test_a_prefix_that_cannot_be_encoded_is_refused(kind: type[RedisLayer]) -> None:
    with pytest.raises(InvalidChannelLayerError, match=r"prefix is 'a\\ud800'; expected a str that UTF-8 can encode"):
        kind(prefix="a\ud800")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("expiry", float("inf")),
        ("expiry", 1e300),
        ("lease", float("inf")),
        ("timeout", float("inf")),
        ("timeout", 1e7),
        ("capacity", 10**30),
        ("channel_capacity", {"http.*": 10**30}),
    ],
)
def test_a_number_that_no_server_can_count_is_refused(kind: type[RedisLayer], option: str, value: Any) -> None:
    with pytest.raises(InvalidChannelLayerError, match=rf"^{option}.* is .+; expected at most 1,000,000"):
        kind(**{option: value})


def test_a_length_that_no_server_can_count_is_refused() -> None:
    with pytest.raises(InvalidChannelLayerError, match="expected at most 1,000,000,000"):
        RedisChannelLayer(maxlen=10**30)


# Keys that others have written to


async def test_what_others_spoilt_is_told_in_an_error_of_ours(
    new_layer: NewLayer, valkey_server: Server, key_prefix: str
) -> None:
    layer = new_layer()
    valkey_server.command("SET", f"{key_prefix}:n", "no number")
    with pytest.raises(CallRefused, match="not an integer"):
        await layer.send("jobs", {"type": "x"})
    with pytest.raises(CallRefused, match="not an integer"):
        await asyncio.to_thread(layer.sync.send, "jobs", {"type": "x"})

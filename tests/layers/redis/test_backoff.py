"""Delays between tries, and that whoever has lost a server keeps to them."""

import asyncio
from collections.abc import Callable

import pytest

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.redis.backoff import Backoff
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.relay import Relay
from tests.servers import Server


def test_the_bound_doubles_up_to_the_most() -> None:
    backoff = Backoff(first=0.1, most=1.0, random=lambda: 1.0)
    assert [backoff.next() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert backoff.failures == 6


def test_the_delay_lies_anywhere_below_the_bound() -> None:
    draws = iter([0.0, 0.5, 0.25])
    backoff = Backoff(first=1.0, most=8.0, random=lambda: next(draws))
    assert [backoff.next() for _ in range(3)] == [0.0, 1.0, 1.0]


def test_a_success_begins_anew() -> None:
    backoff = Backoff(first=0.1, most=1.0, random=lambda: 1.0)
    for _ in range(4):
        backoff.next()
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.next() == pytest.approx(0.1)


def test_a_server_that_is_gone_for_a_year_overflows_nothing() -> None:
    backoff = Backoff(random=lambda: 1.0)
    backoff.failures = 100_000_000
    assert backoff.next() == 2.0


def test_its_own_randomness_keeps_processes_apart() -> None:
    delays = {Backoff(first=1.0).next() for _ in range(20)}
    assert len(delays) == 20
    assert all(0 <= delay < 1 for delay in delays)


def test_repr() -> None:
    backoff = Backoff()
    backoff.next()
    assert repr(backoff) == "<Backoff failures=1>"


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer])
async def test_a_server_that_is_away_is_not_overrun(new_server: Callable[..., Server], kind: type[RedisLayer]) -> None:
    """Calls, what is received by, and the blocking calls of a thread: each tries a few times, and then seldom."""
    server = new_server()
    async with Relay(server) as relay, kind([relay.url], timeout=1.5) as layer:
        channel = await layer.new_channel()
        await layer.group_add("news", channel)
        await asyncio.to_thread(layer.sync.group_send, "news", {"type": "x"})
        assert await layer.receive(channel) == {"type": "x"}
        server.kill()
        # The relay itself would keep its connections.
        relay.turn_to(server)
        before = relay.asked
        for call in (
            layer.group_send("news", {"type": "x"}),
            asyncio.to_thread(layer.sync.group_send, "news", {"type": "x"}),
        ):
            with pytest.raises(ChannelLayerUnavailable):
                await call
        # Three times about seven, and one of them for twice as long. Without a delay it is hundreds.
        assert 6 <= relay.asked - before <= 60
        await asyncio.to_thread(server.restart)
        # Its next try may be a second away, and the call has little more.
        while not layer.here().branch(0).link.connected:
            await asyncio.sleep(0.005)
        await layer.group_send("news", {"type": "y"})

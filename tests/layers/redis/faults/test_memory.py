"""A server whose memory is full."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, ThreadSender, check, sending, sending_in_thread
from tests.servers import Flavour, Server

pytestmark = pytest.mark.untraced

NewServer = Callable[..., Server]

#: Seconds.
LEASE = 4.0


def _limit(server: Server, memory: str) -> None:
    server.command("CONFIG", "SET", "maxmemory", memory)


@pytest.mark.parametrize(
    ("kind", "flavour"),
    [(RedisChannelLayer, "valkey"), (RedisChannelLayer, "redis"), (RedisPubSubChannelLayer, "valkey")],
)
async def test_maxmemory(new_server: NewServer, new_layer: NewLayer, kind: type[RedisLayer], flavour: Flavour) -> None:
    """Calls raise at once and say that nothing was sent, which is so; what waits can be taken; later all goes on."""
    server = new_server(flavour, maxmemory="64mb")
    here, there = new_layer([server.url], kind, lease=LEASE), new_layer([server.url], kind, lease=LEASE)
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    held = Sender("held", partial(here.send, "held"))
    for _ in range(5):
        assert await held.step()
    news = Sender("news", partial(there.group_send, "news"))
    direct = Sender("direct", partial(there.send, first.channel))
    thread = ThreadSender("thread", partial(here.sync.group_send, "news"))
    with sending_in_thread(thread):
        async with sending(news, direct):
            await asyncio.gather(news.more(20), direct.more(5), thread.more(5))
            # Less than it has in use already.
            await asyncio.to_thread(_limit, server, "100kb")
            began = time.monotonic()
            with pytest.raises(ChannelLayerUnavailable, match="memory is full") as caught:
                await here.group_send("news", {"type": "x"})
            assert not caught.value.sent
            assert time.monotonic() - began < 4
            with pytest.raises(ChannelLayerUnavailable, match="memory is full"):
                await here.send("held", {"type": "x"})
            if kind is RedisChannelLayer:
                with pytest.raises(ChannelLayerUnavailable, match="memory is full"):
                    await here.group_add("other", first.channel)
            # Whoever takes messages makes room.
            async with asyncio.timeout(20):
                assert [(await there.receive("held"))["number"] for _ in range(5)] == [1, 2, 3, 4, 5]
            # The leases are kept meanwhile, and a lost connection comes back.
            await asyncio.to_thread(server.kill_clients, name="sealane*")
            await asyncio.sleep(1.25 * LEASE)
            await asyncio.to_thread(_limit, server, "64mb")
            await asyncio.gather(news.more(20), direct.more(20), thread.more(20))
    # Of pub/sub the cut of its subscribers is told.
    lossless = not first.gaps
    await check(news, first, second, lossless=lossless)
    await check(direct, first, lossless=lossless)
    await check(thread, first, second, lossless=lossless)
    assert news.unsent
    assert {gap.reason for gap in first.gaps} <= {"disconnected"}

"""A server that accepts connections and never answers."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

import pytest

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from sealane.layers.redis.topic_branch import TopicBranch
from sealane.testing.layer_contract._harness import until
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, ThreadSender, check, sending, sending_in_thread
from tests.layers.redis.relay import Relay
from tests.servers import Server

pytestmark = pytest.mark.untraced

NewServer = Callable[..., Server]


async def test_short_silence(new_server: NewServer, new_layer: NewLayer, kind: type[RedisLayer]) -> None:
    """Calls end within their time limit, and say whether they may have been carried out; later all goes on."""
    server = new_server()
    options = {"timeout": 1.0, "lease": 10}
    here, there = new_layer([server.url], kind, **options), new_layer([server.url], kind, **options)
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    group = Sender("group", partial(there.group_send, "news"))
    own = Sender("own", partial(here.send, first.channel))
    thread = ThreadSender("thread", partial(here.sync.group_send, "news"))
    lossless = kind is RedisChannelLayer
    with sending_in_thread(thread):
        async with sending(group, width=3), sending(own):
            await asyncio.gather(group.more(20), own.more(20), thread.more(5))
            with server.paused():
                before = time.monotonic()
                await asyncio.gather(
                    _fails(here.group_send("news", {"type": "x"}), 1.0),
                    _fails(here.send("held", {"type": "x"}), 1.0),
                    _fails(here.group_add("other", first.channel), 1.0),
                )
                health = await here.health()
                assert not health.reachable
                assert health.latency is None
                assert "127.0.0.1" in health.shards[0].place
                # The loop itself never stood still.
                assert time.monotonic() - before < 10
                # What had been written when the server stopped may have been sent; what was still waiting was not.
                await until(lambda: group.doubtful and group.unsent and thread.errors)
                if not lossless:
                    await until(lambda: not any(_has_subscriber(layer) for layer in (here, there)))
            await asyncio.gather(group.more(20), own.more(20), thread.more(5))
    if not lossless:
        # Until then a listener misses what is sent, the last message too.
        for listener in (first, second):
            await listener.until(partial(bool, listener.gaps), "the end of the gap")
    await check(group, first, second, lossless=lossless)
    await check(own, first, lossless=lossless)
    await check(thread, first, second, lossless=lossless)
    for error in (*group.errors, *own.errors, *thread.errors):
        assert 0.9 < error.seconds < 6
    if lossless:
        assert not [*first.gaps, *second.gaps]
    assert (await here.health()).reachable
    # What was asked for in vain is done, or not; the layer is of one mind with the server about it.
    await there.group_send("other", {"type": "other"})
    await there.group_send("news", {"type": "end"})
    await first.until(lambda: first.messages[-1]["type"] == "end")
    assert [message for message in first.messages if message["type"] == "other"] == []


def _has_subscriber(layer: RedisLayer) -> bool:
    branch = layer.here().branch(0)
    assert isinstance(branch, TopicBranch)
    return branch.subscriber.connected


async def _fails(call: object, limit: float) -> None:
    began = time.monotonic()
    with pytest.raises(ChannelLayerUnavailable):
        await call  # type: ignore[misc]
    assert time.monotonic() - began < limit + 5


async def test_closing_while_it_is_silent(new_server: NewServer, new_layer: NewLayer, kind: type[RedisLayer]) -> None:
    """A layer that is closed meanwhile does not hang, whatever is under way."""
    server = new_server()
    layer = new_layer([server.url], kind)
    await Listener.of(layer, "news")
    waiting = asyncio.create_task(layer.receive("held"))
    await layer.group_send("news", {"type": "x"})
    with server.paused():
        calls = [asyncio.ensure_future(layer.group_send("news", {"type": "x"})) for _ in range(10)]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await layer.close()
            results = await asyncio.gather(*calls, waiting, return_exceptions=True)
    assert all(isinstance(result, Exception) for result in results)


async def test_a_connection_that_brings_nothing_any_more(new_server: NewServer, new_layer: NewLayer) -> None:
    """Nobody says that it is lost, as where a firewall forgot it. The reader finds out, and goes on from there."""
    server = new_server()
    async with Relay(server) as relay:
        here, there = new_layer([relay.url], timeout=1.5), new_layer([server.url])
        first = await Listener.of(here, "news")
        news = Sender("news", partial(there.group_send, "news"))
        await news.step()
        await first.has("news", 1)
        before = here.stats()["reconnects"]
        (reading,) = [line for line in relay.lines if b"XREAD" in line.begun]
        reading.to_client.clear()
        for _ in range(5):
            await news.step()
        await check(news, first)
        assert not first.gaps
        assert here.stats()["reconnects"] == before + 1
        await here.close()


async def test_ten_seconds(new_server: NewServer, new_layer: NewLayer) -> None:
    """With the limits as they are by default. Both layers at once, so that it takes ten seconds once."""
    server = new_server()
    layers = [
        new_layer([server.url], RedisChannelLayer, prefix="streams"),
        new_layer([server.url], RedisPubSubChannelLayer, prefix="pubsub"),
    ]
    listeners = [await Listener.of(layer, "news") for layer in layers]
    senders = [Sender(layer.prefix, partial(layer.group_send, "news")) for layer in layers]
    async with sending(*senders):
        await asyncio.gather(*(sender.more(10) for sender in senders))
        with server.paused():
            await asyncio.sleep(10)
        await asyncio.gather(*(sender.more(10) for sender in senders))
    for sender, listener in zip(senders, listeners, strict=True):
        await check(sender, listener, lossless=sender is senders[0])
        assert sender.errors
        assert all(4.5 < error.seconds < 9 for error in sender.errors)
    streams, pubsub = ([gap.reason for gap in listener.gaps] for listener in listeners)
    # A lease of 15 seconds that is refreshed each 3 seconds has not ended.
    assert streams == []
    # The subscriber may wait it out: what is published before it asks in vain for too long is in its connection.
    assert pubsub in ([], ["disconnected"])


async def test_silence_for_longer_than_the_lease(new_server: NewServer, new_layer: NewLayer) -> None:
    """Whoever was taken out of its groups meanwhile is in them again, and is told of it, once."""
    server = new_server()
    here, there = (new_layer([server.url], lease=3, timeout=10) for _ in range(2))
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    group = Sender("group", partial(there.group_send, "news"))
    async with sending(group, width=3):
        await group.more(20)
        with server.paused():
            await asyncio.sleep(5)
        for listener in (first, second):
            await listener.until(partial(bool, listener.gaps), "a gap")
        await group.more(20)
    await check(group, first, second, lossless=False)
    for listener in (first, second):
        assert [gap.reason for gap in listener.gaps] == ["forgotten"]
    assert not group.errors

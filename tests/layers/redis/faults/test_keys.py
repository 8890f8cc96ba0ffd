"""Encryption keys that are rotated under traffic, and a sender who has none of them."""

import asyncio
import logging
from functools import partial

import pytest

from sealane.layers.redis.layer import RedisLayer
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, ThreadSender, check, sending, sending_in_thread
from tests.servers import Server

#: What the option is after each deployment.
ROLLOUT = [["old"], ["old", "new"], ["new", "old"], ["new"]]


async def test_rotation(valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer]) -> None:
    """Three deployments, process by process, under traffic: nobody misses a message, and none is refused."""

    async def start(keys: list[str]) -> tuple[RedisLayer, Listener, Sender]:
        layer = new_layer([valkey_server.url], kind, symmetric_encryption_keys=keys)
        listener = await Listener.of(layer, "news")
        return layer, listener, Sender(listener.channel, partial(layer.group_send, "news"))

    processes = [await start(ROLLOUT[0]) for _ in range(2)]
    ended: list[RedisLayer] = []
    held = Sender("held", partial(processes[0][0].send, "held"))
    await held.step()
    for keys in ROLLOUT[1:]:
        for index in range(2):
            new = await start(keys)
            async with sending(*(sender for _, _, sender in (*processes, new))):
                await asyncio.gather(*(sender.more(10) for _, _, sender in (*processes, new)))
            for _, listener, sender in (*processes, new):
                # Everybody who is there now has all that this sender has sent since they came.
                last = await sender.finish()
                for _, other, _ in (*processes, new):
                    await other.has(sender.name, last)
                    got = other.numbers(sender.name)
                    assert got == list(range(got[0], last + 1))
                assert listener.numbers(sender.name) == list(range(1, last + 1))
            old, processes[index] = processes[index], new
            await old[0].close()
            ended.append(old[0])
        # What waited since the last deployment can be read, and the next one finds something of this one.
        message = await processes[0][0].receive("held")
        assert message["number"] == 1
        await processes[1][0].send("held", message)
    for layer in [*ended, *(layer for layer, _, _ in processes)]:
        assert layer.stats()["undecryptable"] == 0
        assert layer.stats()["gaps"] == 0


async def test_an_unknown_key(
    valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer], caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody here can read is dropped, counted, and logged once; consumers get all the rest, and nothing else."""
    here = new_layer([valkey_server.url], kind, symmetric_encryption_keys=["ours"])
    there = new_layer([valkey_server.url], kind, symmetric_encryption_keys=["ours"])
    strangers = [
        new_layer([valkey_server.url], kind, symmetric_encryption_keys=["theirs"]),
        new_layer([valkey_server.url], kind),
    ]
    listener = await Listener.of(here, "news")
    owner = Listener(here, "jobs")
    news = Sender("news", partial(there.group_send, "news"))
    direct = Sender("direct", partial(there.send, listener.channel))
    jobs = Sender("jobs", partial(there.send, "jobs"))
    thread = ThreadSender("stranger", partial(strangers[0].sync.group_send, "news"))
    count = 5
    with sending_in_thread(thread):
        async with sending(news, direct, jobs):
            for stranger in strangers:
                for _ in range(count):
                    await stranger.group_send("news", {"type": "secret"})
                    await stranger.send(listener.channel, {"type": "secret"})
                    await stranger.send("jobs", {"type": "secret"})
            await asyncio.gather(news.more(10), direct.more(10), jobs.more(10), thread.more(5))
    await check(news, listener)
    await check(direct, listener)
    await check(jobs, owner)
    assert {message["type"] for message in (*listener.messages, *owner.messages)} == {"numbered"}
    assert not listener.numbers("stranger")
    assert here.stats()["undecryptable"] == 2 * 3 * count + len(thread.returned)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 1
    assert "symmetric_encryption_keys" in lines[0]
    assert not any(key in caplog.text for key in ("ours", "theirs"))

    # A thread that waits for a held message skips what it cannot read, too.
    await strangers[0].send("held", {"type": "secret"})
    await there.send("held", {"type": "readable"})
    found = await asyncio.to_thread(here.sync.receive, "held", 5)
    assert found["type"] == "readable"

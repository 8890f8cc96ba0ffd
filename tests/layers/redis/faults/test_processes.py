"""Processes: one that is killed, a fork after use, and two event loops in one."""

import asyncio
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.streams import RedisChannelLayer
from sealane.layers.redis.wire import mailbox_id
from sealane.types import Message
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, check, sending
from tests.servers import Server, wait_until

pytestmark = pytest.mark.untraced

#: Seconds, more than a busy machine keeps a process waiting.
LEASE = 4.0


@contextmanager
def _member(kind: type[RedisLayer], url: str, prefix: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(Path(__file__).with_name("member.py")), kind.__name__, url, prefix, str(LEASE)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_process_is_killed(
    valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer], key_prefix: str
) -> None:
    """Its memberships, its places in queues and its keys are gone within the lease; all others never notice."""
    here, there = (new_layer([valkey_server.url], kind, lease=LEASE) for _ in range(2))
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    news = Sender("news", partial(there.group_send, "news"))
    with _member(kind, valkey_server.url, key_prefix) as process:
        assert process.stdout is not None
        channel = (await asyncio.to_thread(process.stdout.readline)).strip()
        dead = mailbox_id(channel)
        assert dead is not None
        async with sending(news):
            await news.more(20)
            await there.send(channel, {"type": "hello"})
            assert (await asyncio.to_thread(process.stdout.readline)) == "got\n"
            process.kill()
            await asyncio.to_thread(process.wait)
            killed = time.monotonic()
            if kind is RedisChannelLayer:
                # Nobody refreshes it any more. The next message after its end finds the mailbox dead.
                left = await asyncio.to_thread(valkey_server.command, "PTTL", f"{key_prefix}:l:{dead}")
                assert 0 < left <= LEASE * 1000
            await news.more(20)

            def gone() -> bool:
                if kind is RedisChannelLayer:
                    members = valkey_server.command("HKEYS", f"{key_prefix}:g:news")
                    return f"m{dead}".encode() not in members
                topics = valkey_server.command("PUBSUB", "NUMSUB", f"{key_prefix}:m:{dead}", f"{key_prefix}:g:news")
                return bool(topics[1] == 0 and topics[3] == 2)

            await asyncio.to_thread(partial(wait_until, gone, within=3 * LEASE, what="the dead member leaves"))
            assert time.monotonic() - killed < 2 * LEASE
            await news.more(20)
    await check(news, first, second)
    assert not [*first.gaps, *second.gaps]
    # What is sent to it is dropped, and counted. What it waited for goes to others.
    before = there.stats()["dropped_closed"]
    await there.send(channel, {"type": "hello"})
    assert there.stats()["dropped_closed"] == before + 1
    owner = Listener(here, "jobs")
    jobs = Sender("jobs", partial(there.send, "jobs"))
    tasks = Sender("tasks", partial(there.send, "tasks"))
    for _ in range(3):
        await jobs.step()
        await tasks.step()
    await check(jobs, owner)
    async with asyncio.timeout(20):
        assert [(await here.receive("tasks"))["number"] for _ in range(3)] == [1, 2, 3]
    if kind is RedisChannelLayer:
        # The living clear up after the dead.
        await asyncio.to_thread(
            partial(wait_until, lambda: not valkey_server.keys(f"*{dead}*"), within=5 * LEASE, what="no key is left")
        )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_fork_after_use(valkey_server: Server, kind: type[RedisLayer], key_prefix: str) -> None:
    """The child has connections and a mailbox of its own; the parent goes on with its own as if nothing were."""
    layer = kind([valkey_server.url], prefix=key_prefix, capacity=1000)

    async def child(channel: str) -> None:
        mine = await layer.new_channel()
        await layer.group_add("news", mine)
        for number in range(50):
            await layer.group_send("news", {"type": "async", "number": number})
        await layer.send(channel, {"type": "direct"})
        got: list[int] = []
        while len(got) < 50:
            # The parent sends there too.
            message = await layer.receive(mine)
            if message["type"] == "async":
                got.append(message["number"])
        assert got == list(range(50))
        await layer.close()

    def run_child(channel: str) -> None:
        # Nothing of the parent's is the child's: neither what it has sent and received, nor its channels.
        assert not any(layer.stats().values())
        for number in range(50):
            layer.sync.group_send("news", {"type": "sync", "number": number})
        asyncio.run(child(channel))
        layer.sync.close()

    with asyncio.Runner(debug=True) as runner:
        listener = runner.run(_listen(layer))
        layer.sync.group_send("news", {"type": "before"})
        runner.run(layer.group_send("news", {"type": "before"}))
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                run_child(listener.channel)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)

        async def parent() -> list[Message]:
            for number in range(50):
                await layer.group_send("news", {"type": "parent", "number": number})
            # Two before the fork, fifty of each sender, and the direct one.
            await listener.until(lambda: len(listener.messages) >= 153, "everything")
            await layer.close()
            return listener.messages

        try:
            messages = runner.run(parent())
        finally:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            layer.sync.close()
    assert status == 0
    assert [message["type"] for message in messages].count("before") == 2
    for sender in ("sync", "async", "parent"):
        assert [message["number"] for message in messages if message["type"] == sender] == list(range(50))
    assert not listener.gaps
    assert layer.stats()["reconnects"] == 0


async def _listen(layer: RedisLayer) -> Listener:
    return await Listener.of(layer, "news")


async def test_two_event_loops(valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer]) -> None:
    """Each loop has its own mailbox; one that ends without a word disturbs neither the other nor the figures."""
    layer = new_layer([valkey_server.url], kind, lease=LEASE)
    mine = await Listener.of(layer, "news")
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    going = threading.Event()
    theirs: list[list[int]] = []

    async def other() -> None:
        listener = await Listener.of(layer, "news")
        sender = Sender("other", partial(layer.group_send, "news"))
        loop.call_soon_threadsafe(ready.set_result, listener.channel)
        async with sending(sender):
            await listener.has("mine", 50)
            await sender.more(20)
            while not going.is_set():
                await sender.more(1)
        theirs.append(sender.returned)
        theirs.append(listener.numbers("mine"))
        # No close(): this loop just ends.

    thread = threading.Thread(target=lambda: asyncio.run(other(), debug=True))
    thread.start()
    try:
        channel = await ready
        sender = Sender("mine", partial(layer.group_send, "news"))
        direct = Sender("direct", partial(layer.send, mine.channel))
        async with sending(sender, direct):
            await asyncio.gather(sender.more(60), direct.more(10))
            going.set()
            await asyncio.to_thread(thread.join)
            await asyncio.gather(sender.more(10), direct.more(10))
    finally:
        going.set()
        await asyncio.to_thread(thread.join)
    await check(sender, mine)
    await check(direct, mine)
    sent, got = theirs
    assert got[:50] == list(range(1, 51))
    assert got == sorted(set(got))
    await mine.has("other", sent[-1])
    assert mine.numbers("other") == sent
    assert not mine.gaps
    # The other loop's channel is gone, after its lease where that is all that ends it.
    before = layer.stats()["dropped_closed"]
    async with asyncio.timeout(3 * LEASE):
        while layer.stats()["dropped_closed"] == before:
            await layer.send(channel, {"type": "hello"})
            await asyncio.sleep(0.05)

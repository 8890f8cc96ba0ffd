"""``layer.sync`` of the Redis layers: over every kind of place, without an event loop, over faults and forks."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction

from sealane.exceptions import ChannelClosed, ChannelFull, ChannelLayerUnavailable, InvalidName, MessageTooLarge
from sealane.layers.redis.blocking_link import BlockingLink
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.script import Script
from sealane.layers.redis.streams import RedisChannelLayer
from sealane.types import Message
from tests.servers import Server, wait_until

LIMIT = 20.0

NewLayer = Callable[..., RedisLayer]


@pytest.fixture
def new_layer(key_prefix: str) -> Iterator[NewLayer]:
    """Call it with hosts and options for a layer. All that it makes are one layer, and are closed after the test."""
    layers: list[RedisLayer] = []

    def make(hosts: Any, **options: Any) -> RedisLayer:
        layer = RedisChannelLayer(hosts, **{"prefix": key_prefix, **options})
        layers.append(layer)
        return layer

    yield make
    for layer in layers:
        layer.sync.close()


@pytest.fixture(
    params=["valkey_server", "redis_server", "unix_server", "tls_server", "two hosts", "sentinel_group", "cluster"]
)
def hosts(request: pytest.FixtureRequest) -> Any:
    """Where a layer may live."""
    fixture = request.getfixturevalue
    match request.param:
        case "two hosts":
            return [fixture("valkey_server").url, fixture("second_server").url]
        case "tls_server":
            return {"address": fixture("tls_server").url, **fixture("tls_server").tls_options}
        case "sentinel_group" | "cluster":
            return [fixture(request.param).hosts]
        case name:
            return fixture(name).url


def message_with(value: Any) -> Message:
    return {"type": "x", "value": value}


def waiting_clients(server: Server) -> int:
    return sum(client["flags"] == "b" for client in server.clients())


# Every place, no event loop


def test_every_call_works_wherever_the_layer_lives(
    hosts: Any, new_layer: NewLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_loop() -> asyncio.AbstractEventLoop:
        raise AssertionError("an event loop was made")

    monkeypatch.setattr(asyncio, "new_event_loop", no_loop)
    layer = new_layer(hosts, capacity=2)
    assert layer.sync is layer.sync
    sync = layer.sync
    names = [sync.new_channel() for _ in range(4)] + [f"plain{number}" for number in range(4)]
    groups = [f"group{number}" for number in range(4)]
    for group in groups:
        for name in names:
            sync.group_add(group, name)
    for group in groups[:2]:
        sync.group_send(group, message_with(group))
    for name in names:
        assert [sync.receive(name, LIMIT)["value"] for _ in range(2)] == groups[:2]
    for name in names:
        sync.group_discard("group0", name)
        sync.send(name, message_with(name))
    sync.group_send("group0", message_with("nobody"))
    for name in names:
        assert sync.receive(name, LIMIT) == message_with(name)
        with pytest.raises(TimeoutError, match=f"No message came on channel '{name}' within 0.01 seconds"):
            sync.receive(name, 0.01)
    for name in names:
        sync.close_channel(name)
    sync.group_send("group1", message_with("nobody"))
    with pytest.raises(ChannelClosed):
        sync.receive(names[0], LIMIT)
    sync.send("full", message_with(1))
    sync.send("full", message_with(2))
    with pytest.raises(ChannelFull, match="Channel 'full' is full: 2 messages wait there"):
        sync.send("full", message_with(3))
    sync.flush()
    stats = layer.stats()
    assert stats["waiting"] == 0
    assert stats["dropped_flushed"] == 2
    assert stats["dropped_full"] == 1
    assert stats["delivered"] == 3 * len(names)
    assert stats["sent"] == len(names) + 3
    assert stats["group_sent"] == 4


def test_errors_are_those_of_the_asynchronous_calls(valkey_server: Server, new_layer: NewLayer) -> None:
    sync = new_layer(valkey_server.url, max_message_size=100).sync
    for call in (sync.send, sync.group_send):
        with pytest.raises(InvalidName):
            call("not valid", {"type": "x"})
        with pytest.raises(MessageTooLarge):
            call("name", {"type": "x" * 100})
    for name in ("receive", "close_channel"):
        with pytest.raises(InvalidName):
            getattr(sync, name)("not valid")
    for name in ("group_add", "group_discard"):
        with pytest.raises(InvalidName, match="Group name"):
            getattr(sync, name)("not valid", "name")
        with pytest.raises(InvalidName, match="Channel name"):
            getattr(sync, name)("name", "not valid")


async def test_in_an_event_loop_every_call_is_refused_before_it_is_made(new_server: Callable[..., Server]) -> None:
    server = new_server()
    layer = RedisChannelLayer(server.url)
    with pytest.raises(SynchronousOnlyOperation, match=r"'await channel_layer\.group_send\(\.\.\.\)'"):
        layer.sync.group_send("group", {"type": "x"})
    assert "evalsha" not in server.command_calls()


def test_messages_are_encrypted(valkey_server: Server, new_layer: NewLayer, key_prefix: str) -> None:
    layer = new_layer(valkey_server.url, symmetric_encryption_keys=["one"])
    layer.sync.send("channel", message_with("secret text"))
    (stored,) = valkey_server.command("ZRANGE", f"{key_prefix}:c:channel", 0, -1)
    assert b"secret" not in stored
    # Somebody with another key wrote the one before it.
    new_layer(valkey_server.url, symmetric_encryption_keys=["other"]).sync.send("mixed", message_with(1))
    layer.sync.send("mixed", message_with(2))
    assert layer.sync.receive("channel", LIMIT) == message_with("secret text")
    assert layer.sync.receive("mixed", LIMIT) == message_with(2)
    assert layer.stats()["undecryptable"] == 1


def test_the_layer_shows_no_password(new_server: Callable[..., Server]) -> None:
    layer = RedisChannelLayer(new_server(password="hush").url)
    layer.sync.send("channel", {"type": "x"})
    assert repr(layer.sync) == f"<sync of {layer!r}>"
    assert "hush" not in repr(layer.sync)
    layer.sync.close()


# Receiving


def test_a_thread_that_waits_gets_what_comes(valkey_server: Server, new_layer: NewLayer) -> None:
    sync = new_layer(valkey_server.url).sync
    received: list[Message] = []
    threads = [threading.Thread(target=lambda: received.append(sync.receive("channel", LIMIT))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(3):
        sync.send("channel", message_with(number))
    for thread in threads:
        thread.join()
    assert sorted(message["value"] for message in received) == [0, 1, 2]


def test_a_thread_that_waits_is_told_of_the_end_of_its_channel(
    new_server: Callable[..., Server], new_layer: NewLayer
) -> None:
    server = new_server()
    sync = new_layer(server.url).sync
    channel = sync.new_channel()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(sync.receive, channel, LIMIT)
        wait_until(lambda: waiting_clients(server) == 1, what="the thread that waits")
        sync.close_channel(channel)
        with pytest.raises(ChannelClosed):
            waiting.result()


def test_receiving_under_a_time_limit_loses_none(valkey_server: Server, new_layer: NewLayer) -> None:
    sync = new_layer(valkey_server.url).sync
    received: list[int] = []

    def send() -> None:
        for number in range(100):
            sync.send("channel", message_with(number))

    thread = threading.Thread(target=send)
    thread.start()
    deadline = time.monotonic() + 3 * LIMIT
    while len(received) < 100 and time.monotonic() < deadline:
        try:
            received.append(sync.receive("channel", timeout=0.0001)["value"])
        except TimeoutError:
            continue
    thread.join()
    assert received == list(range(100))


def test_receiving_leaves_nothing_behind(valkey_server: Server, new_layer: NewLayer, key_prefix: str) -> None:
    sync = new_layer(valkey_server.url).sync
    sync.send("channel", message_with(1))
    sync.receive("channel", LIMIT)
    with pytest.raises(TimeoutError):
        sync.receive("channel", 0.01)
    left = {key.decode().split(":")[1] for key in valkey_server.keys(f"{key_prefix}:*")}
    # The counts of its calls and of the channel's messages, which end by themselves.
    assert left <= {"s", "n", "e"}


def test_a_thread_that_waits_outlives_its_lease(new_server: Callable[..., Server], new_layer: NewLayer) -> None:
    server = new_server()
    layer = new_layer(server.url, lease=0.3)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(layer.sync.receive, "channel", LIMIT)
        wait_until(lambda: waiting_clients(server) == 1, what="the thread that waits")
        refreshed = server.command_calls().get("pexpire", 0)
        wait_until(lambda: server.command_calls().get("pexpire", 0) > refreshed + 6, what="some refreshes")
        server.flush()
        wait_until(lambda: server.keys("*:l:*"), what="the mailbox, known again")
        layer.sync.send("channel", message_with(1))
        assert waiting.result() == message_with(1)


def test_a_thread_receives_what_is_sent_to_a_loop_of_its_process(valkey_server: Server, new_layer: NewLayer) -> None:
    layer = new_layer(valkey_server.url)

    async def main() -> None:
        channel = await layer.new_channel()
        loop = asyncio.get_running_loop()
        waiting = loop.run_in_executor(None, layer.sync.receive, channel, LIMIT)
        await layer.send(channel, message_with(1))
        assert await waiting == message_with(1)
        with pytest.raises(TimeoutError):
            await loop.run_in_executor(None, layer.sync.receive, channel, 0.01)
        await layer.close()

    asyncio.run(main())
    with pytest.raises(ChannelClosed):
        layer.sync.receive("specific.0123456789abcdef!x", LIMIT)


# Faults


def test_messages_to_a_server_whose_connections_are_killed_come_once_and_in_order(
    new_server: Callable[..., Server], new_layer: NewLayer
) -> None:
    server = new_server()
    layer = new_layer(server.url, capacity=1000, timeout=LIMIT)
    layer.sync.group_add("group", "channel")
    done = threading.Event()
    kills = 0

    def kill() -> None:
        nonlocal kills
        while not done.is_set():
            kills += server.kill_clients(name="sealane-sync")

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for number in range(400):
            layer.sync.group_send("group", message_with(number))
    finally:
        done.set()
        killer.join()
    assert kills > 3
    assert [layer.sync.receive("channel", LIMIT)["value"] for _ in range(400)] == list(range(400))


def test_a_server_that_is_away_is_told_in_time(new_server: Callable[..., Server], new_layer: NewLayer) -> None:
    server = new_server()
    layer = new_layer(server.url, timeout=1.5)
    layer.sync.send("channel", message_with(1))
    server.stop()
    with pytest.raises(ChannelLayerUnavailable, match=r"no reply within 1\.5 s"):
        layer.sync.send("channel", message_with(2))
    calls: list[Callable[[], object]] = [
        lambda: layer.sync.send("channel", message_with(2)),
        lambda: layer.sync.group_send("group", message_with(2)),
        lambda: layer.sync.receive("channel", 0.1),
        lambda: layer.sync.group_add("group", "channel"),
    ]
    # Each in a thread of its own, since each waits for its whole time.
    with ThreadPoolExecutor(len(calls)) as pool:
        for called in [pool.submit(call) for call in calls]:
            with pytest.raises(ChannelLayerUnavailable, match="it was not carried out") as caught:
                called.result()
            assert not caught.value.sent
    server.restart(keep_data=False)
    layer.sync.send("channel", message_with(3))
    assert layer.sync.receive("channel", LIMIT) == message_with(3)


def test_to_receive_from_a_server_that_is_away_takes_no_longer_than_another_call(
    new_server: Callable[..., Server], new_layer: NewLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = new_server()
    layer = new_layer(server.url, timeout=0.3)
    server.stop()
    run, ran = BlockingLink.run, []

    def recording(link: BlockingLink, script: Script, *arguments: Any) -> Any:
        ran.append(script.name)
        return run(link, script, *arguments)

    monkeypatch.setattr(BlockingLink, "run", recording)
    with pytest.raises(ChannelLayerUnavailable, match="it was not carried out"):
        layer.sync.receive("channel", 0.1)
    # Each call waits for the server: one to say that the mailbox is gone would do so again.
    assert ran == ["register"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_forked_workers_use_the_layer_that_their_parent_has_used(valkey_server: Server, new_layer: NewLayer) -> None:
    layer = new_layer(valkey_server.url, capacity=1000)
    layer.sync.group_add("group", "channel")
    layer.sync.group_send("group", message_with("parent"))
    workers = []
    for worker in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert layer.stats()["group_sent"] == 0
                for number in range(100):
                    layer.sync.group_send("group", message_with([worker, number]))
                assert layer.stats()["group_sent"] == 100
                layer.sync.close()
                status = 0
            finally:
                os._exit(status)
        workers.append(pid)
    for pid in workers:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert layer.sync.receive("channel", LIMIT) == message_with("parent")
    received = [layer.sync.receive("channel", LIMIT)["value"] for _ in range(300)]
    for worker in range(3):
        assert [number for sender, number in received if sender == worker] == list(range(100))


# After the commit


@pytest.mark.django_db(transaction=True)
def test_a_message_is_sent_after_the_commit_and_not_where_it_is_rolled_back(
    valkey_server: Server, new_layer: NewLayer
) -> None:
    layer = new_layer(valkey_server.url)
    layer.sync.group_add("group", "channel")
    with transaction.atomic():
        message = message_with(1)
        layer.sync.group_send("group", message, on_commit=True)
        layer.sync.send("channel", message_with(2), on_commit=True, using="default")
        message["value"] = "changed"
        with pytest.raises(TimeoutError):
            layer.sync.receive("channel", 0.01)
    assert [layer.sync.receive("channel", LIMIT)["value"] for _ in range(2)] == [1, 2]
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        layer.sync.group_send("group", message_with(3), on_commit=True)
        raise ZeroDivisionError
    with transaction.atomic(), pytest.raises(InvalidName):
        layer.sync.group_send("not valid", message_with(4), on_commit=True)
    with pytest.raises(TypeError, match="it needs on_commit=True"):
        layer.sync.group_send("group", message_with(5), using="default")
    assert layer.stats()["sent"] == layer.stats()["group_sent"] == 1


@pytest.mark.django_db(transaction=True)
def test_a_server_that_is_away_does_not_fail_what_was_committed(
    new_server: Callable[..., Server], new_layer: NewLayer, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_server()
    layer = new_layer(server.url, timeout=0.2)
    server.stop()
    with transaction.atomic():
        User.objects.create(username="ada")
        layer.sync.group_send("group", message_with(1), on_commit=True)
    assert User.objects.filter(username="ada").exists()
    (record,) = [record for record in caplog.records if record.name == "sealane.layers"]
    assert record.getMessage().startswith("A message to group 'group' was not sent after the commit: No call to ")

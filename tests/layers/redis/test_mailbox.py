"""What becomes of the mailboxes of RedisChannelLayer: how they end, and what they bear."""

import asyncio
import time
from collections.abc import Callable

import pytest

from sealane.exceptions import ChannelClosed, ChannelLayerUnavailable
from sealane.layers.redis.health import Health
from sealane.layers.redis.streams import RedisChannelLayer
from sealane.testing.layer_contract._harness import Owner, message_with, next_message, reaches, turns, until
from tests.layers.redis.relay import Relay
from tests.layers.redis.streams import Make, home_of, mailbox_of
from tests.servers import Server

# The life of a mailbox


async def test_a_layer_that_was_closed_leaves_nothing_behind(
    make_on: Make, valkey_server: Server, key_prefix: str
) -> None:
    layer = make_on(valkey_server)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    Owner(layer, "owned")
    receiver = asyncio.create_task(layer.receive("plain"))
    await until(lambda: layer.stats()["channels"] == 3)
    await layer.send("other", message_with(1))
    await next_message(layer, "other")
    await layer.close()
    with pytest.raises(ChannelClosed):
        await receiver
    kinds = {key.decode().split(":")[1] for key in valkey_server.keys(f"{key_prefix}*")}
    # Counters, and lists of mailboxes in which the next message finds nobody.
    assert kinds <= {"n", "s", "w", "o", "e"}


async def test_what_a_dead_process_leaves_is_cleared_away(make_on: Make, new_server: Callable[..., Server]) -> None:
    server = new_server()
    dead = make_on(server, lease=0.3)
    await dead.group_add("group", await dead.new_channel())
    identity = mailbox_of(dead).id
    mailbox_of(dead)._beating.cancel()  # type: ignore[union-attr]
    living = make_on(server, lease=0.3)
    await living.group_add("other", await living.new_channel())
    await until(lambda: not [key for key in server.keys("*") if identity.encode() in key or b":g:group" in key])
    assert [key for key in server.keys("*") if b":g:" in key] == [f"{living.prefix}:g:other".encode()]


async def test_a_server_that_has_forgotten_everything_is_told_again(
    make_on: Make, new_server: Callable[..., Server]
) -> None:
    server = new_server()
    one, two = make_on(server), make_on(server)
    channel = await one.new_channel()
    owner, plain = Owner(one, channel), Owner(one, "plain")
    await one.group_add("group", channel)
    receiver = asyncio.create_task(one.receive("jobs"))
    await one.group_send("group", message_with(1))
    await owner.woken(1)
    owner.inbox.take()
    server.flush()
    home_of(one).beat()
    await until(lambda: owner.inbox.gap is not None)
    gap = owner.inbox.gap
    assert gap is not None
    assert (gap.reason, gap.lost) == ("forgotten", None)
    await owner.woken(2)
    await two.group_send("group", message_with(2))
    await two.send(channel, message_with(3))
    await owner.holds(2)
    assert [owner.inbox.take() for _ in range(2)] == [message_with(2), message_with(3)]
    await two.send("plain", message_with(4))
    await plain.holds(1)
    await two.send("jobs", message_with(5))
    assert await receiver == message_with(5)


async def test_what_came_meanwhile_is_read_at_once(make_on: Make, new_server: Callable[..., Server]) -> None:
    """One XREAD brings many entries, so that a busy site needs few of them."""
    server = new_server()
    here, there = make_on(server, capacity=1000), make_on(server)
    channel = await here.new_channel()
    await here.group_add("group", channel)
    await there.group_send("group", message_with(0))
    assert await next_message(here, channel) == message_with(0)
    before = server.command_calls()["xread"]
    await asyncio.gather(*(there.group_send("group", message_with(number)) for number in range(500)))
    assert [await next_message(here, channel) for _ in range(500)] == [message_with(number) for number in range(500)]
    assert server.command_calls()["xread"] - before < 50


async def test_what_waits_at_the_server_is_the_backlog(new_server: Callable[..., Server]) -> None:
    """A reader whose replies are held back: the calls, and what they tell, go over another connection."""
    server = new_server()
    async with (
        Relay(server) as relay,
        RedisChannelLayer([relay.url]) as layer,
        RedisChannelLayer([server.url]) as other,
    ):
        relay.trap = b"XREAD"
        channel = await layer.new_channel()
        await layer.group_add("group", channel)
        for number in range(5):
            await other.group_send("group", message_with(number))
        health = await layer.health()
        assert health.reachable
        assert (health.backlog, health.shards[0].backlog) == (5, 5)
        # In seconds: it cannot have taken longer than the wait for it.
        began = time.perf_counter()
        latency = (await layer.health()).latency
        assert latency is not None
        assert 0 < latency < time.perf_counter() - began
        relay.trap = None
        for line in relay.lines:
            line.to_client.set()
        assert [await next_message(layer, channel) for _ in range(5)] == [message_with(number) for number in range(5)]
        while (await layer.health()).backlog:
            await asyncio.sleep(0.01)


async def test_entries_that_are_missing_are_counted_and_told(make_on: Make, valkey_server: Server) -> None:
    layer = make_on(valkey_server)
    channel = await layer.new_channel()
    owner = Owner(layer, channel)
    branch = home_of(layer)
    # Five entries that were trimmed before they were read.
    await branch.link.call("INCRBY", b"%b:l:%b" % (branch.base, mailbox_of(layer).id.encode()), 5)
    await layer.send(channel, message_with(1))
    await owner.holds(1)
    assert layer.stats()["lost"] == 5
    assert owner.inbox.gap is not None
    assert owner.inbox.gap.lost == 5
    assert owner.inbox.gap.reason == "trimmed"


async def test_a_stream_holds_so_many_entries(make_on: Make, valkey_server: Server) -> None:
    layer = make_on(valkey_server, maxlen=100, capacity=1000)
    channel = await layer.new_channel()
    branch = home_of(layer)
    await branch.reader.close()
    for number in range(400):
        await layer.send(channel, message_with(number))
    assert 100 <= await branch.link.call("XLEN", branch.stream) <= 200


@pytest.mark.parametrize("count", [1, 2, 4], ids=["fewer", "as-many", "more"])
async def test_a_server_that_took_over_and_was_behind_loses_nothing_new(
    make_on: Make, new_server: Callable[..., Server], count: int
) -> None:
    server = new_server()
    layer = make_on(server)
    channel = await layer.new_channel()
    owner = Owner(layer, channel)
    for number in range(5):
        await layer.send(channel, message_with(number))
    await owner.holds(5)
    branch = home_of(layer)
    lease = b"%b:l:%b" % (branch.base, mailbox_of(layer).id.encode())
    entries = await branch.link.call("XRANGE", branch.stream, "-", "+")
    # A replica that knows of three of the five, and has taken so many others since it became the master.
    number, _, time = entries[2][0].decode().partition("-")
    values = [f"new {more}" for more in range(1, count + 1)]
    await branch.reader.close()
    server.command("DEL", branch.stream)
    for entry_id, fields in entries[:3]:
        server.command("XADD", branch.stream, entry_id, *fields)
    for more, value in enumerate(values, 1):
        entry_id = f"{int(number) + more}-{int(time) + 1000}"
        server.command("XADD", branch.stream, entry_id, f"c{channel}", layer.pack(message_with(value)))
    server.command("SET", lease, int(number) + count, "PX", 15000)
    branch.reader = branch.make_reader()
    branch.reader.start()
    server.kill_clients(name="sealane")
    await owner.holds(5 + count)
    assert [owner.inbox.take() for _ in range(5 + count)] == [message_with(value) for value in [0, 1, 2, 3, 4, *values]]
    assert owner.inbox.gap is not None
    assert owner.inbox.gap.reason == "rewound"
    await layer.send(channel, message_with("last"))
    await owner.holds(1)
    assert owner.inbox.take() == message_with("last")


async def test_a_lost_connection_loses_and_repeats_nothing(make_on: Make, valkey_server: Server) -> None:
    one, two = make_on(valkey_server, capacity=1000), make_on(valkey_server)
    channel = await one.new_channel()
    await one.group_add("group", channel)

    async def send() -> None:
        for number in range(300):
            await two.group_send("group", message_with(number))

    sending = asyncio.create_task(send())
    received = []
    for number in range(300):
        if number in (50, 100, 150):
            await asyncio.to_thread(valkey_server.kill_clients, name="sealane*")
        received.append((await next_message(one, channel))["value"])
    await sending
    assert received == list(range(300))
    assert one.stats()["lost"] == 0
    await until(lambda: one.stats()["reconnects"] >= 2)


async def test_what_is_not_ours_does_no_harm(make_on: Make, valkey_server: Server, key_prefix: str) -> None:
    layer = make_on(valkey_server)
    channel = await layer.new_channel()
    owner = Owner(layer, channel)
    await layer.group_add("group", channel)
    branch = home_of(layer)
    add = valkey_server.command
    add("HSET", f"{key_prefix}:g:group", "whoever", "1", "", "", "mnobody", "", "c" + "x" * 200, "not a number")
    add("XADD", branch.stream, "2-1", "", "")
    add("XADD", branch.stream, "3-1", b"c\xff", b"\xff")
    add("XADD", branch.stream, "4-1", b"?", b"what")
    add("XADD", branch.stream, "5-1", b"pshort", b"")
    add("XADD", branch.stream, "6-1", b"+\xff", b"")
    add("XADD", branch.stream, "*", b"cx", b"")
    await reaches(layer, foreign=6)
    await until(lambda: not valkey_server.command("EXISTS", branch.stream))
    for number in range(3):
        await layer.group_send("group", message_with(number))
    await owner.holds(3)
    assert [owner.inbox.take() for _ in range(3)] == [message_with(number) for number in range(3)]


async def test_messages_with_another_key_are_dropped_and_counted(make: Make) -> None:
    old, new = make(symmetric_encryption_keys=["old"]), make(symmetric_encryption_keys=["new"])
    both = make(symmetric_encryption_keys=["new", "old"])
    channel, other = await new.new_channel(), await both.new_channel()
    for layer, name in ((new, channel), (both, other)):
        await layer.group_add("group", name)
    await old.group_send("group", message_with(1))
    await new.group_send("group", message_with(2))
    assert await next_message(new, channel) == message_with(2)
    assert [(await next_message(both, other))["value"] for _ in range(2)] == [1, 2]
    assert new.stats()["undecryptable"] == 1


# Trouble


async def test_a_server_that_does_not_answer(make_on: Make, new_server: Callable[..., Server]) -> None:
    server = new_server()
    layer = make_on(server, timeout=1.5)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    with server.paused():
        with pytest.raises(ChannelLayerUnavailable, match=r"no reply within 1\.5 s"):
            await layer.send("plain", message_with(1))
        # At the same time, since each waits for its whole time.
        refused, health = await asyncio.gather(
            layer.group_add("other", channel), layer.health(), return_exceptions=True
        )
        assert isinstance(refused, ChannelLayerUnavailable)
        assert isinstance(health, Health)
        assert not health.reachable
        assert (health.latency, health.backlog) == (None, None)
    await until(lambda: home_of(layer).link.connected)
    await layer.send(channel, message_with(2))
    assert await next_message(layer, channel) == message_with(2)
    # What could not be joined is not joined now.
    await layer.group_send("other", message_with(3))
    await layer.group_send("group", message_with(4))
    assert await next_message(layer, channel) == message_with(4)


async def test_a_channel_gets_a_name_without_a_server(make_on: Make, new_server: Callable[..., Server]) -> None:
    server = new_server()
    layer = make_on(server, timeout=1.5)
    server.stop()
    channel = await layer.new_channel()
    await asyncio.to_thread(server.start)
    await until(lambda: home_of(layer).link.connected)
    await layer.send(channel, message_with(1))
    assert await next_message(layer, channel) == message_with(1)


async def test_a_server_whose_memory_is_full(make_on: Make, new_server: Callable[..., Server]) -> None:
    server = new_server(maxmemory="20mb")
    layer = make_on(server, capacity=1000)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    for number in range(3):
        await layer.send("plain", message_with(number))
    server.command("CONFIG", "SET", "maxmemory", "1mb")
    for call in (
        layer.send("plain", message_with(3)),
        layer.send(channel, message_with(3)),
        layer.group_send("group", message_with(3)),
    ):
        with pytest.raises(ChannelLayerUnavailable, match="memory is full") as caught:
            await call
        assert not caught.value.sent
    # What is there can be taken all the same, and nobody is taken for dead.
    assert [(await next_message(layer, "plain"))["value"] for _ in range(3)] == [0, 1, 2]
    receiver = asyncio.create_task(layer.receive("plain"))
    await turns()
    await home_of(layer).link.call("PING")
    server.command("CONFIG", "SET", "maxmemory", "0")
    await layer.group_send("group", message_with(4))
    assert await next_message(layer, channel) == message_with(4)
    await layer.send("plain", message_with(5))
    assert await receiver == message_with(5)

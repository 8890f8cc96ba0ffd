"""What is special to RedisChannelLayer: several processes, and what becomes of a mailbox.

A second layer with the same prefix stands for another process: it shares nothing with the first but the server.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sealane.exceptions import ChannelClosed, ChannelLayerUnavailable, InvalidChannelLayerError
from sealane.layers import Gap, InMemoryChannelLayer
from sealane.layers.redis.mailbox import Mailbox
from sealane.layers.redis.stream_branch import StreamBranch
from sealane.layers.redis.streams import RedisChannelLayer
from sealane.testing.layer_contract._harness import Owner, cancel, message_with, next_message, reaches, turns, until
from tests.servers import Server

Make = Callable[..., RedisChannelLayer]


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
async def make_on(key_prefix: str) -> AsyncIterator[Make]:
    """Make layers on a server that is given."""
    async with AsyncExitStack() as stack:

        def make(server: Server, **options: Any) -> RedisChannelLayer:
            layer = RedisChannelLayer([server.url], prefix=key_prefix, **options)
            stack.push_async_exit(layer)
            return layer

        yield make


def mailbox_of(layer: RedisChannelLayer) -> Mailbox:
    return layer._mailbox()


def home_of(layer: RedisChannelLayer) -> StreamBranch:
    branch = mailbox_of(layer).home()
    assert isinstance(branch, StreamBranch)
    return branch


async def all_read(*layers: RedisChannelLayer) -> None:
    """Wait until what was posted has been read."""
    for layer in layers:
        for branch in mailbox_of(layer).branches:
            while await branch.backlog() != 0:
                await asyncio.sleep(0.001)


async def settled(layer: RedisChannelLayer) -> None:
    """Wait until a mailbox has opened what it was told to open, and read what was posted there."""
    await all_read(layer)
    await all_read(layer)


def waiting(layer: RedisChannelLayer, channel: str) -> int:
    inbox = mailbox_of(layer).channels.get(channel)
    return 0 if inbox is None else len(inbox)


# Several processes


async def test_a_group_reaches_the_members_of_every_process(make: Make) -> None:
    one, two = make(), make()
    channels = {layer: [await layer.new_channel() for _ in range(3)] for layer in (one, two)}
    for layer, names in channels.items():
        for name in names:
            await layer.group_add("group", name)
    await one.group_send("group", message_with(1))
    await two.group_send("group", message_with(2))
    for layer, names in channels.items():
        for name in names:
            assert [(await next_message(layer, name))["value"] for _ in range(2)] == [1, 2]


async def test_a_groups_message_crosses_once_per_process(make: Make, key_prefix: str) -> None:
    one, two = make(), make()
    for _ in range(50):
        await two.group_add("group", await two.new_channel())
    branch = mailbox_of(two).branch(two.options.shards.of_group("group"))
    assert isinstance(branch, StreamBranch)
    before = branch.read
    await one.group_send("group", message_with(1))
    await until(lambda: branch.read > before)
    await all_read(two)
    assert branch.read == before + 1
    assert two.stats()["addressed"] == 50


async def test_channels_of_another_process_join_and_leave_in_order(make: Make) -> None:
    one, two = make(), make()
    for number in range(10):
        channel, group = await two.new_channel(), f"group.{number}"
        await one.group_add(group, channel)
        await one.group_send(group, message_with(1))
        await one.group_discard(group, channel)
        await one.group_send(group, message_with(2))
        await one.group_add(group, channel)
        await one.group_send(group, message_with(3))
        assert [(await next_message(two, channel))["value"] for _ in range(2)] == [1, 3]


async def test_closing_a_channel_of_another_process_ends_its_receiver(make: Make) -> None:
    one, two = make(), make()
    channel = await two.new_channel()
    receiver = asyncio.create_task(two.receive(channel))
    await turns()
    await one.close_channel(channel)
    with pytest.raises(ChannelClosed):
        await receiver
    await one.send(channel, message_with(1))
    await reaches(two, dropped_closed=1)


async def test_closing_a_plain_channel_ends_its_receivers_in_every_process(make: Make) -> None:
    one, two = make(), make()
    await one.group_add("group", "plain")
    receiver = asyncio.create_task(two.receive("plain"))
    owner = Owner(one, "owned")
    await until(lambda: two.stats()["channels"] == 1)
    # Its call is before those of this test in no order: the close must find it waiting.
    await mailbox_of(two).branch(two.options.shards.of_channel("plain")).link.call("PING")
    await one.close_channel("plain")
    with pytest.raises(ChannelClosed):
        await receiver
    await two.close_channel("owned")
    await until(lambda: owner.inbox.closed)
    await one.group_send("group", message_with(1))
    await one.send("plain", message_with(2))
    assert await next_message(two, "plain") == message_with(2)


async def test_a_channel_that_is_gone_takes_nothing(make: Make) -> None:
    one, two = make(), make()
    channel = await two.new_channel()
    await two.close()
    await one.group_add("group", channel)
    await one.group_send("group", message_with(1))
    await one.send(channel, message_with(2))
    await one.group_discard("group", channel)
    await one.close_channel(channel)
    assert one.stats()["dropped_closed"] == 1
    with pytest.raises(ChannelClosed):
        await next_message(two, channel)
    with pytest.raises(ChannelClosed):
        one.attach(channel, lambda: None)


async def test_several_processes_share_a_plain_channel(make: Make) -> None:
    layers = [make() for _ in range(3)]
    taken: list[list[int]] = [[] for _ in layers]

    async def work(layer: RedisChannelLayer, mine: list[int]) -> None:
        while True:
            mine.append((await layer.receive("jobs"))["value"])

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work(layer, mine)) for layer, mine in zip(layers, taken, strict=True)]
        for number in range(60):
            await layers[0].send("jobs", message_with(number))
        await until(lambda: sum(map(len, taken)) == 60)
        for worker in workers:
            worker.cancel()
    assert sorted(number for mine in taken for number in mine) == list(range(60))
    assert all(mine == sorted(mine) for mine in taken)


async def test_owners_of_a_plain_channel_take_turns(make: Make) -> None:
    layers = [make() for _ in range(2)]
    owners = [Owner(layer, "jobs") for layer in layers]
    for layer in layers:
        await mailbox_of(layer).branch(layer.options.shards.of_channel("jobs")).link.call("PING")
    for number in range(6):
        await layers[0].send("jobs", message_with(number))
    for owner in owners:
        await owner.holds(3)
    values = [[owner.inbox.take() for _ in range(3)] for owner in owners]
    assert sorted(str(value) for value in values) == sorted(
        str([message_with(number) for number in range(first, 6, 2)]) for first in range(2)
    )


async def test_what_a_cancelled_receiver_was_given_goes_to_another_process(make: Make) -> None:
    one, two = make(), make()
    first = asyncio.create_task(one.receive("plain"))
    await until(lambda: one.stats()["channels"] == 1)
    await one.send("plain", message_with(1))
    first.cancel()
    (outcome,) = await asyncio.gather(first, return_exceptions=True)
    if isinstance(outcome, asyncio.CancelledError):
        outcome = await next_message(two, "plain")
    assert outcome == message_with(1)


async def test_what_was_not_read_goes_back_when_a_layer_is_closed(make: Make) -> None:
    one, two = make(), make()
    Owner(two, "plain")
    branch = mailbox_of(two).branch(two.options.shards.of_channel("plain"))
    assert isinstance(branch, StreamBranch)
    await branch.link.call("PING")
    await branch.reader.close()
    for number in range(3):
        await one.send("plain", message_with(number))
    await two.close()
    assert [(await next_message(one, "plain"))["value"] for _ in range(3)] == [0, 1, 2]


async def test_a_dead_process_gets_no_messages_of_plain_channels(make: Make, valkey_server: Server) -> None:
    one, two = make(), make()
    await two.send("plain", message_with(0))
    await next_message(two, "plain")
    receiver = asyncio.create_task(two.receive("plain"))
    await until(lambda: two.stats()["channels"] == 1)
    branch = mailbox_of(two).branch(two.options.shards.of_channel("plain"))
    # As if it had died: its lease has ended, and it does not know that.
    await branch.link.call("DEL", b"%b:l:%b" % (branch.base, mailbox_of(two).id.encode()))
    await one.send("plain", message_with(1))
    assert await next_message(one, "plain") == message_with(1)
    await cancel(receiver)


# The last word


@pytest.mark.parametrize("seed", range(8))
async def test_calls_do_what_the_in_memory_layer_does(make: Make, seed: int) -> None:
    """One caller after another: any calls on any names, and the same messages arrive."""
    dice = random.Random(seed)
    layer = make(capacity=5)
    async with InMemoryChannelLayer(capacity=5) as model:
        pairs = [(name, name) for name in ("a", "b", "local!c")]
        pairs += [(await layer.new_channel(), await model.new_channel()) for _ in range(3)]
        groups = ["g", "h"]
        for step in range(60):
            mine, theirs = dice.choice(pairs)
            group = dice.choice(groups)
            call = dice.choices(
                ["group_add", "group_discard", "group_send", "send", "receive", "close_channel"], [6, 4, 8, 4, 6, 1]
            )[0]
            if call == "group_send":
                await layer.group_send(group, message_with(step))
                await model.group_send(group, message_with(step))
                # Before the next: how full a channel of a mailbox is shows where it is read.
                await all_read(layer)
            elif call == "send":
                outcomes = [
                    await settle(one.send(name, message_with(step))) for one, name in ((layer, mine), (model, theirs))
                ]
                await all_read(layer)
                # Of a channel of a mailbox, only its process knows whether it is full.
                assert outcomes[0] == outcomes[1] or "!" in mine
            elif call == "receive":
                expected = model.stats()["waiting"] and await settle(model.receive(theirs), 0)
                if expected and not isinstance(expected, str):
                    assert await next_message(layer, mine) == expected
            elif call == "close_channel":
                await layer.close_channel(mine)
                await model.close_channel(theirs)
            else:
                await getattr(layer, call)(group, mine)
                await getattr(model, call)(group, theirs)
        for mine, theirs in pairs:
            while not isinstance(expected := await settle(model.receive(theirs), 0), str):
                assert await next_message(layer, mine) == expected
        await all_read(layer)
        assert sum(waiting(layer, mine) for mine, _ in pairs) == 0


async def settle(awaitable: Any, timeout: float | None = None) -> Any:
    """Return what it returns, or the name of the error that it raises."""
    try:
        async with asyncio.timeout(timeout):
            return await awaitable
    except Exception as exc:
        return type(exc).__name__


@pytest.mark.parametrize("kind", ["own", "plain", "foreign"])
@pytest.mark.parametrize("seed", range(5))
async def test_the_last_call_decides_who_is_in_a_group(make: Make, kind: str, seed: int) -> None:
    """Calls that are made one after another, and all under way at once, end as if each had waited for the last."""
    dice = random.Random(seed)
    layer = make()
    reader = make() if kind == "foreign" else layer
    channels = [f"plain-{number}" if kind == "plain" else await reader.new_channel() for number in range(4)]
    members: set[str] = set()
    calls = []
    for _ in range(40):
        channel = dice.choice(channels)
        call = dice.choices(["group_add", "group_discard", "close_channel"], [4, 4, 1 if kind == "plain" else 0])[0]
        if call == "close_channel":
            calls.append(asyncio.ensure_future(layer.close_channel(channel)))
        else:
            calls.append(asyncio.ensure_future(getattr(layer, call)("group", channel)))
        (members.add if call == "group_add" else members.discard)(channel)
    await asyncio.gather(*calls)
    await layer.group_send("group", message_with("who?"))
    # Between messages of two shards there is no order.
    await settled(reader)
    for channel in channels:
        await layer.send(channel, message_with("last"))
        received = [(await next_message(reader, channel))["value"]]
        while received[-1] != "last":
            received.append((await next_message(reader, channel))["value"])
        assert ("who?" in received) == (channel in members)


async def test_a_member_that_leaves_keeps_what_was_sent_before(make: Make) -> None:
    layer = make()
    channel, other = [await layer.new_channel() for _ in range(2)]
    await layer.group_add("group", other)
    for number in range(20):
        await layer.group_send("group", message_with("early"))
        await layer.group_add("group", channel)
        await layer.group_send("group", message_with(number))
        await layer.group_discard("group", channel)
    for number in range(20):
        assert (await next_message(layer, channel))["value"] == number
    await all_read(layer)
    assert waiting(layer, channel) == 0


async def test_closing_a_channel_while_it_joins(make: Make) -> None:
    layer = make()
    channel = await layer.new_channel()
    joining = asyncio.ensure_future(layer.group_add("group", channel))
    await turns(1)
    await layer.close_channel(channel)
    await joining
    branch = mailbox_of(layer).branch(layer.options.shards.of_group("group"))
    assert branch.joined == {}
    await branch.link.call("PING")
    assert await branch.link.call("EXISTS", branch.base + b":g:group") == 0


async def test_a_group_is_left_in_redis_with_its_last_member(make: Make) -> None:
    layer = make()
    channels = [await layer.new_channel() for _ in range(3)]
    for channel in channels:
        await layer.group_add("group", channel)
    branch = mailbox_of(layer).branch(layer.options.shards.of_group("group"))
    await layer.group_discard("group", channels[0])
    await layer.close_channel(channels[1])
    assert await branch.link.call("HLEN", branch.base + b":g:group") == 1
    await layer.group_discard("group", channels[2])
    assert await branch.link.call("HLEN", branch.base + b":g:group") == 0


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
    one, two = make_on(server, lease=0.3), make_on(server)
    channel = await one.new_channel()
    owner, plain = Owner(one, channel), Owner(one, "plain")
    await one.group_add("group", channel)
    receiver = asyncio.create_task(one.receive("jobs"))
    await one.group_send("group", message_with(1))
    await owner.woken(1)
    owner.inbox.take()
    server.flush()
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

    names = {"sealane", "sealane-reader"}
    sending = asyncio.create_task(send())
    received = []
    for number in range(300):
        if number in (50, 100, 150):
            for layer in (one, two):
                for branch in mailbox_of(layer).branches:
                    own = [client for client in valkey_server.clients() if client["name"] in names]
                    assert own
                    assert branch.link.connected or branch.link.queued >= 0
            await asyncio.to_thread(valkey_server.kill_clients, name="sealane*")
        received.append((await next_message(one, channel))["value"])
    await sending
    assert received == list(range(300))
    assert one.stats()["lost"] == 0
    assert one.stats()["reconnects"] >= 2


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
    layer = make_on(server, timeout=0.3)
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    with server.paused():
        with pytest.raises(ChannelLayerUnavailable, match=r"no reply within 0\.3 s"):
            await layer.send("plain", message_with(1))
        with pytest.raises(ChannelLayerUnavailable):
            await layer.group_add("other", channel)
        health = await layer.health()
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
    layer = make_on(server, timeout=0.3)
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


# Operators


async def test_health(make: Make) -> None:
    layer = make()
    await layer.new_channel()
    health = await layer.health()
    assert health.reachable
    assert health.latency is not None
    assert 0 < health.latency < 5
    assert health.backlog == 0
    assert [shard.role for shard in health.shards] == ["master"] * len(layer.places)
    assert [shard.place for shard in health.shards] == [place.label for place in layer.places]


async def test_repr_holds_no_password(make_on: Make, new_server: Callable[..., Server]) -> None:
    server = new_server(password="tiger")
    layer = make_on(server, symmetric_encryption_keys=["lion"])
    await layer.send("plain", message_with(1))
    text = repr(layer)
    assert re.fullmatch(
        rf"<RedisChannelLayer 127\.0\.0\.1:{server.port}/0 prefix='{layer.prefix}' channels=0 groups=0 waiting=1 "
        r"lost=0 reconnects=0 dropped=0>",
        text,
    )
    assert "tiger" not in repr(layer.options)
    assert "lion" not in repr(layer.options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lease": 0}, "lease is 0; expected a number of seconds above 0"),
        ({"maxlen": 1.5}, "maxlen is 1.5; expected a whole number of entries above 0"),
        ({"timeout": "5"}, "timeout is '5'; expected a number of seconds above 0"),
        ({"hosts": "http://x"}, "hosts"),
        ({"prefix": ""}, "prefix is ''"),
        ({"prefix": b"asgi"}, "prefix is b'asgi'; expected a str that is not empty"),
        ({"prefix": "a{b}", "cluster": True}, "prefix is 'a{b}'; expected one without braces"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=re.escape(words)):
        RedisChannelLayer(**options)


async def test_two_layers_with_different_prefixes_are_strangers(valkey_server: Server, key_prefix: str) -> None:
    async with (
        RedisChannelLayer([valkey_server.url], prefix=key_prefix) as one,
        RedisChannelLayer([valkey_server.url], prefix=f"{key_prefix}x") as two,
    ):
        await two.send("plain", message_with("theirs"))
        await one.send("plain", message_with("mine"))
        await one.flush()
        assert await next_message(two, "plain") == message_with("theirs")


async def test_a_flush_reaches_every_process(make: Make) -> None:
    one, two = make(), make()
    channel = await two.new_channel()
    owner = Owner(two, channel)
    await two.group_add("group", channel)
    await two.send(channel, message_with(1))
    await one.send("plain", message_with(1))
    await owner.holds(1)
    await one.flush()
    await until(lambda: len(owner.inbox) == 0)
    await one.group_send("group", message_with(2))
    await one.send(channel, message_with(3))
    await owner.holds(1)
    assert owner.inbox.take() == message_with(3)
    assert one.stats()["dropped_flushed"] + two.stats()["dropped_flushed"] == 2


def test_gaps_add_up() -> None:
    assert Gap("trimmed", 2, 1.0).merge(Gap("rewound", 3, 0.5)) == Gap("rewound", 5, 1.0)
    assert Gap("trimmed", 2).merge(Gap("forgotten")).lost is None

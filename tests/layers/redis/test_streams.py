"""RedisChannelLayer between processes, and what becomes of calls that race.

A second layer with the same prefix stands for another process: it shares nothing with the first but the server.
"""

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from sealane.exceptions import ChannelClosed, InvalidChannelLayerError
from sealane.layers import Gap, InMemoryChannelLayer
from sealane.layers.redis.stream_branch import StreamBranch
from sealane.layers.redis.streams import RedisChannelLayer
from sealane.testing.layer_contract._harness import Owner, cancel, message_with, next_message, reaches, turns, until
from tests.layers.redis.streams import Make, all_read, mailbox_of, settled, waiting
from tests.servers import Server

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
    before = branch.progress.number
    await one.group_send("group", message_with(1))
    await until(lambda: branch.progress.number > before)
    await all_read(two)
    assert branch.progress.number == before + 1
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

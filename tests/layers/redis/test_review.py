"""What a server may lose or refuse without a word, and how RedisChannelLayer finds out."""

import asyncio
import threading
from collections.abc import Callable

import pytest
import redis

from sealane.layers.redis.flush import drop
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.scripts import STREAM_SCRIPTS
from sealane.layers.redis.streams import RedisChannelLayer
from sealane.testing.layer_contract._harness import Owner, message_with, next_message, until
from tests.layers.redis.streams import Make, home_of, mailbox_of
from tests.servers import Server


def test_a_full_memory_costs_nobody_a_membership(new_server: Callable[..., Server]) -> None:
    server = new_server(maxmemory="6mb")
    with redis.Redis.from_url(server.url) as client:
        client.set("p:l:one", 5, px=60_000)
        client.hset("p:g:group", mapping={"mtwo": ""})
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError):
            client.eval(STREAM_SCRIPTS.rejoin.source, 1, "p", "one", "group")
        assert client.hgetall("p:g:group") == {b"mtwo": b""}
        client.config_set("maxmemory", 0)
        assert client.eval(STREAM_SCRIPTS.rejoin.source, 1, "p", "one", "group") == [1, 5]
        assert client.eval(STREAM_SCRIPTS.rejoin.source, 1, "p", "one", "group") == [0, 5]
        client.set("p:g:group", "spoilt")
        assert client.eval(STREAM_SCRIPTS.rejoin.source, 1, "p", "one", "group") == [1, 5]
        assert client.eval(STREAM_SCRIPTS.rejoin.source, 1, "p", "two", "group") == [0, 0]


async def test_a_join_that_a_restart_took_back_is_made_again_and_told(
    make_on: Make, new_server: Callable[..., Server]
) -> None:
    server = new_server()
    layer = make_on(server)
    channel = await layer.new_channel()
    owner = Owner(layer, channel)
    await layer.group_add("old", channel)
    with redis.Redis.from_url(server.url) as client:
        client.save()
    await layer.group_add("new", channel)
    server.kill()
    server.start()
    await until(lambda: owner.inbox.gap is not None)
    assert owner.inbox.gap is not None
    assert owner.inbox.gap.reason == "rewound"
    assert server.keys(f"{layer.prefix}:g:new")


async def test_a_group_that_was_evicted_is_told_again(make_on: Make, new_server: Callable[..., Server]) -> None:
    server = new_server()
    one, two = make_on(server), make_on(server)
    channel = await one.new_channel()
    await one.group_add("group", channel)
    await one.group_add("other", channel)
    with redis.Redis.from_url(server.url) as client:
        client.delete(f"{one.prefix}:g:group")
    home_of(one).beat()
    await until(lambda: one.stats()["gaps"] == 1)
    await two.group_send("group", message_with(1))
    assert await next_message(one, channel) == message_with(1)
    await one.group_discard("group", channel)
    await until(lambda: not server.keys(f"{one.prefix}:g:group"))
    for _ in range(3):
        home_of(one).beat()
        await home_of(one).link.call("PING")
    assert not server.keys(f"{one.prefix}:g:group")
    assert one.stats()["gaps"] == 1


def test_adopting_makes_the_stream_of_an_ended_lease_anew(new_server: Callable[..., Server]) -> None:
    with redis.Redis.from_url(new_server().url) as client:
        client.xadd("p:m:one", {"cchannel": "payload"}, id="20-1")
        arguments = ("p:s:other", "p", "", 100, "one", 15_000, "group", "channel")
        assert client.eval(STREAM_SCRIPTS.adopt.source, 2, *arguments) == 2
        assert [fields for _, fields in client.xrange("p:m:one")] == [{b"+group": b"channel"}]


async def test_a_counter_that_was_made_anew_is_noticed(make_on: Make, new_server: Callable[..., Server]) -> None:
    server = new_server()
    one, two = make_on(server), make_on(server)
    channel = await one.new_channel()
    await one.group_add("group", channel)
    for number in range(5):
        await two.group_send("group", message_with(number))
        assert await next_message(one, channel) == message_with(number)
    identity = mailbox_of(one).id
    with redis.Redis.from_url(server.url) as client, client.pipeline() as pipeline:
        # As another process leaves it that lets a channel join just after the lease has ended.
        pipeline.delete(f"{one.prefix}:l:{identity}")
        adopt = ("p:s:other", one.prefix, "", 100, identity, 60_000, "later", channel)
        pipeline.eval(STREAM_SCRIPTS.adopt.source, 2, *adopt)
        pipeline.execute()
    home_of(one).beat()
    await until(lambda: one.stats()["gaps"] > 0 and home_of(one).progress.number >= 6)
    await two.group_send("group", message_with(5))
    assert await next_message(one, channel) == message_with(5)


async def test_what_could_not_be_restored_is_tried_again(make_on: Make, new_server: Callable[..., Server]) -> None:
    server = new_server()
    layer = make_on(server, lease=0.3)
    await layer.group_add("group", await layer.new_channel())
    branch = home_of(layer)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        client.delete(f"{layer.prefix}:g:group")
        branch.heal()
        await until(lambda: bool(branch.restoration.untold))
        client.config_set("maxmemory", 0)
    await until(lambda: not branch.restoration.untold and bool(server.keys(f"{layer.prefix}:g:group")))


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer])
@pytest.mark.parametrize("turns", [1, 2, 5])
async def test_a_close_that_is_cancelled_leaves_nothing_open(
    kind: type[RedisChannelLayer | RedisPubSubChannelLayer], turns: int, valkey_server: Server, key_prefix: str
) -> None:
    layer = kind([valkey_server.url], prefix=key_prefix)
    before = asyncio.all_tasks()
    await layer.group_add("group", await layer.new_channel())
    closing = asyncio.create_task(layer.close())
    for _ in range(turns):
        await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    await until(lambda: asyncio.all_tasks() <= before)


async def test_an_error_reply_does_not_keep_a_layer_from_closing(valkey_server: Server, key_prefix: str) -> None:
    layer = RedisChannelLayer([valkey_server.url], prefix=key_prefix)
    before = asyncio.all_tasks()
    await layer.group_add("group", await layer.new_channel())
    groups = f"{key_prefix}:b:{mailbox_of(layer).id}"
    with redis.Redis.from_url(valkey_server.url) as client:
        client.delete(groups)
        client.set(groups, "spoilt")
    await layer.close()
    assert asyncio.all_tasks() <= before


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer])
def test_a_loop_that_ends_after_a_receive_swallows_no_message(
    kind: type[RedisChannelLayer | RedisPubSubChannelLayer], valkey_server: Server, key_prefix: str
) -> None:
    layer = kind([valkey_server.url], prefix=key_prefix)

    async def poll() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(layer.receive("jobs"), 0.2)

    # A thread: this one's loop is the test runner's.
    thread = threading.Thread(target=asyncio.run, args=(poll(),))
    thread.start()
    thread.join()
    layer.sync.send("jobs", message_with(1))
    assert layer.sync.receive("jobs", timeout=20) == message_with(1)
    layer.sync.disconnect()


@pytest.mark.parametrize("moment", ["before the mark", "before the mark is read"])
async def test_a_flush_by_another_process_is_no_gap(make_on: Make, valkey_server: Server, moment: str) -> None:
    """A round of confirming finds no memberships after the flush has dropped them, and before this loop knows of it."""
    one, two = make_on(valkey_server), make_on(valkey_server)
    channel = await one.new_channel()
    owner = Owner(one, channel)
    await one.group_add("group", channel)
    branch, other = home_of(one), home_of(two)
    await drop(other)
    if moment == "before the mark":
        branch.restoration.confirm_all()
        await branch.link.call("PING")
        await other.run(STREAM_SCRIPTS.mark_flush, 100, "", "0" * 16)
    else:
        await branch.reader.close()
        await other.run(STREAM_SCRIPTS.mark_flush, 100, "", "0" * 16)
        branch.restoration.confirm_all()
        await branch.link.call("PING")
        branch.reader = branch.make_reader()
        branch.reader.start()
    await two.send(channel, message_with(1))
    await owner.holds(1)
    assert one.stats()["gaps"] == 0
    assert one.stats()["groups"] == 0
    if moment == "before the mark":
        assert not valkey_server.keys(f"{one.prefix}:g:group")
    # What was brought back lasts until something is sent there.
    await two.group_send("group", message_with(2))
    await until(lambda: not valkey_server.keys(f"{one.prefix}:g:group"))

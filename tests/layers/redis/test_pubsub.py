"""What the pub/sub layer does beside the contract: what it subscribes to and when, what it costs, what it tells."""

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Protocol

import pytest
from cryptography.fernet import Fernet

from sealane.exceptions import ChannelClosed, ChannelLayerUnavailable, InvalidChannelLayerError
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.topic_branch import TopicBranch
from sealane.layers.redis.topics import frame
from sealane.layers.redis.wire import make_mailbox_id, name_channel
from sealane.types import Message
from tests.layers.redis.faults.traffic import Listener
from tests.layers.redis.relay import Relay
from tests.servers import Cluster, Server

#: Seconds in which anything that a layer owes must have happened.
LIMIT = 10.0


class NewLayer(Protocol):
    """Makes a layer with the test's key prefix. Two of them are like two processes."""

    def __call__(self, hosts: Any, **options: Any) -> RedisPubSubChannelLayer: ...


@pytest.fixture
async def new_layer(key_prefix: str) -> AsyncIterator[NewLayer]:
    layers: list[RedisPubSubChannelLayer] = []

    def make(hosts: Any, **options: Any) -> RedisPubSubChannelLayer:
        layers.append(RedisPubSubChannelLayer(hosts, **{"prefix": key_prefix, **options}))
        return layers[-1]

    yield make
    for layer in layers:
        async with asyncio.timeout(LIMIT):
            await layer.close()


def branch_of(layer: RedisPubSubChannelLayer, shard: int = 0) -> TopicBranch:
    branch = layer.here().branch(shard)
    assert isinstance(branch, TopicBranch)
    return branch


def listeners(server: Server, topic: str) -> int:
    """Return how many connections have subscribed to a topic."""
    return int(server.command("PUBSUB", "NUMSUB", topic)[1])


async def received(layer: RedisPubSubChannelLayer, channel: str) -> Message:
    async with asyncio.timeout(LIMIT):
        return await layer.receive(channel)


async def eventually(condition: Any) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.005)


def holds(server: Server, topic: str, count: int) -> bool:
    return listeners(server, topic) == count


def has(listener: Listener, count: int) -> bool:
    return len(listener.messages) == count


def text(value: Any) -> Message:
    return {"type": "x", "value": value}


# What it subscribes to


async def test_a_group_is_subscribed_to_while_it_has_a_member_here(
    valkey_server: Server, new_layer: NewLayer, key_prefix: str
) -> None:
    layer = new_layer([valkey_server.url])
    one, two = await layer.new_channel(), await layer.new_channel()
    topic = f"{key_prefix}:g:room"
    assert listeners(valkey_server, topic) == 0
    await layer.group_add("room", one)
    assert listeners(valkey_server, topic) == 1
    await layer.group_add("room", two)
    await layer.group_discard("room", one)
    await layer.group_discard("room", "another")
    assert listeners(valkey_server, topic) == 1
    await layer.close_channel(two)
    await eventually(lambda: listeners(valkey_server, topic) == 0)
    await layer.group_add("room", two)
    assert listeners(valkey_server, topic) == 0
    assert branch_of(layer).subscriber.topics == 2


async def test_closing_the_layer_leaves_nothing_at_the_server(
    valkey_server: Server, new_layer: NewLayer, key_prefix: str
) -> None:
    layer = new_layer([valkey_server.url])
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    await layer.group_send("room", text(1))
    assert await received(layer, channel) == text(1)
    await layer.close()
    await eventually(lambda: valkey_server.command("PUBSUB", "CHANNELS", f"{key_prefix}*") == [])
    # The link's count of its calls expires.
    assert [key for key in valkey_server.keys(f"{key_prefix}*") if b":s:" not in key] == []


async def test_joins_of_one_turn_leave_together(new_server: Any, new_layer: NewLayer) -> None:
    server = new_server()
    layer = new_layer([server.url])
    channel = await layer.new_channel()
    before = server.command_calls()
    groups = [f"group.{number}" for number in range(200)]
    await asyncio.gather(*(layer.group_add(group, channel) for group in groups))
    after = server.command_calls()
    assert after["subscribe"] - before.get("subscribe", 0) == 1
    await asyncio.gather(*(layer.group_send(group, text(group)) for group in groups[:50]))
    assert sorted([(await received(layer, channel))["value"] for _ in range(50)]) == sorted(groups[:50])


async def test_a_message_is_published_once_however_many_members_there_are(new_server: Any, new_layer: NewLayer) -> None:
    server = new_server()
    # No layer looks after its lease or its connection meanwhile.
    here, there = (new_layer([server.url], lease=300, timeout=60) for _ in range(2))
    channels = [await here.new_channel() for _ in range(300)]
    await asyncio.gather(*(here.group_add("room", channel) for channel in channels))
    await there.group_send("room", text(0))
    for channel in channels:
        assert await received(here, channel) == text(0)
    before = server.command_calls()
    await there.group_send("room", text(1))
    for channel in channels:
        assert await received(here, channel) == text(1)
    spent = {
        name: count - before.get(name, 0)
        for name, count in server.command_calls().items()
        if count != before.get(name, 0) and name != "info"
    }
    # What the script does is counted beside it.
    assert spent == {"evalsha": 1, "get": 1, "incr": 1, "time": 1, "publish": 1, "hgetall": 1}


async def test_what_is_sent_after_a_join_arrives(valkey_server: Server, new_layer: NewLayer) -> None:
    here, there = new_layer([valkey_server.url]), new_layer([valkey_server.url])
    for number in range(100):
        channel = await here.new_channel()
        await here.group_add(f"group.{number}", channel)
        await there.group_send(f"group.{number}", text(number))
        assert await received(here, channel) == text(number)


async def test_the_last_call_of_a_membership_counts(
    valkey_server: Server, new_layer: NewLayer, key_prefix: str
) -> None:
    layer = new_layer([valkey_server.url])
    chance = random.Random(7)
    channels = [await layer.new_channel() for _ in range(3)]
    for round_ in range(60):
        calls = []
        joined = dict.fromkeys(channels, False)
        for _ in range(chance.randint(1, 6)):
            channel = chance.choice(channels)
            joined[channel] = chance.random() < 0.5
            call = layer.group_add if joined[channel] else layer.group_discard
            calls.append(asyncio.ensure_future(call("room", channel)))
            if chance.random() < 0.3:
                calls.append(asyncio.ensure_future(layer.group_send("room", text("noise"))))
            for _ in range(chance.randint(0, 3)):
                await asyncio.sleep(0)
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*calls)
        await layer.group_send("room", text(round_))
        for channel in channels:
            await layer.send(channel, text("end"))
            got = []
            while (message := await received(layer, channel))["value"] != "end":
                got.append(message["value"])
            assert (round_ in got) == joined[channel], (round_, channel, joined, got)
        topic = f"{key_prefix}:g:room"
        await eventually(partial(holds, valkey_server, topic, int(any(joined.values()))))
        for channel in channels:
            await layer.group_discard("room", channel)


async def test_leaving_comes_after_what_was_sent_before(valkey_server: Server, new_layer: NewLayer) -> None:
    layer = new_layer([valkey_server.url])
    leaves, stays = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("room", stays)
    for number in range(100):
        await layer.group_add("room", leaves)
        await layer.group_send("room", text(number))
        await layer.group_discard("room", leaves)
        await layer.group_send("room", text("late"))
        assert await received(layer, leaves) == text(number)
        assert [(await received(layer, stays))["value"] for _ in range(2)] == [number, "late"]
    await layer.send(leaves, text("end"))
    assert await received(layer, leaves) == text("end")


async def test_a_join_that_is_cancelled_has_happened(valkey_server: Server, new_layer: NewLayer) -> None:
    layer = new_layer([valkey_server.url])
    channel = await layer.new_channel()
    joining = asyncio.ensure_future(layer.group_add("room", channel))
    await asyncio.sleep(0)
    joining.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joining
    await layer.group_add("other", channel)
    await layer.group_send("room", text(1))
    assert await received(layer, channel) == text(1)


async def test_a_database_hears_nothing_of_another(valkey_server: Server, new_layer: NewLayer, key_prefix: str) -> None:
    first = new_layer([f"redis://{valkey_server.host}:{valkey_server.port}/0"])
    second = new_layer([f"redis://{valkey_server.host}:{valkey_server.port}/1"])
    channels = [await first.new_channel(), await second.new_channel()]
    await first.group_add("room", channels[0])
    await second.group_add("room", channels[1])
    assert listeners(valkey_server, f"{key_prefix}/1:g:room") == 1
    await first.group_send("room", text("first"))
    await second.group_send("room", text("second"))
    assert await received(first, channels[0]) == text("first")
    assert await received(second, channels[1]) == text("second")


# Channels of other processes


async def test_a_channel_of_another_process_joins_and_leaves(
    valkey_server: Server, second_server: Server, new_layer: NewLayer
) -> None:
    hosts = [valkey_server.url, second_server.url]
    here, there = new_layer(hosts), new_layer(hosts)
    channel = await here.new_channel()
    for number in range(10):
        group = f"group.{number}"
        await there.group_add(group, channel)
        await there.group_send(group, text(number))
        assert await received(here, channel) == text(number)
        await there.group_discard(group, channel)
        await there.group_send(group, text("late"))
    await there.close_channel(channel)
    with pytest.raises(ChannelClosed):
        await received(here, channel)
    # It joins nothing, and is said so.
    await there.group_add("room", channel)


async def test_a_thread_has_a_channel_of_a_loop_join(valkey_server: Server, new_layer: NewLayer) -> None:
    here, there = new_layer([valkey_server.url]), new_layer([valkey_server.url])
    channel = await here.new_channel()

    def work() -> None:
        for layer in (here, there):
            layer.sync.group_add("room", channel)
            layer.sync.group_send("room", text(1))
            layer.sync.group_discard("room", channel)
            layer.sync.group_send("room", text(2))
            layer.sync.send(channel, text(3))

    await asyncio.to_thread(work)
    assert [(await received(here, channel))["value"] for _ in range(4)] == [1, 3, 1, 3]
    assert valkey_server.keys(f"{here.prefix}:a:*") == []
    await asyncio.to_thread(there.sync.close)


async def test_a_channel_whose_process_is_gone_joins_nothing(valkey_server: Server, new_layer: NewLayer) -> None:
    layer = new_layer([valkey_server.url])
    gone = name_channel("specific", make_mailbox_id())
    await layer.group_add("room", gone)
    await layer.group_discard("room", gone)
    await asyncio.to_thread(layer.sync.group_add, "room", gone)
    await layer.group_send("room", text(1))
    await layer.send(gone, text(2))
    with pytest.raises(ChannelClosed):
        await received(layer, gone)
    stats = layer.stats()
    assert (stats["addressed"], stats["dropped_closed"]) == (1, 1)


async def test_whoever_does_not_answer_is_waited_for_only_so_long(
    valkey_server: Server, new_layer: NewLayer, key_prefix: str
) -> None:
    layer = new_layer([valkey_server.url], timeout=1.5)
    mailbox = make_mailbox_id()
    # Somebody who listens, and says nothing.
    with valkey_server.connect() as silent:
        silent.command("SUBSCRIBE", f"{key_prefix}:m:{mailbox}")
        channel = name_channel("specific", mailbox)
        calls = layer.group_add("room", channel), asyncio.to_thread(layer.sync.group_add, "room", channel)
        # At the same time, since each waits for its whole time.
        for joining in [asyncio.ensure_future(call) for call in calls]:
            with pytest.raises(ChannelLayerUnavailable, match=r"did not answer within 1.5 s.*may have been") as caught:
                await joining
            assert caught.value.sent


async def test_whoever_asks_before_anything_is_heard_gets_one_delivery(
    valkey_server: Server, new_layer: NewLayer, key_prefix: str
) -> None:
    there = new_layer([valkey_server.url])
    for number in range(3):
        await there.send("jobs", text(number))
    async with Relay(valkey_server) as relay:
        here = new_layer([relay.url])
        # The server takes the subscription, and the loop does not know it yet.
        relay.trap = b"SUBSCRIBE"
        asking = asyncio.create_task(here.receive_delivery("jobs"))
        await eventually(lambda: listeners(valkey_server, f"{key_prefix}:m:{here.here().id}") == 1)
        # Whatever was called before was carried out before.
        await here.send("other", text(0))
        relay.trap = None
        (line,) = [line for line in relay.lines if b"SUBSCRIBE" in line.begun]
        line.to_client.set()
        async with asyncio.timeout(LIMIT):
            deliveries = [await asking, await here.receive_delivery("jobs")]
            fence = branch_of(here).subscriber.fence()
            assert fence is not None
            await fence
            await branch_of(here).link.call("PING")
        assert [(item.message, item.attempt) for item in deliveries] == [(text(0), 1), (text(1), 1)]
        assert here.stats()["released"] == 0
        for delivery in deliveries:
            assert await delivery.ack()
        await here.close()


# Losses


async def test_a_lost_connection_is_told_and_counted(new_server: Any, new_layer: NewLayer, key_prefix: str) -> None:
    server = new_server()
    here, there = new_layer([server.url]), new_layer([server.url])
    groups = [f"group.{number}" for number in range(50)]
    owner = await Listener.of(here, *groups)
    other = await Listener.of(there, groups[0])
    subscribed = server.command_calls()["subscribe"]
    killed = server.kill_clients(name="sealane-subscriber")
    assert killed == 2
    await owner.until(lambda: owner.gaps, "a gap")
    await other.until(lambda: other.gaps, "a gap")
    (gap,) = owner.gaps
    assert (gap.reason, gap.lost) == ("disconnected", None)
    assert 0 <= gap.seconds < LIMIT
    # All at once, and when the gap is told it is done.
    assert server.command_calls()["subscribe"] - subscribed == 2
    for group in groups:
        await there.group_send(group, text(group))
    await owner.until(lambda: len(owner.messages) == len(groups), "what was sent afterwards")
    assert here.stats()["gaps"] == 1
    assert here.stats()["reconnects"] == 1


@pytest.mark.untraced
async def test_thousands_of_groups_are_subscribed_to_again(new_server: Any, new_layer: NewLayer) -> None:
    server = new_server()
    layer = new_layer([server.url])
    owner = await Listener.of(layer)
    await asyncio.gather(*(layer.group_add(f"group.{number}", owner.channel) for number in range(1500)))
    subscribed = server.command_calls()["subscribe"]
    server.kill_clients(name="sealane-subscriber")
    await owner.until(lambda: owner.gaps, "a gap")
    assert server.command_calls()["subscribe"] - subscribed == 2
    await layer.group_send("group.1499", text(1))
    await owner.until(lambda: owner.messages, "a message")


async def test_the_first_connection_is_no_gap(new_server: Any, new_layer: NewLayer) -> None:
    server = new_server()
    layer = new_layer([server.url])
    await asyncio.to_thread(server.stop)
    creating = asyncio.ensure_future(layer.new_channel())
    await asyncio.sleep(0.2)
    await asyncio.to_thread(server.start)
    async with asyncio.timeout(LIMIT):
        channel = await creating
    await layer.group_add("room", channel)
    await layer.group_send("room", text(1))
    assert await received(layer, channel) == text(1)
    assert layer.stats()["gaps"] == 0


async def test_joining_without_a_server_fails_in_time_and_leaves_no_member(
    new_server: Any, new_layer: NewLayer
) -> None:
    server = new_server()
    layer = new_layer([server.url], timeout=1)
    stays, fails = await layer.new_channel(), await layer.new_channel()
    await layer.group_add("room", stays)
    await asyncio.to_thread(server.stop)
    await eventually(lambda: not branch_of(layer).subscriber.connected)
    for joins in ([(fails, "room"), (fails, "other")], [(stays, "room")]):
        # At the same time, since each waits for its whole time.
        for joined in [asyncio.ensure_future(layer.group_add(group, channel)) for channel, group in joins]:
            with pytest.raises(ChannelLayerUnavailable, match=r"not subscribed within 1 s .*it was not carried out"):
                await joined
    await asyncio.to_thread(server.start)
    await eventually(lambda: layer.stats()["gaps"] == 1 and branch_of(layer).link.connected)
    # The member that there was before is one still.
    await layer.group_send("other", text(0))
    await layer.group_send("room", text(1))
    assert await received(layer, stays) == text(1)
    await layer.send(fails, text(2))
    assert await received(layer, fails) == text(2)


async def test_a_server_that_says_nothing_is_given_up(new_server: Any, new_layer: NewLayer) -> None:
    server = new_server()
    layer = new_layer([server.url], timeout=1.5)
    owner = await Listener.of(layer, "room")
    with server.paused():
        await eventually(lambda: not branch_of(layer).subscriber.connected)
    assert "no answer within 1.5 s" in (branch_of(layer).subscriber.error or "")
    await owner.until(lambda: owner.gaps, "a gap")
    assert owner.gaps[0].seconds >= 1.5
    await layer.group_send("room", text(1))
    await owner.until(lambda: owner.messages, "a message")


async def test_an_idle_connection_is_tested_and_kept(new_server: Any, new_layer: NewLayer) -> None:
    server = new_server()
    layer = new_layer([server.url], timeout=1.5)
    await layer.new_channel()
    pings = server.command_calls().get("ping", 0)
    await eventually(lambda: server.command_calls()["ping"] >= pings + 2)
    assert branch_of(layer).subscriber.connects == 1


async def test_what_is_published_elsewhere_is_noticed(new_server: Any, new_layer: NewLayer) -> None:
    # As after a failover: calls go to the new master, and the old one is listened to.
    old, new = new_server(), new_server()
    layer = new_layer([old.url], lease=0.6)
    owner = await Listener.of(layer, "room")
    await layer.group_send("room", text(0))
    branch = branch_of(layer)
    other = new_layer([new.url])
    branch.link.place = other.places[0]
    branch.subscriber.place = other.places[0]
    assert old.kill_clients(name="sealane") == 1
    await owner.until(lambda: owner.gaps, "a gap")
    await layer.group_send("room", text(1))
    await owner.until(lambda: text(1) in owner.messages, "a message")
    assert branch.subscriber.connects == 2


async def test_a_waiter_without_a_connection_is_passed_over(valkey_server: Server, new_layer: NewLayer) -> None:
    gone, here = new_layer([valkey_server.url]), new_layer([valkey_server.url])
    first = asyncio.ensure_future(gone.receive("jobs"))
    await eventually(lambda: valkey_server.command("LLEN", f"{here.prefix}:w:jobs") == 1)
    # It is not told, and loses its connection for good.
    await branch_of(gone).subscriber.close()
    second = asyncio.ensure_future(here.receive("jobs"))
    await eventually(lambda: valkey_server.command("LLEN", f"{here.prefix}:w:jobs") == 2)
    await here.send("jobs", text(1))
    async with asyncio.timeout(LIMIT):
        assert await second == text(1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_whoever_waits_for_a_plain_channel_is_entered_again(new_server: Any, new_layer: NewLayer) -> None:
    server = new_server()
    here, there = new_layer([server.url]), new_layer([server.url])
    waiting = [asyncio.ensure_future(here.receive("jobs")) for _ in range(3)]
    owner = Listener(here, "owned")
    await eventually(lambda: server.command("LLEN", f"{here.prefix}:w:jobs") == 3)
    server.kill_clients(name="sealane-subscriber")
    await owner.until(lambda: owner.gaps, "a gap")
    await eventually(lambda: server.command("LLEN", f"{here.prefix}:w:jobs") == 3)
    await asyncio.to_thread(server.flush)
    await eventually(lambda: here.stats()["gaps"] == 1)
    branch_of(here).beat()
    await eventually(lambda: server.command("LLEN", f"{here.prefix}:w:jobs") == 3)
    for number in range(3):
        await there.send("jobs", text(number))
    async with asyncio.timeout(LIMIT):
        assert sorted(message["value"] for message in await asyncio.gather(*waiting)) == [0, 1, 2]
    await there.send("owned", text("mine"))
    await owner.until(lambda: owner.messages, "a message")


@pytest.mark.untraced
async def test_a_burst_does_not_overflow_a_receiver_that_keeps_up(valkey_server: Server, new_layer: NewLayer) -> None:
    # The burst is what is looked at, not how long a busy machine takes for it.
    here = new_layer([valkey_server.url], capacity=20, timeout=30)
    there = new_layer([valkey_server.url], timeout=30)
    channel = await here.new_channel()
    owner = Listener(here, await here.new_channel())
    await here.group_add("room", owner.channel)

    async def take() -> list[int]:
        return [(await received(here, channel))["value"] for _ in range(2000)]

    taking = asyncio.ensure_future(take())
    await asyncio.gather(*(there.send(channel, text(number)) for number in range(2000)))
    async with asyncio.timeout(3 * LIMIT):
        assert await taking == list(range(2000))
    await asyncio.gather(*(there.group_send("room", text(number)) for number in range(2000)))
    await owner.until(lambda: len(owner.messages) == 2000, "2000 messages")
    assert here.stats()["dropped_full"] == 0


@pytest.mark.untraced
async def test_sockets_that_come_and_go_disturb_nobody(valkey_server: Server, new_layer: NewLayer) -> None:
    here, there = new_layer([valkey_server.url], capacity=5000), new_layer([valkey_server.url])
    stay = [await Listener.of(here, "room") for _ in range(20)]
    done = False

    async def come_and_go() -> None:
        while not done:
            listener = await Listener.of(here, "room", "other")
            await asyncio.sleep(0.001)
            await here.close_channel(listener.channel)
            numbers = [message["value"] for message in listener.messages]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True

    guests = [asyncio.ensure_future(come_and_go()) for _ in range(10)]
    for number in range(200):
        await there.group_send("room", text(number))
    for listener in stay:
        await listener.until(partial(has, listener, 200), "200 messages")
        assert [message["value"] for message in listener.messages] == list(range(200))
    done = True
    async with asyncio.timeout(LIMIT):
        await asyncio.gather(*guests)
    await eventually(lambda: listeners(valkey_server, f"{here.prefix}:g:other") == 0)


# What is not for it


async def test_what_no_layer_has_published_is_counted(
    valkey_server: Server, new_layer: NewLayer, key_prefix: str
) -> None:
    layer = new_layer([valkey_server.url])
    channel = await layer.new_channel()
    topic = branch_of(layer).topic
    rubbish = [
        b"",
        b"\x00",
        b"\xff",
        b"\x01?",
        frame(b"?what", b""),
        frame(b"c\xff\xfe", b"x"),
        frame(b"pshort", b"x"),
        frame(b"p" + b"x" * 29 + b"jobs", b"x"),
        frame(b"+\xff", b"\xff"),
        frame(b"k\xff", b""),
        frame(b"kunknown", b""),
    ]
    for data in rubbish:
        assert valkey_server.command("PUBLISH", topic, data) == 1
    await layer.send(channel, text(1))
    assert await received(layer, channel) == text(1)
    # The last two look like answers that nobody waits for any more.
    assert layer.stats()["foreign"] == len(rubbish) - 2
    assert layer.stats()["gaps"] == 0


async def test_a_message_that_cannot_be_decrypted_is_dropped(valkey_server: Server, new_layer: NewLayer) -> None:
    keys = [Fernet.generate_key(), Fernet.generate_key()]
    here = new_layer([valkey_server.url], symmetric_encryption_keys=keys)
    old = new_layer([valkey_server.url], symmetric_encryption_keys=keys[1:])
    strange = new_layer([valkey_server.url], symmetric_encryption_keys=[Fernet.generate_key()])
    channel = await here.new_channel()
    await here.group_add("room", channel)
    for layer in (strange, old):
        await layer.send(channel, text("sent"))
        await layer.group_send("room", text("group"))
        await layer.send("held", text("held"))
    assert [(await received(here, channel))["value"] for _ in range(2)] == ["sent", "group"]
    assert await received(here, "held") == text("held")
    assert here.stats()["undecryptable"] == 3


async def test_a_topic_that_the_user_may_not_subscribe_to_is_refused(new_server: Any, new_layer: NewLayer) -> None:
    server = new_server(users=["alice on >secret ~* resetchannels &*:m:* &*:f &*:g:open* +@all"])
    layer = new_layer([server.url_as("alice", "secret")])
    channel = await layer.new_channel()
    results = await asyncio.gather(
        *(layer.group_add(group, channel) for group in ("open.1", "secret", "open.2")), return_exceptions=True
    )
    assert [type(result) for result in results] == [type(None), ChannelLayerUnavailable, type(None)]
    assert "subscribing was refused" in str(results[1])
    for group in ("open.1", "open.2"):
        await layer.group_send(group, text(group))
        assert await received(layer, channel) == text(group)
    assert layer.stats()["gaps"] == 0


# Options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"maxlen": 100}, "maxlen is 100; RedisPubSubChannelLayer takes no such option.*use RedisChannelLayer"),
        ({"on_disconnect": print}, r"no option on_disconnect; a consumer's on_gap\(\) is called instead"),
        ({"on_reconnect": print}, "no option on_reconnect"),
        ({"lease": 0}, "lease is 0; expected a number of seconds above 0"),
        ({"timeout": "5"}, "timeout is '5'; expected a number of seconds"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_options_that_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=words):
        RedisPubSubChannelLayer(**options)


async def test_repr_and_health(valkey_server: Server, new_layer: NewLayer) -> None:
    layer = new_layer([f"redis://:{'hidden'}@{valkey_server.host}:1", valkey_server.url], timeout=2)
    assert repr(layer).startswith(f"<RedisPubSubChannelLayer {valkey_server.host}:1/0, ")
    assert "hidden" not in repr(layer)
    down, up = (await layer.health()).shards
    assert (down.reachable, up.reachable, up.role) == (False, True, "master")
    assert up.latency is not None


# A Cluster


@pytest.mark.parametrize("name", ["cluster", "redis_cluster"])
async def test_a_cluster_publishes_within_a_shard(
    name: str, request: pytest.FixtureRequest, new_layer: NewLayer, key_prefix: str
) -> None:
    cluster: Cluster = await asyncio.to_thread(request.getfixturevalue, name)
    here, there = new_layer([cluster.hosts]), new_layer([cluster.hosts])
    channel = await here.new_channel()
    groups = [f"group.{number}" for number in range(30)]
    await asyncio.gather(*(here.group_add(group, channel) for group in groups))
    for group in groups:
        await there.group_send(group, text(group))
        assert await received(here, channel) == text(group)
    await there.send(channel, text("direct"))
    assert await received(here, channel) == text("direct")
    await there.send("held", text("held"))
    assert await received(here, "held") == text("held")
    shards = {
        topic for node in cluster.masters() for topic in node.command("PUBSUB", "SHARDCHANNELS", f"{key_prefix}*")
    }
    assert len([topic for topic in shards if b":g:" in topic]) == len(groups)
    assert not any(node.command("PUBSUB", "CHANNELS", f"{key_prefix}*") for node in cluster.masters())
    await there.flush()
    for group in groups:
        await there.group_send(group, text("gone"))
    await there.send(channel, text("last"))
    assert await received(here, channel) == text("last")

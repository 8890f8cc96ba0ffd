"""What is not ours in our keys and on our topics: refused and counted, and nobody else is disturbed."""

import asyncio
import logging
from functools import partial

import pytest

from sealane.exceptions import UndecodableMessage
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.wire import mailbox_id
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, check, sending
from tests.servers import Server

LEASE = 4.0


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "no layer wrote" in record.getMessage()]


@pytest.mark.parametrize(
    "entry",
    [
        ["*", "foo", "bar"],
        ["*", "cnews", "bar", "another", "field"],
        ["next", "foo", "bar"],
        ["next", "f", "a flush?"],
        ["next", "ca.stranger!x", "x"],
        ["next", "+news", "a.stranger!x"],
        ["next", "p", "too short"],
        ["next", b"c\xff\xfe", b"\xff"],
        ["next", "", ""],
        ["later", "foo", "bar"],
    ],
    ids=lambda entry: f"{entry[0]} {entry[1]!r}",
)
async def test_an_entry_in_a_mailbox(
    valkey_server: Server,
    new_layer: NewLayer,
    key_prefix: str,
    entry: list[str | bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is dropped and counted. What it destroyed at the server is told as a gap; another mailbox feels nothing."""
    here, there = new_layer([valkey_server.url], lease=LEASE), new_layer([valkey_server.url], lease=LEASE)
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    news = Sender("news", partial(there.group_send, "news"))
    mailbox = mailbox_id(first.channel)
    number = "redis.call('GET', KEYS[1])"
    ids = {"*": "'*'", "next": f"({number} + 1) .. '-1'", "later": f"({number} + 5000) .. '-1'"}
    script = f"return redis.call('XADD', KEYS[2], {ids[str(entry[0])]}, unpack(ARGV))"
    async with sending(news):
        await news.more(20)
        keys = (f"{key_prefix}:l:{mailbox}", f"{key_prefix}:m:{mailbox}")
        assert await asyncio.to_thread(valkey_server.command, "EVAL", script, 2, *keys, *entry[1:])
        await first.until(lambda: here.stats()["foreign"])
        await news.more(50)
    await check(news, second)
    await check(news, first, lossless=entry[0] == "next")
    assert here.stats()["foreign"] == 1
    assert len(_warnings(caplog)) == 1
    assert key_prefix in _warnings(caplog)[0]
    assert not second.gaps
    assert there.stats()["foreign"] == 0


@pytest.mark.parametrize("data", [b"", b"\x05", b"garbage", b"\x01z", b"\x03c\xff\xffx", b"\x02pqx", b"\x01fxyz"])
async def test_garbage_on_a_topic(
    valkey_server: Server, new_layer: NewLayer, key_prefix: str, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    layers = [new_layer([valkey_server.url], RedisPubSubChannelLayer, lease=LEASE) for _ in range(2)]
    first, second = [await Listener.of(layer, "news") for layer in layers]
    news = Sender("news", partial(layers[1].group_send, "news"))
    async with sending(news):
        await news.more(20)
        topic = f"{key_prefix}:m:{mailbox_id(first.channel)}"
        assert await asyncio.to_thread(valkey_server.command, "PUBLISH", topic, data) == 1
        await first.until(lambda: layers[0].stats()["foreign"])
        await news.more(20)
    await check(news, first, second)
    assert layers[0].stats()["foreign"] == 1
    assert layers[1].stats()["foreign"] == 0
    assert len(_warnings(caplog)) == 1
    assert not [*first.gaps, *second.gaps]


@pytest.mark.parametrize("keys", [None, ["secret"]], ids=["plain", "encrypted"])
async def test_a_payload_that_is_no_message(
    valkey_server: Server,
    new_layer: NewLayer,
    kind: type[RedisLayer],
    key_prefix: str,
    keys: list[str] | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With encryption it goes no further than the mailbox; without, whoever takes it is told what it was."""
    here = new_layer([valkey_server.url], kind, symmetric_encryption_keys=keys)
    listener = await Listener.of(here, "news")
    channel = await here.new_channel()
    await here.group_add("news", channel)
    news = Sender("news", partial(here.group_send, "news"))
    await news.step()
    for garbage in (b"", b"garbage", b"\x93\x01\x02\x03", b"\xc1", b"x" * 10_000):
        if kind is RedisPubSubChannelLayer:
            valkey_server.command("PUBLISH", f"{key_prefix}:g:news", garbage)
        else:
            mailbox = mailbox_id(channel)
            number = valkey_server.command("INCR", f"{key_prefix}:l:{mailbox}")
            stamp = f"{number}-{valkey_server.command('TIME')[0].decode()}000"
            valkey_server.command("XADD", f"{key_prefix}:m:{mailbox}", stamp, "gnews", garbage)
    await news.step()
    await check(news, listener)
    assert (await here.receive(channel))["number"] == 1
    if keys is None:
        assert listener.unreadable == 5
        for _ in range(5):
            with pytest.raises(UndecodableMessage):
                await here.receive(channel)
    else:
        assert listener.unreadable == 0
        assert here.stats()["undecryptable"] == 5
        assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1
    assert (await here.receive(channel))["number"] == 2


@pytest.mark.parametrize(
    ("key", "lossless", "value"),
    [
        ("l:{mailbox}", False, "string"),
        ("l:{mailbox}", False, "set"),
        ("m:{mailbox}", False, "set"),
        ("r", True, "string"),
        ("g:news", True, "string"),
        ("c:jobs", True, "set"),
        ("c:jobs", True, "string"),
    ],
)
async def test_a_key_of_the_wrong_type(
    valkey_server: Server, new_layer: NewLayer, key_prefix: str, key: str, lossless: bool, value: str
) -> None:
    """A key that somebody overwrote is made anew. Who has lost something by it is told; nobody else notices."""
    here, there = new_layer([valkey_server.url], lease=LEASE), new_layer([valkey_server.url], lease=LEASE)
    first, second = await Listener.of(here, "news"), await Listener.of(there, "news")
    news = Sender("news", partial(there.group_send, "news"))
    direct = Sender("direct", partial(there.send, first.channel))
    await there.send("jobs", {"type": "job"})
    name = f"{key_prefix}:{key.format(mailbox=mailbox_id(first.channel))}"
    async with sending(news, direct):
        await news.more(20)
        if value == "string":
            await asyncio.to_thread(valkey_server.command, "SET", name, "garbage")
        else:
            replace = "redis.call('DEL', KEYS[1]) return redis.call('SADD', KEYS[1], 'garbage')"
            await asyncio.to_thread(valkey_server.command, "EVAL", replace, 1, name)
        reached = len(first.numbers("direct"))
        await first.until(lambda: len(first.numbers("direct")) > reached + 50, "more")
        await news.more(20)
        # A process that comes only now is let in as well.
        third = await Listener.of(new_layer([valkey_server.url], lease=LEASE), "news")
        await third.until(lambda: third.numbers("news"))
        if key == "c:jobs":
            # What stood there is gone, and the channel works.
            async with asyncio.timeout(20):
                if value == "string":
                    await there.send("jobs", {"type": "new"})
                    assert (await here.receive("jobs"))["type"] == "new"
                else:
                    receiving = asyncio.create_task(here.receive("jobs"))
                    # The second call of this process comes after the first.
                    await here.health()
                    await there.send("jobs", {"type": "new"})
                    assert (await receiving)["type"] == "new"
    await check(news, second)
    await check(news, first, lossless=lossless)
    await check(direct, first, lossless=lossless)
    # A mailbox that looks whether it is still in its groups tells what it finds, although nothing was sent meanwhile.
    assert {gap.reason for gap in second.gaps} <= ({"rewound"} if key == "g:news" else set())
    assert not news.errors

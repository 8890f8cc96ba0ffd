"""Acknowledged deliveries over Redis, beyond the contract: lost replies, keys, several servers, the cost of waiting."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from sealane.exceptions import (
    ChannelLayerUnavailable,
    InvalidChannelLayerError,
    InvalidDeliveryOption,
    UndecodableMessage,
)
from sealane.layers import Delivery
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.relay import Relay
from tests.layers.redis.streams import Make
from tests.servers import Server

#: Seconds. It only bounds a hang.
LIMIT = 20.0

#: Of a lease that is to end, in seconds: a busy machine is to have time for another call before.
LEASE = 2.0

NewServer = Callable[..., Server]


async def take(layer: RedisLayer, channel: str = "jobs", **terms: Any) -> Delivery:
    async with asyncio.timeout(LIMIT):
        return await layer.receive_delivery(channel, **terms)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(0.005)


async def _ack_whose_reply_is_lost(server: Server, visibility: float, stalls: float) -> tuple[bool, RedisLayer]:
    async with Relay(server) as relay, RedisChannelLayer([relay.url], prefix="lost", timeout=10) as layer:
        await layer.send("jobs", {"type": "x"})
        delivery = await take(layer, visibility_timeout=visibility)
        calls = next(line for line in relay.lines if b"sealane\r\n" in line.begun)
        calls.to_client.clear()
        acking = asyncio.create_task(delivery.ack())
        await until(lambda: not server.keys("lost:d:jobs"))
        await asyncio.sleep(stalls)
        calls.cut()
        async with asyncio.timeout(LIMIT):
            return await acking, layer


async def test_an_acknowledgement_whose_reply_got_lost_was_in_time(new_server: NewServer) -> None:
    good, layer = await _ack_whose_reply_is_lost(new_server(), 60, 0)
    assert good
    assert layer.stats()["delivered"] == 1
    assert layer.stats()["reconnects"] == 1


async def test_after_the_lease_a_lost_reply_counts_as_too_late(new_server: NewServer) -> None:
    # Nobody knows.
    good, layer = await _ack_whose_reply_is_lost(new_server(), 0.2, 1.2)
    assert not good
    assert layer.stats()["leases_lost"] == 1


async def test_an_acknowledgement_that_is_cancelled_was_made_or_not(make: Make) -> None:
    layer = make()
    for number in range(20):
        await layer.send("jobs", {"type": "x", "number": number})
        delivery = await take(layer)
        assert delivery.message["number"] == number
        acking = asyncio.create_task(delivery.ack())
        for _ in range(number % 5):
            await asyncio.sleep(0)
        acking.cancel()
        (outcome,) = await asyncio.gather(acking, return_exceptions=True)
        if isinstance(outcome, asyncio.CancelledError):
            # False where it was made.
            outcome = not await delivery.ack() or True
        assert outcome is True
    await layer.send("jobs", {"type": "x", "number": "last"})
    assert (await take(layer)).message["number"] == "last"
    assert layer.stats()["delivered"] == 20


async def test_a_server_that_is_away_leaves_the_lease(new_server: NewServer, make_on: Make) -> None:
    server = new_server(appendonly=True)
    layer = make_on(server, timeout=1.0)
    await layer.send("jobs", {"type": "x"})
    delivery = await take(layer)
    await asyncio.to_thread(server.kill)
    with pytest.raises(ChannelLayerUnavailable):
        await delivery.ack()
    with pytest.raises(ChannelLayerUnavailable):
        await take(layer)
    await asyncio.to_thread(server.restart)
    sent = False
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                # False where it was made before, and the answer came too late.
                assert await delivery.ack() or sent
                break
            except ChannelLayerUnavailable as error:
                sent = sent or error.sent
    assert not server.keys("*:d:jobs")


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer], ids=["streams", "pubsub"])
async def test_what_no_key_fits_becomes_a_dead_letter_for_those_who_have_it(
    valkey_server: Server, key_prefix: str, kind: type[RedisLayer]
) -> None:
    def make(*keys: str) -> RedisLayer:
        return kind([valkey_server.url], prefix=key_prefix, symmetric_encryption_keys=keys)

    async with make("new") as sender, make("old") as worker:
        await sender.send("jobs", {"type": "x", "number": 1})
        waiting = asyncio.create_task(take(worker))
        async with asyncio.timeout(LIMIT):
            letter = await sender.receive("jobs.dead")
        assert (letter["reason"], letter["attempts"]) == ("undecryptable", 1)
        assert letter["message"] == {"type": "x", "number": 1}
        await worker.send("jobs", {"type": "x", "number": 2})
        assert (await waiting).message["number"] == 2
        stats = worker.stats()
        assert (stats["undecryptable"], stats["dead_lettered"]) == (1, 1)
        # A letter that is given back keeps its form.
        await sender.send("jobs", {"type": "x", "number": 3})
        assert await (await take(sender)).reject("no")
        receiving = asyncio.create_task(sender.receive("jobs.dead"))
        await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)
        letter = (await take(sender, "jobs.dead")).message
        assert (letter["reason"], letter["message"]["number"]) == ("no", 3)
        assert valkey_server.keys(f"{key_prefix}:d:jobs.dead")


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer], ids=["streams", "pubsub"])
async def test_the_reason_of_a_dead_letter_is_encrypted_like_its_message(
    valkey_server: Server, key_prefix: str, kind: type[RedisLayer]
) -> None:
    """It may be the text of an exception, and quote the message."""

    def make(*keys: str) -> RedisLayer:
        return kind([valkey_server.url], prefix=key_prefix, symmetric_encryption_keys=keys)

    def on_server() -> list[bytes]:
        letters: list[bytes] = valkey_server.command("ZRANGE", f"{key_prefix}:c:jobs.dead", 0, -1)
        return letters

    async with make("one") as layer, make("two", "one") as rotating, make("three") as stranger:
        await layer.send("jobs", {"type": "x", "card": "4111-1111"})
        assert await (await take(layer)).reject("ValueError: no such card: 4111-1111")
        (stored,) = on_server()
        assert b"4111-1111" not in stored
        # Given back by somebody who has read it.
        delivery = await take(rotating, "jobs.dead")
        assert delivery.message["reason"] == "ValueError: no such card: 4111-1111"
        await delivery.release()
        async with asyncio.timeout(LIMIT):
            letter = await layer.receive("jobs.dead")
        assert letter["reason"] == "ValueError: no such card: 4111-1111"
        assert letter["message"] == {"type": "x", "card": "4111-1111"}
        # What the layer itself says is no secret.
        await layer.send("jobs", {"type": "x"})
        waiting = asyncio.create_task(take(stranger))
        await until(on_server)
        assert b" undecryptable" in on_server()[0]
        waiting.cancel()


async def test_what_cannot_be_decoded_becomes_a_dead_letter(
    valkey_server: Server, key_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    def make(serializer_format: str) -> RedisLayer:
        return RedisChannelLayer([valkey_server.url], prefix=key_prefix, serializer_format=serializer_format)

    async with make("json") as sender, make("msgpack") as worker:
        await sender.send("jobs", {"type": "x", "number": 1})
        waiting = asyncio.create_task(take(worker))
        letter = (await take(worker, "jobs.dead")).message
        assert (letter["reason"], letter["message"], letter["attempts"]) == ("undecodable", None, 1)
        assert letter["data"] == b'{"type":"x","number":1}'
        await worker.send("jobs", {"type": "x", "number": 2})
        assert (await waiting).message["number"] == 2
    (record,) = [record for record in caplog.records if "cannot be decoded" in record.getMessage()]
    assert "channel 'jobs' becomes a dead letter in 'jobs.dead'" in record.getMessage()


@pytest.mark.parametrize("layer_class", [RedisChannelLayer, RedisPubSubChannelLayer])
async def test_of_several_at_once_the_one_that_cannot_be_decoded_takes_no_other_along(
    valkey_server: Server, key_prefix: str, layer_class: type[RedisLayer]
) -> None:
    def make(serializer_format: str) -> RedisLayer:
        return layer_class([valkey_server.url], prefix=key_prefix, serializer_format=serializer_format)

    async def send_three() -> None:
        for number, layer in ((1, worker), (2, stranger), (3, worker)):
            await layer.send("jobs", {"type": "x", "number": number})

    async with make("json") as stranger, make("msgpack") as worker, asyncio.timeout(LIMIT):
        await send_three()
        first, third = await worker.receive_deliveries("jobs", 3)
        assert (first.message["number"], third.message["number"]) == (1, 3)
        assert await first.ack()
        assert await third.ack()
        assert (await worker.receive("jobs.dead"))["data"] == b'{"type":"x","number":2}'
        await send_three()
        assert await worker.receive_many("jobs", 3) == [{"type": "x", "number": 1}]
        with pytest.raises(UndecodableMessage):
            await worker.receive_many("jobs", 3)
        assert await worker.receive_many("jobs", 3) == [{"type": "x", "number": 3}]


async def test_dead_letters_must_be_in_reach_of_one_script(
    valkey_server: Server, second_server: Server, key_prefix: str
) -> None:
    async with RedisChannelLayer([valkey_server.url, second_server.url], prefix=key_prefix) as layer:
        of_channel = layer.options.shards.of_channel
        names = [f"dead{number}" for number in range(40)]
        far = next(name for name in names if of_channel(name) != of_channel("jobs"))
        near = next(name for name in names if of_channel(name) == of_channel("jobs"))
        with pytest.raises(
            InvalidDeliveryOption, match=f"dead_letter_channel is '{far}'; expected a channel on the same"
        ):
            await take(layer, dead_letter_channel=far)
        await layer.send("jobs", {"type": "x"})
        assert await (await take(layer, dead_letter_channel=near)).reject("no")
        async with asyncio.timeout(LIMIT):
            assert (await layer.receive(near))["reason"] == "no"
        for name in names:
            assert of_channel(f"{name}.dead") == of_channel(f"{name}.dead.dead") == of_channel(name)
        assert of_channel(".dead") in (0, 1)


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer], ids=["streams", "pubsub"])
async def test_who_waits_elsewhere_gets_what_is_due_in_time(
    valkey_server: Server, key_prefix: str, kind: type[RedisLayer]
) -> None:
    """Another process does nothing but wait; it learns of a lease that was made later, and of a retry."""

    def make() -> RedisLayer:
        return kind([valkey_server.url], prefix=key_prefix)

    async with make() as here, make() as there:
        first = asyncio.create_task(take(here, visibility_timeout=LEASE))
        await until(lambda: valkey_server.keys(f"{key_prefix}:w:jobs"))
        second = asyncio.create_task(take(there, visibility_timeout=LEASE))
        await until(lambda: valkey_server.command("LLEN", f"{key_prefix}:w:jobs") == 2)
        began = time.monotonic()
        await here.send("jobs", {"type": "x"})
        lost = await first
        delivery = await second
        assert await delivery.extend(LIMIT)
        assert delivery.attempt == 2
        assert time.monotonic() - began > 0.9 * LEASE
        assert not await lost.ack()
        # On other terms it would look later by itself, later than this test waits.
        third = asyncio.create_task(take(here, visibility_timeout=100))
        await until(lambda: valkey_server.keys(f"{key_prefix}:w:jobs"))
        began = time.monotonic()
        assert await delivery.retry(0.2)
        assert (await third).attempt == 3
        assert time.monotonic() - began > 0.15


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer], ids=["streams", "pubsub"])
async def test_who_was_given_something_is_not_entered_again(
    valkey_server: Server, key_prefix: str, kind: type[RedisLayer]
) -> None:
    """What it was given may still be on its way when it is looked whether the server has forgotten somebody."""
    async with (
        Relay(valkey_server) as relay,
        kind([valkey_server.url], prefix=key_prefix) as there,
        kind([relay.url], prefix=key_prefix) as here,
    ):
        asking = asyncio.create_task(take(here))
        await until(lambda: valkey_server.keys(f"{key_prefix}:w:jobs"))
        (line,) = [line for line in relay.lines if b"XREAD" in line.begun or b"SUBSCRIBE" in line.begun]
        line.to_client.clear()
        for number in range(3):
            await there.send("jobs", {"type": "x", "number": number})
        branch, leasing = here.here().branch(0), here.here().plain.leasing
        for _ in range(3):
            leasing._looking["jobs"].cancel()
            leasing._look("jobs")
            await branch.link.call("PING")
        line.to_client.set()
        deliveries = [await asking, await take(here)]
        assert [delivery.message["number"] for delivery in deliveries] == [0, 1]
        assert here.stats()["released"] == 0
        for delivery in deliveries:
            assert await delivery.ack()


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer], ids=["streams", "pubsub"])
async def test_who_was_forgotten_is_entered_again(
    valkey_server: Server, key_prefix: str, kind: type[RedisLayer]
) -> None:
    # Who waits is looked for after a fifth of the lease of the mailbox.
    async with kind([valkey_server.url], prefix=key_prefix, lease=3) as layer:
        asking = asyncio.create_task(take(layer))
        await until(lambda: valkey_server.keys(f"{key_prefix}:w:jobs"))
        valkey_server.command("DEL", f"{key_prefix}:w:jobs")
        await layer.send("jobs", {"type": "x"})
        assert (await asking).attempt == 1


async def test_waiting_costs_next_to_nothing(new_server: NewServer, make_on: Make) -> None:
    async def those_who_wait(server: Server) -> list[asyncio.Task[Delivery]]:
        layer = make_on(server, lease=5)
        waiting = [asyncio.create_task(take(layer)) for _ in range(5)]
        await until(lambda: any(key.endswith(b":w:jobs") for key in server.keys("*")))
        return waiting

    async def leave(waiting: list[asyncio.Task[Delivery]]) -> None:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def calls_while_they_wait() -> None:
        server = new_server()
        waiting = await those_who_wait(server)
        await asyncio.sleep(0.2)
        began = time.monotonic()
        before = server.command_calls()
        await asyncio.sleep(2)
        calls = server.command_calls()["evalsha"] - before["evalsha"]
        # Each second the mailbox shows that it lives, and it is looked once whether something is due.
        assert calls <= 2 * (time.monotonic() - began + 1)
        await leave(waiting)

    async def calls_afterwards() -> None:
        server = new_server()
        await leave(await those_who_wait(server))
        await until(lambda: not server.keys("*:w:jobs"))
        began = time.monotonic()
        before = server.command_calls()
        await asyncio.sleep(3)
        calls = server.command_calls()["evalsha"] - before["evalsha"]
        # Where nobody waits nobody looks, but for once that was due already.
        assert calls <= time.monotonic() - began + 2

    # On a server each, so that it takes three seconds.
    await asyncio.gather(calls_while_they_wait(), calls_afterwards())


async def test_a_delivery_can_be_acknowledged_after_the_layer_was_closed(make: Make) -> None:
    layer = make()
    await layer.send("jobs", {"type": "x"})
    delivery = await take(layer)
    await layer.close()
    assert await delivery.ack()


async def test_what_comes_for_nobody_is_given_back_uncounted(make: Make) -> None:
    layer, other = make(), make()
    await layer.send("jobs", {"type": "x"})
    gone = asyncio.create_task(take(layer))
    # One turn: it has asked, and the reply cannot have come.
    await asyncio.sleep(0)
    (waiter,) = layer.here().plain.leasing._waiters.values()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert waiter.future.cancelled()
    delivery = await take(other)
    assert delivery.attempt == 1
    assert await delivery.ack()


async def test_expiries_are_checked(key_prefix: str) -> None:
    for wrong in ({"jobs": 0}, {"jobs": "1"}, {7: 1}, [("jobs", 1)], {"jobs": 10_000_000_000}):
        with pytest.raises(InvalidChannelLayerError, match="channel_expiry"):
            RedisChannelLayer(prefix=key_prefix, channel_expiry=wrong)  # type: ignore[arg-type]

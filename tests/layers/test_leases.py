"""Acknowledged deliveries in memory, beyond the contract: clocks, event loops, threads, bounds, and forks."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from sealane.exceptions import AcknowledgementsUnsupported, ChannelFull, InvalidDeliveryOption, UndecodableMessage
from sealane.layers import Delivery, InMemoryChannelLayer
from sealane.layers.dead_letters import LETTER, open_letter, parts, wrap
from sealane.layers.delivery import DEAD_LETTER_CAPACITY, Terms
from sealane.layers.leases import Held, Ledger
from sealane.layers.parcel import Parcel
from sealane.layers.serializers import MsgPackSerializer, register, registry
from sealane.layers.switchboard import SWEEP
from sealane.types import Message
from tests.layers.clock import Clock

#: Seconds. It only bounds a hang.
LIMIT = 10.0

TERMS = Terms(10.0, 5, "jobs.dead", 1000, 1000.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def take(layer: InMemoryChannelLayer, channel: str = "jobs", **terms: Any) -> Delivery:
    async with asyncio.timeout(LIMIT):
        return await layer.receive_delivery(channel, **terms)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def empty(layer: InMemoryChannelLayer) -> bool:
    board = layer._exchange.board
    return not board.channels and not board._due


# Time


async def test_a_lease_ends_by_the_layers_clock_alone(clock: Clock) -> None:
    async with InMemoryChannelLayer(clock=clock) as layer:
        await layer.send("jobs", {"type": "x"})
        first = await take(layer, visibility_timeout=0.01)
        waiting = asyncio.create_task(take(layer, visibility_timeout=0.01))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        clock.advance(0.02)
        assert (await waiting).attempt == 2
        assert not await first.ack()


async def test_a_retry_wakes_who_waits_on_other_terms() -> None:
    async with InMemoryChannelLayer() as layer:
        await layer.send("jobs", {"type": "x"})
        delivery = await take(layer)
        waiting = asyncio.create_task(take(layer, visibility_timeout=1000))
        await turns()
        assert await delivery.retry(0.01)
        assert (await waiting).attempt == 2


async def test_a_delivery_says_when_it_was_first_seen(clock: Clock) -> None:
    layer = InMemoryChannelLayer(clock=clock)
    layer._exchange.board._wall = lambda: 1234.5
    await layer.send("jobs", {"type": "x"})
    delivery = await take(layer)
    assert await delivery.release()
    layer._exchange.board._wall = lambda: 2000.0
    delivery = await take(layer)
    # It was not delivered before.
    assert (delivery.attempt, delivery.first_seen) == (1, 2000.0)
    assert await delivery.reject("no")
    assert (await layer.receive("jobs.dead"))["first_seen"] == 2000.0


# Who is told


async def test_whoever_waits_for_dead_letters_is_told_by_a_plain_receiver(clock: Clock) -> None:
    async with InMemoryChannelLayer(expiry=5, clock=clock) as layer:
        await layer.send("jobs", {"type": "x", "n": 0})
        assert await (await take(layer)).ack()
        letters = asyncio.create_task(layer.receive("jobs.dead"))
        await turns()
        await layer.send("jobs", {"type": "x", "n": 1})
        clock.advance(6)
        await layer.send("jobs", {"type": "x", "n": 2})
        assert (await layer.receive("jobs"))["n"] == 2
        async with asyncio.timeout(LIMIT):
            assert (await letters)["message"]["n"] == 1


async def test_whoever_came_first_gets_what_is_due(clock: Clock) -> None:
    async with InMemoryChannelLayer(clock=clock) as layer:
        await layer.send("jobs", {"type": "x"})
        await take(layer, visibility_timeout=50)
        first = asyncio.create_task(take(layer, visibility_timeout=50))
        await turns()
        clock.advance(51)
        second = asyncio.create_task(layer.receive("jobs"))
        async with asyncio.timeout(LIMIT):
            assert (await first).attempt == 2
        assert not second.done()
        await layer.send("jobs", {"type": "y"})
        assert await second == {"type": "y"}


async def test_an_owner_gets_what_is_given_back(clock: Clock) -> None:
    async with InMemoryChannelLayer(expiry=5, clock=clock) as layer:
        for number in range(2):
            await layer.send("jobs", {"type": "x", "n": number})
        first, second = await take(layer), await take(layer)
        woken = asyncio.Event()
        inbox = layer.attach("jobs", woken.set)
        clock.advance(20)
        assert await first.release()
        await woken.wait()
        assert inbox.take() == {"type": "x", "n": 0}
        assert await second.retry()
        assert inbox.take() == {"type": "x", "n": 1}
        with pytest.raises(RuntimeError, match=r"receive_delivery\(\) would steal them"):
            await take(layer)


async def test_a_message_passes_by_an_event_loop_that_is_closed() -> None:
    layer = InMemoryChannelLayer()
    loop = asyncio.new_event_loop()

    async def wait() -> None:
        await layer.receive_delivery("jobs")

    def work() -> None:
        task = loop.create_task(wait())
        loop.run_until_complete(turns())
        # It ends without a word.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    await asyncio.to_thread(work)
    await layer.send("jobs", {"type": "x"})
    delivery = await take(layer)
    assert delivery.attempt == 1
    assert await delivery.ack()


async def test_many_threads_share_the_work() -> None:
    layer = InMemoryChannelLayer(capacity=10_000)
    jobs = 400
    done: list[int] = []
    for number in range(jobs):
        await layer.send("jobs", {"type": "x", "n": number})

    async def work() -> None:
        while len(done) < jobs:
            try:
                async with asyncio.timeout(0.05):
                    delivery = await layer.receive_delivery("jobs")
            except TimeoutError:
                continue
            if delivery.message["n"] % 7 == delivery.attempt:
                assert await delivery.retry()
            elif delivery.message["n"] % 5 == 0 and threading.get_ident() % 2:
                assert await delivery.release()
            else:
                assert await delivery.ack()
                done.append(delivery.message["n"])

    async with asyncio.timeout(30):
        await asyncio.gather(*(asyncio.to_thread(lambda: asyncio.run(work())) for _ in range(4)))
    assert sorted(done) == list(range(jobs))
    assert empty(layer)
    stats = layer.stats()
    assert (stats["delivered"], stats["waiting"], stats["leases_lost"]) == (jobs, 0, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_has_no_part_in_its_parents_leases() -> None:
    layer = InMemoryChannelLayer()

    async def lease() -> Delivery:
        await layer.send("jobs", {"type": "x"})
        return await take(layer)

    delivery = asyncio.run(lease())
    pid = os.fork()
    if pid == 0:
        status = 1
        try:

            async def child() -> bool:
                await lease()
                return await delivery.ack()

            status = 2 if asyncio.run(child()) else 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert asyncio.run(delivery.ack())


# Bounds


async def test_nothing_is_left_of_a_channel_whose_work_is_done(clock: Clock) -> None:
    layer = InMemoryChannelLayer(clock=clock)
    for number in range(50):
        await layer.send(f"jobs.{number}", {"type": "x"})
        delivery = await take(layer, f"jobs.{number}")
        assert await delivery.retry()
        assert await (await take(layer, f"jobs.{number}")).ack()
    assert empty(layer)


def test_a_ledger_forgets_when_things_were_due() -> None:
    ledger = Ledger(60.0)
    held = Held(Parcel(b"", 0.0, 1, False), TERMS)
    ledger.held[1] = held
    for number in range(1000):
        ledger.schedule(held, 1000.0 + number)
    assert len(ledger._heap) <= 2 + SWEEP + 1
    assert ledger.first() is held
    assert held.due == 1999.0
    del ledger.held[1]
    assert ledger.first() is None
    assert not ledger._heap


@pytest.mark.parametrize("overflow", ["drop_oldest", "close", "drop_newest"])
async def test_a_channel_that_is_all_leased_is_full(overflow: Any) -> None:
    async with InMemoryChannelLayer(capacity=2, overflow=overflow) as layer:
        await layer.group_add("group", "jobs")
        for number in range(2):
            await layer.send("jobs", {"type": "x", "n": number})
        first, _ = await take(layer), await take(layer)
        if overflow == "drop_oldest":
            await layer.send("jobs", {"type": "x", "n": 2})
        else:
            with pytest.raises(ChannelFull):
                await layer.send("jobs", {"type": "x", "n": 2})
        await layer.group_send("group", {"type": "x", "n": 3})
        assert layer.stats()["dropped_full"] == 2
        assert await first.ack()
        await layer.group_send("group", {"type": "x", "n": 4})
        assert (await layer.receive("jobs"))["n"] == 4


async def test_dead_letters_are_bounded_by_default(clock: Clock) -> None:
    async with InMemoryChannelLayer(capacity=5, clock=clock) as layer:
        for number in range(DEAD_LETTER_CAPACITY + 3):
            await layer.send("jobs", {"type": "x", "n": number})
            assert await (await take(layer)).reject("no")
        clock.advance(13 * 86400)
        assert (await layer.receive("jobs.dead"))["message"]["n"] == 3
        assert layer.stats()["dropped_full"] == 3
        clock.advance(86401)
        await layer.send("jobs.dead", {"type": "last"})
        assert await layer.receive("jobs.dead") == {"type": "last"}


# What cannot be decoded


class _Moody(MsgPackSerializer):
    """It cannot read what it was told not to."""

    refused: tuple[object, ...] = ()

    def deserialize(self, data: bytes) -> Message:
        message = super().deserialize(data)
        if message.get("n") in self.refused:
            raise ValueError("not today")
        return message


async def test_what_cannot_be_decoded_becomes_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    register("moody", _Moody)
    monkeypatch.setattr(_Moody, "refused", (1,))
    async with InMemoryChannelLayer(serializer_format="moody") as layer:
        for number in (1, 1, 2):
            await layer.send("jobs", {"type": "x", "n": number})
        delivery = await take(layer)
        assert delivery.message["n"] == 2
        letter = await layer.receive("jobs.dead")
        assert (letter["reason"], letter["message"]) == ("undecodable", None)
        assert letter["data"] == layer.pack({"type": "x", "n": 1})
    assert "A message of channel 'jobs' becomes a dead letter in 'jobs.dead'. What came" in caplog.text
    assert "cannot be decoded: ValueError: not today" in caplog.text
    assert len(caplog.records) == 1


def test_a_dead_letter_holds_the_message_as_it_was() -> None:
    def deserialize(data: bytes) -> Message:
        return {"type": data.decode()}

    letter = wrap(b"a b  c", channel="jobs", reason="no 1 reason", attempts=2, first_seen=1.5, id="7")
    assert letter.startswith(LETTER)
    head, data = parts(letter)
    assert (head + data, data) == (letter, b"a b  c")
    opened = open_letter(letter, deserialize)
    assert opened == {
        "type": "dead.letter",
        "channel": "jobs",
        "reason": "no 1 reason",
        "attempts": 2,
        "first_seen": 1.5,
        "id": "7",
        "message": {"type": "a b  c"},
    }
    for broken in (b"", LETTER, LETTER + b"1 2 3", LETTER + b"1 2 3 4 x ", b"1 2 3 4 5 6 7 8"):
        with pytest.raises(ValueError, match=r"dead letter|int"):
            parts(broken)
    with pytest.raises(UndecodableMessage, match="a dead letter that is cut"):
        Parcel(LETTER + b"1 2", 0.0, 0, False).open(_raises)


def _raises(data: bytes) -> Message:
    raise ValueError


# Arguments


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer.receive_delivery("jobs", visibility_timeout=True), "visibility_timeout is True"),
        (lambda layer: layer.receive_delivery("jobs", visibility_timeout=10**400), "and at most 1,000,000,000"),
        (lambda layer: layer.receive_delivery("jobs", max_deliveries=True), "max_deliveries is True"),
        (lambda layer: layer.receive_delivery("jobs", max_deliveries=10**10), "from 1 to 1,000,000,000"),
    ],
)
async def test_numbers_are_bounded(call: Callable[[InMemoryChannelLayer], Any], message: str) -> None:
    with pytest.raises(InvalidDeliveryOption, match=message) as caught:
        await call(InMemoryChannelLayer())
    assert isinstance(caught.value, ValueError)
    assert caught.value.option in str(caught.value)


def test_the_error_of_a_layer_without_says_what_to_do() -> None:
    error = AcknowledgementsUnsupported("MyLayer")
    assert isinstance(error, NotImplementedError)
    assert str(error) == (
        "MyLayer has no acknowledgements: 'acknowledgements' is not in its extensions. Read the channel with "
        "receive(), at most once, or take a layer that has them, such as those of sealane.layers"
    )

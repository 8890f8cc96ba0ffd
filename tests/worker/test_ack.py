"""Worker with acknowledgements, in memory: what becomes of a message, whatever becomes of its handler."""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from sealane.consumers import AsyncConsumer, DeliveredMessage, SyncConsumer
from sealane.exceptions import ChannelLayerUnavailable, RejectMessage, RetryMessage
from sealane.layers import InMemoryChannelLayer
from sealane.layers.delivery import VISIBILITY_TIMEOUT
from sealane.types import Message, Receive, Scope, Send
from sealane.worker import Worker
from tests.layers.clock import Clock
from tests.worker.jobs import LIMIT, Gated, Recorder, eventually, send_jobs, waiting

#: No test waits for a back-off.
SOON: dict[str, Any] = {"ack": True, "retry_delay": 0}


async def dead_letters(layer: InMemoryChannelLayer, count: int = 1, channel: str = "jobs.dead") -> list[Message]:
    async with asyncio.timeout(LIMIT):
        return [await layer.receive(channel) for _ in range(count)]


async def test_of_20_jobs_the_third_raises_19_are_done_and_one_is_a_dead_letter(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Jobs(Recorder):
        done: list[int] = []

        async def job_do(self, message: Message) -> None:
            await super().job_do(message)
            self.done.append(message["n"])

        fails = staticmethod(lambda message: message["n"] == 3)

    await send_jobs(layer, 20)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, max_deliveries=3, **SOON):
        (dead,) = await dead_letters(layer)
        await eventually(lambda: len(Jobs.done) == 19)
    assert Jobs.done == [1, 2, *range(4, 21)]
    assert Jobs.seen.count(3) == 3
    assert (dead["type"], dead["channel"], dead["attempts"]) == ("dead.letter", "jobs", 3)
    assert dead["reason"] == "ValueError: job 3 is bad"
    assert dead["message"] == {"type": "job.do", "n": 3}
    assert await waiting(layer) == []
    lines = [record.getMessage() for record in caplog.records if record.name == "sealane.worker"]
    assert [line.split(": ", 1)[1] for line in lines[:2]] == [
        "delivery 1 of 3 failed (ValueError), the next one in 0.0 s",
        "delivery 2 of 3 failed (ValueError), the next one in 0.0 s",
    ]
    assert lines[2].endswith(" goes to the dead letters after delivery 3: ValueError: job 3 is bad")


async def test_a_handler_knows_its_delivery(layer: InMemoryChannelLayer) -> None:
    deliveries = []
    before = time.time()

    class Jobs(AsyncConsumer):
        async def job_do(self, message: DeliveredMessage) -> None:
            assert message == {"type": "job.do", "n": 1}
            deliveries.append(message.delivery)
            if message.delivery.attempt == 1:
                raise ValueError("once more")

    await send_jobs(layer, 1)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, **SOON):
        await eventually(lambda: len(deliveries) == 2)
    first, second = deliveries
    assert (first.attempt, second.attempt) == (1, 2)
    assert first.id == second.id != ""
    assert first.first_seen == second.first_seen
    assert before - 1 <= first.first_seen <= time.time()
    assert (first.channel, first.max_deliveries) == ("jobs", 5)


async def test_without_acknowledgements_a_message_is_a_plain_dict(layer: InMemoryChannelLayer) -> None:
    types = []

    class Jobs(AsyncConsumer):
        async def job_do(self, message: Message) -> None:
            types.append(type(message))

    await send_jobs(layer, 1)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await eventually(lambda: types)
    assert types == [dict]


# What a handler asks for: the same in both kinds of consumers


class AsyncAsking(Recorder):
    """Rejects the first job, and wants the second one once more."""

    instances_made = 0

    async def job_do(self, message: Any) -> None:
        self.seen.append((message["n"], message.delivery.attempt))
        if message["n"] == 1:
            self.reject("no such picture")
        if message["n"] == 2 and message.delivery.attempt == 1:
            self.retry(0)
        self.seen.append("through")


class SyncAsking(SyncConsumer):
    seen: list[Any] = []
    instances: list[Any] = []

    def __init__(self) -> None:
        self.instances.append(self)

    def job_do(self, message: Any) -> None:
        self.seen.append((message["n"], message.delivery.attempt))
        if message["n"] == 1:
            self.reject("no such picture")
        if message["n"] == 2 and message.delivery.attempt == 1:
            self.retry(0)
        self.seen.append("through")


@pytest.mark.parametrize("consumer", [AsyncAsking, SyncAsking])
async def test_a_handler_rejects_and_retries(
    layer: InMemoryChannelLayer, consumer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    consumer.seen.clear()
    consumer.instances.clear()
    await send_jobs(layer, 2)
    async with Worker(consumer.as_asgi(), ["jobs"], layer, ack=True):
        (dead,) = await dead_letters(layer)
        await eventually(lambda: len(consumer.seen) == 4)
    assert consumer.seen == [(1, 1), (2, 1), (2, 2), "through"]
    assert (dead["reason"], dead["attempts"]) == ("no such picture", 1)
    # It was what the handler wanted: the instance goes on, and no traceback is logged.
    assert len(consumer.instances) == 1
    assert [record.exc_info for record in caplog.records] == [None, None]
    assert "delivery 1 of 5 was given back by its handler, the next one in 0.0 s" in caplog.text


async def test_on_error_may_reject(layer: InMemoryChannelLayer) -> None:
    class Jobs(Recorder):
        fails = staticmethod(lambda message: True)

        async def on_error(self, error: Exception, message: Message | None) -> None:
            self.reject(f"hopeless: {error}")

    await send_jobs(layer, 1)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, **SOON):
        (dead,) = await dead_letters(layer)
    assert dead["reason"] == "hopeless: job 1 is bad"
    assert len(Jobs.instances) == 1


async def test_a_retry_after_the_last_delivery_is_a_dead_letter(layer: InMemoryChannelLayer) -> None:
    class Jobs(AsyncConsumer):
        async def job_do(self, message: Message) -> None:
            self.retry(0)

    await send_jobs(layer, 1)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True, max_deliveries=2):
        (dead,) = await dead_letters(layer)
    assert (dead["attempts"], dead["reason"]) == (2, "its handler asked for one more delivery than the maximum")


async def test_a_delay_is_waited_for_while_other_messages_go_on() -> None:
    class Jobs(Recorder):
        async def job_do(self, message: Any) -> None:
            self.seen.append(message["n"])
            if message["n"] == 1 and message.delivery.attempt == 1:
                self.retry(60)

    async with Ruled() as layer:
        await send_jobs(layer, 3)
        async with Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True):
            await eventually(lambda: len(Jobs.seen) == 3)
            layer.clock.advance(60)
            layer._exchange.serve("jobs")
            await eventually(lambda: len(Jobs.seen) == 4)
    assert Jobs.seen == [1, 2, 3, 1]


@pytest.mark.parametrize("ask", [lambda self: self.reject("bad"), lambda self: self.retry()], ids=["reject", "retry"])
async def test_without_acknowledgements_it_is_an_error_that_says_so(
    layer: InMemoryChannelLayer, ask: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Jobs(AsyncConsumer):
        async def job_do(self, message: Message) -> None:
            ask(self)

    await send_jobs(layer, 1)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await eventually(lambda: caplog.records)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "run the worker with --ack (ack=True), and do it in the handler" in str(record.exc_info[1])


async def test_a_message_type_may_still_be_called_reject(layer: InMemoryChannelLayer) -> None:
    class Jobs(AsyncConsumer):
        seen: list[Any] = []

        async def reject(self, message: Message) -> None:  # type: ignore[override]
            self.seen.append(message)

    await layer.send("jobs", {"type": "retry"})
    await layer.send("jobs", {"type": "reject"})
    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await eventually(lambda: Jobs.seen == [{"type": "reject"}])


@pytest.mark.parametrize("policy", ["close", "log"])
async def test_whatever_the_error_policy_a_failed_job_comes_again(layer: InMemoryChannelLayer, policy: Any) -> None:
    class Jobs(Recorder):
        error_policy = policy
        fails = staticmethod(lambda message: message.delivery.attempt == 1)

    await send_jobs(layer, 2)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, **SOON):
        await eventually(lambda: len(Jobs.seen) == 4)
    assert sorted(Jobs.seen) == [1, 1, 2, 2]
    assert len(Jobs.instances) == (1 if policy == "log" else 3)


async def test_a_message_without_a_handler_becomes_a_dead_letter(layer: InMemoryChannelLayer) -> None:
    class Jobs(Recorder):
        pass

    await layer.send("jobs", {"type": "nothing.here"})
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, max_deliveries=2, dead_letter_channel="bad", **SOON):
        (dead,) = await dead_letters(layer, channel="bad")
    assert dead["reason"] == (
        "UnhandledMessage: No handler for message type 'nothing.here' on Jobs: it has no method nothing_here()"
    )


async def test_any_asgi_application_works(layer: InMemoryChannelLayer) -> None:
    seen = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            seen.append((message["n"], message.delivery.attempt))
            if message.delivery.attempt == 1:
                raise RejectMessage("not this one") if message["n"] == 2 else ValueError("once more")

    await send_jobs(layer, 2)
    async with Worker(application, ["jobs"], layer, **SOON):
        (dead,) = await dead_letters(layer)
        await eventually(lambda: len(seen) == 3)
    assert sorted(seen) == [(1, 1), (1, 2), (2, 1)]
    assert dead["reason"] == "not this one"


# Leases


class Ruled(InMemoryChannelLayer):
    """A layer whose clock stands still, so that no lease ends by itself, and whose server can be made to seem away."""

    def __init__(self) -> None:
        self.clock = Clock()
        super().__init__(clock=self.clock)
        self.away = False
        self.sent = False
        #: How many calls of each kind there were, and how many of them found it away.
        self.calls: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()

    async def receive_delivery(self, *args: Any, **kwargs: Any) -> Any:
        self.look("receive_delivery")
        delivery = await super().receive_delivery(*args, **kwargs)
        lease = delivery._lease
        delivery._lease = _RuledLease(self, lease)  # type: ignore[assignment]
        return delivery

    def look(self, call: str) -> None:
        self.calls[call] += 1
        if self.away:
            self.refused[call] += 1
            raise ChannelLayerUnavailable("redis://nowhere", "it does not answer", 5.0, sent=self.sent)


class _RuledLease:
    def __init__(self, layer: Ruled, lease: Any) -> None:
        self._layer = layer
        self._inner = lease

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any) -> Any:
            self._layer.look(name)
            return await getattr(self._inner, name)(*args)

        return call


async def outlast_leases(layer: Ruled, leases: int, seconds: float) -> None:
    """Let several times ``seconds`` pass by the layer's clock, as far as so many leases are renewed in time."""
    for _ in range(5):
        rounds = layer.calls["extend"] + leases
        await eventually(lambda rounds=rounds: layer.calls["extend"] >= rounds)  # type: ignore[misc]
        layer.clock.advance(seconds * 0.9)
        # Whoever waits gets what is due, at once.
        layer._exchange.serve("jobs")


async def test_a_long_job_keeps_its_lease(caplog: pytest.LogCaptureFixture) -> None:
    class Jobs(Gated):
        pass

    layer = Ruled()
    await send_jobs(layer, 1)
    options: dict[str, Any] = {"ack": True, "visibility_timeout": 0.3}
    async with (
        Worker(Jobs.as_asgi(), ["jobs"], layer, **options),
        Worker(Jobs.as_asgi(), ["jobs"], layer, **options),
    ):
        await eventually(lambda: Jobs.seen)
        await outlast_leases(layer, 1, 0.3)
        Jobs.gate.set()
        await eventually(lambda: layer.stats()["delivered"] == 1)
        layer.clock.advance(0.3)
        layer._exchange.serve("jobs")
    assert (Jobs.seen, Jobs.done) == ([1], [1])
    assert await waiting(layer) == []
    assert caplog.records == []
    await layer.close()


async def test_what_was_taken_ahead_keeps_its_lease_too() -> None:
    class Jobs(Gated):
        pass

    layer = Ruled()
    await send_jobs(layer, 2)
    options: dict[str, Any] = {"ack": True, "visibility_timeout": 0.3}
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, prefetch=1, **options) as first:
        await eventually(lambda: "1 in hand, 1 waiting" in repr(first) and Jobs.seen)
        async with Worker(Jobs.as_asgi(), ["jobs"], layer, **options):
            await eventually(lambda: layer.calls["receive_delivery"] == 3)
            await outlast_leases(layer, 2, 0.3)
            assert Jobs.seen == [1]
            Jobs.gate.set()
            await eventually(lambda: Jobs.done == [1, 2])
    await layer.close()


async def test_a_blocked_event_loop_loses_its_lease_and_the_log_says_so(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker, in an event loop that goes on, gets the job meanwhile."""
    begun = threading.Event()
    taken = threading.Event()

    class Blocks(AsyncConsumer):
        async def job_do(self, message: Message) -> None:
            begun.set()
            taken.wait(LIMIT)

    class Jobs(AsyncConsumer):
        async def job_do(self, message: DeliveredMessage) -> None:
            attempts.append(message.delivery.attempt)
            taken.set()
            second.stop()

    attempts: list[int] = []
    second = Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True)

    def run_second() -> None:
        begun.wait(LIMIT)
        second.run()

    thread = threading.Thread(target=run_second)
    thread.start()
    await send_jobs(layer, 1)
    async with Worker(Blocks.as_asgi(), ["jobs"], layer, ack=True, visibility_timeout=0.2):
        await eventually(lambda: "lease" in caplog.text)
    await asyncio.to_thread(thread.join, LIMIT)
    assert attempts == [2]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "was lost" in record.getMessage()


async def test_what_was_lost_while_it_waited_is_not_begun(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker has it, or had it: nothing can be won by doing it here too."""

    def take() -> None:
        async def taken() -> None:
            for _ in range(2):
                delivery = await layer.receive_delivery("jobs", visibility_timeout=LIMIT)
                others.append(delivery.message["n"])
                await delivery.ack()

        asyncio.run(asyncio.wait_for(taken(), LIMIT))

    class Jobs(Recorder):
        async def job_do(self, message: Message) -> None:
            await super().job_do(message)
            if message["n"] == 1:
                # It blocks the event loop, until both leases have ended.
                thread = threading.Thread(target=take)
                thread.start()
                thread.join(LIMIT)
                await eventually(lambda: caplog.text.count("was lost") == 2)

    others: list[int] = []
    await send_jobs(layer, 2)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True, prefetch=1, visibility_timeout=1):
        await eventually(lambda: Jobs.seen)
        await layer.send("jobs", {"type": "job.do", "n": 3})
        await eventually(lambda: 3 in Jobs.seen)
    assert (others, Jobs.seen) == ([1, 2], [1, 3])


# Other errors than that of the job


async def test_a_job_that_returned_is_done_whatever_else_ends_its_instance(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    begun, failed = asyncio.Event(), asyncio.Event()

    class Jobs(Recorder):
        async def job_do(self, message: Message) -> None:
            await super().job_do(message)
            if message["n"] == 1:
                self.spawn(self.count())
            elif message["n"] == 2:
                begun.set()
                await failed.wait()

        async def count(self) -> None:
            await begun.wait()
            raise ValueError("cannot count")

        async def on_error(self, error: Exception, message: Message | None) -> None:
            failed.set()
            await super().on_error(error, message)

    await send_jobs(layer, 3)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, **SOON):
        await eventually(lambda: 3 in Jobs.seen)
    assert Jobs.seen == [1, 2, 3]
    assert await waiting(layer) == []
    assert [record.getMessage() for record in caplog.records] == [
        "The application for channel 'jobs' failed between two messages"
    ]


async def test_a_job_that_returned_is_done_although_its_instance_was_cancelled_then(
    layer: InMemoryChannelLayer,
) -> None:
    class Jobs(Recorder):
        async def job_do(self, message: Message) -> None:
            await super().job_do(message)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.seen.append("saved")

    await send_jobs(layer, 1)
    async with asyncio.timeout(LIMIT):
        # It would go on to wait for its next message, for as long as cancel_timeout.
        async with Worker(Jobs.as_asgi(), ["jobs"], layer, shutdown_timeout=0, cancel_timeout=3600, **SOON):
            await eventually(lambda: Jobs.seen)
    assert Jobs.seen == [1, "saved"]
    assert await waiting(layer) == []


async def test_an_application_that_is_cancelled_in_vain_holds_the_worker_for_cancel_timeout(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        while not over:
            asked += 1
            try:
                await receive()
            except asyncio.CancelledError:
                pass

    over = False
    await send_jobs(layer, 1)
    async with asyncio.timeout(LIMIT):
        async with Worker(stubborn, ["jobs"], layer, shutdown_timeout=0, cancel_timeout=0.1, **SOON):
            await eventually(lambda: asked == 2)
    over = True
    # At the end of the time limit it is cancelled for the last time.
    await eventually(lambda: asked == 5)
    assert "The application for channel 'jobs' did not end within 0.1 seconds" in caplog.text


@pytest.mark.parametrize("fails", [False, True])
async def test_a_thread_that_ends_its_job_after_the_cancellation_has_done_it(
    layer: InMemoryChannelLayer, fails: bool
) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    class Jobs(SyncConsumer):
        def job_do(self, message: Message) -> None:
            begun.set()
            assert cancelled.wait(LIMIT)
            if fails:
                raise ValueError("after all")

    await send_jobs(layer, 1)
    worker = Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True, retry_delay=0)
    working = asyncio.create_task(worker.handle())
    await asyncio.to_thread(begun.wait, LIMIT)
    working.cancel()
    # Long enough for the cancellation to reach the handler's task; a shorter time only tests less.
    asyncio.get_running_loop().call_later(0.1, cancelled.set)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, LIMIT)
    assert await waiting(layer) == ([1] if fails else [])


@pytest.mark.parametrize("asked", [RejectMessage, RetryMessage])
async def test_an_exception_that_lacks_what_it_should_have_holds_nothing(
    layer: InMemoryChannelLayer, asked: Any
) -> None:
    class Bare(asked):  # type: ignore[misc]
        def __init__(self) -> None:
            pass

    class Jobs(Recorder):
        async def job_do(self, message: Message) -> None:
            await super().job_do(message)
            if message["n"] == 1:
                raise Bare

    await send_jobs(layer, 3)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, max_deliveries=1, **SOON):
        (dead,) = await dead_letters(layer)
        await eventually(lambda: 3 in Jobs.seen)
    assert dead["message"]["n"] == 1
    assert dead["reason"] in ("Bare", "its handler asked for one more delivery than the maximum")
    assert Jobs.seen == [1, 2, 3]


# The end


async def test_stopping_releases_what_no_handler_has_begun(layer: InMemoryChannelLayer) -> None:
    class Jobs(Gated):
        pass

    class Others(Recorder):
        async def job_do(self, message: Any) -> None:
            self.seen.append((message["n"], message.delivery.attempt))

    await send_jobs(layer, 5)
    worker = Worker(Jobs.as_asgi(), ["jobs"], layer, prefetch=2, ack=True)
    working = asyncio.create_task(worker.handle())
    await eventually(lambda: "1 in hand, 2 waiting" in repr(worker))
    worker.stop()
    async with Worker(Others.as_asgi(), ["jobs"], layer, ack=True):
        # Another worker has them while the first one still ends its job, and their deliveries were not counted.
        await eventually(lambda: len(Others.seen) == 4)
        assert sorted(Others.seen) == [(2, 1), (3, 1), (4, 1), (5, 1)]
        Jobs.gate.set()
        await asyncio.wait_for(working, LIMIT)
    assert Jobs.done == [1]


@pytest.mark.parametrize("hurry", ["cancelled", "late"])
async def test_what_is_cancelled_is_handed_back(layer: InMemoryChannelLayer, hurry: str) -> None:
    class Jobs(Gated):
        pass

    await send_jobs(layer, 3)
    worker = Worker(Jobs.as_asgi(), ["jobs"], layer, concurrency=2, ack=True, shutdown_timeout=0.01)
    working = asyncio.create_task(worker.handle())
    await eventually(lambda: len(Jobs.seen) == 2)
    if hurry == "late":
        worker.stop()
        await asyncio.wait_for(working, LIMIT)
    else:
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
    assert sorted(Jobs.cancelled) == [1, 2]
    assert await waiting(layer) == [1, 2, 3]


async def test_a_handler_that_ends_while_it_is_cancelled_is_not_run_again(layer: InMemoryChannelLayer) -> None:
    class Jobs(Gated):
        pass

    await send_jobs(layer, 1)
    worker = Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True)
    working = asyncio.create_task(worker.handle())
    await eventually(lambda: Jobs.seen == [1])
    # Both in one turn of the event loop: it has handled the job, and asked for the next one, when it is cancelled.
    Jobs.gate.set()
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, LIMIT)
    assert Jobs.done == [1]
    assert await waiting(layer) == []


# Outages


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "sealane.worker"]


async def test_an_outage_is_outlasted_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    class Jobs(Gated):
        pass

    caplog.set_level(logging.INFO, "sealane.worker")
    layer = Ruled()
    await send_jobs(layer, 3)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, concurrency=2, ack=True, visibility_timeout=0.1):
        await eventually(lambda: Jobs.seen == [1, 2])
        layer.away = True
        # Three rounds of the renewal, and as many tries of both lanes.
        await eventually(lambda: layer.refused["extend"] >= 6)
        Jobs.gate.set()
        await eventually(lambda: layer.refused["ack"] >= 6)
        layer.away = False
        await eventually(lambda: Jobs.done == [1, 2, 3])
    assert await waiting(layer) == []
    first, *rest = lines_of(caplog)
    assert first == (
        "The worker waits for its channel layer, and goes on when it is back: No call to redis://nowhere: it does not "
        "answer; it was not carried out"
    )
    assert [line.split(",")[0] for line in rest] == ["The worker goes on"]
    await layer.close()


@pytest.mark.parametrize("sent", [False, True], ids=["not sent", "sent"])
async def test_a_lease_that_ended_in_an_outage_is_said_where_it_is_certain(
    caplog: pytest.LogCaptureFixture, sent: bool
) -> None:
    """Where a try before may have been carried out, it may be that one that has ended the lease."""

    class Jobs(Gated):
        pass

    layer = Ruled()
    layer.sent = sent
    await send_jobs(layer, 1)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True):
        await eventually(lambda: Jobs.seen)
        layer.away = True
        Jobs.gate.set()
        await eventually(lambda: layer.refused["ack"] >= 2)
        layer.clock.advance(VISIBILITY_TIMEOUT)
        # Another worker, which the server is there for.
        async with asyncio.timeout(LIMIT):
            again = await InMemoryChannelLayer.receive_delivery(layer, "jobs")
        assert (again.attempt, await again.ack()) == (2, True)
        layer.away = False
        await send_jobs(layer, 1)
        await eventually(lambda: len(Jobs.done) == 2)
    assert await waiting(layer) == []
    _, *rest = lines_of(caplog)
    if sent:
        assert rest == []
    else:
        (line,) = rest
        assert ": the lease was lost before the worker could acknowledge it, " in line
        assert line.endswith("; it may have been handled twice")
    await layer.close()

"""Worker without acknowledgements: at most once, in order, and it goes on whatever a handler does."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from sealane.consumers import AsyncConsumer, SyncConsumer
from sealane.exceptions import (
    AcknowledgementsUnsupported,
    InvalidChannelLayerError,
    InvalidName,
    StopConsumer,
)
from sealane.layers import BaseChannelLayer, InMemoryChannelLayer
from sealane.routing import ChannelNameRouter
from sealane.types import Message, Receive, Scope, Send
from sealane.worker import Worker
from tests.worker.jobs import LIMIT, Gated, Recorder, eventually, send_jobs, waiting


async def test_messages_of_a_channel_go_in_order_to_one_instance(layer: InMemoryChannelLayer) -> None:
    class Jobs(Recorder):
        pass

    await send_jobs(layer, 50)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await eventually(lambda: len(Jobs.seen) == 50)
    assert Jobs.seen == list(range(1, 51))
    assert len(Jobs.instances) == 1
    assert Jobs.instances[0].scope == {"type": "channel", "channel": "jobs"}


async def test_each_channel_has_an_instance_of_its_own(layer: InMemoryChannelLayer) -> None:
    class One(Recorder):
        pass

    class Two(Recorder):
        pass

    router = ChannelNameRouter({"one": One.as_asgi(), "two": Two.as_asgi()})
    async with Worker(router, ["one", "two", "one"], layer):
        await send_jobs(layer, 2, "one")
        await send_jobs(layer, 3, "two")
        await eventually(lambda: len(One.seen) == 2 and len(Two.seen) == 3)
    assert (len(One.instances), len(Two.instances)) == (1, 1)


async def test_of_20_jobs_the_third_raises_and_19_are_done(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Jobs(Recorder):
        fails = staticmethod(lambda message: message["n"] == 3)

    await send_jobs(layer, 20)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await eventually(lambda: len(Jobs.seen) == 20)
    assert Jobs.seen == list(range(1, 21))
    (record,) = [record for record in caplog.records if record.name == "sealane.worker"]
    assert record.getMessage() == "A message on channel 'jobs' failed, and is dropped"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "job 3 is bad"


@pytest.mark.parametrize(("policy", "instances"), [("close", 2), ("log", 1)])
async def test_the_error_policy_decides_whether_the_instance_goes_on(
    layer: InMemoryChannelLayer, policy: Any, instances: int
) -> None:
    class Jobs(Recorder):
        error_policy = policy
        fails = staticmethod(lambda message: message["n"] == 1)

    await send_jobs(layer, 3)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await eventually(lambda: len(Jobs.seen) == 3)
    assert len(Jobs.instances) == instances


async def test_a_message_without_a_handler_is_dropped_with_one_line(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    """What a channel layer brings reaches handlers only, in a worker too."""

    class Jobs(Recorder):
        pass

    for kind in ("nothing.here", "websocket.disconnect", "send", "channel_name", None):
        await layer.send("jobs", {"type": kind, "n": 0})
    await layer.send("jobs", {"n": 0})
    await send_jobs(layer, 1)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await eventually(lambda: Jobs.seen == [1])
    assert len(Jobs.instances) == 1
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 6
    assert all(line.startswith("Jobs at 'jobs' dropped a message of the channel layer: ") for line in lines)


async def test_stop_consumer_ends_the_instance_and_the_next_message_gets_another(layer: InMemoryChannelLayer) -> None:
    class Jobs(Recorder):
        async def job_do(self, message: Message) -> None:
            await super().job_do(message)
            raise StopConsumer

    await send_jobs(layer, 2)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await eventually(lambda: Jobs.seen == [1, 2])
    assert len(Jobs.instances) == 2


async def test_an_application_that_ends_before_it_takes_a_message_loses_none(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Jobs(Recorder):
        pass

    tries = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("the database is away")
        if tries > 2:
            await Jobs.as_asgi()(scope, receive, send)

    await send_jobs(layer, 3)
    async with Worker(application, ["jobs"], layer):
        await eventually(lambda: Jobs.seen == [1, 2, 3])
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [line.split(" before it")[0] for line in lines] == [
        "The application for channel 'jobs' failed",
        "The application for channel 'jobs' returned",
    ]


async def test_a_receive_with_a_timeout_of_its_own_loses_nothing(layer: InMemoryChannelLayer) -> None:
    seen = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            try:
                async with asyncio.timeout(0.001):
                    seen.append((await receive())["n"])
            except TimeoutError:
                pass

    async with Worker(application, ["jobs"], layer):
        for n in range(200):
            await layer.send("jobs", {"type": "job.do", "n": n})
            await asyncio.sleep(0.0005)
        await eventually(lambda: len(seen) == 200)
    assert seen == list(range(200))


async def test_concurrency_is_the_number_of_instances_at_work(layer: InMemoryChannelLayer) -> None:
    class Jobs(Gated):
        pass

    await send_jobs(layer, 10)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, concurrency=3):
        await eventually(lambda: len(Jobs.seen) == 3)
        await asyncio.sleep(0)
        assert Jobs.seen == [1, 2, 3]
        # Nothing was taken that nobody can handle yet.
        assert layer.stats()["waiting"] == 7
        Jobs.gate.set()
        await eventually(lambda: len(Jobs.done) == 10)
    # They began in the order of the channel.
    assert Jobs.seen == list(range(1, 11))
    assert len(Jobs.instances) == 3


async def test_one_message_needs_one_instance_whatever_the_concurrency(layer: InMemoryChannelLayer) -> None:
    class Jobs(Recorder):
        pass

    async with Worker(Jobs.as_asgi(), ["jobs"], layer, concurrency=5) as worker:
        for n in range(5):
            await layer.send("jobs", {"type": "job.do", "n": n})
            # It is through when it asks for more.
            await eventually(lambda n=n: len(Jobs.seen) == n + 1 and "0 in hand, 0" in repr(worker))  # type: ignore[misc]
    assert len(Jobs.instances) == 1


async def test_prefetch_is_what_is_taken_beyond_that(layer: InMemoryChannelLayer) -> None:
    class Jobs(Gated):
        pass

    await send_jobs(layer, 10)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, concurrency=2, prefetch=3):
        await eventually(lambda: layer.stats()["waiting"] == 5 and len(Jobs.seen) == 2)
        assert Jobs.seen == [1, 2]
        Jobs.gate.set()
        await eventually(lambda: len(Jobs.done) == 10)


async def test_synchronous_consumers_work_in_threads(layer: InMemoryChannelLayer) -> None:
    threads = set()
    both = threading.Barrier(2)

    class Jobs(SyncConsumer):
        def job_do(self, message: Message) -> None:
            both.wait(LIMIT)
            threads.add(threading.current_thread())

    await send_jobs(layer, 2)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, concurrency=2):
        await eventually(lambda: len(threads) == 2)
    assert threading.current_thread() not in threads


async def test_max_applications_ends_the_instance_that_was_idle_longest(layer: InMemoryChannelLayer) -> None:
    class Jobs(Recorder):
        pass

    async with Worker(Jobs.as_asgi(), ["a", "b", "c"], layer, max_applications=2) as worker:
        for count, channel in enumerate(["a", "b", "a", "c", "a", "b"], 1):
            await layer.send(channel, {"type": "job.do", "n": channel})
            await eventually(
                lambda count=count: len(Jobs.seen) == count and repr(worker).count("0 in hand") == 3  # type: ignore[misc]
            )
    # b had to go for c, and c for b.
    assert [instance.scope["channel"] for instance in Jobs.instances] == ["a", "b", "c", "b"]


async def test_where_all_are_busy_a_message_waits_for_a_place(layer: InMemoryChannelLayer) -> None:
    class Jobs(Gated):
        pass

    await send_jobs(layer, 1, "a")
    await send_jobs(layer, 1, "b")
    async with Worker(Jobs.as_asgi(), ["a", "b"], layer, max_applications=1):
        await eventually(lambda: len(Jobs.seen) == 1)
        await asyncio.sleep(0.02)
        assert len(Jobs.seen) == 1
        Jobs.gate.set()
        await eventually(lambda: len(Jobs.done) == 2)


async def test_a_worker_has_no_client_to_send_to(layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture) -> None:
    class Jobs(Recorder):
        async def job_do(self, message: Message) -> None:
            self.seen.append(message["n"])
            await self.send({"type": "websocket.send", "text": "hello"})

    await send_jobs(layer, 1)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await eventually(lambda: caplog.records)
    error = caplog.records[-1].exc_info
    assert error is not None
    assert str(error[1]) == (
        "'websocket.send' cannot be sent while the connection is a channel of a worker, behind which there is no "
        "client: expected nothing"
    )


async def test_groups_reach_the_consumer_of_a_worker_too(layer: InMemoryChannelLayer) -> None:
    class Jobs(Recorder):
        groups = ["settings"]

        async def settings_changed(self, message: Message) -> None:
            self.seen.append("changed")

    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await send_jobs(layer, 1)
        await eventually(lambda: Jobs.seen == [1])
        for instance in Jobs.instances:
            await layer.group_add("settings", instance.channel_name)
        await layer.group_send("settings", {"type": "settings.changed"})
        await eventually(lambda: Jobs.seen == [1, "changed"])


async def test_an_instance_that_fails_between_two_messages_is_reported(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Jobs(Recorder):
        async def settings_changed(self, message: Message) -> None:
            raise ValueError("bad settings")

    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await send_jobs(layer, 1)
        await eventually(lambda: Jobs.seen == [1])
        await layer.group_add("settings", Jobs.instances[0].channel_name)
        await layer.group_send("settings", {"type": "settings.changed"})
        await eventually(lambda: caplog.records)
        await send_jobs(layer, 1)
        await eventually(lambda: Jobs.seen == [1, 1])
    assert len(Jobs.instances) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "The application for channel 'jobs' failed between two messages"
    ]


@pytest.mark.parametrize("ack", [False, True])
async def test_the_failure_of_another_handler_takes_no_job_along(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, ack: bool
) -> None:
    """The consumer has read the job, and not begun it, when the handler of a group's message ends the instance."""
    begun, gate = asyncio.Event(), asyncio.Event()

    class Jobs(Recorder):
        async def job_do(self, message: Message) -> None:
            self.seen.append((message["n"], message.delivery.attempt if ack else None))  # type: ignore[attr-defined]

        async def settings_changed(self, message: Message) -> None:
            begun.set()
            await gate.wait()
            raise ValueError("bad settings")

    async with Worker(Jobs.as_asgi(), ["jobs"], layer, ack=ack) as worker:
        await send_jobs(layer, 1)
        await eventually(lambda: Jobs.seen)
        await layer.group_add("settings", Jobs.instances[0].channel_name)
        await layer.group_send("settings", {"type": "settings.changed"})
        await asyncio.wait_for(begun.wait(), LIMIT)
        await layer.send("jobs", {"type": "job.do", "n": 2})
        await eventually(lambda: "1 in hand" in repr(worker))
        gate.set()
        await eventually(lambda: len(Jobs.seen) == 2)
    assert Jobs.seen == [(1, 1 if ack else None), (2, 1 if ack else None)]
    assert len(Jobs.instances) == 2
    (record,) = caplog.records
    assert record.getMessage().startswith("The application for channel 'jobs' failed before it took a message")


# The end


async def test_stopping_ends_what_runs_and_hands_back_what_waits(layer: InMemoryChannelLayer) -> None:
    class Jobs(Gated):
        pass

    await send_jobs(layer, 10)
    worker = Worker(Jobs.as_asgi(), ["jobs"], layer, concurrency=2, prefetch=3)
    working = asyncio.create_task(worker.handle())
    await eventually(lambda: layer.stats()["waiting"] == 5 and len(Jobs.seen) == 2)
    worker.stop()
    worker.stop()
    await eventually(lambda: repr(worker) == "<Worker on jobs: stopping <Station 'jobs': 2 in hand, 0 waiting>>")
    assert not working.done()
    Jobs.gate.set()
    await asyncio.wait_for(working, LIMIT)
    assert Jobs.done == [1, 2]
    # What was handed back stands behind the rest.
    assert await waiting(layer) == [6, 7, 8, 9, 10, 3, 4, 5]
    assert repr(worker) == "<Worker on jobs: not running>"


async def test_what_does_not_end_in_time_is_cancelled(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Jobs(Gated):
        pass

    await send_jobs(layer, 2)
    async with Worker(Jobs.as_asgi(), ["jobs"], layer, shutdown_timeout=0.01):
        await eventually(lambda: Jobs.seen == [1])
    assert Jobs.cancelled == [1]
    assert await waiting(layer) == [2]
    assert [record.getMessage() for record in caplog.records] == [
        "The worker cancels what has not ended in shutdown_timeout = 0.01 s: <Worker on jobs: stopping <Station "
        "'jobs': 1 in hand, 0 waiting>>",
        "A message on channel 'jobs' was cancelled, and is dropped: the worker stops",
    ]


@pytest.mark.parametrize("stopping", [False, True], ids=["at once", "while it stops"])
async def test_a_cancelled_worker_cancels_what_runs(layer: InMemoryChannelLayer, stopping: bool) -> None:
    class Jobs(Gated):
        pass

    await send_jobs(layer, 4)
    worker = Worker(Jobs.as_asgi(), ["jobs"], layer, prefetch=1)
    working = asyncio.create_task(worker.handle())
    await eventually(lambda: layer.stats()["waiting"] == 2 and len(Jobs.seen) == 1)
    if stopping:
        worker.stop()
        await asyncio.sleep(0.01)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, LIMIT)
    assert Jobs.cancelled == [1]
    assert await waiting(layer) == [3, 4, 2]


async def test_an_instance_cleans_up_when_the_worker_stops(layer: InMemoryChannelLayer) -> None:
    class Jobs(Recorder):
        pass

    async with Worker(Jobs.as_asgi(), ["jobs"], layer):
        await send_jobs(layer, 1)
        await eventually(lambda: Jobs.seen == [1])
        (instance,) = Jobs.instances
        await layer.group_add("everybody", instance.channel_name)
        assert layer.stats()["groups"] == 1
    assert layer.stats()["groups"] == 0
    assert [task for task in asyncio.all_tasks() if task.get_name().startswith("sealane-worker")] == []


async def test_a_block_that_is_cancelled_at_its_start_leaves_no_worker_behind(layer: InMemoryChannelLayer) -> None:
    worker = Worker(Gated.as_asgi(), ["jobs"], layer)

    async def work() -> None:
        async with worker:
            raise AssertionError("it was cancelled before")

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert repr(worker) == "<Worker on jobs: not running>"
    await send_jobs(layer, 1)
    assert await waiting(layer) == [1]


async def test_a_worker_works_again(layer: InMemoryChannelLayer) -> None:
    class Jobs(Recorder):
        pass

    worker = Worker(Jobs.as_asgi(), ["jobs"], layer)
    for count in (1, 2):
        async with worker:
            await send_jobs(layer, 1)
            await eventually(lambda count=count: len(Jobs.seen) == count)  # type: ignore[misc]
            with pytest.raises(RuntimeError, match=r"^<Worker on jobs: running .*> works already$"):
                await worker.handle()


def test_run_works_in_a_thread_until_it_is_stopped() -> None:
    class Jobs(AsyncConsumer):
        async def job_do(self, message: Message) -> None:
            seen.append(message["n"])
            worker.stop()

    seen: list[int] = []
    layer = InMemoryChannelLayer()
    layer.sync.send("jobs", {"type": "job.do", "n": 1})
    worker = Worker(Jobs.as_asgi(), ["jobs"], layer)
    thread = threading.Thread(target=worker.run)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert seen == [1]


# What it refuses


class Bare(InMemoryChannelLayer):
    extensions = ["groups"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"channel_layer": None}, InvalidChannelLayerError, r"^channel_layer is None; expected a channel layer of"),
        ({"channels": []}, ValueError, "^channels is empty; expected the name of one channel at least$"),
        ({"channels": "jobs"}, TypeError, r"^channels is the string 'jobs'; expected a list of names: \['jobs'\]$"),
        ({"channels": ["a b"]}, InvalidName, "^Channel name 'a b' is not valid"),
        (
            {"channels": ["jobs.dead"], "ack": True, "dead_letter_channel": "jobs"},
            InvalidName,
            "^Channel name 'jobs' is not valid: the dead letters of 'jobs.dead' need another channel: this one's own",
        ),
        ({"concurrency": 0}, ValueError, "^concurrency is 0; expected a whole number, 1 or more$"),
        ({"prefetch": -1}, ValueError, "^prefetch is -1; expected a whole number, 0 or more$"),
        ({"max_applications": True}, ValueError, "^max_applications is True; expected a whole number, 1 or more$"),
        ({"retry_delay": -1}, ValueError, "^retry_delay is -1; expected seconds, 0 or more$"),
        ({"shutdown_timeout": float("nan")}, ValueError, "^shutdown_timeout is nan; expected seconds, 0 or more$"),
        (
            {"ack": True, "channel_layer": Bare()},
            AcknowledgementsUnsupported,
            "^Bare has no acknowledgements: 'acknowledgements' is not in its extensions",
        ),
    ],
    ids=str,
)
def test_what_it_cannot_use_is_refused_at_once(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "application": Recorder.as_asgi(),
        "channels": ["jobs"],
        "channel_layer": InMemoryChannelLayer(),
    }
    with pytest.raises(error, match=message):
        Worker(**{**arguments, **change})


def test_the_first_arguments_are_those_of_channels() -> None:
    layer: BaseChannelLayer = InMemoryChannelLayer()
    application = Recorder.as_asgi()
    worker = Worker(application, ["jobs"], layer, 7)
    assert (worker.application, worker.channels, worker.channel_layer) == (application, ("jobs",), layer)
    assert worker.options.max_applications == 7

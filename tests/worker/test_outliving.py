"""Handlers that go on after they were cancelled: nobody else gets their message while they may still run."""

import asyncio
import logging
import threading
from typing import Any

import pytest

from sealane.consumers import AsyncConsumer, SyncConsumer
from sealane.layers import InMemoryChannelLayer
from sealane.types import Message
from sealane.worker import Worker
from tests.worker.jobs import LIMIT, send_jobs, waiting

_REASON = (
    "was cancelled, but its handler still runs after cancel_timeout = 0.2 s: it is not handed back, and comes again "
    "when its lease ends, within visibility_timeout = "
)


def lines_of(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.name == "sealane.worker")


async def end_in_the_midst(worker: Worker, begun: threading.Event) -> None:
    working = asyncio.create_task(worker.handle())
    assert await asyncio.to_thread(begun.wait, LIMIT)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, LIMIT)


@pytest.mark.parametrize("end_timeout", [0.01, 10.0])
async def test_a_job_whose_thread_still_runs_comes_again_when_its_lease_ends_and_not_before(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture, end_timeout: float
) -> None:
    begun, end = threading.Event(), threading.Event()
    limit = end_timeout

    class Jobs(SyncConsumer):
        end_timeout = limit

        def job_do(self, message: Message) -> None:
            begun.set()
            end.wait(LIMIT)

    await send_jobs(layer, 1)
    try:
        # Of the lease two thirds are left at least, and the look at what waits is to come within them.
        options: dict[str, Any] = {"ack": True, "cancel_timeout": 0.2, "visibility_timeout": 4}
        await end_in_the_midst(Worker(Jobs.as_asgi(), ["jobs"], layer, **options), begun)
        assert await waiting(layer) == []
        async with asyncio.timeout(LIMIT):
            again = await layer.receive_delivery("jobs")
        assert again.attempt == 2
    finally:
        end.set()
    assert f"{_REASON}4 s" in lines_of(caplog)


async def test_a_thread_that_ends_within_cancel_timeout_has_done_its_job_whatever_the_consumer_waits(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    begun, end = threading.Event(), threading.Event()

    class Jobs(SyncConsumer):
        end_timeout = 0.01

        def job_do(self, message: Message) -> None:
            begun.set()
            assert end.wait(LIMIT)

    await send_jobs(layer, 1)
    asyncio.get_running_loop().call_later(0.3, end.set)
    await end_in_the_midst(Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True, cancel_timeout=LIMIT), begun)
    assert await waiting(layer) == []
    assert layer.stats()["waiting"] == 0
    assert "handed back" not in lines_of(caplog)


async def test_a_coroutine_that_does_not_heed_its_cancellation_keeps_its_lease_too(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    begun, end = threading.Event(), asyncio.Event()

    class Jobs(AsyncConsumer):
        async def job_do(self, message: Message) -> None:
            begun.set()
            while not end.is_set():
                try:
                    await end.wait()
                except asyncio.CancelledError:
                    continue

    await send_jobs(layer, 1)
    try:
        await end_in_the_midst(Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True, cancel_timeout=0.2), begun)
        assert await waiting(layer) == []
        assert layer.stats()["waiting"] == 1
    finally:
        end.set()
        await asyncio.sleep(0)
    assert f"{_REASON}60 s" in lines_of(caplog)


async def test_without_acknowledgements_the_log_says_that_it_is_dropped(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    begun, end = threading.Event(), threading.Event()
    caplog.set_level(logging.ERROR, "sealane.worker")

    class Jobs(SyncConsumer):
        def job_do(self, message: Message) -> None:
            begun.set()
            end.wait(LIMIT)

    await send_jobs(layer, 1)
    try:
        await end_in_the_midst(Worker(Jobs.as_asgi(), ["jobs"], layer, cancel_timeout=0.2), begun)
    finally:
        end.set()
    assert lines_of(caplog).endswith(
        "A message on channel 'jobs' was cancelled, but its handler still runs after cancel_timeout = 0.2 s, and ends "
        "with the process: the message is dropped"
    )


async def test_a_handler_that_goes_on_is_waited_for_once(layer: InMemoryChannelLayer) -> None:
    begun, end = threading.Event(), threading.Event()

    class Jobs(SyncConsumer):
        def job_do(self, message: Message) -> None:
            if message["n"] == 2:
                begun.set()
                end.wait(LIMIT)

    # The instance has handled a message before: its lane knows it.
    await send_jobs(layer, 2)
    loop = asyncio.get_running_loop()
    try:
        worker = Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True, cancel_timeout=2.0)
        working = asyncio.create_task(worker.handle())
        assert await asyncio.to_thread(begun.wait, LIMIT)
        before = loop.time()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(working, LIMIT)
        assert 2.0 <= loop.time() - before < 4.0
    finally:
        end.set()

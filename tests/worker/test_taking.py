"""How a worker takes messages and acknowledges them: several at once, no more than it has room for, and none lost."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from sealane.layers import Delivery, InMemoryChannelLayer, RedisChannelLayer, RedisPubSubChannelLayer
from sealane.layers.redis.layer import RedisLayer
from sealane.worker import Worker
from tests.servers import Server
from tests.worker.jobs import LIMIT, Gated, Recorder, eventually, send_jobs

_ACK = pytest.mark.parametrize("ack", [False, True], ids=["plain", "ack"])


@pytest.fixture(params=[RedisChannelLayer, RedisPubSubChannelLayer])
async def redis_layer(
    request: pytest.FixtureRequest, valkey_server: Server, key_prefix: str
) -> AsyncIterator[RedisLayer]:
    async with request.param([valkey_server.url], prefix=key_prefix, capacity=1000) as made:
        yield made


def count_takes(layer: RedisLayer) -> list[int]:
    """Note how many messages each take of a worker brings."""
    taken: list[int] = []

    def counting(call: Any) -> Any:
        async def counted(*args: Any, **kwargs: Any) -> Any:
            found = await call(*args, **kwargs)
            taken.append(len(found))
            return found

        return counted

    layer.receive_many = counting(layer.receive_many)  # type: ignore[method-assign]
    layer.receive_deliveries = counting(layer.receive_deliveries)  # type: ignore[method-assign]
    return taken


@_ACK
async def test_many_short_jobs_are_taken_by_few_calls_and_begin_in_order(redis_layer: RedisLayer, ack: bool) -> None:
    class Jobs(Recorder):
        pass

    taken = count_takes(redis_layer)
    await send_jobs(redis_layer, 200)
    async with Worker(Jobs.as_asgi(), ["jobs"], redis_layer, concurrency=16, prefetch=16, ack=ack):
        await eventually(lambda: len(Jobs.seen) == 200)
    assert Jobs.seen == list(range(1, 201))
    assert sum(taken) == 200
    assert max(taken) <= 32
    assert len(taken) <= 50


@_ACK
@pytest.mark.parametrize("prefetch", [0, 10])
async def test_one_at_a_time_keeps_the_order(redis_layer: RedisLayer, ack: bool, prefetch: int) -> None:
    class Jobs(Recorder):
        async def job_do(self, message: Any) -> None:
            await asyncio.sleep(0)
            await super().job_do(message)

    async with Worker(Jobs.as_asgi(), ["jobs"], redis_layer, prefetch=prefetch, ack=ack):
        await send_jobs(redis_layer, 100)
        await eventually(lambda: len(Jobs.seen) == 100)
    assert Jobs.seen == list(range(1, 101))


@_ACK
@pytest.mark.parametrize("end", ["stop", "cancel"])
async def test_no_more_is_taken_than_there_is_room_for_and_the_rest_is_handed_back(
    redis_layer: RedisLayer, ack: bool, end: str
) -> None:
    class Jobs(Gated):
        pass

    await send_jobs(redis_layer, 10)
    worker = Worker(Jobs.as_asgi(), ["jobs"], redis_layer, concurrency=2, prefetch=3, ack=ack)
    working = asyncio.create_task(worker.handle())
    await eventually(lambda: "2 in hand, 3 waiting" in repr(worker))
    async with asyncio.timeout(LIMIT):
        # Nobody has taken it.
        assert (await redis_layer.receive("jobs"))["n"] == 6
        if end == "stop":
            worker.stop()
            left = [(await redis_layer.receive("jobs"))["n"] for _ in range(7)]
            Jobs.gate.set()
            await working
            assert Jobs.done == [1, 2]
            assert sorted(left) == [3, 4, 5, 7, 8, 9, 10]
        else:
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            assert sorted(Jobs.cancelled) == [1, 2]
            # Without acknowledgements, what was begun is dropped.
            kept = [1, 2, 3, 4, 5, 7, 8, 9, 10] if ack else [3, 4, 5, 7, 8, 9, 10]
            left = [(await redis_layer.receive("jobs"))["n"] for _ in kept]
            assert sorted(left) == kept
    await nothing_is_left(redis_layer)


@_ACK
async def test_workers_that_come_and_go_lose_and_double_nothing(redis_layer: RedisLayer, ack: bool) -> None:
    class Jobs(Recorder):
        pass

    await send_jobs(redis_layer, 300)
    stops = 0
    async with asyncio.timeout(2 * LIMIT):
        while len(Jobs.seen) < 300:
            goal = min(300, len(Jobs.seen) + 7)
            async with Worker(Jobs.as_asgi(), ["jobs"], redis_layer, concurrency=3, prefetch=20, ack=ack):
                while len(Jobs.seen) < goal:
                    await asyncio.sleep(0.001)
            stops += 1
    assert stops > 3
    assert sorted(Jobs.seen) == list(range(1, 301))
    await nothing_is_left(redis_layer)


async def nothing_is_left(layer: RedisLayer) -> None:
    """Fail where a message waits in the channel, or comes again."""
    await layer.send("jobs", {"type": "last"})
    async with asyncio.timeout(LIMIT):
        delivery = await layer.receive_delivery("jobs")
    assert delivery.message == {"type": "last"}
    assert await delivery.ack()


# While an acknowledgement is under way


class Slow(InMemoryChannelLayer):
    """A layer that carries acknowledgements out when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.acknowledging: list[int] = []

    async def receive_delivery(self, *args: Any, **kwargs: Any) -> Delivery:
        delivery = await super().receive_delivery(*args, **kwargs)
        lease = delivery._lease
        delivery._lease = _SlowLease(self, lease, delivery.message["n"])  # type: ignore[assignment]
        return delivery


class _SlowLease:
    def __init__(self, layer: Slow, lease: Any, number: int) -> None:
        self._layer = layer
        self._inner = lease
        self._number = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def ack(self) -> bool:
        self._layer.acknowledging.append(self._number)
        await self._layer.go.wait()
        done: bool = await self._inner.ack()
        return done


async def test_the_next_job_is_begun_while_the_last_one_is_acknowledged_and_no_more() -> None:
    class Jobs(Recorder):
        pass

    async with Slow() as layer:
        await send_jobs(layer, 5)
        worker = Worker(Jobs.as_asgi(), ["jobs"], layer, prefetch=5, ack=True)
        working = asyncio.create_task(worker.handle())
        await eventually(lambda: layer.acknowledging == [1, 2])
        await asyncio.sleep(0.05)
        assert (Jobs.seen, layer.acknowledging) == ([1, 2], [1, 2])
        layer.go.set()
        await eventually(lambda: layer.acknowledging == [1, 2, 3, 4, 5])
        worker.stop()
        await asyncio.wait_for(working, LIMIT)
        assert layer.stats()["waiting"] == 0


async def test_a_worker_that_stops_waits_for_its_acknowledgements() -> None:
    class Jobs(Recorder):
        pass

    async with Slow() as layer:
        await send_jobs(layer, 1)
        worker = Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True)
        working = asyncio.create_task(worker.handle())
        await eventually(lambda: layer.acknowledging == [1])
        worker.stop()
        await asyncio.sleep(0.05)
        assert not working.done()
        layer.go.set()
        await asyncio.wait_for(working, LIMIT)
        assert layer.stats()["waiting"] == 0


async def test_a_worker_that_is_cancelled_waits_for_them_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    class Jobs(Recorder):
        pass

    caplog.set_level(logging.WARNING, "sealane.worker")
    async with Slow() as layer:
        await send_jobs(layer, 1)
        worker = Worker(Jobs.as_asgi(), ["jobs"], layer, ack=True, cancel_timeout=1)
        working = asyncio.create_task(worker.handle())
        await eventually(lambda: layer.acknowledging == [1])
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(working, LIMIT)
        assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
            "the worker stops before it could acknowledge it, so it may come again"
        ]
        assert layer.stats()["waiting"] == 1

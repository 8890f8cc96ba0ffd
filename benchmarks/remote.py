"""The process of a workload whose messages go through Redis: `python -m benchmarks.remote SIDE WORKLOAD SIZES REDIS`.

It prints a sample as JSON for each turn. It runs on asyncio's own loop. Who sends and who receives are two layers, so
that no message can be handed over within the process; the limit of the fan-out is the one without Redis.
"""

import asyncio
import gc
import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from benchmarks.configure import configure
from benchmarks.deliveries import Deliveries
from benchmarks.layers import blocking_group_send, close, join_all, layer_for
from benchmarks.local import note_growth
from benchmarks.members import Members
from benchmarks.processor import Usage, pin, server_core
from benchmarks.sample import Figure, Sample
from benchmarks.store import Store, Traffic, run_store
from benchmarks.turns import BlockingTurns, Turns
from benchmarks.workload import GROUP, TEXT, Sizes
from sealane.types import Message

__all__ = ["main", "measure"]

#: Messages on their way from senders that do not wait for the receiver: less than any capacity.
_ON_THEIR_WAY = 1_000

#: Messages sent at most while the members that get them stand still: less than any capacity.
_MOST_FROZEN = 5_000

#: In so many parts commands and bytes are counted, and the median is taken: a member that opens a connection, or says
#: that it lives, belongs to no message.
_CHUNKS = 5

#: What is sent to the group, and to the channel with a number more.
_MESSAGE: Message = {"type": "bench.text", "text": TEXT}


def _check(message: Message) -> None:
    if message["text"] != TEXT:
        raise RuntimeError(f"a wrong message came in: {message!r}")


@asynccontextmanager
async def _layers(side: str, store: Store | None) -> AsyncIterator[tuple[Any, Any]]:
    """Yield a layer that sends and one that receives."""
    receiver = layer_for(side, store)
    sender = receiver if store is None else layer_for(side, store)
    try:
        yield sender, receiver
    finally:
        await close(receiver)
        if sender is not receiver:
            await close(sender)


@asynccontextmanager
async def _tasks(tasks: Sequence["asyncio.Task[None]"]) -> AsyncIterator[None]:
    """Cancel the tasks in the end. One that failed fails the block."""
    body = asyncio.current_task()
    assert body is not None
    failed: list[BaseException] = []

    def on_end(task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()):
            failed.append(error)
            body.cancel()

    for task in tasks:
        task.add_done_callback(on_end)
    try:
        yield
    except asyncio.CancelledError:
        if failed:
            raise RuntimeError("a receiver failed") from failed[0]
        raise
    finally:
        for task in tasks:
            task.remove_done_callback(on_end)
            task.cancel()
        # redis-py may lose a cancellation; the process ends soon in any case.
        await asyncio.wait(tasks, timeout=2)


async def _fanout(turns: Turns, side: str, store: Store | None, sizes: Sizes) -> None:
    """Send to a group whose members are tasks in `receive`, and count what they get."""
    deliveries = Deliveries()
    sent = 0

    async def member(channel: str) -> None:
        while True:
            _check(await receiver.receive(channel))
            deliveries.add()

    async with _layers(side, store) as (sender, receiver):
        channels = [await receiver.new_channel() for _ in range(sizes.sockets)]
        for channel in channels:
            await receiver.group_add(GROUP, channel)

        async def run(batch: int, seconds: float) -> float:
            nonlocal sent
            before, started = sent, time.perf_counter()
            while before == sent or time.perf_counter() - started < seconds:
                await asyncio.gather(*(sender.group_send(GROUP, _MESSAGE) for _ in range(batch)))
                sent += batch
                await deliveries.reach(sent * len(channels))
            return (sent - before) * len(channels) / (time.perf_counter() - started)

        async with _tasks([asyncio.ensure_future(member(channel)) for channel in channels]):
            await run(1, sizes.redis_warm_up)
            async for sample in turns:
                already = deliveries.count
                for name, batch in (("deliveries", 1), ("deliveries-batch", sizes.batch)):
                    gc.collect()
                    await run(batch, 0)
                    usage = _usage(store)
                    sample.figures[name] = usage.figure(await run(batch, sizes.redis_seconds))
                if store is not None and turns.first:
                    before, traffic = sent, Traffic.of(store)
                    for _ in range(sizes.counted):
                        await sender.group_send(GROUP, _MESSAGE)
                        sent += 1
                        await deliveries.reach(sent * len(channels))
                    commands, size, _ = Traffic.of(store).per(sent - before, traffic)
                    sample.figures["commands"] = Figure(value=commands)
                    sample.figures["bytes"] = Figure(value=size)
                sample.messages = deliveries.count - already
    if deliveries.count != sent * len(channels):
        raise RuntimeError(f"{sent} messages to {len(channels)} members, but {deliveries.count} deliveries")


async def _send(turns: Turns, side: str, store: Store | None, sizes: Sizes) -> None:
    """Send to one channel, from one task and from many, and count what arrives."""
    deliveries = Deliveries()
    gate = asyncio.Semaphore(_ON_THEIR_WAY)
    numbers = itertools.count()
    sent = total = 0

    async def receive() -> None:
        nonlocal total
        while True:
            message = await receiver.receive(channel)
            _check(message)
            total += message["number"]
            gate.release()
            deliveries.add()

    async def send_until(end: float) -> None:
        nonlocal sent
        while time.perf_counter() < end:
            await gate.acquire()
            await sender.send(channel, {**_MESSAGE, "number": next(numbers)})
            sent += 1

    async def send_many_until(end: float) -> None:
        nonlocal sent
        while time.perf_counter() < end:
            for _ in range(sizes.senders):
                await gate.acquire()
            messages = [{**_MESSAGE, "number": next(numbers)} for _ in range(sizes.senders)]
            await sender.send_many(channel, messages)
            sent += len(messages)

    async def run(senders: int, seconds: float) -> float:
        before, started = deliveries.count, time.perf_counter()
        # The bare client's many are one pipeline: the least that it can be.
        if senders > 1 and hasattr(sender, "send_many"):
            await send_many_until(started + seconds)
        else:
            await asyncio.gather(*(send_until(started + seconds) for _ in range(senders)))
        await deliveries.reach(sent)
        return (deliveries.count - before) / (time.perf_counter() - started)

    async with _layers(side, store) as (sender, receiver):
        channel = await receiver.new_channel()
        async with _tasks([asyncio.ensure_future(receive())]):
            variants = {"one": 1, "many": sizes.senders}
            for senders in variants.values():
                await run(senders, sizes.redis_warm_up)
            async for sample in turns:
                before = deliveries.count
                gc.collect()
                for name, senders in variants.items():
                    usage = _usage(store)
                    sample.figures[name] = usage.figure(await run(senders, sizes.redis_seconds))
                sample.messages = deliveries.count - before
    if deliveries.count != sent or total != sent * (sent - 1) // 2:
        raise RuntimeError(f"{sent} messages were sent, {deliveries.count} arrived, or some of them twice")


async def _trip(turns: Turns, side: str, store: Store | None, sizes: Sizes) -> None:
    """Send a message and receive it, in one task; the median time of that."""
    async with _layers(side, store) as (sender, receiver):
        channel = await receiver.new_channel()
        trips = 0

        async def run(seconds: float) -> list[float]:
            nonlocal trips
            times = []
            started = now = time.perf_counter()
            while now - started < seconds:
                await sender.send(channel, {**_MESSAGE, "number": trips})
                message = await receiver.receive(channel)
                before, now = now, time.perf_counter()
                if message["number"] != trips:
                    raise RuntimeError(f"sent number {trips}, received {message!r}")
                _check(message)
                trips += 1
                times.append(now - before)
            return times

        await run(sizes.redis_warm_up)
        async for sample in turns:
            gc.collect()
            usage = _usage(store)
            times = await run(sizes.redis_seconds)
            sample.figures["trip"] = usage.figure(statistics.median(times) * 1e6)
            sample.messages = len(times)


async def _groups(turns: Turns, side: str, store: Store | None, sizes: Sizes) -> None:
    """Send to a group of one member and receive it, beside groups that have nothing to do with it.

    Each number of groups has a server and layers of its own, so that they are measured in turns too.
    """
    assert store is not None
    async with AsyncExitStack() as stack:
        places: dict[str, tuple[Any, Any, str]] = {}
        stores = []
        for groups in sizes.groups:
            own = stack.enter_context(run_store(store.program))
            stores.append(own.process)
            sender, receiver = await stack.enter_async_context(_layers(side, own))
            channel, other = await receiver.new_channel(), await receiver.new_channel()
            await receiver.group_add(GROUP, channel)
            await join_all(side, receiver, [f"other-{number}" for number in range(groups)], other)
            places[f"groups-{groups}"] = (sender, receiver, channel)

        async def run(seconds: float) -> dict[str, list[float]]:
            """Send beside one number of groups after another: what drifts meets all alike."""
            costs: dict[str, list[float]] = {name: [] for name in places}
            started = time.perf_counter()
            while time.perf_counter() - started < seconds * len(places):
                for name, (sender, receiver, channel) in places.items():
                    before = time.perf_counter()
                    await sender.group_send(GROUP, _MESSAGE)
                    _check(await receiver.receive(channel))
                    costs[name].append(time.perf_counter() - before)
            return costs

        await run(sizes.redis_warm_up)
        async for sample in turns:
            gc.collect()
            usage = Usage(store=stores)
            costs = await run(sizes.redis_seconds)
            sample.messages = sum(map(len, costs.values()))
            note_growth(sample, usage, costs)


def _sync(turns: BlockingTurns, side: str, store: Store, sizes: Sizes) -> None:
    """Send to a group from code without an event loop. Its one member, in another process, gets everything."""
    with Members(side, store, 1) as members:
        members.join(1)
        send = blocking_group_send(side, store, GROUP)

        def run(seconds: float) -> tuple[int, Figure]:
            """Return how many calls there were, and those per second."""
            members.freeze()
            usage = _usage(store, members)
            sends, started = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - started) < seconds and sends < _MOST_FROZEN:
                send(_MESSAGE)
                sends += 1
            figure = usage.figure(sends / elapsed)
            members.thaw()
            members.expect(sends)
            members.wait_arrived()
            return sends, figure

        run(sizes.redis_warm_up)
        for sample in turns:
            gc.collect()
            sample.messages, sample.figures["calls"] = run(sizes.redis_seconds)


def _processes(turns: BlockingTurns, side: str, store: Store, sizes: Sizes) -> None:
    """Send to a group that has a member in more and more processes."""
    for sample in turns:
        with Members(side, store, max(sizes.processes)) as members:
            asyncio.run(_to_processes(sample, side, store, sizes, members))


async def _to_processes(sample: Sample, side: str, store: Store, sizes: Sizes, members: Members) -> None:
    sender = layer_for(side, store)

    async def run(seconds: float) -> Figure:
        """Return the microseconds of a call."""
        members.freeze()
        usage = _usage(store, members)
        sends, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds and sends < _MOST_FROZEN:
            await sender.group_send(GROUP, _MESSAGE)
            sends += 1
        figure = usage.figure(elapsed / sends * 1e6)
        members.thaw()
        members.expect(sends)
        await members.arrived()
        sample.messages += sends * members.joined
        return figure

    try:
        for processes in sizes.processes:
            members.join(processes)
            await run(sizes.redis_warm_up / 2)
            sample.figures[f"processes-{processes}"] = await run(sizes.redis_seconds / 2)
            counts = []
            size = sizes.counted // _CHUNKS
            for _ in range(_CHUNKS):
                idle, before = Traffic.of(store), Traffic.of(store)
                for _ in range(size):
                    await sender.group_send(GROUP, _MESSAGE)
                    members.expect(1)
                    await members.arrived()
                after = Traffic.of(store)
                # To ask takes as much as it took before.
                asking = before.per(size, idle)
                counts.append([all - own for all, own in zip(after.per(size, before), asking, strict=True)])
            for name, values in zip(("commands", "bytes", "bytes-out"), zip(*counts, strict=True), strict=True):
                sample.figures[f"{name}-{processes}"] = Figure(value=statistics.median(values))
    finally:
        await close(sender)


def _usage(store: Store | None, members: Members | None = None) -> Usage:
    return Usage(store=None if store is None else store.process, helpers=() if members is None else members.pids)


_RUNS: dict[str, Callable[[Turns, str, Store | None, Sizes], Coroutine[Any, Any, None]]] = {
    "redis-fanout": _fanout,
    "redis-groups": _groups,
    "redis-send": _send,
    "redis-trip": _trip,
}

#: These have no event loop, or fork before they have one.
_BLOCKING_RUNS: dict[str, Callable[[BlockingTurns, str, Store, Sizes], None]] = {
    "redis-processes": _processes,
    "redis-sync": _sync,
}


def main(side: str, workload: str, sizes: str, store: str) -> None:
    """Measure, turn by turn. RuntimeError where a message was lost or changed; it hangs where nothing more comes."""
    pin(server_core())
    configure()
    running = Store.load(store)
    if workload in _BLOCKING_RUNS:
        assert running is not None
        _BLOCKING_RUNS[workload](BlockingTurns(), side, running, Sizes.load(sizes))
    else:
        asyncio.run(measure(Turns(), side, workload, Sizes.load(sizes), running))


async def measure(turns: Turns, side: str, workload: str, sizes: Sizes, store: Store | None) -> None:
    """Take a sample of a workload with an event loop in each turn."""
    await _RUNS[workload](turns, side, store, sizes)


if __name__ == "__main__":
    main(*sys.argv[1:5])

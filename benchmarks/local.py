"""The process of a workload that needs no server: `python -m benchmarks.local SIDE WORKLOAD SIZES`.

It prints a sample as JSON for each turn. It runs on asyncio's own loop, where the limits were taken.
"""

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from benchmarks.applications import Applications, MessageLayer
from benchmarks.configure import applications_for
from benchmarks.processor import Usage, pin, server_core
from benchmarks.sample import Figure, Sample
from benchmarks.turns import Turns
from benchmarks.workload import TEXT, WORKLOADS, Sizes
from sealane.types import Message

__all__ = ["dispatch_once", "main", "measure", "note_growth"]

#: Events in the queue at most: more would measure the memory.
_MOST_EVENTS = 200_000

#: Messages that wait when they are received one after another.
_BATCH = 20

#: Unrelated members of one group.
_GROUP_SIZE = 50


async def _discard(event: Message) -> None:
    pass


async def dispatch_once(applications: Applications, events: int, *, counted: bool = False) -> float:
    """Dispatch `events` from a queue that is full already; return the seconds."""
    queue: asyncio.Queue[Message] = asyncio.Queue()
    kind = "bench.count" if counted else "bench.event"
    for _ in range(events):
        queue.put_nowait({"type": kind})
    queue.put_nowait({"type": "bench.stop"})
    handled = 0

    def count() -> None:
        nonlocal handled
        handled += 1

    scope = {"type": "bench", "events": events, "counted": counted, "count": count}
    application = applications.dispatch()
    gc.collect()
    started = time.perf_counter()
    await application(scope, queue.get, _discard)
    elapsed = time.perf_counter() - started
    if not queue.empty() or (counted and handled != events):
        raise RuntimeError(f"{handled} of {events} events were handled, {queue.qsize()} are left")
    return elapsed


async def _dispatch(turns: Turns, applications: Applications, sizes: Sizes) -> None:
    """Events per second through a handler that does nothing; one that counts has shown that all arrive."""
    await dispatch_once(applications, 100, counted=True)
    events = 500
    for seconds in (sizes.warm_up, sizes.seconds):
        elapsed = await dispatch_once(applications, events)
        events = min(_MOST_EVENTS, max(events, int(events / elapsed * seconds)))
    async for sample in turns:
        usage = Usage()
        sample.figures["messages"] = usage.figure(events / await dispatch_once(applications, events))
        sample.messages = events


async def _ping_pong(turns: Turns, applications: Applications, sizes: Sizes) -> None:
    """Round trips per second between this task and the application, one event on its way at a time."""
    to_application: asyncio.Queue[Message] = asyncio.Queue()
    from_application: asyncio.Queue[Message] = asyncio.Queue()
    pong = {"type": "bench.pong"}
    scope = {"type": "bench", "pong": pong}
    task = asyncio.ensure_future(applications.ping_pong()(scope, to_application.get, from_application.put))
    # An application that failed must not leave the driver waiting.
    task.add_done_callback(lambda _: from_application.put_nowait({"type": "bench.end"}))

    async def run(seconds: float) -> tuple[int, float]:
        trips, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            # The clock is read once for many trips.
            for _ in range(100):
                await to_application.put({"type": "bench.ping"})
                if (answer := await from_application.get()) is not pong:
                    if task.done():
                        await task
                    raise RuntimeError(f"a wrong answer: {answer!r}")
            trips += 100
        return trips, elapsed

    await run(sizes.warm_up)
    async for sample in turns:
        gc.collect()
        usage = Usage()
        sample.messages, elapsed = await run(sizes.seconds)
        sample.figures["trips"] = usage.figure(sample.messages / elapsed)
    await to_application.put({"type": "bench.stop"})
    await task


async def _receive(turns: Turns, applications: Applications, sizes: Sizes) -> None:
    """Microseconds for one `receive` of a message that waits, beside unrelated group members."""
    layers = []
    for members in sizes.members:
        layer = applications.layer()
        for number in range(members):
            await applications.join(layer, f"group-{number // _GROUP_SIZE}", await layer.new_channel())
        layers.append((f"members-{members}", layer, await layer.new_channel()))

    async def batch(layer: MessageLayer, channel: str) -> float:
        """Return the seconds of one `receive`."""
        for number in range(_BATCH):
            await layer.send(channel, {"type": "bench.text", "text": TEXT, "number": number})
        started = time.perf_counter()
        got = [await layer.receive(channel) for _ in range(_BATCH)]
        spent = time.perf_counter() - started
        if [message["number"] for message in got] != list(range(_BATCH)):
            raise RuntimeError(f"sent {_BATCH} messages, received {got}")
        return spent / _BATCH

    async def run(seconds: float) -> dict[str, list[float]]:
        """Receive from one layer after another, batch by batch: what drifts meets all alike."""
        costs: dict[str, list[float]] = {name: [] for name, _, _ in layers}
        started = time.perf_counter()
        while time.perf_counter() - started < seconds * len(layers):
            for name, layer, channel in layers:
                costs[name].append(await batch(layer, channel))
        return costs

    await run(sizes.warm_up)
    async for sample in turns:
        gc.collect()
        usage = Usage()
        costs = await run(sizes.seconds)
        sample.messages = _BATCH * sum(map(len, costs.values()))
        note_growth(sample, usage, costs)


def note_growth(sample: Sample, usage: Usage, costs: Mapping[str, Sequence[float]]) -> None:
    """Note the median of each cost, in microseconds, and the dearest over the first."""
    medians = {name: statistics.median(each) * 1e6 for name, each in costs.items()}
    for name, cost in medians.items():
        sample.figures[name] = usage.figure(cost)
    first, *_ = medians.values()
    sample.figures["growth"] = Figure(value=max(medians.values()) / first)


_RUNS: dict[str, Callable[[Turns, Applications, Sizes], Awaitable[None]]] = {
    "dispatch": _dispatch,
    "ping-pong": _ping_pong,
    "receive": _receive,
}


async def measure(turns: Turns, applications: Applications, workload: str, sizes: Sizes) -> None:
    """Take a sample in each turn. RuntimeError where a message was lost; it hangs where nothing more comes."""
    await _RUNS[workload](turns, applications, sizes)


def main(side: str, workload: str, sizes: str) -> None:
    """Measure, turn by turn."""
    pin(server_core())
    applications = applications_for(side, WORKLOADS[workload])
    asyncio.run(measure(Turns(), applications, workload, Sizes.load(sizes)))


if __name__ == "__main__":
    main(*sys.argv[1:4])

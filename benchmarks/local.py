"""The process of a workload that needs no server: `python -m benchmarks.local SIDE WORKLOAD SIZES`.

It prints one sample as JSON. It runs on asyncio's own loop, where the limits were taken.
"""

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable

from benchmarks.applications import Applications, MessageLayer
from benchmarks.configure import applications_for
from benchmarks.processor import Usage, pin, server_core
from benchmarks.sample import Figure, Sample
from benchmarks.workload import TEXT, WORKLOADS, Sizes
from sealane.types import Message

__all__ = ["dispatch_once", "main", "measure"]

#: A sample that takes longer hangs.
_TIME_LIMIT = 60.0

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


async def _dispatch(applications: Applications, sizes: Sizes) -> Sample:
    """Events per second through a handler that does nothing; one that counts has shown that all arrive."""
    await dispatch_once(applications, 100, counted=True)
    events = 500
    for seconds in (sizes.warm_up, sizes.seconds):
        elapsed = await dispatch_once(applications, events)
        events = min(_MOST_EVENTS, max(events, int(events / elapsed * seconds)))
    usage = Usage()
    figure = usage.figure(events / await dispatch_once(applications, events))
    return Sample(figures={"messages": figure}, messages=events)


async def _ping_pong(applications: Applications, sizes: Sizes) -> Sample:
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
    gc.collect()
    usage = Usage()
    trips, elapsed = await run(sizes.seconds)
    figure = usage.figure(trips / elapsed)
    await to_application.put({"type": "bench.stop"})
    await task
    return Sample(figures={"trips": figure}, messages=trips)


async def _receive(applications: Applications, sizes: Sizes) -> Sample:
    """Microseconds for one `receive` of a message that waits, beside unrelated group members."""
    sample = Sample()
    for members in sizes.members:
        layer = applications.layer()
        for number in range(members):
            await applications.join(layer, f"group-{number // _GROUP_SIZE}", await layer.new_channel())
        channel = await layer.new_channel()

        async def run(seconds: float, layer: MessageLayer = layer, channel: str = channel) -> tuple[int, float]:
            received, spent, started = 0, 0.0, time.perf_counter()
            while time.perf_counter() - started < seconds:
                for number in range(_BATCH):
                    await layer.send(channel, {"type": "bench.text", "text": TEXT, "number": number})
                before = time.perf_counter()
                got = [await layer.receive(channel) for _ in range(_BATCH)]
                spent += time.perf_counter() - before
                if [message["number"] for message in got] != list(range(_BATCH)):
                    raise RuntimeError(f"sent {_BATCH} messages, received {got}")
                received += _BATCH
            return received, spent

        await run(sizes.warm_up)
        gc.collect()
        usage = Usage()
        received, spent = await run(sizes.seconds)
        sample.figures[f"members-{members}"] = usage.figure(spent / received * 1e6)
        sample.messages += received
    costs = [figure.value for figure in sample.figures.values()]
    sample.figures["growth"] = Figure(value=max(costs) / costs[0])
    return sample


_RUNS: dict[str, Callable[[Applications, Sizes], Awaitable[Sample]]] = {
    "dispatch": _dispatch,
    "ping-pong": _ping_pong,
    "receive": _receive,
}


async def measure(applications: Applications, workload: str, sizes: Sizes) -> Sample:
    """Take one sample. RuntimeError where a message was lost, TimeoutError where nothing more comes."""
    async with asyncio.timeout(_TIME_LIMIT):
        return await _RUNS[workload](applications, sizes)


def main(side: str, workload: str, sizes: str) -> None:
    """Measure one sample and print it."""
    pin(server_core())
    applications = applications_for(side, WORKLOADS[workload])
    sample = asyncio.run(measure(applications, workload, Sizes.load(sizes)))
    print(sample.dump())


if __name__ == "__main__":
    main(*sys.argv[1:4])

"""The load client of the latency rows: from `group_send` in one process to the frame at a client of another.

`python -m benchmarks.latency PORT SERVER SENDER-PORT SENDER SIZES REDIS`, with the numbers of both processes. It prints
one sample as JSON.
"""

import asyncio
import math
import sys
import time
from collections.abc import Sequence

import uvloop

from benchmarks.client import frame, open_sockets, watched
from benchmarks.client_socket import ClientSocket, connect
from benchmarks.deliveries import Deliveries
from benchmarks.load import due_of
from benchmarks.processor import Usage, client_core, pin, process_seconds
from benchmarks.sample import Figure, Sample
from benchmarks.store import Store
from benchmarks.turns import Turns
from benchmarks.workload import Sizes

__all__ = ["main", "measure", "percentile"]

#: The load at which the processor time of a message is taken: no queue has formed, no process idles.
_EASY = 50


def percentile(values: Sequence[float], share: float) -> float:
    """Return the least of the sorted values that is at least as great as `share` of them."""
    return values[max(0, math.ceil(len(values) * share) - 1)]


async def measure(
    turns: Turns, port: int, server: int, sender_port: int, sender: int, sizes: Sizes, store: Store
) -> None:
    """Take one sample. RuntimeError where a text was lost or came twice; it hangs where nothing more comes."""

    async def work() -> None:
        async for sample in turns:
            await _measure(sample, port, server, sender_port, sender, sizes, store)

    await watched(work())


async def _measure(
    sample: Sample, port: int, server: int, sender_port: int, sender: int, sizes: Sizes, store: Store
) -> None:
    deliveries = Deliveries()
    latencies: list[float] = []
    answers: asyncio.Queue[int] = asyncio.Queue()
    listeners, sent = sizes.listeners, 0

    def on_text(socket: ClientSocket, payload: bytes) -> None:
        latencies.append(time.monotonic() - due_of(payload))
        deliveries.add()

    control = await connect(sender_port, "/control", lambda socket, payload: answers.put_nowait(int(payload)))

    def usage() -> Usage:
        return Usage(server, store=store.process, helpers=(sender,))

    async def flood(seconds: float) -> float:
        """Keep a number of messages on their way; return how many left in a second."""
        nonlocal sent
        before, started = sent, time.perf_counter()
        command = frame("now")
        while time.perf_counter() - started < seconds:
            control.write(command)
            sent += 1
            await deliveries.reach((sent - sizes.load_window + 1) * listeners)
        await deliveries.reach(sent * listeners)
        return (sent - before) / (time.perf_counter() - started)

    async def load(rate: float, seconds: float) -> int:
        nonlocal sent
        latencies.clear()
        control.write(frame(f"load {rate} {seconds}"))
        count = await answers.get()
        sent += count
        await deliveries.reach(sent * listeners)
        return count

    async with open_sockets(port, listeners, on_text) as sockets:
        await flood(sizes.redis_warm_up)
        used = usage()
        capacity = await flood(sizes.redis_seconds)
        sample.figures["capacity"] = used.figure(capacity)
        for share in sizes.loads:
            rate = capacity * share / 100
            await load(rate, sizes.redis_warm_up)
            used, before = usage(), [process_seconds(each) for each in (sender, server, store.process)]
            count = await load(rate, sizes.load_seconds)
            spent = [
                process_seconds(each) - earlier
                for each, earlier in zip((sender, server, store.process), before, strict=True)
            ]
            values = sorted(latencies)
            for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
                sample.figures[f"{name}-{share}"] = used.figure(percentile(values, part) * 1e3)
            if share == _EASY:
                for name, seconds in zip(("sender", "receiver", "redis"), spent, strict=True):
                    sample.figures[f"processor-{name}"] = Figure(value=seconds / max(1, count) * 1e6)
        counts = {socket.received for socket in sockets}
    await control.close()
    if counts != {sent}:
        raise RuntimeError(f"{sent} messages were sent, but sockets got {sorted(counts)}")
    sample.messages = deliveries.count


def main(port: str, server: str, sender_port: str, sender: str, sizes: str, store: str) -> None:
    """Measure one sample and print it."""
    pin(client_core())
    running = Store.load(store)
    assert running is not None
    uvloop.run(measure(Turns(), int(port), int(server), int(sender_port), int(sender), Sizes.load(sizes), running))


if __name__ == "__main__":
    main(*sys.argv[1:7])

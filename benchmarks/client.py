"""The load client process: `python -m benchmarks.client WORKLOAD PORT SERVER-PROCESS SIZES REDIS`.

It prints a sample as JSON for each turn.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from benchmarks.allocations import Allocations
from benchmarks.client_socket import ClientSocket, connect
from benchmarks.deliveries import Deliveries
from benchmarks.frames import TEXT as TEXT_FRAME
from benchmarks.frames import encode_frame
from benchmarks.processor import Usage, client_core, pin
from benchmarks.sample import Figure, Sample
from benchmarks.store import Store, Traffic
from benchmarks.turns import Turns
from benchmarks.workload import TEXT, Sizes

__all__ = ["frame", "main", "measure", "open_sockets", "watched"]

#: Handshakes on their way at once.
_HANDSHAKES = 50

#: Connections from one source address: Linux has 28,000 ports for them.
_PORTS = 20_000

_PAYLOAD = TEXT.encode()


def frame(text: str) -> bytes:
    """Return the frame that a client sends for a text."""
    return encode_frame(TEXT_FRAME, text.encode())


def _check(payload: bytes) -> None:
    if payload != _PAYLOAD:
        raise RuntimeError(f"a wrong text came in: {payload!r}")


async def _open(
    port: int, count: int, on_text: Callable[[ClientSocket, bytes], None], *, present: int = 0
) -> list[ClientSocket]:
    """Open `count` WebSockets beside those that are present. A source address has ports for some of them only."""
    gate = asyncio.Semaphore(_HANDSHAKES)

    async def one(number: int) -> ClientSocket:
        async with gate:
            return await connect(port, "/socket", on_text, source=number // _PORTS)

    return await asyncio.gather(*(one(number) for number in range(present, present + count)))


@asynccontextmanager
async def open_sockets(
    port: int, count: int, on_text: Callable[[ClientSocket, bytes], None]
) -> AsyncIterator[list[ClientSocket]]:
    """Open `count` WebSockets, a few at a time, and close them in the end."""
    sockets = await _open(port, count, on_text)
    try:
        yield sockets
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))


async def _echo(turns: Turns, port: int, server: int, sizes: Sizes, store: Store | None) -> None:
    """Keep one text on its way on each connection, and count the answers."""
    text = frame(TEXT)
    answers = Deliveries()
    sent = 0
    stopping = False

    def on_text(socket: ClientSocket, payload: bytes) -> None:
        nonlocal sent
        _check(payload)
        answers.add()
        if not stopping:
            socket.write(text)
            sent += 1

    async with open_sockets(port, sizes.connections, on_text) as sockets:

        async def run(warm_up: float, seconds: float) -> Figure:
            """Return the answers per second. In the end none is on its way."""
            nonlocal sent, stopping
            stopping = False
            for socket in sockets:
                socket.write(text)
            sent += len(sockets)
            await asyncio.sleep(warm_up)
            usage, before, started = Usage(server), answers.count, time.perf_counter()
            await asyncio.sleep(seconds)
            while answers.count == before:  # noqa: ASYNC110 - a smoke run on a busy machine
                await asyncio.sleep(seconds)
            figure = usage.figure((answers.count - before) / (time.perf_counter() - started))
            stopping = True
            await answers.reach(sent)
            return figure

        await run(0, sizes.warm_up)
        async for sample in turns:
            before = answers.count
            sample.figures["messages"] = await run(sizes.seconds / 10, sizes.seconds)
            sample.messages = answers.count - before
    if answers.count != sent:
        raise RuntimeError(f"{sent} texts were sent, but {answers.count} came back")
    if idle := [socket for socket in sockets if not socket.received]:
        raise RuntimeError(f"{len(idle)} of {len(sockets)} connections had no answer")


async def _broadcast(turns: Turns, port: int, server: int, sizes: Sizes, store: Store | None) -> None:
    """Have the server broadcast, and count what arrives, for both kinds of event and both windows."""
    await _broadcasts(turns, port, server, sizes, store, kinds=("plain", "encoded"), windows={"-window": sizes.window})


async def _broadcast_through_redis(turns: Turns, port: int, server: int, sizes: Sizes, store: Store | None) -> None:
    """Do the same for one kind of event, one at a time. A broadcast that did not go through Redis fails it."""
    before = None if store is None else Traffic.of(store)
    broadcasts = await _broadcasts(turns, port, server, sizes, store, kinds=("plain",), windows={})
    if store is not None and before is not None:
        commands, *_ = Traffic.of(store).per(broadcasts, before)
        if commands < 1:
            raise RuntimeError(f"{broadcasts} broadcasts, but Redis had {commands:.2f} commands for each")


async def _broadcasts(
    turns: Turns,
    port: int,
    server: int,
    sizes: Sizes,
    store: Store | None,
    *,
    kinds: Sequence[str],
    windows: dict[str, int],
) -> int:
    """Broadcast one at a time, and in the first turn with each window too. Return how many broadcasts there were."""
    deliveries = Deliveries()
    sent = 0
    warm_up, seconds = (sizes.warm_up, sizes.seconds) if store is None else (sizes.redis_warm_up, sizes.redis_seconds)

    def on_text(socket: ClientSocket, payload: bytes) -> None:
        _check(payload)
        deliveries.add()

    control = await connect(port, "/control", lambda socket, payload: None)
    async with open_sockets(port, sizes.sockets, on_text) as sockets:

        async def run(command: bytes, window: int, seconds: float) -> float:
            """Broadcast for a time, `window` on their way at most; return deliveries per second."""
            nonlocal sent
            before, started = sent, time.perf_counter()
            while before == sent or time.perf_counter() - started < seconds:
                control.write(command)
                sent += 1
                await deliveries.reach((sent - window + 1) * len(sockets))
            await deliveries.reach(sent * len(sockets))
            return (sent - before) * len(sockets) / (time.perf_counter() - started)

        for kind in kinds:
            await run(frame(kind), 1, warm_up)
        async for sample in turns:
            before = deliveries.count
            for kind in kinds:
                command = frame(kind)
                # The other sides have had the processor and its caches meanwhile.
                await run(command, 1, 0)
                for name, window in ({"": 1} | (windows if turns.first else {})).items():
                    usage = Usage(server, store=None if store is None else store.process)
                    sample.figures[f"{kind}{name}"] = usage.figure(await run(command, window, seconds))
            sample.messages = deliveries.count - before
        counts = {socket.received for socket in sockets}
    await control.close()
    if counts != {sent}:
        raise RuntimeError(f"{sent} broadcasts, but sockets got {sorted(counts)}")
    return sent


async def _connect(turns: Turns, port: int, server: int, sizes: Sizes, store: Store | None) -> None:
    """Open sockets and keep them: the server's memory for each. Then open some in each turn: how many per second."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[int] = loop.create_future()

    def on_memory(socket: ClientSocket, payload: bytes) -> None:
        answer.set_result(int(payload))

    control = await connect(port, "/control", on_memory)

    async def memory() -> int:
        nonlocal answer
        answer = loop.create_future()
        control.write(frame("memory"))
        return await answer

    def ignore(socket: ClientSocket, payload: bytes) -> None:
        pass

    async with open_sockets(port, sizes.first_sockets, ignore):
        before = await memory()
        async with open_sockets(port, sizes.sockets, ignore) as sockets:
            each = Figure(value=(await memory() - before) / len(sockets) / 1024)
        async for sample in turns:
            if turns.first:
                sample.figures["memory"] = each
            usage, started = Usage(server), time.perf_counter()
            async with open_sockets(port, sizes.arrivals, ignore) as sockets:
                sample.figures["accepted"] = usage.figure(len(sockets) / (time.perf_counter() - started))
            sample.messages = len(sockets)
    await control.close()


async def _sockets(sample: Sample, port: int, server: int, sizes: Sizes, store: Store | None) -> None:
    """Open more and more sockets in one group, and broadcast to all that are there, one at a time."""
    deliveries = Deliveries()
    sockets: list[ClientSocket] = []
    due: list[int] = []
    command = frame("plain")
    sent = 0

    def on_text(socket: ClientSocket, payload: bytes) -> None:
        _check(payload)
        deliveries.add()

    control = await connect(port, "/control", lambda socket, payload: None)

    async def run(seconds: float) -> float:
        """Broadcast for a time, at least once; return deliveries per second."""
        nonlocal sent
        before, started = deliveries.count, time.perf_counter()
        while True:
            control.write(command)
            sent += 1
            await deliveries.reach(deliveries.count + len(sockets))
            elapsed = time.perf_counter() - started
            if elapsed >= seconds:
                return (deliveries.count - before) / elapsed

    for count in sizes.grown:
        sockets += await _open(port, count - len(sockets), on_text, present=len(sockets))
        # What was sent before they came is not for the new ones.
        due += [sent] * (count - len(due))
        await run(0)
        usage = Usage(server, store=None if store is None else store.process)
        sample.figures[f"sockets-{count}"] = usage.figure(await run(sizes.redis_seconds))
    missed = [sent - since - socket.received for socket, since in zip(sockets, due, strict=True)]
    if any(missed):
        raise RuntimeError(f"{sent} broadcasts, of which sockets missed {min(missed)} to {max(missed)}")
    sample.messages = deliveries.count
    _leave(server)


async def _footprint(sample: Sample, port: int, server: int, sizes: Sizes, store: Store | None) -> None:
    """Open very many sockets and have each join groups: what the server, and Redis, has for each of that."""
    answers: asyncio.Queue[int] = asyncio.Queue()
    replies = Deliveries()
    control = await connect(port, "/control", lambda socket, payload: answers.put_nowait(int(payload)))

    async def memory() -> tuple[int, int]:
        control.write(frame("memory"))
        return await answers.get(), 0 if store is None else store.used_bytes()

    def note(name: str, before: tuple[int, int], after: tuple[int, int], count: int) -> None:
        sample.figures[name] = Figure(value=(after[0] - before[0]) / count)
        if store is not None:
            sample.figures[f"{name}-redis"] = Figure(value=(after[1] - before[1]) / count)

    def on_text(socket: ClientSocket, payload: bytes) -> None:
        replies.add()

    await _open(port, sizes.first_sockets, on_text)
    before = await memory()
    sockets = await _open(port, sizes.many, on_text, present=sizes.first_sockets)
    after = await memory()
    note("idle", before, after, len(sockets))
    for command, count in (("wait", 1), ("groups", sizes.memberships), ("channel", 1)):
        order = frame(command)
        # A few at a time: what is on its way takes memory too.
        for start in range(0, len(sockets), _HANDSHAKES):
            some = sockets[start : start + _HANDSHAKES]
            for socket in some:
                socket.write(order)
            await replies.reach(replies.count + len(some))
        before, after = after, await memory()
        note(command, before, after, len(sockets) * count)
    sample.messages = len(sockets)
    _leave(server)


async def _where(sample: Sample, port: int, server: int, sizes: Sizes, store: Store | None) -> None:
    """Open very many sockets on a server whose memory is traced: the bytes of each, by where they were allocated."""
    answers: asyncio.Queue[Allocations] = asyncio.Queue()
    control = await connect(port, "/control", lambda socket, payload: answers.put_nowait(json.loads(payload)))

    async def allocated() -> Allocations:
        control.write(frame("where"))
        return await answers.get()

    await _open(port, sizes.first_sockets, lambda socket, payload: None)
    before = await allocated()
    sockets = await _open(port, sizes.many, lambda socket, payload: None, present=sizes.first_sockets)
    after = await allocated()
    _leave(server)
    each = {place: (size - before.get(place, 0)) / len(sockets) for place, size in after.items()}
    # Less than a byte for each is not of the connections.
    sample.figures |= {place: Figure(value=size) for place, size in each.items() if size >= 1}
    sample.messages = len(sockets)


def _leave(server: int) -> None:
    """Kill the server: it isn't asked how it deals with ten thousand that leave at once."""
    os.kill(server, signal.SIGKILL)


_RUNS: dict[str, Callable[[Turns, int, int, Sizes, Store | None], Coroutine[Any, Any, None]]] = {
    "broadcast": _broadcast,
    "connect": _connect,
    "echo": _echo,
    "echo-layer": _echo,
    "redis-broadcast": _broadcast_through_redis,
}

#: What takes one sample and leaves nothing that could have another turn.
_ONCE: dict[str, Callable[[Sample, int, int, Sizes, Store | None], Coroutine[Any, Any, None]]] = {
    "footprint": _footprint,
    "redis-sockets": _sockets,
    "where": _where,
}


async def watched(work: Coroutine[Any, Any, None]) -> None:
    """Await a measurement, and fail with what a callback fails with."""
    loop = asyncio.get_running_loop()
    failures: list[object] = []
    task = asyncio.ensure_future(work)

    def on_failure(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        failures.append(context.get("exception", context.get("message")))
        task.cancel()

    loop.set_exception_handler(on_failure)
    try:
        await task
    except asyncio.CancelledError:
        raise RuntimeError(f"the load client failed: {failures}") from None


async def measure(
    workload: str, turns: Turns, port: int, server: int, sizes: Sizes, store: Store | None = None
) -> None:
    """Take a sample in each turn. RuntimeError where a text was wrong or lost; it hangs where nothing more comes."""

    async def once() -> None:
        async for sample in turns:
            await _ONCE[workload](sample, port, server, sizes, store)

    work = once() if workload in _ONCE else _RUNS[workload](turns, port, server, sizes, store)
    await watched(work)


def main(workload: str, port: str, server: str, sizes: str, store: str) -> None:
    """Measure, turn by turn."""
    pin(client_core())
    uvloop.run(measure(workload, Turns(), int(port), int(server), Sizes.load(sizes), Store.load(store)))


if __name__ == "__main__":
    main(*sys.argv[1:6])

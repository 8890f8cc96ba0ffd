"""The load client process: `python -m benchmarks.client WORKLOAD PORT SERVER-PROCESS SIZES REDIS`.

It prints one sample as JSON.
"""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import uvloop

from benchmarks.allocations import Allocations
from benchmarks.client_socket import ClientSocket, connect
from benchmarks.deliveries import Deliveries
from benchmarks.frames import TEXT as TEXT_FRAME
from benchmarks.frames import encode_frame
from benchmarks.processor import Usage, client_core, pin
from benchmarks.sample import Figure, Sample
from benchmarks.store import Store, Traffic
from benchmarks.workload import TEXT, Sizes

__all__ = ["frame", "main", "measure", "open_sockets", "watched"]

T = TypeVar("T")

#: A sample that takes longer has lost a message. Channels' slowest, of 10,000 sockets, takes about 60.
_TIME_LIMIT = 160.0

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
    port: int, count: int, on_text: Callable[[ClientSocket, bytes], None], *, present: int = 0, path: str = "/socket"
) -> list[ClientSocket]:
    """Open `count` WebSockets beside those that are present. A source address has ports for some of them only."""
    gate = asyncio.Semaphore(_HANDSHAKES)

    async def one(number: int) -> ClientSocket:
        async with gate:
            return await connect(port, path, on_text, source=number // _PORTS)

    return await asyncio.gather(*(one(number) for number in range(present, present + count)))


@asynccontextmanager
async def open_sockets(
    port: int, count: int, on_text: Callable[[ClientSocket, bytes], None], *, path: str = "/socket"
) -> AsyncIterator[list[ClientSocket]]:
    """Open `count` WebSockets, a few at a time, and close them in the end."""
    sockets = await _open(port, count, on_text, path=path)
    try:
        yield sockets
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))


async def _echo(port: int, server: int, sizes: Sizes, store: Store | None) -> Sample:
    """Keep one text on its way on each connection, and count the answers."""
    text = frame(TEXT)
    answers = 0
    stopping = False

    def on_text(socket: ClientSocket, payload: bytes) -> None:
        nonlocal answers
        _check(payload)
        answers += 1
        if not stopping:
            socket.write(text)

    async with open_sockets(port, sizes.connections, on_text) as sockets:
        for socket in sockets:
            socket.write(text)
        await asyncio.sleep(sizes.warm_up)
        usage, before, started = Usage(server), answers, time.perf_counter()
        await asyncio.sleep(sizes.seconds)
        while answers == before:  # noqa: ASYNC110 - a smoke run on a busy machine
            await asyncio.sleep(sizes.seconds)
        measured = answers - before
        figure = usage.figure(measured / (time.perf_counter() - started))
        stopping = True
    if idle := [socket for socket in sockets if not socket.received]:
        raise RuntimeError(f"{len(idle)} of {len(sockets)} connections had no answer")
    return Sample(figures={"messages": figure}, messages=measured)


async def _broadcast(port: int, server: int, sizes: Sizes, store: Store | None) -> Sample:
    """Have the server broadcast, and count what arrives, for both kinds of event and both windows."""
    return await _broadcasts(
        port, server, sizes, store, kinds=("plain", "encoded"), windows={"": 1, "-window": sizes.window}
    )


async def _broadcast_through_redis(port: int, server: int, sizes: Sizes, store: Store | None) -> Sample:
    """Do the same for one kind of event, one at a time. A broadcast that did not go through Redis fails it."""
    before = None if store is None else Traffic.of(store)
    sample = await _broadcasts(port, server, sizes, store, kinds=("plain",), windows={"": 1})
    if store is not None and before is not None:
        broadcasts = sample.messages // sizes.sockets
        commands, *_ = Traffic.of(store).per(broadcasts, before)
        if commands < 1:
            raise RuntimeError(f"{broadcasts} broadcasts, but Redis had {commands:.2f} commands for each")
    return sample


async def _broadcasts(
    port: int,
    server: int,
    sizes: Sizes,
    store: Store | None,
    *,
    kinds: Sequence[str],
    windows: Mapping[str, int],
) -> Sample:
    deliveries = Deliveries()
    sent = 0
    sample = Sample()
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
            while time.perf_counter() - started < seconds:
                control.write(command)
                sent += 1
                await deliveries.reach((sent - window + 1) * len(sockets))
            await deliveries.reach(sent * len(sockets))
            return (sent - before) * len(sockets) / (time.perf_counter() - started)

        for kind in kinds:
            command = frame(kind)
            await run(command, 1, warm_up)
            for name, window in windows.items():
                usage = Usage(server, store=None if store is None else store.process)
                sample.figures[f"{kind}{name}"] = usage.figure(await run(command, window, seconds))
        counts = {socket.received for socket in sockets}
    await control.close()
    if counts != {sent}:
        raise RuntimeError(f"{sent} broadcasts, but sockets got {sorted(counts)}")
    sample.messages = deliveries.count
    return sample


async def _connect(port: int, server: int, sizes: Sizes, store: Store | None) -> Sample:
    """Open sockets and keep them: how many per second, and how much memory the server has for each."""
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
        usage, started = Usage(server), time.perf_counter()
        async with open_sockets(port, sizes.sockets, ignore) as sockets:
            accepted = usage.figure(len(sockets) / (time.perf_counter() - started))
            each = (await memory() - before) / len(sockets)
    await control.close()
    figures = {"accepted": accepted, "memory": Figure(value=each / 1024)}
    return Sample(figures=figures, messages=sizes.sockets)


async def _sockets(port: int, server: int, sizes: Sizes, store: Store | None) -> Sample:
    """Open more and more sockets in one group, and broadcast to all that are there, one at a time."""
    deliveries = Deliveries()
    sample = Sample()
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
    return sample


async def _footprint(port: int, server: int, sizes: Sizes, store: Store | None) -> Sample:
    """Open very many sockets and have each join groups: what the server, and Redis, has for each of that."""
    answers: asyncio.Queue[int] = asyncio.Queue()
    replies = Deliveries()
    control = await connect(port, "/control", lambda socket, payload: answers.put_nowait(int(payload)))

    async def memory() -> tuple[int, int]:
        control.write(frame("memory"))
        return await answers.get(), 0 if store is None else store.used_bytes()

    sample = Sample(messages=sizes.many)

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
    _leave(server)
    return sample


async def _where(port: int, server: int, sizes: Sizes, store: Store | None) -> Sample:
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
    figures = {place: Figure(value=size) for place, size in each.items() if size >= 1}
    return Sample(figures=figures, messages=len(sockets))


def _leave(server: int) -> None:
    """Kill the server: it isn't asked how it deals with ten thousand that leave at once."""
    os.kill(server, signal.SIGKILL)


_RUNS: dict[str, Callable[[int, int, Sizes, Store | None], Coroutine[Any, Any, Sample]]] = {
    "broadcast": _broadcast,
    "connect": _connect,
    "echo": _echo,
    "echo-layer": _echo,
    "footprint": _footprint,
    "redis-broadcast": _broadcast_through_redis,
    "redis-sockets": _sockets,
    "where": _where,
}


async def watched(work: Coroutine[Any, Any, T], limit: float) -> T:
    """Await a measurement for `limit` seconds at most, and fail with what a callback fails with."""
    loop = asyncio.get_running_loop()
    failures: list[object] = []
    task = asyncio.ensure_future(work)

    def on_failure(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        failures.append(context.get("exception", context.get("message")))
        task.cancel()

    loop.set_exception_handler(on_failure)
    try:
        async with asyncio.timeout(limit):
            return await task
    except asyncio.CancelledError:
        raise RuntimeError(f"the load client failed: {failures}") from None


async def measure(workload: str, port: int, server: int, sizes: Sizes, store: Store | None = None) -> Sample:
    """Take one sample. RuntimeError where a text was wrong or lost, TimeoutError where nothing more comes."""
    return await watched(_RUNS[workload](port, server, sizes, store), _TIME_LIMIT)


def main(workload: str, port: str, server: str, sizes: str, store: str) -> None:
    """Measure one sample and print it."""
    pin(client_core())
    sample = uvloop.run(measure(workload, int(port), int(server), Sizes.load(sizes), Store.load(store)))
    print(sample.dump())


if __name__ == "__main__":
    main(*sys.argv[1:6])

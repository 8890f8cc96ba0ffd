"""The load client process: `python -m benchmarks.client WORKLOAD PORT SERVER-PROCESS SIZES REDIS`.

It prints one sample as JSON.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import uvloop

from benchmarks.client_socket import ClientSocket, connect
from benchmarks.deliveries import Deliveries
from benchmarks.frames import TEXT as TEXT_FRAME
from benchmarks.frames import encode_frame
from benchmarks.processor import Usage, client_core, pin
from benchmarks.sample import Figure, Sample
from benchmarks.store import Store, Traffic
from benchmarks.workload import TEXT, Sizes

__all__ = ["main", "measure"]

#: A sample that takes longer has lost a message. Channels' slowest, ten broadcasts to 1,000, takes about 8.
_TIME_LIMIT = 60.0

#: Handshakes on their way at once.
_HANDSHAKES = 50

_PAYLOAD = TEXT.encode()


def _frame(text: str) -> bytes:
    return encode_frame(TEXT_FRAME, text.encode())


def _check(payload: bytes) -> None:
    if payload != _PAYLOAD:
        raise RuntimeError(f"a wrong text came in: {payload!r}")


@asynccontextmanager
async def _sockets(
    port: int, count: int, on_text: Callable[[ClientSocket, bytes], None]
) -> AsyncIterator[list[ClientSocket]]:
    """Open `count` WebSockets, a few at a time, and close them in the end."""
    gate = asyncio.Semaphore(_HANDSHAKES)

    async def one() -> ClientSocket:
        async with gate:
            return await connect(port, "/socket", on_text)

    sockets = await asyncio.gather(*(one() for _ in range(count)))
    try:
        yield sockets
    finally:
        await asyncio.gather(*(socket.close() for socket in sockets))


async def _echo(port: int, server: int, sizes: Sizes, store: Store | None) -> Sample:
    """Keep one text on its way on each connection, and count the answers."""
    frame = _frame(TEXT)
    answers = 0
    stopping = False

    def on_text(socket: ClientSocket, payload: bytes) -> None:
        nonlocal answers
        _check(payload)
        answers += 1
        if not stopping:
            socket.write(frame)

    async with _sockets(port, sizes.connections, on_text) as sockets:
        for socket in sockets:
            socket.write(frame)
        await asyncio.sleep(sizes.warm_up)
        usage, before, started = Usage(server), answers, time.perf_counter()
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
        commands, _ = Traffic.of(store).per(broadcasts, before)
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
    async with _sockets(port, sizes.sockets, on_text) as sockets:

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
            command = _frame(kind)
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
        control.write(_frame("memory"))
        return await answer

    def ignore(socket: ClientSocket, payload: bytes) -> None:
        pass

    async with _sockets(port, sizes.first_sockets, ignore):
        before = await memory()
        usage, started = Usage(server), time.perf_counter()
        async with _sockets(port, sizes.sockets, ignore) as sockets:
            accepted = usage.figure(len(sockets) / (time.perf_counter() - started))
            each = (await memory() - before) / len(sockets)
    await control.close()
    figures = {"accepted": accepted, "memory": Figure(value=each / 1024)}
    return Sample(figures=figures, messages=sizes.sockets)


_RUNS: dict[str, Callable[[int, int, Sizes, Store | None], Awaitable[Sample]]] = {
    "broadcast": _broadcast,
    "connect": _connect,
    "echo": _echo,
    "echo-layer": _echo,
    "redis-broadcast": _broadcast_through_redis,
}


async def measure(workload: str, port: int, server: int, sizes: Sizes, store: Store | None = None) -> Sample:
    """Take one sample. RuntimeError where a text was wrong or lost, TimeoutError where nothing more comes."""
    loop = asyncio.get_running_loop()
    failures: list[object] = []
    task = asyncio.ensure_future(_RUNS[workload](port, server, sizes, store))

    def on_failure(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        failures.append(context.get("exception", context.get("message")))
        task.cancel()

    loop.set_exception_handler(on_failure)
    try:
        async with asyncio.timeout(_TIME_LIMIT):
            return await task
    except asyncio.CancelledError:
        raise RuntimeError(f"the load client failed: {failures}") from None


def main(workload: str, port: str, server: str, sizes: str, store: str) -> None:
    """Measure one sample and print it."""
    pin(client_core())
    sample = uvloop.run(measure(workload, int(port), int(server), Sizes.load(sizes), Store.load(store)))
    print(sample.dump())


if __name__ == "__main__":
    main(*sys.argv[1:6])

"""What the guard counts: the work of each main row, without a server where that makes it exact.

The counts are of one message, one delivery or one connection. Those through Redis talk to a real server, one call at a
time, and their median is taken: a lease that is refreshed meanwhile must not count.
"""

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from django.conf import settings

from benchmarks.applications import limit, load
from benchmarks.connection import Connection, connected
from benchmarks.deliveries import Deliveries
from benchmarks.instructions import Count, Counter
from benchmarks.layers import layer_for
from benchmarks.local import dispatch_once
from benchmarks.store import Flavour, Store, Traffic, run_store
from benchmarks.workload import CAPACITY, GROUP, TEXT
from sealane.consumers import AsyncWebsocketConsumer
from sealane.layers import BaseChannelLayer, InMemoryChannelLayer, channel_layers
from sealane.types import ASGIApplication, Message

__all__ = ["COUNTED", "Counts", "count"]

#: Counts of one row, by what is counted: "instructions" and "calls" for what Python does, or another unit.
Counts = Mapping[str, float]

#: Members of the group that is broadcast to, and of the group whose deliveries are counted.
_MEMBERS = 50

#: What is done to warm up, and how often it is counted after that.
_WARM_UP, _RUNS = 5, 25

#: Messages of one run, where it is not one that a group gets.
_MESSAGES = 20

#: Turns of the event loop after which it is idle.
_TURNS = 5

#: Unrelated members beside the channel that is received from.
_BESIDE = 5_000

#: Idle connections, and groups that each joins.
_IDLE, _GROUPS = 200, 10

#: Seconds after which something was lost.
_LIMIT = 60.0

_ours: Any = load("sealane")

#: The event that a consumer's handler sends on, and the one that is sent on as it is.
_PLAIN: Message = {"type": "bench.text", "text": TEXT}
_READY: Message = {"type": "websocket.send", "text": TEXT}


async def _counted(run: Callable[[], Awaitable[object]], units: int) -> Counts:
    """Run something to warm up, and count what it does for each of its units: the median of a few runs."""
    for _ in range(_WARM_UP):
        await run()
    counts = []
    with Counter() as counted:
        for _ in range(_RUNS):
            before = counted.copy()
            await run()
            counts.append(counted.since(before))
    return _median(counts, units)


def _median(counts: Sequence[Count], units: int) -> Counts:
    return {
        "instructions": statistics.median(each.instructions for each in counts) / units,
        "calls": statistics.median(each.calls for each in counts) / units,
    }


@contextmanager
def _default_layer(layer: BaseChannelLayer | None) -> Iterator[None]:
    """Have the consumers find a layer, or none."""
    settings.CHANNEL_LAYERS = {} if layer is None else {"default": {}}
    channel_layers.set("default", layer)
    try:
        yield
    finally:
        channel_layers.set("default", None)


# Within one process


async def _dispatch() -> Counts:
    """Count a message to a handler that does nothing."""
    return await _counted(lambda: dispatch_once(_ours, _MESSAGES), _MESSAGES)


async def _ping_pong() -> Counts:
    """Count an event into a consumer with a layer and its answer out of it."""
    to_application: asyncio.Queue[Message] = asyncio.Queue()
    from_application: asyncio.Queue[Message] = asyncio.Queue()

    async def run() -> None:
        for _ in range(_MESSAGES):
            to_application.put_nowait({"type": "bench.ping"})
            await from_application.get()

    with _default_layer(InMemoryChannelLayer()):
        scope = {"type": "bench", "pong": {"type": "bench.pong"}}
        task = asyncio.ensure_future(_ours.ping_pong()(scope, to_application.get, from_application.put))
        counts = await _counted(run, _MESSAGES)
        to_application.put_nowait({"type": "bench.stop"})
        await task
    return counts


async def _echoes(layer: BaseChannelLayer | None) -> Counts:
    """Count a text into a WebSocket consumer and its echo."""
    answers: asyncio.Queue[str] = asyncio.Queue()

    async def run() -> None:
        for _ in range(_MESSAGES):
            connection.put(TEXT)
            if await answers.get() != TEXT:
                raise RuntimeError("a wrong text came back")

    with _default_layer(layer):
        async with connected(1, _ours.echo(), answers.put_nowait) as (connection,):
            return await _counted(run, _MESSAGES)


async def _echo() -> Counts:
    return await _echoes(None)


async def _echo_layer() -> Counts:
    return await _echoes(InMemoryChannelLayer())


async def _broadcasts(message: Message) -> Counts:
    """Count a delivery of a broadcast in memory, from `group_send` to the server's `send`."""
    deliveries = Deliveries()
    layer = InMemoryChannelLayer(capacity=CAPACITY)
    async with _members(layer, _MEMBERS, deliveries):
        return await _counted(lambda: _send(layer, message, _MEMBERS, deliveries), _MEMBERS)


async def _broadcast() -> Counts:
    return await _broadcasts(_PLAIN)


async def _broadcast_encoded() -> Counts:
    return await _broadcasts(_READY)


async def _send(layer: BaseChannelLayer, message: Message, members: int, deliveries: Deliveries) -> None:
    """Send to the group, wait until all have it, and until the layer has done what is left to do."""
    due = deliveries.count + members
    await layer.group_send(GROUP, message)
    await deliveries.reach(due)
    for _ in range(_TURNS):
        await asyncio.sleep(0)


@asynccontextmanager
async def _members(layer: BaseChannelLayer, count: int, deliveries: Deliveries) -> AsyncIterator[list[Connection]]:
    """Connect members of the group."""

    def on_text(text: str) -> None:
        if text != TEXT:
            raise RuntimeError(f"a wrong text came in: {text!r}")
        deliveries.add()

    with _default_layer(layer):
        async with connected(count, _ours.member(), on_text) as connections:
            yield connections


async def _receive_beside(members: int) -> tuple[Counts, float]:
    """Count `receive` beside unrelated members; return also the least processor time of 20 of them, in seconds."""
    layer = InMemoryChannelLayer(capacity=CAPACITY)
    for number in range(members):
        await _ours.join(layer, f"group-{number // _MEMBERS}", await layer.new_channel())
    channel = await layer.new_channel()
    times = []

    async def run() -> None:
        for _ in range(_MESSAGES):
            await layer.send(channel, _PLAIN)
        started = time.thread_time()
        for _ in range(_MESSAGES):
            await layer.receive(channel)
        times.append(time.thread_time() - started)

    counts = await _counted(run, _MESSAGES)
    times.clear()
    for _ in range(200):
        await run()
    return counts, min(times)


async def _receive() -> Counts:
    """Count `send` and `receive` of a message beside 5,000 members, and what they make of the processor time.

    A scan in C is one call, whatever it scans: only the time of it tells. The least of many is hardly disturbed.
    """
    _, alone = await _receive_beside(0)
    counts, crowded = await _receive_beside(_BESIDE)
    return {**counts, "growth": crowded / alone}


async def _connect() -> Counts:
    """Count a connection of a member of a group, from the handshake to the end of `disconnect()`."""
    connections = 10

    async def run() -> None:
        async with connected(connections, _ours.member(), _ignore):
            pass

    with _default_layer(InMemoryChannelLayer()):
        return await _counted(run, connections)


async def _traced_bytes(application: ASGIApplication) -> tuple[float, float]:
    """Return the bytes that an idle connection has, and those of each further membership."""
    tracemalloc.start()
    try:
        async with connected(_IDLE, application, _ignore):
            before = _allocated()
            async with connected(_IDLE, application, _ignore) as connections:
                idle = (_allocated() - before) / _IDLE
                for connection in connections:
                    connection.put("join")
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                joined = (_allocated() - before) / _IDLE - idle
    finally:
        tracemalloc.stop()
    return idle, joined / _GROUPS


def _allocated() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _ignore(text: str) -> None:
    pass


class _Joiner(AsyncWebsocketConsumer):
    """Joins groups when it is told to."""

    joined = 0

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert self.channel_layer is not None
        for number in range(_GROUPS):
            await self.channel_layer.group_add(f"group-{number}", self.channel_name)
        type(self).joined += 1


async def _memory() -> Counts:
    """Count what an idle WebSocket consumer takes above a bare application, and what a membership takes."""

    async def once() -> Counts:
        _Joiner.joined = 0
        bare, _ = await _traced_bytes(limit.member())
        with _default_layer(InMemoryChannelLayer()):
            idle, joined = await _traced_bytes(_Joiner.as_asgi())
        if _Joiner.joined != _IDLE:
            raise RuntimeError(f"{_Joiner.joined} of {_IDLE} consumers joined")
        return {"idle bytes": idle - bare, "membership bytes": joined}

    # What is paid once, and the growth of tables that all share, is in the first.
    await once()
    return await once()


# Through Redis


async def _through_redis(side: str, store: Store) -> Counts:
    """Count `group_send` to one member in another layer, each further delivery there, and what Redis gets."""
    deliveries = Deliveries()
    sender: BaseChannelLayer = layer_for(side, store)
    receiver: BaseChannelLayer = layer_for(side, store)
    found: dict[str, float] = {}
    try:
        async with _members(receiver, 1, deliveries):
            first = await _counted(lambda: _send(sender, _PLAIN, 1, deliveries), 1)
            traffic = []
            for _ in range(_RUNS):
                before = Traffic.of(store)
                await _send(sender, _PLAIN, 1, deliveries)
                traffic.append(Traffic.of(store).per(1, before))
            found["commands"] = statistics.median(commands for commands, _, _ in traffic)
            found["bytes"] = statistics.median(size for _, size, _ in traffic)
        async with _members(receiver, _MEMBERS + 1, deliveries):
            all_of_them = await _counted(lambda: _send(sender, _PLAIN, _MEMBERS + 1, deliveries), 1)
    finally:
        await sender.close()
        await receiver.close()
    for name, value in first.items():
        found[name] = value
        found[f"{name} for a delivery"] = (all_of_them[name] - value) / _MEMBERS
    return found


def _from_sync_code(side: str, store: Store) -> Counts:
    """Count `layer.sync.group_send`, to a member that waits."""
    layer: BaseChannelLayer = layer_for(side, store)

    async def join() -> None:
        await layer.group_add(GROUP, await layer.new_channel())

    with asyncio.Runner() as runner:
        runner.run(join())
        for _ in range(_WARM_UP):
            layer.sync.group_send(GROUP, _PLAIN)
        counts = []
        with Counter() as counted:
            for _ in range(_RUNS):
                before = counted.copy()
                layer.sync.group_send(GROUP, _PLAIN)
                counts.append(counted.since(before))
        runner.run(layer.close())
    return _median(counts, 1)


_LOCAL: dict[str, Callable[[], Awaitable[Counts]]] = {
    "dispatch": _dispatch,
    "ping-pong": _ping_pong,
    "echo": _echo,
    "echo-layer": _echo_layer,
    "broadcast": _broadcast,
    "broadcast-encoded": _broadcast_encoded,
    "receive": _receive,
    "connect": _connect,
    "memory": _memory,
}

_SIDES = {"streams": "sealane-streams", "pubsub": "sealane-pubsub"}

_REDIS = tuple(f"redis-{kind}-{layer}" for kind in ("group-send", "sync") for layer in _SIDES)

#: The rows, in the order of the report.
COUNTED = (*_LOCAL, *_REDIS)


def count(row: str, flavour: Flavour) -> Counts:
    """Return the counts of a row. Django must be configured; there must be no event loop.

    Raises RuntimeError where a message was lost or changed, TimeoutError where nothing more comes.
    """
    gc.collect()
    gc.disable()
    try:
        if row in _LOCAL:
            return asyncio.run(_limited(_LOCAL[row]()))
        kind, _, layer = row.removeprefix("redis-").rpartition("-")
        side = _SIDES[layer]
        with run_store(flavour) as store:
            if kind == "sync":
                return _from_sync_code(side, store)
            return asyncio.run(_limited(_through_redis(side, store)))
    finally:
        gc.enable()


async def _limited(work: Awaitable[Counts]) -> Counts:
    async with asyncio.timeout(_LIMIT):
        return await work

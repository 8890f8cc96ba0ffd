"""Acknowledged deliveries where workers, connections and servers are lost: every job is done at least once."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
from sealane.layers.redis.streams import RedisChannelLayer
from tests.layers.redis.faults.conftest import NewLayer
from tests.servers import SentinelGroup, Server

pytestmark = pytest.mark.untraced

NewServer = Callable[..., Server]

#: Seconds. It only bounds a hang.
PATIENCE = 60.0


class Event(NamedTuple):
    """A line of what workers have noted."""

    what: str
    job: int
    attempt: int
    pid: int
    time: float


def _events(file: Path) -> list[Event]:
    events = []
    # The last line may be one that is being written.
    for line in file.read_text().split("\n")[:-1]:
        what, job, attempt, pid, time = line.split()
        events.append(Event(what, int(job), int(attempt), int(pid), float(time)))
    return events


@contextmanager
def _workers(
    count: int,
    kind: type[RedisLayer],
    url: str,
    prefix: str,
    file: Path,
    *,
    visibility: float,
    tasks: int,
    pause: float,
) -> Iterator[list[subprocess.Popen[bytes]]]:
    file.touch()
    command = [sys.executable, str(Path(__file__).with_name("worker.py")), kind.__name__, url, prefix, str(file)]
    command += [str(visibility), str(tasks), str(pause)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes += [subprocess.Popen(command, env=environment) for _ in range(count)]
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def _until(condition: Callable[[], object], what: str, *, look: float = 0.05) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(look)
    except TimeoutError:
        pytest.fail(f"Not within {PATIENCE:g} s: {what}")


async def _nothing_left(layer: RedisLayer, server: Server, prefix: str) -> None:
    """Wait until no job waits or is leased, and see that there are no dead letters."""
    keys = [f"{prefix}:{kind}:jobs" for kind in "ckd"]
    await _until(lambda: server.command("EXISTS", *keys) == 0, "nothing is left")
    assert server.command("EXISTS", f"{prefix}:c:jobs.dead") == 0
    assert layer.stats()["dead_lettered"] == 0


@pytest.mark.timeout(240)
async def test_a_worker_is_killed_at_full_load(
    valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer], key_prefix: str, tmp_path: Path
) -> None:
    """Of three workers one is killed: every job is done, and none is with two workers while it is leased."""
    # The one is what is asked for. The other hands out by the same scripts, and needs no such crowd.
    crowd, visibility = 2000 if kind is RedisChannelLayer else 1000, 6.0
    layer = new_layer([valkey_server.url], kind)
    file = tmp_path / "events"
    with _workers(
        3, kind, valkey_server.url, key_prefix, file, visibility=visibility, tasks=8, pause=0.001
    ) as processes:

        def working(since: int) -> set[int]:
            return {event.pid for event in _events(file) if event.what == "begin" and event.job >= since}

        # Each has a job, which it takes long for, before the crowd of them comes.
        before = 0
        async with asyncio.timeout(PATIENCE):
            while len(working(0)) < 3:
                await layer.send("jobs", {"type": "job", "number": before, "pause": 1.0})
                before += 1
                await asyncio.sleep(0.05)
        # And is free again: one whose tasks all had such a job would come to the crowd when the others are through.
        await _until(lambda: file.read_bytes().count(b"acked") >= before, "each is free again")
        jobs = before + crowd
        await asyncio.gather(*(layer.send("jobs", {"type": "job", "number": n}) for n in range(before, jobs)))
        victim = processes[0]
        await _until(lambda: victim.pid in working(before), "it is at work", look=0.005)
        victim.kill()
        victim.wait()
        assert file.read_bytes().count(b"done") < jobs, "it was killed in the midst of the work"
        await _until(lambda: file.read_bytes().count(b"acked") >= jobs - 8, "nearly all are done")
        await _nothing_left(layer, valkey_server, key_prefix)
        events = _events(file)
    assert {event.job for event in events if event.what == "done"} == set(range(jobs))
    begun: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        if event.what == "begin":
            begun[event.job].append(event)
    again = {job: [event.time for event in several] for job, several in begun.items() if len(several) > 1}
    for times in again.values():
        assert all(later - earlier > visibility - 0.5 for earlier, later in pairwise(times)), again
    # What the victim had, and no other: what was on its way to it, and one or two deliveries of each of its tasks.
    assert len(again) <= 16
    assert all(several[0].pid == victim.pid for several in begun.values() if len(several) > 1)
    acked = Counter(event.job for event in events if event.what == "acked")
    assert max(acked.values()) == 1


async def test_a_worker_stands_still_for_longer_than_its_lease(
    valkey_server: Server, new_layer: NewLayer, kind: type[RedisLayer], key_prefix: str, tmp_path: Path
) -> None:
    """Somebody else gets its job; its own acknowledgement comes too late, and is told so."""
    layer = new_layer([valkey_server.url], kind)
    file = tmp_path / "events"
    with _workers(1, kind, valkey_server.url, key_prefix, file, visibility=1, tasks=1, pause=2.5) as (process,):
        await layer.send("jobs", {"type": "job", "number": 1})
        await _until(lambda: any(event.what == "begin" for event in _events(file)), "it has begun")
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            delivery = await layer.receive_delivery("jobs", visibility_timeout=60)
        assert delivery.message["number"] == 1
        assert delivery.attempt == 2
        process.send_signal(signal.SIGCONT)
        await _until(lambda: any(event.what == "late" for event in _events(file)), "it is late")
        assert await delivery.ack()
        assert not any(event.what == "acked" for event in _events(file))
        # It goes on.
        await layer.send("jobs", {"type": "job", "number": 2, "pause": 0})
        await _until(lambda: any((event.what, event.job) == ("done", 2) for event in _events(file)), "it goes on")
    assert layer.stats()["redelivered"] == 1


class _Work:
    """Some tasks that do jobs."""

    def __init__(self, layer: RedisLayer, visibility: float) -> None:
        self.layer = layer
        self.visibility = visibility
        self.done: Counter[int] = Counter()
        self.late = 0

    async def run(self) -> None:
        while True:
            try:
                delivery = await self.layer.receive_delivery("jobs", visibility_timeout=self.visibility)
            except ChannelLayerUnavailable:
                continue
            self.done[delivery.message["number"]] += 1
            await asyncio.sleep(0.001)
            while True:
                try:
                    self.late += not await delivery.ack()
                    break
                except ChannelLayerUnavailable:
                    continue


@asynccontextmanager
async def _working(*layers: RedisLayer, visibility: float, tasks: int = 4) -> AsyncIterator[list[_Work]]:
    works = [_Work(layer, visibility) for layer in layers]
    running = [asyncio.create_task(work.run()) for work in works for _ in range(tasks)]
    try:
        yield works
        assert not any(task.done() for task in running), running
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _send(layer: RedisLayer, numbers: range) -> None:
    for number in numbers:
        await layer.send("jobs", {"type": "job", "number": number})


@pytest.mark.parametrize(
    ("kind", "flavour"),
    [(RedisChannelLayer, "valkey"), (RedisChannelLayer, "redis"), (RedisPubSubChannelLayer, "valkey")],
)
async def test_a_server_is_killed_and_restarts_with_its_data(
    new_server: NewServer, new_layer: NewLayer, kind: type[RedisLayer], flavour: str, key_prefix: str
) -> None:
    """With streams every job is done exactly once. Published, what was on its way comes again when its lease ends."""
    server = new_server(flavour, appendonly=True)
    streams = kind is RedisChannelLayer
    here, there = (new_layer([server.url], kind, timeout=10) for _ in range(2))
    jobs = 400
    async with _working(here, there, visibility=30 if streams else 2) as works:
        sending = asyncio.create_task(_send(here, range(jobs)))

        def done() -> int:
            return sum(len(work.done) for work in works)

        for part in (jobs // 4, jobs // 2):
            await _until(lambda part=part: done() >= part, "some are done")  # type: ignore[misc]
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.restart)
        await sending
        await _until(lambda: len(works[0].done | works[1].done) == jobs, "all are done")
        await _nothing_left(here, server, key_prefix)
    total = works[0].done + works[1].done
    assert set(total) == set(range(jobs))
    if streams:
        assert max(total.values()) == 1
        assert works[0].late == works[1].late == 0
        assert here.stats()["redelivered"] == there.stats()["redelivered"] == 0


async def test_connections_are_cut(valkey_server: Server, new_layer: NewLayer, key_prefix: str) -> None:
    """No job is lost or done twice, whichever connection is cut in the midst of whichever call."""
    here, there = (new_layer([valkey_server.url], timeout=10) for _ in range(2))
    jobs = 600
    async with _working(here, there, visibility=60) as works:
        sending = asyncio.create_task(_send(here, range(jobs)))
        for part in range(1, 9):
            await _until(lambda part=part: sum(len(work.done) for work in works) >= part * jobs // 10, "some")  # type: ignore[misc]
            await asyncio.to_thread(valkey_server.kill_clients, name="sealane*")
        await sending
        await _until(lambda: len(works[0].done | works[1].done) == jobs, "all are done")
        await _nothing_left(here, valkey_server, key_prefix)
    total = works[0].done + works[1].done
    assert set(total) == set(range(jobs))
    assert max(total.values()) == 1
    assert works[0].late == works[1].late == 0
    assert here.stats()["reconnects"] >= 8


async def test_those_who_wait_are_known_again(
    new_server: NewServer, new_layer: NewLayer, kind: type[RedisLayer]
) -> None:
    """The server has forgotten everything: whoever waits for a delivery gets the next one; what was leased is gone."""
    server = new_server()
    here, there = (new_layer([server.url], kind, lease=0.6) for _ in range(2))
    await there.send("jobs", {"type": "job", "number": 0})
    async with asyncio.timeout(PATIENCE):
        lost = await here.receive_delivery("jobs")
    waiting = [asyncio.create_task(layer.receive_delivery("jobs")) for layer in (here, here, there)]
    await _until(lambda: server.keys("*:w:jobs"), "they wait")
    await asyncio.to_thread(server.command, "FLUSHALL")
    await _until(lambda: sum(server.command("LLEN", key) for key in server.keys("*:w:jobs")) == 3, "they wait again")
    assert not await lost.ack()
    for number in range(1, 4):
        await there.send("jobs", {"type": "job", "number": number})
    async with asyncio.timeout(PATIENCE):
        deliveries = await asyncio.gather(*waiting)
        assert sorted(delivery.message["number"] for delivery in deliveries) == [1, 2, 3]
        for delivery in deliveries:
            assert await delivery.ack()


async def test_a_full_server_takes_acknowledgements(
    new_server: NewServer, new_layer: NewLayer, kind: type[RedisLayer]
) -> None:
    """They make room, and so do those who take; only senders are refused."""
    server = new_server()
    layer = new_layer([server.url], kind)
    await _send(layer, range(5))
    async with asyncio.timeout(PATIENCE):
        first, second, third = [await layer.receive_delivery("jobs") for _ in range(3)]
        await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(ChannelLayerUnavailable, match="memory is full"):
            await layer.send("jobs", {"type": "job", "number": 9})
        assert await first.ack()
        assert await first.ack() is False
        assert await second.extend(30)
        assert await second.retry()
        assert await third.reject("no")
        again = await layer.receive_delivery("jobs")
        assert (again.message["number"], again.attempt) == (1, 2)
        assert await again.release()
        await asyncio.to_thread(server.command, "CONFIG", "SET", "maxmemory", "0")
        for expected in ((1, 2), (3, 1), (4, 1)):
            delivery = await layer.receive_delivery("jobs")
            assert (delivery.message["number"], delivery.attempt) == expected
            assert await delivery.ack()
        assert (await layer.receive("jobs.dead"))["message"]["number"] == 2


async def test_a_failover_loses_no_job_that_the_replica_has(
    sentinel_group: SentinelGroup, new_layer: NewLayer, kind: type[RedisLayer], key_prefix: str
) -> None:
    """What was leased on the old master is delivered again, or acknowledged on the new one."""
    here, there = (new_layer([sentinel_group.hosts], kind, lease=3, timeout=10) for _ in range(2))
    jobs = 60
    await _send(here, range(jobs))
    async with asyncio.timeout(PATIENCE):
        leased = [await here.receive_delivery("jobs", visibility_timeout=1) for _ in range(3)]
        kept = await here.receive_delivery("jobs", visibility_timeout=120)
    with sentinel_group.master().connect() as wire:
        # Of a connection that has written nothing the replica has all at once.
        wire.command("SET", f"{key_prefix}:mark", 1)
        assert wire.command("WAIT", 1, 4000) == 1
        wire.command("DEL", f"{key_prefix}:mark")
    old = sentinel_group.master()
    await asyncio.to_thread(sentinel_group.failover)
    # Until then the old master takes calls, and what it did for them is lost.
    await asyncio.to_thread(sentinel_group.heal)
    async with _working(here, there, visibility=3) as works:
        await _send(there, range(jobs, 2 * jobs))
        assert await kept.ack()
        expected = set(range(2 * jobs)) - {kept.message["number"]}
        await _until(lambda: set(works[0].done | works[1].done) == expected, "all are done")
    assert sentinel_group.master() is not old
    for delivery in leased:
        assert not await delivery.ack()

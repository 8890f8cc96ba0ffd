"""What the benchmarks of load, of memory and of growth are made of, and the model that is fitted to them."""

import asyncio
import dataclasses
import itertools
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmarks need Linux", allow_module_level=True)

from benchmarks import where
from benchmarks.latency import percentile
from benchmarks.load import Alarm, due_of, run_load, schedule, stamp
from benchmarks.model import LAYERS, SITE, Costs, Line, MissingRow, fit, needs
from benchmarks.processor import raise_open_files
from benchmarks.workload import TEXT
from tests.docs import scaling

pytestmark = pytest.mark.timeout(200)


# An open load


def test_stamp_says_when_and_is_as_long_as_every_text() -> None:
    text = stamp(123456.789012345)
    assert len(text) == len(TEXT)
    assert due_of(text.encode()) == pytest.approx(123456.789012345, abs=1e-9)
    with pytest.raises(ValueError, match=r"^not a text of this load: b'1\.0'$"):
        due_of(b"1.0")


def test_schedule_is_the_same_for_all_and_has_the_rate() -> None:
    times = list(schedule(200, 20))
    assert times == list(schedule(200, 20))
    assert times == sorted(times)
    assert 3_600 < len(times) < 4_400
    gaps = [after - before for before, after in itertools.pairwise(times)]
    # Exponential: as many shorter than ln 2 of the mean as longer.
    assert sorted(gaps)[len(gaps) // 2] == pytest.approx(0.693 / 200, rel=0.1)


async def test_slow_sends_do_not_slow_the_load_down() -> None:
    running = most = 0
    released = asyncio.Event()

    async def send(text: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if most == expected:
            released.set()
        await released.wait()
        running -= 1

    expected = len(list(schedule(500, 0.1)))
    # All are on their way before the first has ended.
    async with asyncio.timeout(60):
        assert await run_load(send, 500, 0.1) == expected
    assert most == expected


async def test_a_late_message_is_late_by_its_schedule() -> None:
    waited: list[float] = []

    async def send(text: str) -> None:
        waited.append(time.monotonic() - due_of(text.encode()))
        if len(waited) == 1:
            time.sleep(0.2)  # noqa: ASYNC251 - the sender stands still

    await run_load(send, 1_000, 0.1)
    # Who measured from the moment of sending would see nothing of it.
    assert max(waited) > 0.1
    assert sum(each > 0.05 for each in waited) > len(waited) / 2


async def test_failed_send_fails_the_load() -> None:
    async def send(text: str) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_load(send, 1_000, 0.1)


async def test_alarm_rings_not_before_its_moment() -> None:
    rung = asyncio.Event()
    alarm = Alarm(rung.set)
    moment = time.monotonic() + 0.0123
    alarm.set(moment)
    await rung.wait()
    assert time.monotonic() >= moment
    rung.clear()
    alarm.set(moment)  # it has passed
    await rung.wait()
    alarm.close()


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (0.999, 100), (0.0, 1)])
def test_percentile(share: float, value: float) -> None:
    assert percentile(range(1, 101), share) == value


# Memory


def test_open_files_are_raised_or_refused() -> None:
    soft, hard = before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
        raise_open_files(600)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600
        raise_open_files(100)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    if hard != resource.RLIM_INFINITY:
        with pytest.raises(OSError, match=rf"{hard + 1:,} open files are needed, and no more than {hard:,}"):
            raise_open_files(hard + 1)


def test_memory_is_told_by_package() -> None:
    allocated = {"sealane/consumers/base.py:1": 3, "layers/inbox.py:2": 4, "asyncio/tasks.py:3": 2, "uvicorn/a.py:1": 5}
    assert where.by_package({**allocated, "<frozen abc>:1": 1}) == {"sealane": 7, "uvicorn": 5, "Python": 3}


@pytest.mark.untraced
def test_memory_is_traced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert where.main(["--quick", "--side", "limit", "--side", "sealane", "--results", str(tmp_path)]) == 0
    (report,) = tmp_path.glob("*-memory.md")
    text = report.read_text()
    assert text == capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if line.startswith("| sealane ")]
    bare, ours = (float(cell.replace(",", "")) for cell in line.split("|")[2:4])
    assert bare == 0
    assert 500 < ours < 10_000


# The model


def run_data(**changed: float) -> dict[str, Any]:
    """Return a run in which all is round, for both layers."""
    values = {
        "redis-commands-1": 10.0,
        "redis-commands-16": 40.0,
        "redis-bytes-1": 300.0,
        "redis-bytes-16": 3_300.0,
        "redis-bytes-out-1": 200.0,
        "redis-bytes-out-16": 1_700.0,
        "redis-processes-1": 100.0,
        "redis-processes-16": 400.0,
        "redis-sockets-1000": 100_000.0,
        "redis-groups-0": 120.0,
        "footprint-idle": 19_000.0,
        "footprint-wait": 1_000.0,
        "footprint-groups": 200.0,
        "footprint-channel": 800.0,
        "footprint-channel-redis": 150.0,
    } | changed
    rows = [
        {
            "name": f"{name}-{layer}",
            "sides": {side: [{"value": value, "store": 0.5, "server": 1.0}] * 3},
        }
        for name, value in values.items()
        for layer, side in LAYERS.items()
    ]
    sizes = {"processes": [1, 16], "groups": [0, 100], "grown": [100, 1_000, 10_000]}
    return {"rows": rows, "sizes": sizes, "facts": {"date": "2026-01-02 03:04 UTC", "processor": "a machine"}}


def test_line_of_least_squares() -> None:
    line = Line.through([(1, 10.0), (2, 12.0), (4, 16.0)])
    assert line.fixed == pytest.approx(8)
    assert line.each == pytest.approx(2)
    assert line.at(100) == pytest.approx(208)
    falling = Line.through([(1, 12.0), (3, 10.0)])
    assert (falling.fixed, falling.each) == (11, 0)


@pytest.mark.parametrize("layer", LAYERS)
def test_costs_are_fitted(layer: str) -> None:
    costs = fit(run_data(), layer)
    assert costs.commands == Line(8.0, 2.0)
    assert costs.redis.at(1) == pytest.approx(50e-6)
    assert costs.read == pytest.approx(10e-6)
    assert costs.delivery == pytest.approx(10e-6)
    assert costs.send == pytest.approx(100e-6)
    assert costs.arrival == pytest.approx(20e-6)


def test_missing_row_is_named() -> None:
    data = run_data()
    data["rows"] = [row for row in data["rows"] if row["name"] != "footprint-idle-streams"]
    with pytest.raises(MissingRow, match=r"no figures of sealane-streams in the row footprint-idle-streams"):
        fit(data, "streams")
    with pytest.raises(MissingRow, match="sockets did not grow"):
        fit({**data, "sizes": {"processes": [1, 16]}}, "streams")


#: Ten processes with ten sockets each, in rooms of two, so that all can be computed by hand.
SMALL = dataclasses.replace(SITE, sockets=100, processes=10, room=2, room_rate=1.0, refresh=5.0, base=1_000)


def test_needs_are_the_sums() -> None:
    costs = Costs(
        commands=Line(8, 2),
        bytes_in=Line(100, 200),
        bytes_out=Line(100, 100),
        redis=Line(30e-6, 20e-6),
        read=10e-6,
        send=100e-6,
        arrival=100e-6,
        delivery=10e-6,
        socket=20_000,
        membership=200,
        own_group=800,
        group=150,
    )
    found = {need.name: need.value for need in needs(costs, SMALL)}
    spread = 10 * (1 - 0.9**2)
    assert found["processes with a member of a room"] == pytest.approx(spread)
    assert found["messages to rooms"] == 50
    assert found["frames to clients"] == 100
    assert found["Redis commands"] == pytest.approx(50 * (8 + 2 * spread) + 2 * 8)
    assert found["bytes into Redis"] == pytest.approx(50 * (100 + 200 * spread))
    assert found["cores of Redis"] == pytest.approx(50 * (30e-6 + 30e-6 * spread))
    assert found["shards of a Cluster"] == 1
    assert found["cores of the processes"] == pytest.approx(50 * 100e-6 + 50 * spread * 100e-6 + 100 * 10e-6)
    assert found["memory of a process"] == 1_000 + 10 * 21_000
    assert found["memory of Redis for groups"] == pytest.approx((50 * spread + 100) * 150)
    assert found["messages to one group that all are in"] == pytest.approx(1 / (100e-6 + 10 * 10e-6))
    assert found["messages to one group that all processes are in"] == pytest.approx(1 / (30e-6 + 300e-6))


def test_more_work_for_redis_needs_more_shards() -> None:
    dear = fit(run_data(**{"redis-processes-16": 40_000.0}), "streams")
    found = {need.name: need.value for need in needs(dear)}
    assert found["shards of a Cluster"] == -(-found["cores of Redis"] // SITE.utilization)
    assert found["shards of a Cluster"] > 10


def test_scaling_page_is_made_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_RESULTS", tmp_path)
    assert scaling.newest_run() is None
    (tmp_path / "2026-01-02.json").write_text(json.dumps(run_data()))
    (tmp_path / "2026-01-03.json").write_text(json.dumps({"rows": [], "sizes": {"processes": [1, 16]}}))
    run = scaling.newest_run()
    assert run == tmp_path / "2026-01-02.json"
    text = scaling.render(run)
    assert text.startswith("<!-- model: 2026-01-02 -->\n")
    assert "| commands of a `group_send` | 8 + 2 for each process | 8 + 2 for each process |" in text
    assert "| memory of an idle WebSocket, after a handler that waited | 19.5 KiB | 19.5 KiB |" in text
    assert scaling.named_run(text) == run
    assert scaling.written(text) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0000123, "s", "12.3 us"),
        (2.5, "s", "2.5 s"),
        (1536, "B", "1.5 KiB"),
        (2e6, "B/s", "2 MB/s"),
        (4567, "", "4,567"),
    ],
)
def test_amounts_have_a_unit_of_their_size(value: float, unit: str, text: str) -> None:
    assert scaling.amount(value, unit) == text

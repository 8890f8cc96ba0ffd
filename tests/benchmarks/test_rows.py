"""A smoke run of the benchmarks: tiny sizes, real servers, and every row really measures."""

import asyncio
import dataclasses
import fcntl
import json
import math
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from sealane.types import ASGIApplication, Receive, Scope, Send

if sys.platform != "linux":
    pytest.skip("the benchmarks need Linux", allow_module_level=True)

from benchmarks import client, remote, runner
from benchmarks.__main__ import main, select
from benchmarks.applications import Applications, available
from benchmarks.chart import as_svg
from benchmarks.comparison import Comparison, Spread
from benchmarks.frames import CLOSE, FrameReader, accept_key, encode_frame, handshake_request
from benchmarks.frames import TEXT as TEXT_FRAME
from benchmarks.local import measure
from benchmarks.report import as_markdown
from benchmarks.row import Bar, Row
from benchmarks.rows import rows_for
from benchmarks.runner import Programs, SampleFailed, run_rounds, take_sample
from benchmarks.sample import Figure, Sample
from benchmarks.store import Store, Traffic, run_store
from benchmarks.turns import Turns
from benchmarks.workload import QUICK, TEXT, WORKLOADS, Sizes, Workload

#: Seconds after which a command hangs. Together they take half a minute, and several times that on a busy machine.
HANGS = 280

pytestmark = [pytest.mark.untraced, pytest.mark.timeout(HANGS + 20)]

ROOT = Path(__file__).resolve().parents[2]

#: Channels comes with the bench extra only; its side has a test of its own.
OURS = ("limit", "sealane")


def some_turns(count: int = 1) -> tuple[Turns, list[Sample]]:
    """Return turns as the runner gives them, and the samples that answer them."""
    left = count
    samples: list[Sample] = []

    async def wait() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    return Turns(wait, samples.append), samples


def sides_of(workload: Workload) -> list[str]:
    """Return the sides of a workload that need no Channels."""
    return [side for side in workload.sides if side.partition("-")[0] in OURS]


def run_benchmarks(names: Sequence[str], directory: Path) -> "subprocess.CompletedProcess[str]":
    """Run some workloads by the command, as `make bench` does, from the checkout."""
    only = [argument for name in names for argument in ("--only", name)]
    sides = [argument for side in OURS for argument in ("--side", side)]
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", *only, *sides, "--results", str(directory)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=HANGS,
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> tuple[str, dict[str, Any]]:
    """Run everything once, also where several processes test; return the tables and what was written beside them."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    written = shared / "smoke.json"
    with (shared / "smoke.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not written.exists():
            # Beside the goal first: a run that fails leaves nothing.
            written.with_suffix(".part").write_text(json.dumps(run_everything(shared)))
            written.with_suffix(".part").rename(written)
    tables, data = json.loads(written.read_text())
    return tables, data


def run_everything(shared: Path) -> tuple[str, dict[str, Any]]:
    """Run all rows, in three commands at a time: the figures mean nothing, so they may disturb one another."""
    plain = [name for name, workload in WORKLOADS.items() if not workload.redis]
    redis = [name for name, workload in WORKLOADS.items() if workload.redis]
    runs = [plain, redis[::2], redis[1::2]]
    directories = [shared / f"smoke-{number}" for number, _ in enumerate(runs)]
    with ThreadPoolExecutor() as pool:
        tables = ""
        data: dict[str, Any] = {"rows": [], "messages": {}, "facts": {}}
        for names, directory, done in zip(runs, directories, pool.map(run_benchmarks, runs, directories), strict=True):
            assert done.returncode == 0, done.stderr
            (markdown,) = directory.glob("*.md")
            assert markdown.read_text() == done.stdout
            assert len(list(directory.glob("*.svg"))) == (names is not plain)
            (raw,) = directory.glob("*.json")
            written = json.loads(raw.read_text())
            tables += done.stdout
            data["rows"] += written["rows"]
            data["messages"] |= written["messages"]
            data["facts"] |= written["facts"]
    return tables, data


@pytest.mark.parametrize("row", rows_for(QUICK), ids=lambda row: row.name)
def test_row_measures(row: Row, smoke: tuple[str, dict[str, Any]]) -> None:
    table, data = smoke
    (written,) = [item for item in data["rows"] if item["name"] == row.name]
    sides = sides_of(WORKLOADS[row.workload])
    if row.unit == "commands" or "bytes" in row.figure or row.figure.endswith("-redis"):
        sides = [side for side in sides if WORKLOADS[row.workload].stored(side)]
    assert sorted(written["sides"]) == sorted(sides)
    for side in sides:
        figures = written["sides"][side]
        # Some figures are taken in the first turn only.
        assert len(figures) in (1, QUICK.turns if WORKLOADS[row.workload].turned else 1)
        for figure in figures:
            assert math.isfinite(figure["value"])
            # So few sockets may fit in memory that a process had already.
            assert figure["value"] > 0 or row.workload in ("connect", "footprint")
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {row.title} ")]
    assert row.unit in line


@pytest.mark.parametrize("workload", WORKLOADS)
def test_messages_of_both_sides_arrive(workload: str, smoke: tuple[str, dict[str, Any]]) -> None:
    _, data = smoke
    each = {
        "broadcast": QUICK.sockets,
        "connect": QUICK.arrivals,
        "redis-broadcast": QUICK.sockets,
        "redis-fanout": QUICK.sockets,
    }.get(workload, 1)
    for side in sides_of(WORKLOADS[workload]):
        turns = data["messages"][workload][side]
        assert len(turns) == (QUICK.turns if WORKLOADS[workload].turned else 1)
        for messages in turns:
            assert messages >= each
            assert messages % each == 0


def test_report_names_machine_and_versions(smoke: tuple[str, dict[str, Any]]) -> None:
    table, data = smoke
    for fact in ("date", "processor", "system", "python", "sealane", "django", "uvicorn", "uvloop", "redis", "valkey"):
        assert data["facts"][fact]
        assert f"- {fact}: {data['facts'][fact]}" in table


@pytest.mark.skipif(not available("channels"), reason="Channels is not installed: pip install -e '.[bench]'")
@pytest.mark.parametrize("workload", ["dispatch", "broadcast"])
def test_channels_measures(workload: str) -> None:
    sample = take_sample("channels", WORKLOADS[workload], QUICK, Programs())
    assert sample.messages > 0
    assert all(figure.value > 0 for figure in sample.figures.values())


@pytest.mark.skipif(not available("channels-core"), reason="channels_redis is not installed: pip install -e '.[bench]'")
@pytest.mark.parametrize("side", ["channels-core", "channels-pubsub"])
@pytest.mark.parametrize(
    "workload", [workload for workload in WORKLOADS.values() if workload.redis], ids=lambda workload: workload.name
)
def test_channels_redis_measures(side: str, workload: Workload) -> None:
    sample = take_sample(side, workload, QUICK, Programs())
    assert sample.messages > 0
    assert all(figure.value > 0 for figure in sample.figures.values()) or workload.name == "footprint"


def test_failed_sample_ends_with_status_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(runner, "_ROOT", ROOT / "docs")  # no server can be started from there
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    assert main(["--quick", "--only", "echo", "--side", "limit"]) == 2
    assert "echo on limit: the server did not start:" in capsys.readouterr().err


def test_failed_workload_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def samples(workload: Workload, **options: Any) -> dict[str, list[Sample]]:
        if workload.name == "echo":
            raise SampleFailed("limit", "echo", "it broke")
        return {"limit": [Sample(figures={"messages": Figure(value=7.0)})]}

    monkeypatch.setattr("benchmarks.__main__.run_rounds", samples)
    assert main(["--quick", "--only", "echo", "--only", "dispatch"]) == 2
    said = capsys.readouterr()
    assert "echo on limit: it broke" in said.err
    assert said.out.endswith("\nFailed:\n\n- echo on limit\n")
    assert "| in-process dispatch, no-op handler | messages/s | -        | -       | 7 " in said.out


class Forgetful:
    """A side that loses the second event."""

    def dispatch(self) -> ASGIApplication:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            seen = 0
            while (await receive())["type"] != "bench.stop":
                seen += 1
                if seen != 2:
                    scope["count"]()

        return application


async def test_lost_event_fails_the_sample() -> None:
    turns, _ = some_turns()
    with pytest.raises(RuntimeError, match=r"^99 of 100 events were handled, 0 are left$"):
        await measure(turns, cast(Applications, Forgetful()), "dispatch", QUICK)


class WrongAnswers:
    """A side that answers with what it got."""

    def ping_pong(self) -> ASGIApplication:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            while (event := await receive())["type"] != "bench.stop":
                await send(event)

        return application


async def test_wrong_answer_fails_the_sample() -> None:
    turns, _ = some_turns()
    with pytest.raises(RuntimeError, match=r"^a wrong answer: \{'type': 'bench.ping'\}$"):
        await measure(turns, cast(Applications, WrongAnswers()), "ping-pong", QUICK)


async def serve(text: str, *, doubled: bool = False) -> asyncio.Server:
    """Start a server that answers each frame with a text, and the first one with two where that is asked."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.partition(": ")[2] for line in head.splitlines() if line.startswith("Sec-WebSocket-Key"))
        writer.write(f"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode())
        frame = bytes((0x81, len(text))) + text.encode()
        times = 2 if doubled else 1
        while data := await reader.read(100):
            if data[0] == 0x80 | CLOSE:
                break
            writer.write(frame * times)
            times = 1
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


async def measured_against(server: asyncio.Server, workload: str, turns: int = 1) -> list[Sample]:
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        due, samples = some_turns(turns)
        await client.measure(workload, due, port, os.getpid(), QUICK)
        return samples


async def test_client_counts_echoes_of_each_turn() -> None:
    samples = await measured_against(await serve(TEXT), "echo", 3)
    assert len(samples) == 3
    assert all(sample.messages >= QUICK.connections for sample in samples)


async def test_client_refuses_a_doubled_echo() -> None:
    with pytest.raises(RuntimeError, match=r"\d+ texts were sent, but \d+ came back"):
        await measured_against(await serve(TEXT, doubled=True), "echo")


async def test_client_refuses_a_changed_text() -> None:
    with pytest.raises(RuntimeError, match=r"a wrong text came in: b'sealand'"):
        await measured_against(await serve("sealand"), "echo")


def test_a_turn_without_an_end_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_TIME_LIMIT", 0.01)
    with pytest.raises(SampleFailed, match=r"^dispatch on limit: benchmarks\.local took over 0\.01 seconds$"):
        take_sample("limit", WORKLOADS["dispatch"], QUICK, Programs())


def test_unknown_side_fails() -> None:
    with pytest.raises(SampleFailed, match=r"^dispatch on nobody: benchmarks\.local ended with 1:"):
        take_sample("nobody", WORKLOADS["dispatch"], QUICK, Programs())


# Through Redis


def test_commands_and_bytes_are_counted() -> None:
    with run_store("valkey") as store:
        before = Traffic.of(store)
        with redis.Redis.from_url(store.url) as connection:
            for number in range(10):
                connection.set("name", number)
            # What a script calls counts too.
            connection.eval("redis.call('SET', KEYS[1], 1) redis.call('DEL', KEYS[1])", 1, "name")
        commands, size, answered = Traffic.of(store).per(1, before)
        assert commands == 10 + 3
        assert 10 * len("*3\r\n$3\r\nSET\r\n$4\r\nname\r\n$1\r\n0\r\n") < size < 2_000
        assert 10 * len("+OK\r\n") < answered


def test_store_ends_with_its_block() -> None:
    with run_store("valkey") as store:
        os.kill(store.process, 0)  # it is there
        assert Store.load(store.dump()) == store
    with pytest.raises(ProcessLookupError):
        os.kill(store.process, 0)
    assert Store.load("-") is None


def test_no_server_leaves_the_rows_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("benchmarks.__main__.find", lambda flavour: None)
    assert main(["--quick", "--only", "redis-trip"]) == 0
    assert "there is no Redis server, so its rows are left out" in capsys.readouterr().err


class LosesOne:
    """A layer within one process that loses the third message of all, and goes on with the next."""

    def __init__(self) -> None:
        self.sent = 0
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def new_channel(self) -> str:
        return "channel"

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self.sent += 1
        if self.sent != 3:
            await self.queue.put(message)

    async def receive(self, channel: str) -> dict[str, Any]:
        return await self.queue.get()

    async def close(self) -> None:
        pass


NOBODY = Store(port=1, process=os.getpid(), program=Path("/nowhere"))


async def test_sample_does_not_end_without_a_lost_message(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = LosesOne()
    monkeypatch.setattr(remote, "layer_for", lambda side, store: layer)
    turns, samples = some_turns()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await remote.measure(turns, "sealane-streams", "redis-trip", QUICK, NOBODY)
    assert layer.sent == 3
    assert samples == []


class ChangesText(LosesOne):
    """A layer that hands out another text."""

    async def receive(self, channel: str) -> dict[str, Any]:
        return {**await self.queue.get(), "text": "sealand"}


async def test_changed_message_fails_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = ChangesText()
    monkeypatch.setattr(remote, "layer_for", lambda side, store: layer)
    turns, _ = some_turns()
    with pytest.raises(RuntimeError) as failure:
        await remote.measure(turns, "sealane-streams", "redis-send", QUICK, NOBODY)
    assert re.match(r"a wrong message came in: .*'text': 'sealand'", str(failure.value.__cause__))


# The frames of the load client, against a library that knows RFC 6455


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_out_are_read_by_a_server(size: int) -> None:
    protocol = ServerProtocol(state=State.OPEN)
    protocol.receive_data(encode_frame(TEXT_FRAME, b"x" * size))
    (event,) = protocol.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.data) == (Opcode.TEXT, b"x" * size)


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 1_000])
def test_frames_of_a_server_are_read_in_pieces(cut: int) -> None:
    payloads = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 65_536]
    protocol = ServerProtocol(state=State.OPEN)
    for payload in payloads:
        protocol.send_text(payload)
    data = b"".join(protocol.data_to_send())
    reader = FrameReader()
    frames = [frame for start in range(0, len(data), cut) for frame in reader.feed(data[start : start + cut])]
    assert frames == [(TEXT_FRAME, payload) for payload in payloads]


def test_handshake_of_rfc_6455() -> None:
    request, key = handshake_request("server.example.com", "/chat", key="dGhlIHNhbXBsZSBub25jZQ==")
    assert request.startswith(b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\n")
    assert accept_key(key) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


# What the table says


def compared(row: Row, **sides: Sequence[float]) -> Comparison:
    figures = {
        side: [Figure(value=value, server=1.0, client=0.5) for value in values] for side, values in sides.items()
    }
    return Comparison(row, figures)


ROW = Row(
    name="row",
    title="some work",
    workload="dispatch",
    figure="messages",
    unit="messages/s",
    bars=(Bar(of="channels", at_least=80), Bar(of="limit", at_least=0.4)),
)


@pytest.mark.parametrize(("ours", "met"), [([900, 800, 400], True), ([790, 790, 400], False), ([900, 399, 300], False)])
def test_medians_are_held_against_the_bars(ours: list[float], met: bool) -> None:
    comparison = compared(ROW, sealane=ours, channels=[10, 10, 1], limit=[1_000, 1_000, 1_000])
    assert comparison.met() is met
    assert ("yes" if met else "NO") in as_markdown([comparison], {}, rounds=3, turns=1)


def test_ratios_are_of_each_round() -> None:
    comparison = compared(ROW, sealane=[10, 100, 30], limit=[10, 200, 100])
    assert comparison.ratio("limit") == Spread(0.5, 0.3, 1.0)
    assert comparison.ratio("channels") is None
    assert comparison.spread("sealane") == Spread(30, 10, 100)


def test_spread_of_many_is_their_middle_half() -> None:
    assert Spread.of([5, 1, 4, 2, 1_000]) == Spread(4, 1, 1_000)
    assert Spread.of([0, 1, 2, 3, 4, 5, 6, 7, 1_000]) == Spread(4, 2, 6)


def test_processor_time_is_taken_out() -> None:
    figures = {
        "sealane": [Figure(value=40, server=0.5)],
        "limit": [Figure(value=100, server=1.0)],
    }
    assert Comparison(ROW, figures).ratio("limit", per_processor_second=True) == Spread(0.8, 0.8, 0.8)


def test_difference_to_the_limit() -> None:
    row = dataclasses.replace(ROW, bars=(Bar(of="above", at_most=4),), less_is_better=True)
    assert compared(row, sealane=[22.5], limit=[19]).met() is True
    assert compared(row, sealane=[23.5], limit=[19]).met() is False


REDIS_ROW = dataclasses.replace(
    ROW,
    workload="redis-send",
    bars=(Bar(of="channels-pubsub", at_least=4),),
    sides={"limit": "limit-streams", "channels": "channels-core", "sealane": "sealane-streams"},
)


@pytest.mark.parametrize(("peer", "met"), [(25, True), (26, False)])
def test_columns_and_bars_name_sides(peer: float, met: bool) -> None:
    sides = {"limit-streams": 200.0, "channels-core": 10.0, "channels-pubsub": peer, "sealane-streams": 100.0}
    comparison = compared(REDIS_ROW, **{side: [value] for side, value in sides.items()})
    assert comparison.met() is met
    assert comparison.ratio("channels") == Spread(10, 10, 10)
    assert comparison.ratio("limit") == Spread(0.5, 0.5, 0.5)
    assert list(comparison.columns()) == ["limit", "channels", "sealane"]


def test_rows_are_selected_by_name() -> None:
    rows = rows_for(QUICK)
    assert select(None, rows) == rows
    assert [row.name for row in select(["redis-send"], rows)] == [
        f"redis-send{many}-{layer}" for many in ("", "-many") for layer in ("streams", "pubsub")
    ]
    assert [row.name for row in select(["redis-trip-pubsub", "echo"], rows)] == ["echo", "redis-trip-pubsub"]
    through_redis = {name for name, workload in WORKLOADS.items() if workload.redis}
    assert {row.workload for row in select(["redis"], rows)} == through_redis
    with pytest.raises(SystemExit, match=r"^reddis is neither a workload nor a row; the rows: accepted, "):
        select(["reddis"], rows)


def test_rows_have_names_of_their_own() -> None:
    names = [row.name for row in rows_for()]
    assert len(names) == len(set(names))
    assert {row.workload for row in rows_for()} == set(WORKLOADS)


def test_chart_shows_what_is_better() -> None:
    costs = dataclasses.replace(REDIS_ROW, title="cost & time", less_is_better=True)
    sides = {"limit-streams": [5.0], "channels-core": [100.0], "sealane-streams": [8.0]}
    svg = as_svg([compared(costs, **sides)], QUICK)
    assert svg is not None
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"cost & time", "12x", "Sealane, streams"} <= set(texts)
    assert as_svg([compared(ROW, limit=[1], sealane=[1])], QUICK) is None


def test_chart_shows_what_has_no_redis() -> None:
    svg = as_svg([compared(ROW, limit=[1_000], channels=[10], sealane=[900])], QUICK)
    assert svg is not None
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"some work", "90x", "Sealane, in one process"} <= set(texts)


def test_chart_draws_growth() -> None:
    rows = [row for row in rows_for(QUICK) if row.workload == "redis-processes" and row.name.endswith("-pubsub")]
    comparisons = [compared(row, **{"channels-pubsub": [90.0], "sealane-pubsub": [110.0]}) for row in rows]
    svg = as_svg(comparisons, QUICK)
    assert svg is not None
    lines = list(ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}polyline"))
    assert [len(line.attrib["points"].split()) for line in lines] == [len(QUICK.processes)] * 2


def test_chart_draws_latencies_below() -> None:
    rows = [row for row in rows_for(QUICK) if row.workload == "latency" and row.name.endswith("-streams")]
    comparisons = [compared(row, **{"channels-core": [90.0], "sealane-streams": [11.0]}) for row in rows]
    svg = as_svg(comparisons, QUICK)
    assert svg is not None
    root = ElementTree.fromstring(svg)
    lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
    assert [len(line.attrib["points"].split()) for line in lines] == [len(QUICK.loads)] * 2 * 3
    lowest = max(float(point.partition(",")[2]) for line in lines for point in line.attrib["points"].split())
    assert lowest < float(root.attrib["height"])


def test_fewer_rounds_are_named() -> None:
    row = next(row for row in rows_for(QUICK) if row.workload == "redis-groups")
    few = compared(row, **{"sealane-streams": [1.0]})
    table = as_markdown([few, compared(ROW, limit=[1])], {}, rounds=5, turns=8)
    assert "Medians of 5 rounds (3 of redis-groups) with up to 8 turns each, with the range of the middle" in table
    assert "Medians of 2 rounds with up to 8 turns each" in as_markdown([few], {}, rounds=2, turns=8)


def test_doubts_are_named() -> None:
    figures = {"limit": [Figure(value=1, client=0.95, server=0.8, others=0.2)]}
    comparison = Comparison(ROW, figures)
    assert comparison.doubts() == ["load client of limit 95% busy", "others used 20% of the machine"]
    assert "- row: load client of limit 95% busy" in as_markdown([comparison], {}, rounds=1, turns=1)
    assert compared(ROW, limit=[1]).doubts() == []


@pytest.mark.parametrize(("busy", "status"), [(0.91, 3), (0.89, 0)])
def test_busy_load_client_fails_the_run(
    busy: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def samples(workload: Workload, **options: Any) -> dict[str, list[Sample]]:
        return {"limit": [Sample(figures={"messages": Figure(value=1.0, client=busy)})]}

    monkeypatch.setattr("benchmarks.__main__.run_rounds", samples)
    assert main(["--only", "echo"]) == status
    assert ("echo: load client of limit 91% busy, so that it is what was measured" in capsys.readouterr().err) == (
        status == 3
    )


def test_check_ends_with_1_where_a_bar_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def samples(workload: Workload, **options: Any) -> dict[str, list[Sample]]:
        values = {"sealane": 1.0, "limit": 10.0}
        return {side: [Sample(figures={"messages": Figure(value=values[side])})] for side in values}

    monkeypatch.setattr("benchmarks.__main__.run_rounds", samples)
    assert main(["--quick", "--only", "dispatch", "--check"]) == 1
    assert main(["--quick", "--only", "dispatch"]) == 0


@pytest.mark.parametrize(
    ("others", "retakes", "taken", "kept"),
    [
        ([0.05], 3, 1, 0),  # quiet at once
        ([0.5, 0.3, 0.02, 0.01], 3, 3, 2),  # quiet in the end
        ([0.5, 0.2, 0.3], 2, 3, 1),  # never quiet: the least disturbed
    ],
)
def test_disturbed_sample_is_taken_again(
    monkeypatch: pytest.MonkeyPatch, others: list[float], retakes: int, taken: int, kept: int
) -> None:
    # The later ones are faster: figures must have no say.
    samples = [
        Sample(figures={"messages": Figure(value=10.0**number, others=share)}) for number, share in enumerate(others)
    ]
    waiting = list(samples)
    monkeypatch.setattr(runner, "take_sample", lambda side, workload, sizes, programs: waiting.pop(0))
    found = run_rounds(
        WORKLOADS["redis-processes"],
        sides=["limit-streams"],
        rounds=1,
        retakes=retakes,
        sizes=QUICK,
        programs=Programs(),
        tell=lambda text: None,
    )
    assert found == {"limit-streams": [samples[kept]]}
    assert len(samples) - len(waiting) == taken


def test_turns_go_there_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    played: list[str] = []

    def play(player: runner._Player) -> Sample:
        played.append(player._side)
        return original(player)

    original = runner._Player.play
    monkeypatch.setattr(runner._Player, "play", play)
    found = run_rounds(
        WORKLOADS["dispatch"],
        sides=OURS,
        rounds=2,
        retakes=0,
        sizes=dataclasses.replace(QUICK, turns=3),
        programs=Programs(),
        tell=lambda text: None,
    )
    assert played == ["limit", "sealane", "sealane", "limit", "limit", "sealane"] * 2
    assert {side: len(samples) for side, samples in found.items()} == {"limit": 6, "sealane": 6}


def test_disturbed_turn_is_taken_again_by_all_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.0, 0.0, 0.0, 0.5, 0.0, 0.0])
    calls: list[str] = []

    def play(player: runner._Player) -> Sample:
        calls.append(player._side)
        sample = original(player)
        figure = dataclasses.replace(sample.figures["messages"], others=next(shares))
        return Sample(figures={"messages": figure}, messages=len(calls))

    original = runner._Player.play
    monkeypatch.setattr(runner._Player, "play", play)
    found = run_rounds(
        WORKLOADS["dispatch"],
        sides=OURS,
        rounds=1,
        retakes=1,
        sizes=QUICK,
        programs=Programs(),
        tell=lambda text: None,
    )
    assert calls == ["limit", "sealane", "sealane", "limit", "sealane", "limit"]
    assert {side: [sample.messages for sample in samples] for side, samples in found.items()} == {
        "limit": [1, 6],
        "sealane": [2, 5],
    }


def test_sizes_and_samples_cross_processes() -> None:
    assert Sizes.load(QUICK.dump()) == QUICK
    sample = Sample(figures={"messages": Figure(value=1.5, client=0.1)}, messages=3)
    assert Sample.load(sample.dump()) == sample

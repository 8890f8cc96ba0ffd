"""A smoke run of the benchmarks: tiny sizes, real servers, and every row really measures."""

import asyncio
import dataclasses
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from sealane.types import ASGIApplication, Receive, Scope, Send

if sys.platform != "linux":
    pytest.skip("the benchmarks need Linux", allow_module_level=True)

from benchmarks import client, runner
from benchmarks.__main__ import main
from benchmarks.applications import Applications, available
from benchmarks.comparison import Comparison, Spread
from benchmarks.frames import CLOSE, FrameReader, accept_key, encode_frame, handshake_request
from benchmarks.frames import TEXT as TEXT_FRAME
from benchmarks.local import measure
from benchmarks.report import as_markdown
from benchmarks.rows import Bar, Row, rows_for
from benchmarks.runner import SampleFailed, run_rounds, take_sample
from benchmarks.sample import Figure, Sample
from benchmarks.workload import QUICK, TEXT, WORKLOADS, Sizes, Workload

ROOT = Path(__file__).resolve().parents[2]

#: Channels comes with the bench extra only; its side has a test of its own.
OURS = ("limit", "sealane")


def run_benchmarks(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as `make bench` does, from the checkout."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Run everything once; return the table and what was written beside it."""
    directory = tmp_path_factory.mktemp("results")
    sides = [argument for side in OURS for argument in ("--side", side)]
    done = run_benchmarks("--quick", *sides, "--results", str(directory))
    assert done.returncode == 0, done.stderr
    (markdown,) = directory.glob("*.md")
    assert markdown.read_text() == done.stdout
    (raw,) = directory.glob("*.json")
    return done.stdout, json.loads(raw.read_text())


@pytest.mark.parametrize("row", rows_for(QUICK), ids=lambda row: row.name)
def test_row_measures(row: Row, smoke: tuple[str, dict[str, Any]]) -> None:
    table, data = smoke
    (written,) = [item for item in data["rows"] if item["name"] == row.name]
    assert sorted(written["sides"]) == sorted(OURS)
    for side in OURS:
        (figure,) = written["sides"][side]
        assert math.isfinite(figure["value"])
        # So few sockets may fit in memory that a process had already.
        assert figure["value"] > 0 or row.name == "memory"
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {row.title} ")]
    assert row.unit in line


@pytest.mark.parametrize("workload", WORKLOADS)
def test_messages_of_both_sides_arrive(workload: str, smoke: tuple[str, dict[str, Any]]) -> None:
    _, data = smoke
    least = QUICK.sockets if WORKLOADS[workload].served else 100
    for side in OURS:
        (messages,) = data["messages"][workload][side]
        assert messages >= (least if workload in ("broadcast", "connect") else 1)
        if workload == "broadcast":
            assert messages % QUICK.sockets == 0


def test_report_names_machine_and_versions(smoke: tuple[str, dict[str, Any]]) -> None:
    table, data = smoke
    for fact in ("date", "processor", "system", "python", "sealane", "django", "uvicorn", "uvloop"):
        assert data["facts"][fact]
        assert f"- {fact}: {data['facts'][fact]}" in table


@pytest.mark.skipif(not available("channels"), reason="Channels is not installed: pip install -e '.[bench]'")
@pytest.mark.parametrize("workload", ["dispatch", "broadcast"])
def test_channels_measures(workload: str) -> None:
    sample = take_sample("channels", WORKLOADS[workload], QUICK)
    assert sample.messages > 0
    assert all(figure.value > 0 for figure in sample.figures.values())


def test_failed_sample_ends_with_status_2(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(runner, "_ROOT", ROOT / "docs")  # no server can be started from there
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    assert main(["--quick", "--only", "echo", "--side", "limit"]) == 2
    assert "echo on limit: the server did not start:" in capsys.readouterr().err


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
    with pytest.raises(RuntimeError, match=r"^99 of 100 events were handled, 0 are left$"):
        await measure(cast(Applications, Forgetful()), "dispatch", QUICK)


class WrongAnswers:
    """A side that answers with what it got."""

    def ping_pong(self) -> ASGIApplication:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            while (event := await receive())["type"] != "bench.stop":
                await send(event)

        return application


async def test_wrong_answer_fails_the_sample() -> None:
    with pytest.raises(RuntimeError, match=r"^a wrong answer: \{'type': 'bench.ping'\}$"):
        await measure(cast(Applications, WrongAnswers()), "ping-pong", QUICK)


async def serve(text: str, *, times: int = 1) -> asyncio.Server:
    """Start a server that answers each frame, and each handshake, with `times` texts."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.partition(": ")[2] for line in head.splitlines() if line.startswith("Sec-WebSocket-Key"))
        writer.write(f"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode())
        frame = bytes((0x81, len(text))) + text.encode()
        while data := await reader.read(100):
            if data[0] == 0x80 | CLOSE:
                break
            writer.write(frame * times)
        writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0)


async def measured_against(server: asyncio.Server, workload: str) -> Sample:
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        return await client.measure(workload, port, os.getpid(), QUICK)


async def test_client_counts_echoes() -> None:
    sample = await measured_against(await serve(TEXT), "echo")
    assert sample.messages >= QUICK.connections


async def test_client_refuses_a_changed_text() -> None:
    with pytest.raises(RuntimeError, match=r"a wrong text came in: b'sealand'"):
        await measured_against(await serve("sealand"), "echo")


def test_unknown_side_fails() -> None:
    with pytest.raises(SampleFailed, match=r"^dispatch on nobody: benchmarks\.local ended with 1:"):
        take_sample("nobody", WORKLOADS["dispatch"], QUICK)


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
    assert ("yes" if met else "NO") in as_markdown([comparison], {}, rounds=3)


def test_ratios_are_of_each_round() -> None:
    comparison = compared(ROW, sealane=[10, 100, 30], limit=[10, 200, 100])
    assert comparison.ratio("limit") == Spread(0.5, 0.3, 1.0)
    assert comparison.ratio("channels") is None
    assert comparison.spread("sealane") == Spread(30, 10, 100)


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


def test_doubts_are_named() -> None:
    figures = {"limit": [Figure(value=1, client=0.95, server=0.8, others=0.2)]}
    comparison = Comparison(ROW, figures)
    assert comparison.doubts() == ["load client of limit 95% busy", "others used 20% of the machine"]
    assert "- row: load client of limit 95% busy" in as_markdown([comparison], {}, rounds=1)
    assert compared(ROW, limit=[1]).doubts() == []


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
    monkeypatch.setattr(runner, "take_sample", lambda side, workload, sizes: waiting.pop(0))
    found = run_rounds(
        WORKLOADS["dispatch"], sides=["limit"], rounds=1, retakes=retakes, sizes=QUICK, tell=lambda text: None
    )
    assert found == {"limit": [samples[kept]]}
    assert len(samples) - len(waiting) == taken


def test_sizes_and_samples_cross_processes() -> None:
    assert Sizes.load(QUICK.dump()) == QUICK
    sample = Sample(figures={"messages": Figure(value=1.5, client=0.1)}, messages=3)
    assert Sample.load(sample.dump()) == sample

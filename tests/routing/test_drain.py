"""Drain: SIGTERM is held until every connection has had its end. At last, on a real uvicorn."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import sealane
from sealane.consumers import AsyncWebsocketConsumer
from sealane.routing import Drain, ProtocolTypeRouter, health
from sealane.testing import HttpCommunicator, WebsocketCommunicator
from sealane.types import Receive, Scope, Send
from tests.routing.drained import PROGRAM
from tests.routing.exchange import Answering, Exchange
from tests.servers.ports import free_port


@pytest.fixture
def sigterm() -> Iterator[list[int]]:
    """A server's handler of SIGTERM, and what it was given; afterwards the handler of before."""
    given: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: given.append(number))
    yield given
    signal.signal(signal.SIGTERM, before)


async def until_drained(drain: Drain) -> None:
    assert drain._draining is not None
    await asyncio.wait_for(drain._draining, 20)


@asynccontextmanager
async def connected(drain: Drain) -> AsyncIterator[WebsocketCommunicator]:
    async with WebsocketCommunicator(drain, "/") as socket:
        yield socket


class Noting(AsyncWebsocketConsumer):
    codes: list[int] = []

    async def disconnect(self, code: int) -> None:
        self.codes.append(code)


async def test_the_signal_closes_connections_and_comes_to_the_server_afterwards(sigterm: list[int]) -> None:
    drain = Drain(Noting.as_asgi(), spread=0, timeout=20)
    Noting.codes = []
    async with connected(drain) as socket:
        assert repr(drain) == "<Drain serving, 1 open, 1 running>"
        assert not drain.draining
        os.kill(os.getpid(), signal.SIGTERM)
        assert await socket.receive_close() == 1012
        assert drain.draining
        assert sigterm == []
        await socket.disconnect(1012)
        await until_drained(drain)
    assert Noting.codes == [1012]
    assert sigterm == [signal.SIGTERM]
    assert repr(drain) == "<Drain draining, 0 open, 0 running>"


async def test_a_second_signal_changes_nothing(sigterm: list[int]) -> None:
    drain = Drain(Noting.as_asgi(), spread=0, timeout=20)
    async with connected(drain) as socket:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(0)
        assert await socket.receive_close() == 1012
        await socket.disconnect(1012)
        await until_drained(drain)
    assert sigterm == [signal.SIGTERM]


async def test_without_connections_the_server_gets_it_at_once(sigterm: list[int]) -> None:
    drain = Drain(Answering())
    await Exchange.http().run(drain)
    drain.begin()
    await until_drained(drain)
    assert sigterm == [signal.SIGTERM]


async def test_an_application_that_does_not_end_is_not_waited_for_longer(
    sigterm: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    may_end = asyncio.Event()

    async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await may_end.wait()

    drain = Drain(stubborn, spread=0, timeout=0.01)
    task = asyncio.create_task(Exchange.websocket().run(drain))
    await asyncio.sleep(0)
    drain.begin()
    await until_drained(drain)
    assert sigterm == [signal.SIGTERM]
    assert "Draining: 1 connections had not ended within 0.01 seconds" in caplog.text
    may_end.set()
    await task


async def test_new_websockets_are_refused_and_requests_are_served(sigterm: list[int]) -> None:
    inner = Answering({"type": "http.response.start", "status": 204}, {"type": "http.response.body"})
    drain = Drain(ProtocolTypeRouter({"http": inner, "websocket": Noting.as_asgi()}))
    await Exchange.http().run(drain)
    drain.begin()
    socket = WebsocketCommunicator(drain, "/")
    assert await socket.connect() == (False, 503)
    assert socket.denial is not None
    assert (b"retry-after", b"1") in socket.denial["headers"]
    assert await Exchange.websocket().run(drain) == [{"type": "websocket.close"}]
    assert (await Exchange.http().run(drain))[0]["status"] == 204
    await until_drained(drain)


async def test_nothing_is_sent_to_a_client_that_left_before_it_was_refused(sigterm: list[int]) -> None:
    drain = Drain(Noting.as_asgi())
    drain.begin()
    exchange = Exchange.websocket()
    exchange.events = [{"type": "websocket.disconnect", "code": 1006}]
    assert await exchange.run(drain) == []
    await until_drained(drain)


async def test_ready_says_that_it_drains(sigterm: list[int]) -> None:
    drain = Drain(ProtocolTypeRouter({"http": health.ready}))

    async def ask() -> tuple[int, Any]:
        response = await HttpCommunicator(drain, "GET", "/").get_response()
        return response["status"], json.loads(response["body"])["status"]

    assert await ask() == (200, "ready")
    drain.begin()
    assert await ask() == (503, "draining")
    await until_drained(drain)


# Where the signal cannot be held


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
async def test_a_server_without_a_handler(handler: Any, sigterm: list[int], caplog: pytest.LogCaptureFixture) -> None:
    signal.signal(signal.SIGTERM, handler)
    for _ in range(2):
        await Exchange.http().run(Drain(Answering()))
    assert signal.getsignal(signal.SIGTERM) == handler
    assert caplog.messages[0] == (
        "Drain does nothing here: it holds a SIGTERM that the server handles by signal.signal(), as uvicorn does, and "
        "this one does otherwise. Connections end as the server ends them"
    )


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_server_with_a_handler_of_the_event_loop(
    new_loop: Callable[[], asyncio.AbstractEventLoop], sigterm: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: None)
        before = signal.getsignal(signal.SIGTERM)
        await _request()
        assert signal.getsignal(signal.SIGTERM) == before
        loop.remove_signal_handler(signal.SIGTERM)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())
    assert "Drain does nothing here" in caplog.text


async def test_in_another_thread_it_does_nothing(sigterm: list[int], caplog: pytest.LogCaptureFixture) -> None:
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: asyncio.run(_request()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert signal.getsignal(signal.SIGTERM) is before
    assert caplog.messages == []


async def _request() -> None:
    await Exchange.http().run(Drain(Answering()))


@pytest.mark.parametrize(("spread", "timeout"), [(-1, 5), (5, 5), (6, 5), (float("nan"), 5), (1, float("nan"))])
def test_the_spread_is_shorter_than_the_timeout(spread: float, timeout: float) -> None:
    with pytest.raises(ValueError, match=r"expected seconds, 0 <= spread < timeout"):
        Drain(Answering(), spread=spread, timeout=timeout)


# A real server

SOCKETS = 50
#: As in the program. A busy machine is to have time for a request within it.
SPREAD = 4.0


@pytest.mark.untraced
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.skipif(sys.platform == "win32", reason="signals are of POSIX")
def test_on_uvicorn(loop: str, tmp_path: Path) -> None:
    (tmp_path / "drained.py").write_text(PROGRAM)
    notes, port = tmp_path / "notes", free_port()
    source = str(Path(sealane.__file__).parents[1])
    options = f"--port {port} --ws websockets-sansio --loop {loop} --timeout-graceful-shutdown 10"
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "drained:application", *options.split()],
        cwd=tmp_path,
        env={**os.environ, "NOTES": str(notes), "PYTHONPATH": source, "PYTHONASYNCIODEBUG": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        asyncio.run(asyncio.wait_for(_drained(process, port), 50))
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    # uvicorn ends with the signal that it was given.
    assert process.returncode in (0, -signal.SIGTERM), output
    assert "Traceback" not in output
    assert "Cancel" not in output
    lines = notes.read_text().splitlines()
    assert sorted(line for line in lines if line.startswith("disconnect")) == sorted(
        f"disconnect {number} 1012" for number in range(SOCKETS)
    )
    assert sorted(line for line in lines if line.startswith("task")) == sorted(
        f"task {number}" for number in range(SOCKETS)
    )
    # The layers are there for the last of them, and closed after the hooks.
    assert lines[-1] == "shutdown 1"


async def _drained(process: subprocess.Popen[str], port: int) -> None:
    sockets = [await _open(port, 0), *await asyncio.gather(*(_open(port, number) for number in range(1, SOCKETS)))]
    assert _get(port) == (200, "ready")
    events, writer = await _open_events(port)
    closed: list[tuple[float, int | None]] = []
    first_is_closed = asyncio.Event()

    async def follow(socket: ClientConnection) -> None:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        closed.append((time.monotonic(), caught.value.rcvd.code))
        first_is_closed.set()

    async with asyncio.TaskGroup() as group:
        for socket in sockets:
            group.create_task(follow(socket))
        process.send_signal(signal.SIGTERM)
        await first_is_closed.wait()
        # In between, nobody new is let in, and the balancer is told.
        assert await asyncio.to_thread(_get, port) == (503, "draining")
        with pytest.raises(InvalidStatus, match="503"):
            await _open(port, SOCKETS)
    assert {code for _, code in closed} == {1012}
    assert len(closed) == SOCKETS
    # Each has its own part of the time: the first is early in it, the last late.
    assert closed[-1][0] - closed[0][0] > SPREAD / 2
    # The stream was brought to its end, not cut.
    assert (await events.read()).endswith(b"0\r\n\r\n")
    writer.close()


async def _open(port: int, number: int) -> ClientConnection:
    while True:
        try:
            return await connect(f"ws://127.0.0.1:{port}/{number}", proxy=None, open_timeout=30)
        except ConnectionRefusedError:
            await asyncio.sleep(0.05)


async def _open_events(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await writer.drain()
    await reader.readuntil(b":\n\n")
    return reader, writer


def _get(port: int) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/ready", timeout=20) as response:
            return response.status, json.load(response)["status"]
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)["status"]

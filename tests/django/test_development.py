"""The development server itself: uvicorn in a thread, with real clients."""

import asyncio
import contextlib
import errno
import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
import uvicorn.config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sealane.exceptions import StartupFailed
from sealane.server import development
from sealane.server.development import DevelopmentServer, bind
from sealane.types import ASGIApplication, Receive, Scope, Send

# Serving gives a logger handlers; every test here puts them back.
pytestmark = pytest.mark.usefixtures("loggers")


class Echo:
    """Echo on WebSockets, stream without an end on HTTP, and a note of what happened."""

    def __init__(self) -> None:
        self.events: list[object] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await getattr(self, scope["type"])(scope, receive, send)

    async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            event = await receive()
            self.events.append(event["type"])
            await send({"type": f"{event['type']}.complete"})
            if event["type"] == "lifespan.shutdown":
                return

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while (event := await receive())["type"] == "websocket.receive":
                # After the server's own close it raises an OSError; the event that tells of the close is on its way.
                with contextlib.suppress(OSError):
                    await send({"type": "websocket.send", "text": event["text"]})
                if event["text"] == "hang":
                    await asyncio.sleep(3600)
            self.events.append(event["code"])
        except asyncio.CancelledError:
            self.events.append("cancelled")
            raise

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello", "more_body": scope["path"] == "/events"})
        self.events.append((await receive())["type"])


@contextlib.contextmanager
def serving(application: ASGIApplication, **options: Any) -> Iterator[DevelopmentServer]:
    """Serve in a thread, and stop at the end of the block."""
    server = DevelopmentServer(("127.0.0.1", 0), **options)
    server.set_app(application)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def url(server: DevelopmentServer, path: str = "/") -> str:
    return f"ws://127.0.0.1:{server.server_port}{path}"


def until(condition: Callable[[], object], limit: float = 10) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)


def closed_with(websocket: Any) -> int | None:
    """Wait for the end of a connection; the code with which the server closed it."""
    with pytest.raises(ConnectionClosed) as error:
        while True:
            websocket.recv(timeout=10)
    return None if error.value.rcvd is None else error.value.rcvd.code


def test_it_serves_websockets_and_the_lifespan_around_them() -> None:
    echo = Echo()

    with serving(echo) as server, connect(url(server)) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=10) == "hello"
        assert repr(server) == f"<DevelopmentServer on port {server.server_port}: serving, 1 connections>"

        assert server.stop()

        assert closed_with(websocket) == 1012
    assert echo.events == ["lifespan.startup", 1012, "lifespan.shutdown"]
    assert repr(server) == f"<DevelopmentServer on port {server.server_port}: stopped, 0 connections>"


@pytest.mark.skipif(
    "close_timer" not in WebSocketsSansIOProtocol.__init__.__code__.co_names,
    reason="this uvicorn drops a WebSocket as soon as it has sent the close, even where its application closes it",
)
@pytest.mark.parametrize("attempt", range(3))
def test_a_client_that_never_stops_sending_gets_the_code_too(attempt: int) -> None:
    with serving(Echo()) as server, connect(url(server)) as websocket:
        stopped = threading.Event()

        def flood() -> None:
            with contextlib.suppress(ConnectionClosed):
                while not stopped.is_set():
                    websocket.send("x" * 10_000)

        sender = threading.Thread(target=flood)
        sender.start()
        try:
            for _ in range(100):
                websocket.recv(timeout=10)
            stopper = threading.Thread(target=server.stop)
            stopper.start()
            assert closed_with(websocket) == 1012
            stopper.join(10)
        finally:
            stopped.set()
            sender.join(10)


def test_a_client_that_does_not_answer_the_close_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    # Far beyond the time in which it is left, on any machine: nothing is cancelled.
    monkeypatch.setattr(development, "CANCEL_AFTER", 30)
    echo = Echo()

    with serving(echo) as server, socket.create_connection(address(server)) as silent:
        silent.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        silent.settimeout(10)
        assert silent.recv(1000).startswith(b"HTTP/1.1 101 ")
        assert server.stop(20)
        assert silent.recv(1000) == b"\x88\x02" + (1012).to_bytes(2, "big")
    assert echo.events == ["lifespan.startup", 1012, "lifespan.shutdown"]


def test_an_application_without_a_lifespan_is_served_too() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError("not this")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with serving(application) as server, contextlib.closing(http.client.HTTPConnection(*address(server))) as client:
        client.request("GET", "/")
        assert client.getresponse().status == 204


def address(server: DevelopmentServer) -> tuple[str, int]:
    return "127.0.0.1", server.server_port


def test_a_stop_tells_a_stream_without_an_end_that_its_client_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(development, "CANCEL_AFTER", 30)
    echo = Echo()

    with serving(echo) as server, contextlib.closing(http.client.HTTPConnection(*address(server))) as client:
        client.request("GET", "/events")
        response = client.getresponse()
        assert response.read(5) == b"hello"

        began = time.monotonic()
        assert server.stop(20)
        took = time.monotonic() - began

        with pytest.raises(http.client.IncompleteRead):
            response.read()
    assert echo.events == ["lifespan.startup", "http.disconnect", "lifespan.shutdown"]
    assert took >= development.HANG_UP_AFTER


def test_a_stop_cancels_a_handler_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    echo = Echo()

    with serving(echo) as server, connect(url(server)) as websocket:
        websocket.send("hang")
        websocket.recv(timeout=10)

        assert server.stop(20)

        assert closed_with(websocket) == 1012
    assert echo.events == ["lifespan.startup", "cancelled", "lifespan.shutdown"]
    assert "timeout graceful shutdown exceeded" in caplog.text


def test_a_stop_gives_up_on_a_lifespan_that_hangs() -> None:
    release = threading.Event()

    class Hanging(Echo):
        async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": f"{(await receive())['type']}.complete"})
            await receive()
            while not release.is_set():
                await asyncio.sleep(0.01)
            await send({"type": "lifespan.shutdown.complete"})

    with serving(Hanging()) as server:
        with connect(url(server)):
            pass
        assert server.stop(0.5) is False
        assert ": stopping, " in repr(server)
        release.set()
        assert server.stop()


def test_a_failed_startup_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    server = DevelopmentServer(("127.0.0.1", 0))
    server.set_app(application)

    with pytest.raises(StartupFailed, match=r"startup failed \(the reason is logged above\)"):
        server.serve_forever()

    assert "no database" in caplog.text
    assert server.socket.fileno() == -1


def test_a_server_without_an_application_says_so() -> None:
    server = DevelopmentServer(("127.0.0.1", 0))

    with pytest.raises(RuntimeError, match=r"call set_app\(\) before serve_forever\(\)"):
        server.serve_forever()

    assert server.stop()


def test_a_stop_before_the_start_is_the_end() -> None:
    server = DevelopmentServer(("127.0.0.1", 0))
    assert repr(server) == f"<DevelopmentServer on port {server.server_port}: bound, 0 connections>"
    server.set_app(Echo())

    assert server.stop()
    server.serve_forever()

    assert server.stop()
    assert server.socket.fileno() == -1


def test_the_beginning_of_the_shutdown_is_told() -> None:
    told: list[threading.Thread] = []

    with serving(Echo(), on_shutdown=lambda: told.append(threading.current_thread())) as server:
        with connect(url(server)):
            pass
        assert told == []
    assert len(told) == 1
    assert told[0] is not threading.current_thread()


def test_clients_that_come_before_the_server_serves_are_served() -> None:
    server = DevelopmentServer(("127.0.0.1", 0))
    server.set_app(Echo())
    with socket.create_connection(address(server)) as early:
        early.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        early.settimeout(10)
        assert early.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    assert server.stop()
    thread.join(10)


def test_a_message_over_the_limit_closes_with_1009() -> None:
    echo = Echo()

    with serving(echo, ws_max_size=1000) as server, connect(url(server)) as websocket:
        websocket.send("x" * 1000)
        assert websocket.recv(timeout=10) == "x" * 1000
        websocket.send("x" * 1001)
        assert closed_with(websocket) == 1009
        until(lambda: 1009 in echo.events)


def test_the_proxys_headers_are_not_believed() -> None:
    clients: list[object] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        clients.append(scope.get("client"))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with serving(application) as server, contextlib.closing(http.client.HTTPConnection(*address(server))) as client:
        client.request("GET", "/", headers={"X-Forwarded-For": "192.0.2.1"})
        client.getresponse().read()
        local = client.sock.getsockname()

    assert local in clients


def test_uvicorn_is_quiet_unless_a_level_is_set(caplog: pytest.LogCaptureFixture) -> None:
    own = logging.getLogger("uvicorn.error")
    with caplog.at_level(logging.INFO):
        with serving(Echo()) as server, connect(url(server)):
            pass
        assert [record.name for record in caplog.records if record.name.startswith("uvicorn")] == []
        assert own.filters == []

    with caplog.at_level(logging.INFO, logger="uvicorn.error"):
        with serving(Echo()) as server, connect(url(server)):
            pass
        assert "Application startup complete." in caplog.text


def test_a_port_that_is_taken_is_an_os_error() -> None:
    with bind(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use") as error:
        DevelopmentServer(taken.getsockname())
    assert error.value.errno == errno.EADDRINUSE


def test_the_websocket_implementation_is_the_one_without_io_where_there_is_a_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert development.websocket_protocol() == "websockets-sansio"

    protocols = {name: path for name, path in uvicorn.config.WS_PROTOCOLS.items() if name != "websockets-sansio"}
    monkeypatch.setattr(uvicorn.config, "WS_PROTOCOLS", protocols)
    assert development.websocket_protocol() == "auto"

"""LiveServer: a real uvicorn in a thread, real clients, and a clean end."""

import asyncio
import gc
import http.client
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import connect as aconnect
from websockets.sync.client import connect

from sealane.exceptions import LiveServerError
from sealane.testing import LiveServer
from sealane.types import Message, Receive, Scope, Send


class Application:
    """Echo frames, answer requests, and remember what happened."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.threads: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.threads.add(threading.current_thread().name)
        await getattr(self, scope["type"])(scope, receive, send)

    async def lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            self.events.append(kind)
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({**event, "type": "websocket.send"})
        self.events.append(f"disconnect {event['code']}")


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        body: bytes = response.read()
        return body


def forget(holder: list[Any]) -> None:
    holder.clear()
    gc.collect()


def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


@pytest.fixture(autouse=True)
def _no_thread_and_no_socket_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in set(threading.enumerate()) - before if "live server" in thread.name]
    assert left == []


def test_requests_and_websockets() -> None:
    application = Application()
    with LiveServer(application) as server:
        assert server.running
        assert get(f"{server.url}/") == b"ok"
        with connect(f"{server.ws_url}/ws/") as ws:
            ws.send("hello")
            assert ws.recv(timeout=20) == "hello"
        assert server.url == str(server) == f"http://localhost:{server.port}"
        assert server.ws_url == f"ws://localhost:{server.port}"
        assert repr(server) == f"<LiveServer localhost:{server.port} running>"
    assert not server.running
    assert repr(server) == f"<LiveServer localhost:{server.port} stopped>"
    assert application.events == ["lifespan.startup", "disconnect 1000", "lifespan.shutdown"]
    assert application.threads == {f"sealane live server on port {server.port}"}


def test_any_number_of_servers_run_side_by_side() -> None:
    with LiveServer(Application()) as one, LiveServer(Application()) as two:
        assert one.port != two.port
        assert get(one.url) == get(two.url) == b"ok"


async def test_async_with_leaves_the_loop_of_the_test_free() -> None:
    application = Application()
    async with LiveServer(application) as server, aconnect(server.ws_url) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"
    assert application.events[-1] == "lifespan.shutdown"


def test_an_application_without_lifespan() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise ValueError("only http")
        await Application().http(scope, receive, send)

    with LiveServer(application) as server:
        assert get(server.url) == b"ok"


def test_options_reach_uvicorn() -> None:
    with LiveServer(Application(), ws_max_size=3) as server, connect(server.ws_url) as ws:
        ws.send("four")
        with pytest.raises(websockets.ConnectionClosedError, match="1009"):
            ws.recv(timeout=20)


def test_an_unknown_option_is_an_error_and_leaves_nothing_open() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
        LiveServer(Application(), colour="blue").start()
    gc.collect()


def test_ipv6() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    with LiveServer(Application(), host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"
        assert get(server.url) == b"ok"


class TestStop:
    def test_ends_everything_in_order(self) -> None:
        application = Application()
        with LiveServer(application) as server, connect(server.ws_url) as ws:
            ws.send("hello")
            assert ws.recv(timeout=20) == "hello"
            server.stop()
            with pytest.raises(websockets.ConnectionClosed) as caught:
                ws.recv(timeout=20)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1012
        assert application.events == ["lifespan.startup", "disconnect 1012", "lifespan.shutdown"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((server.host, server.port), timeout=20)

    def test_twice_is_harmless(self) -> None:
        server = LiveServer(Application())
        server.stop()
        server.start()
        server.stop()
        server.stop()

    def test_lets_a_request_in_flight_end(self) -> None:
        arrived = threading.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                arrived.set()
                await asyncio.sleep(0.2)
                await Application().http(scope, receive, send)

        bodies: list[bytes] = []
        with LiveServer(application, grace=5) as server:
            url = server.url
            client = threading.Thread(target=lambda: bodies.append(get(url)))
            client.start()
            assert arrived.wait(5)
        client.join(5)
        assert bodies == [b"ok"]

    def test_tells_a_response_without_end_that_its_client_is_gone(self) -> None:
        got: list[Message] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await receive()
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})
                got.append(await receive())

        with LiveServer(application, grace=0.1, stop_timeout=60) as server:
            connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
            connection.request("GET", "/")
            response = connection.getresponse()
            assert response.read(4) == b"tick"
        assert got == [{"type": "http.disconnect"}]
        response.close()
        connection.close()

    def test_cancels_what_does_not_listen_before_the_lifespan_ends(self) -> None:
        events: list[str] = []

        class Deaf(Application):
            async def websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
                await send({"type": "websocket.accept"})
                try:
                    await asyncio.Event().wait()
                finally:
                    await asyncio.sleep(0.01)
                    self.events.append("cleaned up")

        application = Deaf()
        application.events = events
        # All of stop_timeout goes by before the cancellation, and the cleaning up has as much after it.
        with LiveServer(application, grace=0.05, stop_timeout=3) as server, connect(server.ws_url):
            server.stop()
        assert events == ["lifespan.startup", "cleaned up", "lifespan.shutdown"]

    def test_tells_of_an_application_that_ignores_its_cancellation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from sealane.testing.server_thread import ServerThread

        monkeypatch.setattr(ServerThread, "SLACK", 0.2)
        release = threading.Event()

        async def deaf_and_stubborn(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "websocket":
                raise ValueError("only websocket")
            await send({"type": "websocket.accept"})
            while not release.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    pass

        server = LiveServer(deaf_and_stubborn, grace=0.05, stop_timeout=0.05)
        server.start()
        with connect(server.ws_url):
            with pytest.raises(LiveServerError, match=r"did not stop within 0\.35 s: .*Unfinished: <coro"):
                server.stop()
            assert not server.running
            release.set()
        until(lambda: not any("live server" in thread.name for thread in threading.enumerate()))


class TestCloseConnections:
    def test_ends_the_applications_and_goes_on_serving(self) -> None:
        application = Application()
        with LiveServer(application) as server, connect(server.ws_url) as ws:
            server.close_connections()
            assert application.events == ["lifespan.startup", "disconnect 1012"]
            with pytest.raises(websockets.ConnectionClosedError, match="1012"):
                ws.recv(timeout=20)
            assert get(server.url) == b"ok"
            server.close_connections()

    def test_does_nothing_where_no_server_runs(self) -> None:
        LiveServer(Application()).close_connections()

    def test_tells_of_an_application_that_ignores_its_cancellation(self) -> None:
        release, ended = threading.Event(), threading.Event()

        async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "websocket":
                raise ValueError("only websocket")
            await send({"type": "websocket.accept"})
            while not release.is_set():
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    pass
            ended.set()

        with LiveServer(stubborn, grace=0.05, stop_timeout=0.05) as server, connect(server.ws_url):
            with pytest.raises(
                LiveServerError, match=r"^Connections were not closed: <coro.* ignores its cancellation$"
            ):
                server.close_connections()
            release.set()
            # The server's own end has no more time for it than close_connections() had.
            assert ended.wait(20)


class TestRestart:
    def test_keeps_the_port(self) -> None:
        application = Application()
        with LiveServer(application) as server, connect(server.ws_url) as ws:
            port = server.port
            server.restart()
            assert server.port == port
            assert get(server.url) == b"ok"
            with pytest.raises(websockets.ConnectionClosedError, match="1012"):
                ws.recv(timeout=20)
            with connect(server.ws_url) as again:
                again.send("hello")
                assert again.recv(timeout=20) == "hello"
        assert application.events.count("lifespan.startup") == 2

    def test_a_server_can_stay_down_for_a_while(self) -> None:
        with LiveServer(Application()) as server:
            server.stop()
            assert not server.running
            with pytest.raises(urllib.error.URLError, match="refused"):
                get(server.url)
            server.start()
            assert get(server.url) == b"ok"


class TestAStartThatFails:
    def test_a_port_that_is_taken(self) -> None:
        with LiveServer(Application()) as server:
            with pytest.raises(OSError, match="in use") as caught:
                LiveServer(Application(), port=server.port).start()
            assert caught.value.__notes__ == [f"while a live server was starting on localhost, port {server.port}"]

    def test_a_host_that_is_not_here(self) -> None:
        with pytest.raises(OSError) as caught:  # noqa: PT011  # the system's own text
            LiveServer(Application(), host="192.0.2.1").start()
        assert caught.value.__notes__ == ["while a live server was starting on 192.0.2.1, port chosen by the system"]

    def test_what_the_application_raises_in_its_start_up(self) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            raise ZeroDivisionError("no database")

        server = LiveServer(application)
        with pytest.raises(ZeroDivisionError, match=r"^no database$"):
            server.start()
        assert not server.running
        with pytest.raises(LiveServerError, match=r"^<LiveServer localhost stopped> has no port before it is started"):
            _ = server.port

    def test_what_the_application_says_in_its_start_up(self) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "lifespan.startup.failed", "message": "no database"})

        with pytest.raises(LiveServerError, match=r"^The application's lifespan start-up failed: no database$"):
            LiveServer(application).start()

    def test_an_application_that_does_not_say_why(self) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "lifespan.startup.failed"})

        with pytest.raises(LiveServerError, match=r"start-up failed, and the application does not say why$"):
            LiveServer(application).start()

    def test_an_application_that_must_have_a_lifespan(self) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            raise ValueError("only http")

        with pytest.raises(ValueError, match=r"^only http$"):
            LiveServer(application, lifespan="on").start()

    def test_an_application_that_takes_too_long(self) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.Event().wait()

        with pytest.raises(LiveServerError, match=r"^The lifespan start-up of .* did not complete within 0\.05 s$"):
            LiveServer(application, start_timeout=0.05).start()

    def test_a_server_that_runs_already(self) -> None:
        with LiveServer(Application()) as server:
            with pytest.raises(LiveServerError, match=r"running> was started already: stop\(\) it first, or restart"):
                server.start()
            assert get(server.url) == b"ok"

    @pytest.mark.parametrize("missing", ["uvicorn", "websockets"])
    def test_a_missing_package(self, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(ImportError, match=rf"{missing}.*Install them: pip install \"sealane\[server\]\"$"):
            LiveServer(Application()).start()


def test_an_error_that_breaks_the_server_comes_out_of_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    import uvicorn

    started = threading.Event()

    async def main_loop(self: Any) -> None:
        while not started.is_set():
            await asyncio.sleep(0.005)
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(uvicorn.Server, "main_loop", main_loop)
    server = LiveServer(Application())
    server.start()
    started.set()
    until(lambda: not server.running)
    with pytest.raises(ZeroDivisionError, match=r"^broken$"):
        server.stop()


def test_a_forgotten_server_stops_with_a_warning() -> None:
    server = LiveServer(Application())
    server.start()
    thread = next(thread for thread in threading.enumerate() if str(server.port) in thread.name)
    holder = [server]
    del server
    with pytest.warns(ResourceWarning, match=r"running> was not stopped: use 'with', or call stop\(\)$"):
        forget(holder)
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_no_file_stays_open() -> None:
    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    with LiveServer(Application()) as server:  # imports, and asyncio's first loop
        get(server.url)
    before = count()
    for _ in range(3):
        with LiveServer(Application()) as server:
            get(server.url)
            with connect(server.ws_url) as ws:
                ws.send("a")
                ws.recv(timeout=20)
    assert count() == before

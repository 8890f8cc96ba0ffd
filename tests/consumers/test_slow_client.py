"""A client that never reads costs a bounded amount of memory, on every server that holds its senders back."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.consumers.flood import FRAME, FRAMES
from tests.servers.ports import free_port
from tests.servers.waiting import wait_until

pytestmark = pytest.mark.untraced

ROOT = Path(__file__).parents[2]
APPLICATION = "tests.consumers.flood:application"

#: By how many bytes a server may grow while 400 MiB are sent to a client that reads nothing.
BOUND = 32 * 1024 * 1024

SERVERS = {
    "uvicorn": ["uvicorn", APPLICATION, "--port={port}", "--ws=websockets-sansio", "--log-level=warning"],
    "hypercorn": ["hypercorn", APPLICATION, "--bind=127.0.0.1:{port}", "--workers=0", "--log-level=WARNING"],
    "granian": ["granian", APPLICATION, "--interface=asgi", "--port={port}", "--workers=1", "--log-level=warning"],
}


class Flood:
    """A server with the application, and a connection that tells it what to do."""

    def __init__(self, port: int, control: ClientConnection) -> None:
        self.port = port
        self.control = control

    def ask(self, victim: str, **orders: Any) -> dict[str, Any]:
        """Have the server do something, and return its report when it is done."""
        self.control.send(json.dumps({"victim": victim, **orders}))
        report: dict[str, Any] = json.loads(self.control.recv(timeout=30))
        return report

    @contextmanager
    def client(self, path: str) -> Iterator[socket.socket]:
        """A client that has shaken hands, and reads nothing from then on."""
        with socket.socket() as client:
            client.settimeout(20)
            # The kernel keeps less for it.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", self.port))
            client.sendall(
                f"GET /{path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                byte = client.recv(1)
                assert byte, answer
                answer += byte
            assert answer.startswith(b"HTTP/1.1 101"), answer
            yield client

    def until(self, victim: str, what: str) -> dict[str, Any]:
        """Wait until a report has something, and return it."""
        report: dict[str, Any] = {}

        def look() -> object:
            report.update(self.ask(victim))
            return report[what]

        wait_until(look, what=f"{what} of {victim}")
        return report


@pytest.fixture(scope="module", params=SERVERS)
def flood(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flood]:
    port = free_port()
    log = tmp_path_factory.mktemp("flood") / "log"
    command = [word.format(port=port) for word in SERVERS[request.param]]
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
    }
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:

        def listens() -> bool:
            assert server.poll() is None, log.read_text()
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True

        wait_until(listens, what=f"{request.param} on port {port}")
        with connect(f"ws://127.0.0.1:{port}/control", compression=None, max_size=None) as control:
            yield Flood(port, control)
    finally:
        # Its workers with it. A consumer that waits for its client would hold up an orderly end.
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def growth(before: dict[str, Any], after: dict[str, Any]) -> int:
    """By how much the most that a process ever had is over what it had before."""
    return int(after["peak"] - before["rss"])


def test_without_limits_a_sender_waits_and_nothing_piles_up(flood: Flood) -> None:
    before = flood.ask("waits")
    with flood.client("waits"):
        after = flood.until("waits", "stands")
        assert growth(before, after) < BOUND
        assert after["sent"] < FRAMES / 2
    # It was waiting for its client, and hears that it has left.
    flood.until("waits", "codes")


def test_without_limits_a_group_fills_the_channel_and_no_more(flood: Flood) -> None:
    before = flood.ask("group")
    with flood.client("group"):
        after = flood.ask("group", type="flood.frame")
        assert growth(before, after) < BOUND


def test_a_send_queue_drops_the_oldest_and_a_client_that_comes_back_gets_the_newest(flood: Flood) -> None:
    before = flood.ask("drops")
    with flood.client("drops") as client:
        after = flood.ask("drops", type="websocket.send")
        assert growth(before, after) < BOUND
        dropped = after["counters"]["dropped_oldest"] - before["counters"]["dropped_oldest"]
        assert dropped > FRAMES / 2
        # Numbers come in order, up to the last.
        numbers: list[int] = []
        while not numbers or numbers[-1] != FRAMES - 1:
            numbers.append(int(read_frame(client)[:8]))
        assert numbers == sorted(set(numbers))
        assert len(numbers) == FRAMES - dropped


def read_frame(client: socket.socket) -> bytes:
    """Read a text frame of FRAME bytes."""
    head = read(client, 10)
    assert head[:2] == bytes([0x81, 127]), head
    assert int.from_bytes(head[2:]) == FRAME
    return read(client, FRAME)


def read(client: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = client.recv(count - len(data))
        assert part, "the server has closed the connection"
        data += part
    return bytes(data)


def test_a_full_send_queue_ends_the_connection(flood: Flood) -> None:
    before = flood.ask("closes")
    with flood.client("closes"):
        flood.ask("closes", type="flood.frame")
        wait_until(lambda: len(flood.ask("closes")["codes"]) > len(before["codes"]), what="the end of the consumer")
        after = flood.ask("closes")
        assert growth(before, after) < BOUND
        assert after["codes"][-1] == 1013
        assert after["counters"]["closed_slow"] == before["counters"]["closed_slow"] + 1


def test_a_deadline_ends_a_connection_that_takes_nothing(flood: Flood) -> None:
    before = flood.ask("deadline")
    with flood.client("deadline"):
        after = flood.until("deadline", "codes")
        assert after["codes"] == [1013]
        assert after["counters"]["closed_slow"] == 1
        assert growth(before, after) < BOUND

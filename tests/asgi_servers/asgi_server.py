"""One ASGI server process that serves the example project, started by the command of the documentation."""

import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.asgi_servers.manual import APPLICATION, PORT, command_line
from tests.servers.certificates import Certificates
from tests.servers.guard import running_in
from tests.servers.keeper import forget, new_directory, spawn
from tests.servers.ports import HOST, free_port
from tests.servers.server import PortTaken
from tests.servers.waiting import wait_until

__all__ = ["KINDS", "LIMIT", "AsgiServer", "Kind"]

ROOT = Path(__file__).resolve().parents[2]
SERVED = "tests.asgi_servers.served:application"

#: Seconds that anything in these tests may take, a server's start on a busy machine among it.
LIMIT = 20

#: What the tests provoke, and who serves it may say.
_PROVOKED = re.compile(r"Not Found: /|Forbidden \(|Refused the WebSocket for '/ws/rooms/")


@dataclass(frozen=True)
class Kind:
    """A server program: its name in the documentation, its module, and what the tests add to the page's command.

    options: warnings only, and timeouts that suit a test. `{tls_port}`, `{key}` and `{certificate}` are filled in.
    encrypted: it speaks HTTP/2 over TLS only, on a port of its own. noise: what it says though nothing is wrong.
    """

    name: str
    module: str
    options: tuple[str, ...]
    encrypted: bool = False
    noise: re.Pattern[str] = field(default=re.compile("(?!)"))


KINDS = (
    # https://github.com/Kludex/uvicorn/pull/3138. The other one is what it says to HTTP/2.
    Kind(
        "uvicorn",
        "uvicorn",
        ("--log-level", "warning"),
        noise=re.compile(
            r"ERROR: +ASGI callable returned without completing handshake\.|WARNING: +Invalid HTTP request.*"
        ),
    ),
    Kind(
        "Daphne",
        "daphne",
        ("--verbosity", "0", "-e", "ssl:{tls_port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}"),
        encrypted=True,
        # Its traceback for a close code that it does not send.
        noise=re.compile(
            r"[^\n]*Exception inside application: invalid close code 1008.*?\nException: invalid close code 1008[^\n]*",
            re.DOTALL,
        ),
    ),
    # https://github.com/python/cpython/issues/113538, for a connection that the end of the server cancels.
    Kind(
        "Hypercorn",
        "hypercorn",
        ("--log-level", "WARNING", "--graceful-timeout", "1"),
        noise=re.compile(r"Exception in callback StreamReaderProtocol\.connection_made.*?CancelledError", re.DOTALL),
    ),
    # https://github.com/emmett-framework/granian/issues/884, at its end.
    Kind(
        "Granian",
        "granian",
        ("--log-level", "warning", "--workers-kill-timeout", "1"),
        # The note stands below the first panic of a process only. A worker whose thread has gone like that may not end.
        noise=re.compile(
            r"thread '[^']*' \(\d+\) panicked at [^\n]*/pyo3-[^\n]*\nCannot drop pointer [^\n]*"
            r"(\nstack backtrace:(\n +[^\n]*)*)?(\nnote: [^\n]*RUST_BACKTRACE[^\n]*)?"
            r"(\n\[WARNING\] Killing worker-\d+ after it refused to gracefully stop)?"
        ),
    ),
)


class AsgiServer:
    """A server process with a directory, a database and ports of its own.

    It keeps its database over restarts, and its ports not. It does not outlive the process of the tests.
    """

    def __init__(self, kind: Kind, database: Path) -> None:
        """Take what it is to be; nothing is started yet. `database` is a migrated one, which is copied."""
        self.kind = kind
        self.directory = new_directory(kind.module)
        self.notes_path = self.directory / "notes"
        self.notes_path.touch()
        self.log_path = self.directory / "log"
        self.log_path.touch()
        self.database = self.directory / "chat.sqlite3"
        shutil.copy(database, self.database)
        self.certificates = Certificates.make(self.directory)
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<AsgiServer {self.kind.name} {'running' if self.running else 'stopped'}>"

    # Where it is

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{HOST}:{self.port}"

    @property
    def http2_url(self) -> str:
        """Where it speaks HTTP/2, if it does."""
        return f"https://{HOST}:{self.tls_port}" if self.kind.encrypted else self.url

    def tls(self) -> ssl.SSLContext:
        """Return what a client needs to trust its certificate."""
        return ssl.create_default_context(cafile=str(self.certificates.ca))

    # The process

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and return when it answers; nothing happens where it runs."""
        if self.running:
            return
        for _ in range(5):
            self.port, self.tls_port = free_port(), free_port()
            self._log_start = self.log_path.stat().st_size
            self._process = spawn(
                self._command(), directory=self.directory, log=self.log_path, environment=self._environment()
            )
            try:
                wait_until(self._answers, within=LIMIT, what=f"{self!r} answers")
            except PortTaken:
                continue
            return
        raise PortTaken("five ports in a row were taken")

    def _command(self) -> list[str]:
        _, *words = command_line(self.kind.module)
        options = [
            option.format(
                tls_port=self.tls_port, key=self.certificates.server_key, certificate=self.certificates.server
            )
            for option in self.kind.options
        ]
        theirs = [word.replace(APPLICATION, SERVED).replace(PORT, str(self.port)) for word in words]
        return [sys.executable, *theirs, *options]

    def _environment(self) -> dict[str, str]:
        path = [str(ROOT), str(ROOT / "src"), str(ROOT / "example_project"), os.environ.get("PYTHONPATH", "")]
        changes = {
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "PYTHONUNBUFFERED": "1",
            # As a site runs: the debug mode of the tests is slow, and says so.
            "PYTHONASYNCIODEBUG": "",
            "CHAT_DATABASE": str(self.database),
            "CHAT_REDIS_URL": "",
            "DJANGO_SETTINGS_MODULE": "demo.settings",
            "PROBE_NOTES": str(self.notes_path),
        }
        return {**os.environ, **changes}

    def _answers(self) -> bool:
        if not self.running:
            said = self.log()[self._log_start :]
            self._reap()
            if "in use" in said:
                raise PortTaken(f"port {self.port} was taken meanwhile")
            raise RuntimeError(f"{self!r} ended at its start. Its log: {said[-2000:]}")
        client = http.client.HTTPConnection(HOST, self.port, timeout=LIMIT)
        try:
            client.request("GET", "/")
            return client.getresponse().status == http.client.OK
        finally:
            client.close()

    def terminate(self) -> None:
        """Send it SIGTERM, as whoever runs it in production does, and do not wait."""
        assert self._process is not None
        self._process.terminate()

    def wait_end(self) -> None:
        """Return when the process has ended by itself, and all that it had started."""
        assert self._process is not None
        self._process.wait(LIMIT)
        wait_until(lambda: not running_in(self.directory), within=LIMIT, what=f"the processes of {self!r} end")
        self._reap()

    def stop(self) -> None:
        """End it by SIGTERM, and wait; nothing happens where it does not run."""
        if self._process is None:
            return
        try:
            self.terminate()
            self.wait_end()
        finally:
            if self._process is not None:
                self._process.kill()
                self._reap()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait()
            forget(self._process)
            self._process = None

    # What it says

    def notes(self) -> list[str]:
        """Return what the probes have noted, over all its starts."""
        return self.notes_path.read_text().splitlines()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def complaints(self) -> list[str]:
        """Return what it has said that no test has provoked, over all its starts."""
        said = self.kind.noise.sub("", self.log())
        return [line for line in said.splitlines() if line.strip() and not _PROVOKED.search(line)]

"""One nginx in front of a server, with a configuration that is given."""

import functools
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.servers.keeper import forget, new_directory, spawn
from tests.servers.ports import HOST, free_port
from tests.servers.started import Started
from tests.servers.waiting import wait_until

__all__ = ["Nginx", "nginx_program"]

#: Seconds for it to be there after its start, or to have ended.
LIMIT = 20.0

#: Around the configuration: what Debian has in its nginx.conf, with all files in one directory.
FRAME = """
daemon off;
{user}
pid nginx.pid;
error_log stderr warn;
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {text}
}}
"""


@functools.cache
def nginx_program() -> Path | None:
    """Return the program, which Debian keeps off the PATH of its users; None where there is none."""
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    return Path(found) if found else None


class Nginx(Started):
    """An nginx with these directives of its ``http`` block. ``with Nginx(text) as nginx:`` runs it.

    ``PORT`` in the text stands for its port. Its log is shown where it does not start.
    """

    def __init__(self, text: str) -> None:
        """Write its files; nothing is started yet. Raises FileNotFoundError where there is no nginx."""
        program = nginx_program()
        if program is None:
            raise FileNotFoundError("there is no nginx here: on Debian: apt install nginx")
        self.directory = new_directory("nginx")
        self.port = free_port()
        # Its workers would be another user's, for whom the directories of the tests are closed.
        user = "user root;" if os.geteuid() == 0 else ""
        file = self.directory / "nginx.conf"
        file.write_text(FRAME.format(user=user, text=text.replace("PORT", str(self.port))))
        self._command = [str(program), "-p", str(self.directory), "-c", str(file), "-e", "stderr"]
        self._log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Nginx {self.port} {'stopped' if self._process is None else f'pid {self._process.pid}'}>"

    def check(self) -> str:
        """Have it read its files, and return what it says; raise where it refuses them."""
        done = subprocess.run(
            [*self._command, "-t"], cwd=self.directory, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it and return when it takes connections."""
        self._process = spawn(self._command, directory=self.directory, log=self._log)
        try:
            wait_until(self._takes_connections, within=LIMIT, what=f"{self!r} takes connections")
        except BaseException as error:
            error.add_note(self.log())
            self.stop()
            raise

    def _takes_connections(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"{self!r} ended at its start")
        socket.create_connection((HOST, self.port), timeout=LIMIT).close()
        return True

    def stop(self) -> None:
        """Cut all connections and end it; nothing happens where it does not run."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        forget(self._process)
        self._process = None

"""One PostgreSQL server, on a Unix socket in a directory of its own."""

import functools
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.servers.keeper import forget, new_directory, spawn
from tests.servers.started import Started
from tests.servers.waiting import wait_until

__all__ = ["PostgreSQL", "postgresql_programs"]

#: Seconds for a server to be ready after its start, or to have ended. It takes a tenth of that.
LIMIT = 20.0

#: The name in the server of the one who may do everything.
SUPERUSER = "tests"

#: Who runs it where the tests run as root, which PostgreSQL refuses.
UNPRIVILEGED = "nobody"


@functools.cache
def postgresql_programs() -> Path | None:
    """Return the directory with `initdb` and `postgres`: that on the PATH, or the newest that Debian has; else None."""
    on_path = shutil.which("postgres")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(installed, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0), reverse=True)
    return next((path for path in candidates if (path / "initdb").exists() and (path / "postgres").exists()), None)


class PostgreSQL(Started):
    """A server that only this machine's root and its own user reach. ``with PostgreSQL() as server:`` runs it.

    What was written is lost with it. Its log is shown where it does not start.
    """

    def __init__(self) -> None:
        """Make its directory; nothing is started yet. Raises FileNotFoundError where there is no PostgreSQL."""
        programs = postgresql_programs()
        if programs is None:
            raise FileNotFoundError("there is no PostgreSQL here: on Debian: apt install postgresql")
        self._programs = programs
        self.directory = new_directory("postgresql")
        self._data = self.directory / "data"
        self._log = self.directory / "log"
        self._prefix: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam(UNPRIVILEGED)
            os.chown(self.directory, user.pw_uid, user.pw_gid)
            # The way to it; what else is there stays closed.
            self.directory.parent.chmod(0o711)
            self._prefix = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<PostgreSQL {self.directory} {'stopped' if self._process is None else f'pid {self._process.pid}'}>"

    @property
    def settings(self) -> dict[str, Any]:
        """What an entry of Django's DATABASES needs to reach it."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": SUPERUSER,
            "HOST": str(self.directory),
            "PORT": "5432",
        }

    @property
    def conninfo(self) -> str:
        """What psycopg needs to reach it."""
        return f"host={self.directory} port=5432 user={SUPERUSER} dbname=postgres"

    def start(self) -> None:
        """Make its files, start the process and return when it takes connections."""
        make = [str(self._programs / "initdb"), "--pgdata", str(self._data), "--username", SUPERUSER]
        make += ["--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(
            [*self._prefix, *make],
            cwd=self.directory,
            env={"LC_ALL": "C", "PATH": os.environ.get("PATH", "")},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stdout}{made.stderr}")
        run = [str(self._programs / "postgres"), "-D", str(self._data), "-k", str(self.directory)]
        options = {"listen_addresses": "", "port": "5432", "fsync": "off", "max_connections": "50"}
        run += [item for name, value in options.items() for item in ("-c", f"{name}={value}")]
        self._process = spawn([*self._prefix, *run], directory=self.directory, log=self._log)
        try:
            wait_until(self._is_ready, within=LIMIT, what=f"{self!r} is ready")
        except BaseException as error:
            error.add_note(self._log.read_text(errors="replace"))
            self.stop()
            raise

    def _is_ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"{self!r} ended at its start")
        # As pg_ctl asks: the eighth line says in which state the server is.
        lines = (self._data / "postmaster.pid").read_text().splitlines()
        return len(lines) > 7 and lines[7].strip() == "ready"

    def stop(self) -> None:
        """Cut all connections and end it; nothing happens where it does not run."""
        if self._process is None:
            return
        # "Immediate shutdown": its children end with it, and the shared memory is given back.
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        forget(self._process)
        self._process = None

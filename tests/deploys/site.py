"""The site of the guides on deploys, served by several processes with a database and a Valkey between them."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
from django.core.management import call_command

import sealane
from tests.docs.snippets import DOCS, blocks_of
from tests.servers.keeper import forget, new_directory, spawn
from tests.servers.ports import HOST, free_port
from tests.servers.waiting import wait_until

__all__ = ["DEPLOY", "LIMIT", "RESTARTS", "Gunicorn", "Process", "Site", "file_of"]

DEPLOY = DOCS / "how-to" / "deploy.md"
RESTARTS = DOCS / "how-to" / "rolling-restarts.md"

#: Seconds that anything here may take, a server's start on a busy machine among it.
LIMIT = 30

#: Seconds over which a server that stops closes its connections, in place of those of the guide.
SPREAD = 1.5

#: What only the tests add to the project: where things are, and a note of each connection's end.
SETTINGS = """
import json
INSTALLED_APPS = ["sealane", "chat", *INSTALLED_APPS]
ASGI_APPLICATION = "mysite.asgi.application"
DATABASES = {"default": json.loads(os.environ["DATABASE"])}
ALLOWED_HOSTS += ["127.0.0.1"]
# A balancer on a port of its own: the origin of its pages names the port, and a server does not know it.
CSRF_TRUSTED_ORIGINS += os.environ["ORIGINS"].split()
"""
CONSUMERS = """
class ChatConsumer(ChatConsumer):
    async def disconnect(self, code):
        import os
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{code}\\n")
"""


def file_of(page: Path, name: str) -> str:
    """Return the text of a file that a guide shows."""
    [block] = [block for block in blocks_of(page) if block.file == name]
    return block.text


class Process:
    """One server process. Its place stays the same over restarts: a port, or the path of a Unix socket."""

    def __init__(self, site: "Site", place: int | Path) -> None:
        self.site = site
        self.place = place
        self.log = site.directory / f"log-{place.name if isinstance(place, Path) else place}"
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        assert isinstance(self.place, int)
        return self.place

    @property
    def path(self) -> Path:
        assert isinstance(self.place, Path)
        return self.place

    def command(self) -> list[str]:
        """Return the words after ``python``: those of the guide's container, at this place."""
        words: list[str] = json.loads(re.findall(r"^CMD (.+)$", file_of(DEPLOY, "Dockerfile"), re.MULTILINE)[0])[1:]
        where = words.index("--host")
        assert words[where + 2] == "--port"
        words[where : where + 4] = (
            ["--uds", str(self.place)] if isinstance(self.place, Path) else ["--host", HOST, "--port", str(self.place)]
        )
        return words

    def start(self) -> None:
        """Start it and return at once."""
        self._process = spawn(
            [sys.executable, *self.command()],
            directory=self.site.directory,
            log=self.log,
            environment=self.site.environment(),
        )
        self.starts += 1

    def is_ready(self) -> bool:
        """Tell whether it is ready, as a balancer asks; raise where it has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        with contextlib.closing(http.client.HTTPConnection("localhost", timeout=LIMIT)) as client:
            if isinstance(self.place, Path):
                client.sock = socket.socket(socket.AF_UNIX)
                client.sock.connect(str(self.place))
            else:
                client.sock = socket.create_connection((HOST, self.place))
            client.request("GET", "/ready")
            return client.getresponse().status == http.client.OK

    def wait_until_ready(self) -> None:
        wait_until(self.is_ready, within=LIMIT, what="the server is ready")

    def terminate(self) -> None:
        """Send it SIGTERM, and do not wait."""
        assert self._process is not None
        self._process.terminate()

    def reload(self) -> None:
        """Send it SIGHUP, and do not wait."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def wait_end(self) -> None:
        """Return when it has ended by itself; raise where its end was not a clean one.

        uvicorn ends with the signal that it was given, when all is done: so do the programs that run it count it.
        """
        assert self._process is not None
        status = self._process.wait(LIMIT)
        said = self.log.read_text()
        assert status in (0, -signal.SIGTERM), (status, said)
        # One line for each process that served.
        started = said.count("Application startup complete.")
        assert said.count("Application shutdown complete.") == started >= self.starts, said
        forget(self._process)
        self._process = None

    def kill(self) -> None:
        """End it at once; nothing happens where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            forget(self._process)
            self._process = None


class Gunicorn(Process):
    """gunicorn with workers of uvicorn, by the files of the guide."""

    #: Each has to start, on a machine that has two processors.
    WORKERS = 1

    def command(self) -> list[str]:
        return [
            *["-m", "gunicorn", "mysite.asgi:application"],
            *["--bind", f"{HOST}:{self.port}", "--workers", str(self.WORKERS)],
        ]


class Site:
    """The project as a reader has it who has followed the guides, and its processes."""

    def __init__(self, redis_url: str, database: dict[str, Any] | None = None) -> None:
        """Write the project, and make its tables. Without a database it gets a file of SQLite."""
        self.directory = new_directory("site")
        self.notes_path = self.directory / "notes"
        self.notes_path.touch()
        self.origins: list[str] = []
        self._redis_url = redis_url
        self._database = database or {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(self.directory / "db.sqlite3"),
            "OPTIONS": {"timeout": LIMIT, "init_command": "PRAGMA journal_mode=WAL;"},
        }
        self._processes: list[Process] = []
        call_command("startproject", "mysite", str(self.directory))
        for block in [*blocks_of(DEPLOY), *blocks_of(RESTARTS)]:
            if block.file is not None:
                block.write(self.directory)
        self._change("mysite/settings.py", "", SETTINGS)
        self._change("mysite/asgi.py", "spread=10", f"spread={SPREAD}")
        self._change("chat/consumers.py", "", CONSUMERS)
        # The page's application has no migrations yet: the tutorial shows how they are made.
        done = subprocess.run(
            [sys.executable, "manage.py", "migrate", "--run-syncdb", "--verbosity=0"],
            cwd=self.directory,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _change(self, name: str, old: str, new: str) -> None:
        path = self.directory / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new) if old else text + new)

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE": json.dumps(self._database),
            "DJANGO_SETTINGS_MODULE": "mysite.settings",
            "NOTES": str(self.notes_path),
            "ORIGINS": " ".join(self.origins),
            # As a site runs: the debug mode of the tests is slow, and says so.
            "PYTHONASYNCIODEBUG": "",
            "PYTHONPATH": str(Path(sealane.__file__).parents[1]),
            "REDIS_URL": self._redis_url,
        }

    def new_process(self, kind: type[Process] = Process, *, unix: bool = False) -> Process:
        """Make a process that is not started yet."""
        number = len(self._processes) + 1
        process = kind(self, self.directory / f"web-{number}.sock" if unix else free_port())
        self._processes.append(process)
        return process

    def committed(self) -> list[tuple[int, str]]:
        """Return the number and the text of each message that the database has, in order."""
        statement = "SELECT number, text FROM chat_message ORDER BY number"
        if self._database["ENGINE"].endswith("sqlite3"):
            with contextlib.closing(sqlite3.connect(self._database["NAME"], timeout=LIMIT)) as connection:
                return connection.execute(statement).fetchall()
        names = {"host": "HOST", "user": "USER", "dbname": "NAME"}
        with psycopg.connect(**{name: self._database[key] for name, key in names.items()}) as asking:
            return asking.execute(statement).fetchall()

    def notes(self) -> list[str]:
        """Return the code that each ``disconnect()`` got, over all processes and their restarts."""
        return self.notes_path.read_text().splitlines()

    def complaints(self) -> list[str]:
        """Return what the processes have said that is no good sign."""
        said = "\n".join(process.log.read_text() for process in self._processes)
        # https://github.com/Kludex/uvicorn/pull/3138: after each WebSocket that is refused with 503.
        # The other is what gunicorn 23 says of a worker that ends with the signal it was given, as uvicorn's do.
        said = re.sub(r".*(ASGI callable returned without completing handshake\.|was sent SIGTERM!)", "", said)
        return [line for line in said.splitlines() if re.search("Traceback|ERROR|WARNING|CRITICAL", line)]

    def close(self) -> None:
        for process in self._processes:
            process.kill()

"""A Django project that is made step by step, by the commands and the files of a page, and its real runserver."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.docs.snippets import ROOT, Command, blocks_of, commands_of
from tests.servers.ports import free_port

__all__ = ["Project", "wait_until"]

#: Seconds that anything may take, a server's start on a busy machine among it.
LIMIT = 20

#: What stands for the environment that a reader makes. The tests have theirs already.
ENVIRONMENT = re.compile(
    r"python3 -m venv \.venv|\. \.venv/bin/activate|python -m pip install \"/path/to/sealane\[server\]\""
)

#: The address that the pages name. Here it is a free port.
ADDRESS = "127.0.0.1:8000"


def wait_until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for a condition of another process, which nothing but asking again can tell."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {LIMIT} s: {what()}")
        time.sleep(0.02)


class Project:
    """A directory in which a reader works, and the server that the reader has started."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.log = directory.parent / f"{directory.name}.log"
        self.address = f"127.0.0.1:{free_port()}"
        self._server: subprocess.Popen[bytes] | None = None

    def follow(self, page: Path) -> None:
        """Do what a page says: write its files, run its commands, and compare what they print."""
        for block in blocks_of(page):
            if block.language == "console":
                for command in commands_of(block):
                    self.run(command)
            elif block.file is not None:
                block.write(self.directory)
            elif block.language != "text":
                raise ValueError(f"{block.where}: a block of a tutorial names its file")

    def run(self, command: Command) -> None:
        """Run one command to its end, or start the server."""
        if ENVIRONMENT.fullmatch(command.words):
            return
        match shlex.split(command.words):
            case ["cd", name]:
                self.directory /= name
                assert self.directory.is_dir(), command.where
                printed = ""
            case ["python", "manage.py", "runserver"]:
                self.serve()
                printed = self.log.read_text().replace(self.address, ADDRESS)
            case ["python", *arguments]:
                printed = self.execute(*arguments)
            case ["django-admin", *arguments]:
                printed = self.execute("-m", "django", *arguments)
            case _:
                raise ValueError(f"{command.where}: nobody knows how to run {command.words!r} here")
        assert command.printed(printed), f"{command.where}: {command.words} printed\n{printed}"

    def execute(self, *arguments: str) -> str:
        """Run Python to its end, and return what it printed."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    def serve(self) -> None:
        """Start the server, and wait until it answers.

        Without the autoreloader, which has tests of its own: here each step starts a server when its files are there.
        """
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                [sys.executable, "manage.py", "runserver", "--noreload", self.address],
                cwd=self.directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(self._answers, lambda: f"the server answers; it said:\n{self.log.read_text()}")

    def stop(self) -> None:
        """Stop the server. Does nothing where none runs."""
        server, self._server = self._server, None
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait(LIMIT)

    @property
    def is_serving(self) -> bool:
        """Whether the server was started."""
        return self._server is not None

    def _answers(self) -> bool:
        if self._server is not None and self._server.poll() is not None:
            raise RuntimeError(f"the server ended by itself:\n{self.log.read_text()}")
        try:
            urllib.request.urlopen(f"http://{self.address}/", timeout=LIMIT).close()
        except urllib.error.HTTPError as answer:
            answer.close()  # any answer is one
        except OSError:
            return False
        return True


def _environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    # Named, since a checkout need not be installed: then nobody would find the plugin of Sealane.
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    environment["PYTEST_PLUGINS"] = "pytest_django.plugin,pytest_asyncio.plugin,sealane.testing.pytest_plugin"
    return environment

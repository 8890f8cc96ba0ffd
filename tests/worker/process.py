"""Management commands in a copy of the sample project, as processes, and the journal of what its jobs did."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from tests.servers import wait_until

__all__ = ["Entry", "Process", "Project"]

PROJECT = Path(__file__).parent / "project"
SOURCE = Path(__file__).parents[2] / "src"

#: What Django's autoreloader logs.
_RELOADS = "changed, reloading."

#: Seconds for anything that a process should do soon. Nothing waits that long where all is well.
SOON = 30.0


class Entry(NamedTuple):
    """One line of the journal."""

    what: str
    job: int
    pid: int
    attempt: int
    version: str


class Project:
    """A copy of the sample project over a channel layer, and the processes that work in it."""

    def __init__(self, directory: Path, layers: dict[str, Any], **environment: str) -> None:
        self.directory = directory / "project"
        shutil.copytree(PROJECT, self.directory, ignore=shutil.ignore_patterns("__pycache__"))
        self.journal = directory / "journal"
        self.journal.touch()
        inherited = {name: value for name, value in os.environ.items() if name not in ("DJANGO_COLORS", "RUN_MAIN")}
        self.environment = {
            **inherited,
            "PYTHONPATH": str(SOURCE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "JOBS_LAYERS": json.dumps(layers),
            "JOBS_JOURNAL": str(self.journal),
            "DJANGO_RUNSERVER_HIDE_WARNING": "true",
            **environment,
        }
        self.processes: list[Process] = []

    def start(self, command: str, *arguments: str) -> "Process":
        process = Process(self, command, *arguments)
        self.processes.append(process)
        return process

    def worker(self, *arguments: str) -> "Process":
        """Start a worker, and wait until it says that it works."""
        return self.start("runworker", *arguments).wait_for("Quit it with CONTROL-C")

    def workers(self, count: int, *arguments: str) -> list["Process"]:
        """Start workers, all at once, and wait until each says that it works."""
        started = [self.start("runworker", *arguments) for _ in range(count)]
        return [worker.wait_for("Quit it with CONTROL-C") for worker in started]

    def end(self) -> None:
        for process in self.processes:
            process.kill()

    def entries(self) -> list[Entry]:
        found = [line.split() for line in self.journal.read_text().splitlines()]
        return [Entry(what, int(job), int(pid), int(attempt), version) for what, job, pid, attempt, version in found]

    def count(self, what: str) -> Counter[int]:
        """How often each job has begun, or was done."""
        return Counter(entry.job for entry in self.entries() if entry.what == what)

    def wait(self, condition: Any, what: str) -> None:
        try:
            wait_until(condition, within=SOON, what=what)
        except TimeoutError as error:
            output = "\n".join(process.output for process in self.processes)
            raise AssertionError(f"{error}; {self.journal.read_text()[-2000:]}\n{output[-8000:]}") from error


class Process:
    """One management command, in a process group of its own, like a terminal's."""

    def __init__(self, project: Project, command: str, *arguments: str) -> None:
        self.project = project
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", command, *arguments],
            cwd=project.directory,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line.rstrip("\n"))

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, count: int = 1) -> "Process":
        """Wait until its output has a text so many times."""
        self.project.wait(
            lambda: self.output.count(text) >= count or self.process.poll() is not None, f"{text!r} in the output"
        )
        assert self.output.count(text) >= count, self.output
        return self

    def rewrite(self, name: str, text: str) -> None:
        """Change a source file, until the process has noticed: a change before its first look is none."""
        path = self.project.directory / name
        seen = self.output.count(_RELOADS)
        path.write_text(text)
        for seconds in range(1, 60):
            # A time of its own for each try, and never one that the process has seen.
            stamp = time.time() + seconds
            os.utime(path, (stamp, stamp))
            try:
                wait_until(lambda: self.output.count(_RELOADS) > seen, within=0.5)
                return
            except TimeoutError:
                continue
        raise AssertionError(f"the change was not noticed:\n{self.output}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended, and return its status."""
        status = self.process.wait(SOON)
        self._reader.join(SOON)
        return status

    def kill(self) -> None:
        """Kill it and its children. Harmless where it has ended."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(SOON)
        self._reader.join(SOON)

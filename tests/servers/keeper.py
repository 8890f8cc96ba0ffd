"""The processes of this test run: where their files are, and that none is left behind."""

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["forget", "new_directory", "spawn"]

GUARD = Path(__file__).with_name("guard.py")


class Keeper:
    """Starts processes and tells the guard about each. The guard is started with the first."""

    def __init__(self) -> None:
        # resolve: the guard compares the directory with what the kernel says, which names no link.
        self.directory = Path(tempfile.mkdtemp(prefix="sealane-servers-")).resolve()
        self.owner = os.getpid()
        self._lock = threading.Lock()
        self._numbers = 0
        self._guard = subprocess.Popen(
            # -I -S: neither the site's modules nor coverage's hook: it starts in a few milliseconds.
            [sys.executable, "-I", "-S", str(GUARD), str(self.directory), str(self.owner)],
            stdin=subprocess.PIPE,
            # Ctrl-C in the terminal goes to all processes of the session: not to this one.
            start_new_session=True,
            cwd="/",
        )
        atexit.register(self.close)

    def new_directory(self, name: str) -> Path:
        with self._lock:
            self._numbers += 1
            directory = self.directory / f"{self._numbers}-{name}"
        directory.mkdir(mode=0o700)
        return directory

    def spawn(
        self, command: Sequence[str], *, directory: Path, log: Path, environment: Mapping[str, str] | None
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment or {"LC_ALL": "C", "PATH": os.environ.get("PATH", "")},
                start_new_session=True,
            )
        self._tell(b"+%d\n" % process.pid)
        return process

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        self._tell(b"-%d\n" % process.pid)

    def _tell(self, line: bytes) -> None:
        assert self._guard.stdin is not None
        with self._lock:
            self._guard.stdin.write(line)
            self._guard.stdin.flush()

    def close(self) -> None:
        """Let the guard kill what is left, and wait for it. A forked child leaves all as it is."""
        if os.getpid() != self.owner:
            return
        assert self._guard.stdin is not None
        with contextlib.suppress(OSError):
            self._guard.stdin.close()
        try:
            self._guard.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


_keeper: Keeper | None = None
_starting = threading.Lock()


def _running_keeper() -> Keeper:
    global _keeper
    with _starting:
        if _keeper is None or _keeper.owner != os.getpid():
            _keeper = Keeper()
        return _keeper


def new_directory(name: str) -> Path:
    """Make a directory that is removed at the end of the run. Its path is short enough for a Unix socket."""
    return _running_keeper().new_directory(name)


def spawn(
    command: Sequence[str], *, directory: Path, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a process that does not outlive this one, with its output appended to `log`.

    environment: as it is to be; the least that a server needs, unless it is given.
    """
    return _running_keeper().spawn(command, directory=directory, log=log, environment=environment)


def forget(process: subprocess.Popen[bytes]) -> None:
    """Say that a process has ended and was waited for: its number may soon be another's."""
    _running_keeper().forget(process)

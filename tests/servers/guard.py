"""Kills the servers when the process that started them is gone, and removes their files. Run as a program.

``python guard.py DIRECTORY PARENT``, with a pipe as standard input: lines "+PID" and "-PID" say which processes are to
be killed. The end of the pipe, or another parent, means that the one who started it has ended, even by kill -9.

(The kernel's own "signal me when my parent dies" counts the *thread* that started the child as the parent: a server
that a test restarts in a worker thread would die with that thread.)
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

#: Seconds between two looks at who the parent is: a forked child of the tests may hold the pipe open.
INTERVAL = 1.0


def watch(parent: int) -> set[int]:
    """Return the processes that are left when the parent has ended."""
    pids: set[int] = set()
    pending = b""
    while os.getppid() == parent:
        if not select.select([0], [], [], INTERVAL)[0]:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            change = pids.add if line[:1] == b"+" else pids.discard
            change(int(line[1:]))
    return pids


def running_in(directory: Path) -> set[int]:
    """Return the processes whose working directory is below `directory`, where the system tells.

    It finds a server that was started and not yet named when the parent was killed, and the children of servers.
    """
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if entry.readlink().is_relative_to(directory):
                found.add(int(entry.parent.name))
    return found


def main() -> None:
    directory = Path(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    left = watch(int(sys.argv[2]))
    give_up = time.monotonic() + 10
    while (left := left | running_in(directory)) and time.monotonic() < give_up:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        left = set()
        time.sleep(0.01)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()

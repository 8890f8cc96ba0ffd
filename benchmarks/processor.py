"""The processor: which core a process runs on, and who used how much of it. Linux only: it reads /proc."""

import ctypes
import os
import resource
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sample import Figure

__all__ = [
    "Usage",
    "client_core",
    "cores",
    "die_with_parent",
    "pin",
    "process_seconds",
    "raise_open_files",
    "resident_bytes",
    "sender_core",
    "server_core",
    "store_core",
]

#: prctl(2): the signal that this process gets when the thread that started it ends.
_PR_SET_PDEATHSIG = 1


def cores() -> list[int]:
    """Return the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))


def server_core() -> int | None:
    """Return the core that a server, or a sample in one process, runs on; None where it cannot be chosen."""
    allowed = cores()
    return allowed[0] if len(allowed) > 1 else None


def client_core() -> int | None:
    """Return the core that the load client runs on: another than the server's."""
    allowed = cores()
    return allowed[-1] if len(allowed) > 1 else None


def store_core() -> int | None:
    """Return the core that Redis runs on: one of its own where there are three, else the load client's."""
    allowed = cores()
    return allowed[1] if len(allowed) > 2 else client_core()


def sender_core() -> int | None:
    """Return the core of a process that sends to the server: one of its own where there are four, else the server's."""
    allowed = cores()
    return allowed[2] if len(allowed) > 3 else server_core()


def raise_open_files(needed: int) -> None:
    """Let this process, and those that it starts, open so many files. OSError where that is forbidden."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise OSError(f"{needed:,} open files are needed, and no more than {hard:,} are allowed here: see `ulimit -Hn`")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent has ended, however it ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def pin(core: int | None) -> None:
    """Keep this process, and the threads it will start, on `core`. Nothing happens for None."""
    if core is not None:
        os.sched_setaffinity(0, {core})


def resident_bytes() -> int:
    """Return the resident memory of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def process_seconds(process: int) -> float:
    """Return the processor time that a process has used, all threads, in seconds.

    Linux has a clock for every process, and the number of that clock is made from the process's number
    (clock_getcpuclockid(3)).
    """
    return time.clock_gettime((~process << 3) | 2)


def _busy_seconds() -> float:
    """Return the processor time that the whole machine has used since it started, in seconds."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, stolen = fields
    return (user + nice + system + interrupts + soft_interrupts + stolen) / os.sysconf("SC_CLK_TCK")


class Usage:
    """Who used the processor between two moments.

    `server` is the number of the server's process; without it, this process is the server. `store` is the Redis
    server's, or those of several. `helpers` are further processes that belong to the sample. What the others used has
    a resolution of a few hundredths of a second.
    """

    def __init__(
        self, server: int | None = None, *, store: int | Sequence[int] | None = None, helpers: Sequence[int] = ()
    ) -> None:
        self._alone = server is None
        self._server = os.getpid() if server is None else server
        self._stores = [store] if isinstance(store, int) else store or ()
        self._helpers = helpers
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float, float, float]:
        return (
            time.perf_counter(),
            time.process_time(),
            process_seconds(self._server),
            sum(map(process_seconds, self._stores)),
            sum(map(process_seconds, self._helpers)),
            _busy_seconds(),
        )

    def figure(self, value: float) -> Figure:
        """Return `value`, with the shares of the time since this object was made."""
        wall, client, server, store, helpers, busy = (
            after - before for before, after in zip(self._before, self._read(), strict=True)
        )
        if self._alone:
            client = 0.0
        others = max(0.0, busy - client - server - store - helpers) / (wall * (os.cpu_count() or 1))
        return Figure(value=value, client=client / wall, server=server / wall, store=store / wall, others=others)

"""Take samples: start the processes of each side in turn, and read what they measured."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from benchmarks.sample import DISTURBED, Sample
from benchmarks.store import Flavour, run_store
from benchmarks.workload import Sizes, Workload

__all__ = [
    "SLOWING",
    "Programs",
    "SampleFailed",
    "run_program",
    "run_rounds",
    "run_server",
    "take_sample",
    "trace_memory",
]

_ROOT = Path(__file__).resolve().parent.parent

#: Seconds after which a process is given up. The processes have shorter limits of their own.
_TIME_LIMIT = 180

#: What would slow every process down: asyncio's debug mode, Python's development mode, coverage.
SLOWING = ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Programs:
    """What the processes run on: whose Redis server, and the Python of channels_redis, which has its own redis-py."""

    store: Flavour = "valkey"
    peer_python: str = sys.executable

    def python(self, side: str, workload: Workload) -> str:
        """Return the interpreter that runs a side."""
        return self.peer_python if workload.redis and side.startswith("channels") else sys.executable


class SampleFailed(Exception):
    """A process failed, hung, or wrote something on its standard error: there is no figure to trust."""

    def __init__(self, side: str, workload: str, problem: str) -> None:
        super().__init__(side, workload, problem)
        self.side = side
        self.workload = workload
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.workload} on {self.side}: {self.problem}"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in SLOWING}
    # The peer's environment has its own installation of the checkout, or none.
    paths = [str(_ROOT / "src"), kept.get("PYTHONPATH", "")]
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def _output(python: str, command: Sequence[str], side: str, workload: Workload) -> str:
    """Run one process to its end and return what it printed."""
    try:
        done = subprocess.run(
            [python, "-m", *command],
            cwd=_ROOT,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=_TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise SampleFailed(side, workload.name, f"{command[0]} took over {_TIME_LIMIT} seconds") from None
    if done.returncode or done.stderr:
        raise SampleFailed(side, workload.name, f"{command[0]} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


@contextmanager
def run_server(
    python: str, side: str, workload: Workload, store: str, role: str = "server"
) -> Iterator[tuple[int, int]]:
    """Run a server; yield its port and the number of its process."""
    command = [python, "-m", "benchmarks.server", side, workload.name, store, role]
    with run_program(command, side, workload.name) as running:
        yield running


@contextmanager
def run_program(command: Sequence[str], side: str, workload: str) -> Iterator[tuple[int, int]]:
    """Run a program that serves, as `run_server` does. Raises SampleFailed where it complains of something."""
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline()
        if not port:
            _, complaint = process.communicate(timeout=_TIME_LIMIT)
            raise SampleFailed(side, workload, f"the server did not start:\n{complaint}")
        yield int(port), process.pid
        process.terminate()
        _, complaint = process.communicate(timeout=_TIME_LIMIT)
        if complaint:
            raise SampleFailed(side, workload, f"the server complained:\n{complaint}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def take_sample(side: str, workload: Workload, sizes: Sizes, programs: Programs) -> Sample:
    """Measure one side once, in fresh processes. Raises SampleFailed."""
    python = programs.python(side, workload)
    with run_store(programs.store) if workload.stored(side) else nullcontext() as running:
        store = "-" if running is None else running.dump()
        if not workload.served:
            module = "benchmarks.remote" if workload.redis else "benchmarks.local"
            command = [module, side, workload.name, sizes.dump(), store]
            return Sample.load(_output(python, command, side, workload))
        with run_server(python, side, workload, store) as (port, process):
            if workload.sender:
                with run_server(python, side, workload, store, "sender") as sender:
                    both = map(str, (port, process, *sender))
                    command = ["benchmarks.latency", *both, sizes.dump(), store]
                    return Sample.load(_output(sys.executable, command, side, workload))
            command = ["benchmarks.client", workload.name, str(port), str(process), sizes.dump(), store]
            return Sample.load(_output(sys.executable, command, side, workload))


def trace_memory(side: str, workload: Workload, sizes: Sizes, programs: Programs) -> Sample:
    """Return the bytes of each connection to a side's server, by where they were allocated. Raises SampleFailed."""
    python = programs.python(side, workload)
    with run_store(programs.store) if workload.stored(side) else nullcontext() as running:
        store = "-" if running is None else running.dump()
        with run_server(python, side, workload, store, "traced") as (port, process):
            command = ["benchmarks.client", "where", str(port), str(process), sizes.dump(), store]
            return Sample.load(_output(sys.executable, command, side, workload))


def _take_quiet_sample(side: str, workload: Workload, sizes: Sizes, programs: Programs, *, retakes: int) -> Sample:
    """Take a sample, and again where others disturbed it. Return the least disturbed; its figures have no say."""
    best = take_sample(side, workload, sizes, programs)
    while best.disturbance() > DISTURBED and retakes > 0:
        retakes -= 1
        best = min(best, take_sample(side, workload, sizes, programs), key=Sample.disturbance)
    return best


def run_rounds(
    workload: Workload,
    *,
    sides: Sequence[str],
    rounds: int,
    retakes: int,
    sizes: Sizes,
    programs: Programs,
    tell: Callable[[str], None],
) -> dict[str, list[Sample]]:
    """Measure every side once per round, A B C A B C: what drifts on the machine meets all of them alike."""
    samples: dict[str, list[Sample]] = {side: [] for side in sides}
    rounds = min(rounds, workload.most_rounds or rounds)
    for number in range(rounds):
        for side in sides:
            samples[side].append(_take_quiet_sample(side, workload, sizes, programs, retakes=retakes))
        tell(f"{workload.name}: round {number + 1} of {rounds}")
    return samples

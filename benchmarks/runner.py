"""Take samples: start the processes of each side in turn, and read what they measured."""

import contextlib
import dataclasses
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.sample import DISTURBED, Sample
from benchmarks.store import Flavour, run_store
from benchmarks.workload import Sizes, Workload

__all__ = ["SLOWING", "Programs", "SampleFailed", "run_rounds", "run_server", "take_sample", "trace_memory"]

_ROOT = Path(__file__).resolve().parent.parent

#: Seconds after which a process is given up: it has lost a message. The slowest turn, Channels' with 10,000 sockets,
#: takes about 60.
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


@contextmanager
def run_server(
    python: str, side: str, workload: Workload, store: str, role: str = "server"
) -> Iterator[tuple[int, int]]:
    """Run a server; yield its port and the number of its process."""
    process = subprocess.Popen(
        [python, "-m", "benchmarks.server", side, workload.name, store, role],
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
            raise SampleFailed(side, workload.name, f"the server did not start:\n{complaint}")
        yield int(port), process.pid
        process.terminate()
        _, complaint = process.communicate(timeout=_TIME_LIMIT)
        if complaint:
            raise SampleFailed(side, workload.name, f"the server complained:\n{complaint}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class _Player:
    """A process that measures, turn by turn."""

    def __init__(self, python: str, command: Sequence[str], side: str, workload: Workload) -> None:
        self._side = side
        self._workload = workload
        self._process = subprocess.Popen(
            [python, "-m", *command],
            cwd=_ROOT,
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._name = command[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()

    def play(self) -> Sample:
        """Have it measure for one turn. Raises SampleFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: the next line tells
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], _TIME_LIMIT)
        if not ready:
            raise SampleFailed(self._side, self._workload.name, f"{self._name} took over {_TIME_LIMIT} seconds")
        line = self._process.stdout.readline()
        if not line:
            self.finish()
            raise SampleFailed(self._side, self._workload.name, f"{self._name} ended before its turn was over")
        return Sample.load(line)

    def finish(self) -> None:
        """Have no more turns, and wait for its end. Raises SampleFailed where it missed a message."""
        try:
            _, complaint = self._process.communicate(timeout=_TIME_LIMIT)
        except subprocess.TimeoutExpired:
            raise SampleFailed(self._side, self._workload.name, f"{self._name} does not end") from None
        if self._process.returncode or complaint:
            problem = f"{self._name} ended with {self._process.returncode}:\n{complaint}"
            raise SampleFailed(self._side, self._workload.name, problem)


@contextmanager
def _playing(
    side: str, workload: Workload, sizes: Sizes, programs: Programs, role: str = "server"
) -> Iterator[_Player]:
    """Run all processes of a side for the length of the block: Redis, the servers, and the one that measures."""
    python = programs.python(side, workload)
    with ExitStack() as stack:
        running = stack.enter_context(run_store(programs.store)) if workload.stored(side) else None
        store = "-" if running is None else running.dump()
        if not workload.served:
            module = "benchmarks.remote" if workload.redis else "benchmarks.local"
            command = [module, side, workload.name, sizes.dump(), store]
        else:
            python_of_client = sys.executable
            server = map(str, stack.enter_context(run_server(python, side, workload, store, role)))
            if workload.sender:
                sender = map(str, stack.enter_context(run_server(python, side, workload, store, "sender")))
                command = ["benchmarks.latency", *server, *sender, sizes.dump(), store]
            else:
                what = "where" if role == "traced" else workload.name
                command = ["benchmarks.client", what, *server, sizes.dump(), store]
            python = python_of_client
        with _Player(python, command, side, workload) as player:
            yield player
            # Before the servers, which it talks to.
            player.finish()


def take_sample(side: str, workload: Workload, sizes: Sizes, programs: Programs) -> Sample:
    """Measure one side once, in fresh processes. Raises SampleFailed."""
    with _playing(side, workload, sizes, programs) as player:
        return player.play()


def trace_memory(side: str, workload: Workload, sizes: Sizes, programs: Programs) -> Sample:
    """Return the bytes of each connection to a side's server, by where they were allocated. Raises SampleFailed."""
    with _playing(side, workload, sizes, programs, "traced") as player:
        return player.play()


def _disturbance(taken: Mapping[str, Sample]) -> float:
    return max(sample.disturbance() for sample in taken.values())


def _take_quietly(take: Callable[[], dict[str, Sample]], retakes: int) -> dict[str, Sample]:
    """Take samples, and again where others disturbed them. Return the least disturbed; their figures have no say."""
    best = take()
    while _disturbance(best) > DISTURBED and retakes > 0:
        retakes -= 1
        best = min(best, take(), key=_disturbance)
    return best


def _turns(
    workload: Workload, sides: Sequence[str], *, retakes: int, sizes: Sizes, programs: Programs
) -> Iterator[dict[str, Sample]]:
    """Yield the samples of each turn, those of all sides, while their processes live side by side."""
    with ExitStack() as stack:
        players = {side: stack.enter_context(_playing(side, workload, sizes, programs)) for side in sides}
        for number in range(sizes.turns):
            # There and back, so that what drifts steadily favours nobody.
            order = sides if number % 2 == 0 else sides[::-1]

            def take(order: Sequence[str] = order) -> dict[str, Sample]:
                return {side: players[side].play() for side in order}

            # The first has figures that no other has.
            yield _take_quietly(take, retakes if number else 0)


def _round(
    workload: Workload, sides: Sequence[str], *, retakes: int, sizes: Sizes, programs: Programs
) -> Iterator[dict[str, Sample]]:
    """Yield the samples of all sides, taken one after another, or turn by turn."""
    if workload.turned:
        yield from _turns(workload, sides, retakes=retakes, sizes=sizes, programs=programs)
        return
    samples: dict[str, Sample] = {}
    for side in sides:

        def take(side: str = side) -> dict[str, Sample]:
            return {side: take_sample(side, workload, sizes, programs)}

        samples |= _take_quietly(take, retakes)
    yield samples


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
    """Measure every side in each round, A B C A B C: what drifts on the machine meets all of them alike."""
    samples: dict[str, list[Sample]] = {side: [] for side in sides}
    rounds = min(rounds, workload.most_rounds or rounds)
    for number in range(rounds):
        for taken in _round(workload, sides, retakes=retakes, sizes=sizes, programs=programs):
            for side in sides:
                samples[side].append(taken[side])
        tell(f"{workload.name}: round {number + 1} of {rounds}")
    return samples

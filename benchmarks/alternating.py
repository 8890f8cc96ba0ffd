"""The command that holds broadcasts against one another in one process: `python -m benchmarks.alternating`.

One server process has a thousand sockets of each kind: of the bare application that loops over `send`, and of
consumers with the layer in memory, on streams and on pub/sub. They are broadcast to in turn, so that a machine whose
speed changes from one second to the next changes alike for all. Samples of two processes differ by a third for that
reason alone; what this command prints comes back within some hundredths.
"""

import argparse
import contextlib
import dataclasses
import functools
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence

import uvloop

from benchmarks.alternating_server import KINDS
from benchmarks.client import frame, open_sockets, watched
from benchmarks.client_socket import ClientSocket, connect
from benchmarks.deliveries import Deliveries
from benchmarks.machine import describe
from benchmarks.processor import client_core, pin, process_seconds, raise_open_files
from benchmarks.report import table
from benchmarks.runner import Programs, SampleFailed, run_program
from benchmarks.store import FLAVOURS, find, run_store
from benchmarks.workload import FULL, QUICK, TEXT, Sizes

__all__ = ["Round", "as_table", "main"]

#: A run that takes longer has lost a message.
_TIME_LIMIT = 300.0

#: Rounds before the first that counts.
_WARM_UP = 10

#: How often in a row each kind is broadcast to before it counts: the first finds the processor's caches full of what
#: belongs to another kind, which no server has.
_SETTLING = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """One broadcast: in how many seconds its first frame had come, and its last, and the server's processor time."""

    first: float
    last: float
    used: float


async def _measure(port: int, server: int, sizes: Sizes, rounds: int) -> dict[str, list[Round]]:
    """Broadcast to each kind in turn. RuntimeError where a text was wrong, or one came too many."""
    deliveries = Deliveries()
    first = 0.0
    payload = TEXT.encode()

    def on_text(socket: ClientSocket, received: bytes) -> None:
        nonlocal first
        if received != payload:
            raise RuntimeError(f"a wrong text came in: {received!r}")
        first = first or time.perf_counter()
        deliveries.add()

    async def broadcast(kind: str) -> Round:
        nonlocal first
        first, due = 0.0, deliveries.count + sizes.sockets
        used, started = process_seconds(server), time.perf_counter()
        control.write(frame(kind))
        await deliveries.reach(due)
        last, used = time.perf_counter(), process_seconds(server) - used
        if deliveries.count != due:
            raise RuntimeError(f"{sizes.sockets} sockets got {kind}, and {deliveries.count - due} more")
        return Round(first=first - started, last=last - started, used=used)

    found: dict[str, list[Round]] = {kind: [] for kind in KINDS}
    control = await connect(port, "/control", lambda socket, payload: None)
    async with contextlib.AsyncExitStack() as opened:
        for kind in KINDS:
            await opened.enter_async_context(open_sockets(port, sizes.sockets, on_text, path=f"/{kind}"))
        for number in range(-_WARM_UP, rounds):
            for kind in KINDS:
                for _ in range(_SETTLING):
                    await broadcast(kind)
                counted = await broadcast(kind)
                if number >= 0:
                    found[kind].append(counted)
    await control.close()
    return found


def as_table(found: Mapping[str, Sequence[Round]]) -> list[str]:
    """Return a table: medians, the mean of the processor time, which comes in ticks, and what the limit has of both."""
    limit = found["limit"]
    bare_used = statistics.mean(each.used for each in limit)
    lines = []
    for kind, rounds in found.items():
        shares = [bare.last / ours.last for bare, ours in zip(limit, rounds, strict=True)]
        low, share, high = statistics.quantiles(shares, n=4)
        first = statistics.median(each.first for each in rounds)
        last = statistics.median(each.last for each in rounds)
        used = statistics.mean(each.used for each in rounds)
        times = (f"{seconds * 1e3:.2f}" for seconds in (first, last, used))
        lines.append([kind, *times, f"{share:.3f} ({low:.3f}-{high:.3f})", f"{bare_used / used:.3f}"])
    head = ["broadcast", "first frame, ms", "all frames, ms", "processor, ms", "of the limit (quartiles)"]
    return table([*head, "per CPU second"], lines)


def main(given: Sequence[str] | None = None) -> int:
    """Measure and print the table. Return 0, or 2 where it failed."""
    if sys.platform != "linux":
        raise SystemExit("the benchmarks read /proc and choose cores: they need Linux")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alternating", description=(__doc__ or "").partition(":")[0]
    )
    parser.add_argument("--rounds", type=int, default=100, help="how often each kind is broadcast to and counts")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs")
    arguments = parser.parse_args(given)
    sizes = QUICK if arguments.quick else FULL
    programs = Programs(store=next(filter(find, FLAVOURS), "valkey"))
    raise_open_files(len(KINDS) * sizes.sockets + 1_000)
    tell = functools.partial(print, file=sys.stderr, flush=True)
    facts = describe(programs)
    cores = os.sched_getaffinity(0)
    try:
        with run_store(programs.store) as store:
            command = [sys.executable, "-m", "benchmarks.alternating_server", store.dump()]
            with run_program(command, "all sides", "alternating") as (port, server):
                pin(client_core())
                found = uvloop.run(watched(_measure(port, server, sizes, arguments.rounds), _TIME_LIMIT))
    except (RuntimeError, SampleFailed, TimeoutError) as failure:
        tell(f"{type(failure).__name__}: {failure}")
        return 2
    finally:
        os.sched_setaffinity(0, cores)
    print("\n".join((*as_table(found), "", *(f"- {name}: {fact}" for name, fact in facts.items()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

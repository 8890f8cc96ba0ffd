"""Processes with one member of the group each, for a sender that is measured alone."""

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Self

from benchmarks.layers import close, layer_for
from benchmarks.processor import client_core, die_with_parent, pin
from benchmarks.store import Store
from benchmarks.workload import GROUP, TEXT

__all__ = ["Members"]

#: Seconds for a member to join, and for what was sent to arrive.
_LIMIT = 30.0

#: Seconds between two looks at what has arrived.
_INTERVAL = 0.0005

_fork = multiprocessing.get_context("fork")


class Members:
    """Fork `processes` children, before this process has an event loop or a connection. They end with the block.

    A child joins when it is told to and then receives for ever. What it has received is counted in shared memory:
    asking costs it nothing. While a sender is timed the children can be frozen, so that none of them takes the core
    that Redis runs on; they receive everything afterwards.
    """

    def __init__(self, side: str, store: Store, processes: int) -> None:
        self._received = _fork.RawArray("q", processes)
        self._joined = _fork.RawArray("b", processes)
        self._gates = [_fork.Event() for _ in range(processes)]
        self._due = [0] * processes
        self._processes = [
            _fork.Process(target=self._run, args=(side, store, number, gate), daemon=True)
            for number, gate in enumerate(self._gates)
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()

    @property
    def pids(self) -> list[int]:
        """The numbers of the processes."""
        return [process.pid for process in self._processes if process.pid is not None]

    @property
    def joined(self) -> int:
        """How many are members."""
        return sum(self._joined)

    def join(self, count: int) -> None:
        """Have the first `count` of them join, and return when they have."""
        for gate in self._gates[:count]:
            gate.set()
        self._wait(lambda: self.joined >= count, f"{count} members to join")

    def expect(self, sends: int) -> None:
        """Note that so many messages were sent to those who are members now."""
        for number, joined in enumerate(self._joined):
            self._due[number] += sends if joined else 0

    def wait_arrived(self) -> None:
        """Wait until everything that is expected has arrived. RuntimeError where it does not, or more does."""
        self._wait(self._complete, f"{self._due} messages to arrive at the members")

    async def arrived(self) -> None:
        """Do the same, and let the event loop run."""
        limit = time.monotonic() + _LIMIT
        # Another process counts: there is no event to wait for.
        while not self._complete():
            self._check(limit, f"{self._due} messages to arrive at the members")
            await asyncio.sleep(_INTERVAL)

    def freeze(self) -> None:
        """Stop them all."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _complete(self) -> bool:
        received = list(self._received)
        if any(got > due for got, due in zip(received, self._due, strict=True)):
            raise RuntimeError(f"members got {received}, but {self._due} were sent to them")
        return received == self._due

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        limit = time.monotonic() + _LIMIT
        while not condition():
            self._check(limit, what)
            time.sleep(_INTERVAL)

    def _check(self, limit: float, what: str) -> None:
        if ended := [process.exitcode for process in self._processes if process.exitcode is not None]:
            raise RuntimeError(f"a member's process ended with {ended[0]} while the sender waited for {what}")
        if time.monotonic() > limit:
            raise RuntimeError(f"waited {_LIMIT:g} seconds for {what}; they got {list(self._received)} so far")

    def _signal(self, number: int) -> None:
        for pid in self.pids:
            os.kill(pid, number)

    def _run(self, side: str, store: Store, number: int, gate: Event) -> None:
        die_with_parent()
        pin(client_core())
        gate.wait()
        asyncio.run(self._receive(side, store, number))

    async def _receive(self, side: str, store: Store, number: int) -> None:
        layer = layer_for(side, store)
        channel = await layer.new_channel()
        await layer.group_add(GROUP, channel)
        self._joined[number] = 1
        # A name in Redis is a member of channels_redis's core layer from the start.
        try:
            while True:
                message = await layer.receive(channel)
                if message["text"] != TEXT:
                    raise RuntimeError(f"a wrong message came in: {message!r}")
                self._received[number] += 1
        finally:
            await close(layer)

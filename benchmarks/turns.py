"""Turns: the sides of a row measure for a moment each, again and again, while the processes of all of them live.

A process that measures gets a line on its standard input for each turn, and answers it with a line: its sample. Where
there are no more, its input ends.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Self

from benchmarks.sample import Sample

__all__ = ["BlockingTurns", "Turns", "tell"]


def tell(sample: Sample) -> None:
    """Answer the turn."""
    print(sample.dump(), flush=True)


class Turns:
    """Wait for each turn, and yield an empty sample to fill: the next step of the loop answers with it.

    `wait` tells whether there is a turn, once that is known; by default the runner says so.
    """

    def __init__(
        self, wait: Callable[[], Awaitable[bool]] | None = None, answer: Callable[[Sample], None] = tell
    ) -> None:
        self._wait = self._wait_for_runner if wait is None else wait
        self._answer = answer
        self._lines: asyncio.StreamReader | None = None
        self._sample: Sample | None = None
        #: Whether this turn is the first, in which there is time for what has no bar.
        self.first = True

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sample:
        if self._sample is not None:
            self._answer(self._sample)
            self.first = False
        if not await self._wait():
            raise StopAsyncIteration
        self._sample = Sample()
        return self._sample

    async def _wait_for_runner(self) -> bool:
        if self._lines is None:
            self._lines = lines = asyncio.StreamReader()
            loop = asyncio.get_running_loop()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        return bool(await self._lines.readline())


class BlockingTurns:
    """The same for code without an event loop."""

    def __init__(
        self, wait: Callable[[], bool] = lambda: bool(sys.stdin.readline()), answer: Callable[[Sample], None] = tell
    ) -> None:
        self._wait = wait
        self._answer = answer

    def __iter__(self) -> Iterator[Sample]:
        while self._wait():
            sample = Sample()
            yield sample
            self._answer(sample)

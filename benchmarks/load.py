"""An open load: messages that leave at times that were fixed before, whatever has become of the last ones.

A sender that waits for its message before it sends the next slows down with what it measures, and so leaves out just
the messages that would have waited (coordinated omission). Here a message that leaves late is late by its schedule.
"""

import asyncio
import ctypes
import os
import random
import time
from collections.abc import Awaitable, Callable, Iterator

from benchmarks.workload import TEXT

__all__ = ["Alarm", "due_of", "run_load", "schedule", "stamp"]

# timerfd_create(2), timerfd_settime(2)
_TFD_NONBLOCK, _TFD_CLOEXEC, _TFD_TIMER_ABSTIME = 0o4000, 0o2000000, 1


def stamp(due: float) -> str:
    """Return a text as long as every other, which says when it was to leave, by time.monotonic()."""
    return f"{due:.9f}".ljust(len(TEXT))


def due_of(payload: bytes) -> float:
    """Return when a text was to leave. ValueError for another text."""
    if len(payload) != len(TEXT):
        raise ValueError(f"not a text of this load: {payload!r}")
    return float(payload)


def schedule(rate: float, seconds: float, seed: int = 0) -> Iterator[float]:
    """Yield when to send, in seconds from the start: `rate` times a second on the average.

    The distances are those of independent senders (exponential), and the same for each side.
    """
    draw = random.Random(seed)
    due = draw.expovariate(rate)
    while due < seconds:
        yield due
        due += draw.expovariate(rate)


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


class Alarm:
    """Call `ring` at a moment, to the microsecond: the timers of event loops are good for a millisecond only."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._ring = ring
        self._descriptor = self._libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._on_time)

    def set(self, moment: float) -> None:
        """Ring at a moment of time.monotonic(), at once where it has passed."""
        whole, part = divmod(max(1, round(moment * 1e9)), 1_000_000_000)
        spec = _Itimerspec(value=_Timespec(whole, part))
        if self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def _on_time(self) -> None:
        os.read(self._descriptor, 8)
        self._ring()

    def close(self) -> None:
        """Ring no more."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


async def run_load(send: Callable[[str], Awaitable[None]], rate: float, seconds: float) -> int:
    """Have texts sent by schedule, each by a task of its own. Return how many, when the last was sent."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Future[None]] = set()
    finished: asyncio.Future[None] = loop.create_future()
    start = time.monotonic() + 0.01
    times = schedule(rate, seconds)
    upcoming = next(times, None)
    count = 0

    def on_end(task: "asyncio.Future[None]") -> None:
        tasks.discard(task)
        if (error := task.exception()) and not finished.done():
            finished.set_exception(error)

    def send_due() -> None:
        nonlocal upcoming, count
        now = time.monotonic()
        while upcoming is not None and start + upcoming <= now:
            task = asyncio.ensure_future(send(stamp(start + upcoming)))
            task.add_done_callback(on_end)
            tasks.add(task)
            count += 1
            upcoming = next(times, None)
        if upcoming is not None:
            alarm.set(start + upcoming)
        elif not finished.done():
            finished.set_result(None)

    alarm = Alarm(send_due)
    try:
        alarm.set(start)
        await finished
        await asyncio.gather(*tasks)
    finally:
        alarm.close()
    return count

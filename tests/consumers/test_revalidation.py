"""When a user is read anew: one timer, one check at a time, none that nobody asked for."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from sealane.consumers import AsyncWebsocketConsumer
from sealane.consumers.complaint import Complaint
from sealane.consumers.revalidation import SPACING, Revalidation


class Timer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self._when, self.call, self.cancelled = when, call, False

    def when(self) -> float:
        return self._when

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Time that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now + delay, call)
        self.timers.append(timer)
        return timer

    @property
    def pending(self) -> list[float]:
        return [timer.when() for timer in self.timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if not timer.cancelled and timer.when() <= self.now]
        for timer in due:
            self.timers.remove(timer)
            timer.call()


class Subject:
    """A schedule whose checks run until they are let go."""

    def __init__(self, seconds: float | None, *, random: float = 0.0) -> None:
        self.loop = Loop()
        self.checks = 0
        self.gate = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        loop: Any = self.loop
        self.schedule = Revalidation(seconds, self.check, self.spawn, loop, random=lambda: random)

    async def check(self) -> None:
        self.checks += 1
        await self.gate.wait()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.ensure_future(coroutine))

    async def finish(self) -> None:
        self.gate.set()
        await asyncio.gather(*self.tasks)
        self.gate.clear()


async def test_an_interval_begins_when_the_check_before_is_over() -> None:
    subject = Subject(60)
    subject.schedule.start()
    assert subject.loop.pending == [60]
    subject.loop.advance(59.9)
    assert subject.tasks == []
    subject.loop.advance(0.1)
    await asyncio.sleep(0)
    assert (subject.checks, subject.loop.pending) == (1, [])
    subject.loop.advance(500)  # the database is slow
    await subject.finish()
    assert (subject.checks, subject.loop.pending) == (1, [620])


async def test_there_is_one_timer_however_often_it_is_started_or_asked() -> None:
    subject = Subject(60)
    for _ in range(3):
        subject.schedule.start()
        subject.schedule.ask()
    assert len(subject.loop.pending) == 1


async def test_without_an_interval_there_is_no_timer() -> None:
    subject = Subject(None)
    subject.schedule.start()
    assert subject.loop.pending == []
    subject.schedule.ask()
    subject.loop.advance(0)
    await subject.finish()
    assert (subject.checks, subject.loop.pending) == (1, [])


async def test_who_asks_during_a_check_gets_one_more_after_it_and_not_two() -> None:
    subject = Subject(60)
    subject.schedule.ask()
    subject.loop.advance(0)
    await asyncio.sleep(0)
    for _ in range(100):
        subject.schedule.ask()
    await subject.finish()
    assert (subject.checks, subject.loop.pending) == (1, [SPACING])
    subject.loop.advance(SPACING)
    await subject.finish()
    assert (subject.checks, subject.loop.pending) == (2, [SPACING + 60])


async def test_a_flood_of_questions_is_one_check_per_second() -> None:
    subject = Subject(None)
    for _ in range(50):
        subject.schedule.ask()
        subject.loop.advance(0.1)
        await subject.finish()
    assert subject.checks == 5


async def test_connections_that_came_together_drift_apart() -> None:
    for random, first in ((0.0, 60), (1.0, 54), (0.5, 57)):
        subject = Subject(60, random=random)
        subject.schedule.start()
        assert subject.loop.pending == [first]


async def test_a_check_that_fails_is_followed_by_the_next() -> None:
    subject = Subject(60)

    async def fail() -> None:
        raise RuntimeError("no database")

    subject.schedule._check = fail
    subject.schedule.ask()
    subject.loop.advance(0)
    with pytest.raises(RuntimeError, match="no database"):
        await subject.finish()
    assert subject.loop.pending == [60]


@pytest.mark.parametrize("when", ["waiting", "checking"])
async def test_nothing_happens_after_the_end(when: str) -> None:
    subject = Subject(60)
    subject.schedule.start()
    if when == "checking":
        subject.loop.advance(60)
        await asyncio.sleep(0)
    assert repr(subject.schedule) == f"<Revalidation {when}, every 60 s>"
    subject.schedule.stop()
    subject.schedule.stop()
    await subject.finish()
    subject.schedule.ask()
    subject.schedule.start()
    assert subject.loop.pending == []
    assert repr(subject.schedule) == "<Revalidation stopped, every 60 s>"


def test_a_complaint_is_made_once_a_minute() -> None:
    loop = Loop()
    complaint = Complaint(loop.time)
    assert [complaint.is_due(), complaint.is_due()] == [True, False]
    loop.now = 59.9
    assert not complaint.is_due()
    loop.now = 60
    assert complaint.is_due()


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_an_interval_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"Room\.revalidate is .*; expected seconds above 0, or None for never"):
        type("Room", (AsyncWebsocketConsumer,), {"revalidate": seconds})

"""One channel of a worker: what is taken from it, what waits, and the lanes in which it is handled."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sealane.exceptions import UndecodableMessage, UndecryptableMessage
from sealane.layers.redis.backoff import Backoff
from sealane.types import ASGIApplication
from sealane.worker.instance import Instance, Outcome
from sealane.worker.jobs import Job
from sealane.worker.options import WorkerOptions
from sealane.worker.outage import Outage
from sealane.worker.roster import Roster

__all__ = ["Station"]

logger = logging.getLogger("sealane.worker")

#: The most seconds between two tries where an application ends before it takes a message, or a layer refuses a call.
_MOST_WAIT = 30.0


class Station:
    """Take messages from one channel, in order, and have them handled in up to ``concurrency`` lanes.

    A lane has one instance of the application and handles one message at a time. One task takes the messages, whatever
    the number of lanes, so that they begin in the order of the channel. No more are taken than the lanes can handle,
    and ``prefetch``.
    """

    def __init__(
        self,
        channel: str,
        application: ASGIApplication,
        take: Callable[[int], Awaitable[list[Job]]],
        *,
        options: WorkerOptions,
        roster: Roster,
        outage: Outage,
    ) -> None:
        self.channel = channel
        self._application = application
        self._take = take
        self._options = options
        self._roster = roster
        self._outage = outage
        self._room = options.concurrency + options.prefetch
        self._made_room = asyncio.Event()
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._lanes: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._settling: set[asyncio.Task[None]] = set()
        self._closing = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._handing_back: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<Station {self.channel!r}: {len(self._busy)} in hand, {self._waiting.qsize()} waiting>"

    def start(self) -> None:
        """Begin to take messages."""
        self._reader = asyncio.create_task(self._read(), name=f"sealane-worker-reader-{self.channel}")

    async def close(self) -> None:
        """Take no more, hand back what no handler has begun, and wait for what runs. Cancelled, call :meth:`cancel`."""
        await self._stop_reading()
        await asyncio.shield(self._hand_back_waiting())
        for lane in self._lanes - self._busy:
            lane.cancel()
        while running := self._lanes | self._settling:
            await asyncio.wait(running)

    async def cancel(self) -> None:
        """Take no more, cancel what runs, hand everything back, and wait for the end of it, which has a time limit."""
        await self._stop_reading()
        await asyncio.shield(self._hand_back_waiting())
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.cancel_timeout
        lanes = set(self._lanes)
        for lane in lanes:
            lane.cancel()
        while lanes:
            _, lanes = await asyncio.wait(lanes)
        if self._settling:
            # Those have been at it for as long as the lanes.
            _, late = await asyncio.wait(self._settling, timeout=max(0, deadline - loop.time()))
            for settling in late:
                settling.cancel()
            while late:
                _, late = await asyncio.wait(late)

    async def _stop_reading(self) -> None:
        self._closing.set()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])

    def _hand_back_waiting(self) -> asyncio.Future[None]:
        """Begin to hand back what waits. The future is the same at every call: it is done when all is handed back."""
        if self._handing_back is None:
            self._handing_back = asyncio.ensure_future(self._hand_back())
        return self._handing_back

    async def _hand_back(self) -> None:
        unbegun = [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
        await asyncio.gather(*(job.hand_back(begun=False) for job in unbegun))

    # Taking

    async def _read(self) -> None:
        while True:
            while not self._room:
                self._made_room.clear()
                await self._made_room.wait()
            jobs = await self._take_next(self._room)
            # No await from here on: a job that was taken must not be lost by a cancellation.
            self._room -= len(jobs)
            for job in jobs:
                self._waiting.put_nowait(job)
                self._open_lane()

    async def _take_next(self, most: int) -> list[Job]:
        backoff = Backoff(first=0.5, most=_MOST_WAIT)
        while True:
            try:
                jobs, _ = await self._outage.outlast(lambda: self._take(most))
                return jobs
            except (UndecodableMessage, UndecryptableMessage) as error:
                logger.error("A message on channel %r was dropped: %s", self.channel, error)
                continue
            except Exception as error:
                seconds = backoff.next()
                logger.error(
                    "Nothing can be taken from channel %r, the next try is in %.1f s",
                    self.channel,
                    seconds,
                    exc_info=error,
                )
            await asyncio.sleep(seconds)

    def _open_lane(self) -> None:
        """Have what waits handled, where there are too few lanes for it."""
        wanted = len(self._busy) + self._waiting.qsize()
        if self._closing.is_set() or len(self._lanes) >= min(wanted, self._options.concurrency):
            return
        lane = asyncio.create_task(self._work(), name=f"sealane-worker-lane-{self.channel}")
        self._lanes.add(lane)
        lane.add_done_callback(self._lane_ended)

    def _lane_ended(self, lane: asyncio.Task[None]) -> None:
        self._lanes.discard(lane)
        self._busy.discard(lane)
        if not lane.cancelled() and (error := lane.exception()) is not None:
            logger.error("A lane of channel %r failed", self.channel, exc_info=error)
            self._open_lane()

    # Handling

    async def _work(self) -> None:
        lane = asyncio.current_task()
        assert lane is not None
        instance: Instance | None = None
        settling: asyncio.Task[None] | None = None
        try:
            while not self._closing.is_set():
                job = await self._waiting.get()
                self._busy.add(lane)
                try:
                    instance, outcome = await self._handle(job, instance)
                    before, settling = settling, self._settle(job, outcome)
                    if before is not None and not before.done():
                        await asyncio.wait([before])
                finally:
                    self._busy.discard(lane)
                    self._room += 1
                    self._made_room.set()
        finally:
            if instance is not None:
                await self._roster.end(instance)

    def _settle(self, job: Job, outcome: Outcome | None) -> asyncio.Task[None] | None:
        """Begin to tell the layer what became of a message. That need not be awaited before the next one is begun.

        Whoever begins one waits for the one before: so there are never many of which the layer does not know.
        """
        if outcome is None:
            return None
        settling = asyncio.create_task(_conclude(job, outcome), name=f"sealane-worker-settling-{self.channel}")
        self._settling.add(settling)
        settling.add_done_callback(self._settled)
        return settling

    def _settled(self, settling: asyncio.Task[None]) -> None:
        self._settling.discard(settling)
        if not settling.cancelled() and (error := settling.exception()) is not None:
            logger.error("A message on channel %r could not be concluded", self.channel, exc_info=error)

    async def _handle(self, job: Job, instance: Instance | None) -> tuple[Instance | None, Outcome | None]:
        """Have a job handled. Returns the instance to go on with, and the outcome; None: there is nothing to tell."""
        backoff = Backoff(first=0.5, most=_MOST_WAIT)
        try:
            while True:
                if job.lost:
                    return instance, None
                if instance is None or instance.over:
                    instance = None
                    instance = await self._roster.start(self._new_instance)
                outcome = await instance.handle(job.message)
                self._roster.used(instance)
                if outcome.taken:
                    break
                await self._pause(outcome, backoff.next())
                if self._closing.is_set():
                    await job.hand_back(begun=False)
                    return None, None
        except asyncio.CancelledError:
            await self._conclude_cancelled(job, instance)
            raise
        return instance, outcome

    async def _conclude_cancelled(self, job: Job, instance: Instance | None) -> None:
        """End an instance in the midst of a job, and hand the job back unless it was handled after all."""
        begun = instance is not None and instance.taken
        outcome = None if instance is None else instance.outcome
        if instance is not None:
            await self._roster.end(instance)
            if instance.returned:
                # Before it was cancelled, or in spite of it.
                outcome = Outcome(taken=True, over=True, error=None)
        if outcome is None or not outcome.taken:
            if begun and instance is not None and instance.running:
                job.leave()
            else:
                await job.hand_back(begun=begun)
            return
        try:
            async with asyncio.timeout(self._options.cancel_timeout):
                await _conclude(job, outcome)
        except TimeoutError:
            pass  # the job has said so

    def _new_instance(self) -> Instance:
        return Instance(self._application, self.channel)

    async def _pause(self, outcome: Outcome, seconds: float) -> None:
        """Wait before the next try with an application that ended and had not taken its message."""
        logger.error(
            "The application for channel %r %s before it took a message, which waits for the next try in %.1f s",
            self.channel,
            "returned" if outcome.error is None else "failed",
            seconds,
            exc_info=outcome.error,
        )
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass


async def _conclude(job: Job, outcome: Outcome) -> None:
    # A consumer that goes on after an error has reported it, and left it on the message.
    error: BaseException | None = getattr(job.message, "error", None) or outcome.error
    if error is None:
        await job.done()
    else:
        await job.failed(error, reported=outcome.error is None)

"""Worker: takes messages from named channels, and has an application handle them."""

import asyncio
import functools
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from sealane.exceptions import AcknowledgementsUnsupported, InvalidChannelLayerError
from sealane.layers import BaseChannelLayer
from sealane.layers.delivery import MAX_DELIVERIES, VISIBILITY_TIMEOUT, Terms
from sealane.types import ASGIApplication
from sealane.worker.jobs import Job, LeasedJob, PlainJob
from sealane.worker.leases import Leases
from sealane.worker.options import WorkerOptions, checked_channels
from sealane.worker.outage import Outage
from sealane.worker.roster import Roster
from sealane.worker.running import run_until_signal
from sealane.worker.station import Station

__all__ = ["Worker"]

logger = logging.getLogger("sealane.worker")


class Worker:
    """Take messages from channels, and hand them to an ASGI application with the scope type ``channel``.

    ::

        async with Worker(application, ["thumbnails"], get_channel_layer(), ack=True):
            ...

    Each channel has one long-lived instance of the application, with the scope ``{"type": "channel", "channel": name}``
    (``concurrency`` of them, where that is more than 1). An instance handles one message at a time.

    Order
        With ``concurrency=1`` messages are handled one after the other, in the order of their channel. With more they
        begin in that order. What is handed back, or delivered again, comes behind.
    Loss
        Without ``ack``, at most once: a message is gone when it is taken. With ``ack``, at least once: it is
        acknowledged when its handler has returned, and comes again where the worker or its lease was lost before. So a
        handler has to do no harm when it runs twice. The next message is begun while that is under way, and no more.
    Errors
        A handler that raises fails its own message only. Without ``ack`` the message is dropped and the error logged.
        With ``ack`` the message comes again after a back-off, and after ``max_deliveries`` goes to the dead letters,
        with the exception's class and text. The consumer's ``error_policy`` and ``on_error()`` decide whether the
        instance goes on; the worker starts another where it does not. A message is kept for the next instance where one
        ended before it took the message, and is done where its handler has returned, whatever ends the instance then:
        a spawned task that failed, or the handler of a group's message.
    Outages
        While the layer's server is away the worker waits, and goes on when it is back. The log has one line for it.
    Stopping
        ``stop()``, or the end of the ``async with`` block: nothing more is taken, what waits in the worker is handed
        back, and what runs has ``shutdown_timeout`` seconds to end. Then it is cancelled, and handed back with ``ack``.
        Cancelling ``handle()`` does the latter at once. Nothing can stop a thread: a message whose handler still runs
        after ``cancel_timeout`` seconds is not handed back, but comes again when its lease ends.
    """

    def __init__(
        self,
        application: ASGIApplication,
        channels: Iterable[str],
        channel_layer: BaseChannelLayer,
        max_applications: int = 1000,
        *,
        concurrency: int = 1,
        prefetch: int = 0,
        ack: bool = False,
        visibility_timeout: float = VISIBILITY_TIMEOUT,
        max_deliveries: int | None = MAX_DELIVERIES,
        dead_letter_channel: str | None = None,
        retry_delay: float = 1.0,
        shutdown_timeout: float = 30.0,
        cancel_timeout: float = 10.0,
    ) -> None:
        """Take what to do; nothing is taken from a channel yet.

        application: called for each instance with the scope, ``receive`` and ``send``; ``send`` raises IllegalEvent,
            since a worker has no client.
        channels: names without a ``!``.
        max_applications: how many instances there may be at once. For one more, the one that has been idle longest
            ends; where all are busy, its message waits.
        concurrency: how many messages of a channel are handled at once, each in an instance of its own. Synchronous
            consumers share the threads of SEALANE_THREADS.
        prefetch: how many messages of a channel are taken beyond those. They wait in this worker, while another one
            may be idle; for very short jobs they spare the way to the layer's server.
        ack: acknowledge messages, and with it all that follows.
        visibility_timeout: seconds after which a message whose worker has gone is delivered again. The lease is
            extended while the worker has it, so a job may take longer.
        max_deliveries: how many times a message is delivered before it goes to the dead letters; None for no end.
        dead_letter_channel: where they go; by default each channel has its own, ``<channel>.dead``.
        retry_delay: seconds before the second delivery of a message whose handler failed; twice as long each time.
        shutdown_timeout: seconds for what runs when the worker stops.
        cancel_timeout: seconds that a cancelled handler may take to end, and an instance to clean up.

        Raises ValueError for a value that it cannot use (InvalidDeliveryOption for those of ``ack``), InvalidName for
        the name of a channel, InvalidChannelLayerError without a layer, and AcknowledgementsUnsupported for ``ack``
        where the layer cannot do it.
        """
        if channel_layer is None:
            raise InvalidChannelLayerError("channel_layer is None; expected a channel layer of CHANNEL_LAYERS")
        if ack and "acknowledgements" not in channel_layer.extensions:
            raise AcknowledgementsUnsupported(type(channel_layer).__name__)
        self.application = application
        self.channel_layer = channel_layer
        self.channels = checked_channels(channels)
        for name in self.channels:
            channel_layer.require_valid_channel_name(name)
            if ack:
                Terms.of(channel_layer, name, visibility_timeout, max_deliveries, dead_letter_channel)
        self.options = WorkerOptions(
            max_applications=max_applications,
            concurrency=concurrency,
            prefetch=prefetch,
            ack=ack,
            visibility_timeout=visibility_timeout,
            max_deliveries=max_deliveries,
            dead_letter_channel=dead_letter_channel,
            retry_delay=retry_delay,
            shutdown_timeout=shutdown_timeout,
            cancel_timeout=cancel_timeout,
        )
        self._stopping: asyncio.Event | None = None
        self._task: asyncio.Task[None] | None = None
        self._stations: list[Station] = []

    def __repr__(self) -> str:
        if self._stopping is None:
            state = "not running"
        else:
            state = "stopping" if self._stopping.is_set() else "running"
        stations = "".join(f" {station!r}" for station in self._stations)
        return f"<Worker on {', '.join(self.channels)}: {state}{stations}>"

    async def handle(self) -> None:
        """Work until :meth:`stop` is called, and to the end of what was begun. Cancelled, it ends at once.

        A worker may work again afterwards, in this event loop or in another one.
        """
        self._require_idle()
        self._stopping = stopping = asyncio.Event()
        options = self.options
        roster = Roster(options.max_applications, end_timeout=options.cancel_timeout)
        outage = Outage()
        leases = Leases(options.visibility_timeout)
        self._stations = [
            Station(
                channel,
                self.application,
                functools.partial(self._take, channel, leases, outage),
                options=options,
                roster=roster,
                outage=outage,
            )
            for channel in self.channels
        ]
        keeper = asyncio.create_task(leases.keep(), name="sealane-worker-leases") if options.ack else None
        try:
            for station in self._stations:
                station.start()
            await stopping.wait()
        finally:
            try:
                await self._close()
            finally:
                if keeper is not None:
                    keeper.cancel()
                self._stopping = None
                self._stations = []

    def run(self) -> None:
        """Work in an event loop of its own until SIGTERM or SIGINT; a second signal cancels what still runs.

        In another thread than the main one, which gets no signals, :meth:`stop` ends it.
        """
        asyncio.run(run_until_signal(self))

    def stop(self) -> None:
        """Have :meth:`handle` come to its end. Call it in the worker's event loop. Harmless when nothing works."""
        if self._stopping is not None:
            self._stopping.set()

    async def __aenter__(self) -> Self:
        self._require_idle()
        self._task = task = asyncio.create_task(self.handle(), name="sealane-worker")
        try:
            await asyncio.sleep(0)  # its first step: from now on it takes messages
        except BaseException:
            # No __aexit__() follows.
            self._task = None
            task.cancel()
            await asyncio.wait([task])
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        assert task is not None
        self.stop()
        await task

    def _require_idle(self) -> None:
        if self._stopping is not None:
            raise RuntimeError(f"{self!r} works already")

    async def _close(self) -> None:
        """Come to the end. A cancellation of this task, before or meanwhile, is the order to hurry."""
        task = asyncio.current_task()
        assert task is not None
        try:
            if not task.cancelling():
                async with asyncio.timeout(self.options.shutdown_timeout):
                    await asyncio.gather(*(station.close() for station in self._stations))
        except TimeoutError:
            logger.warning(
                "The worker cancels what has not ended in shutdown_timeout = %g s: %s",
                self.options.shutdown_timeout,
                repr(self),
            )
        finally:
            await asyncio.gather(*(station.cancel() for station in self._stations))

    async def _take(self, channel: str, leases: Leases, outage: Outage, most: int) -> list[Job]:
        layer, options = self.channel_layer, self.options
        if not options.ack:
            return [PlainJob(channel, message, layer, options) for message in await layer.receive_many(channel, most)]
        deliveries = await layer.receive_deliveries(
            channel,
            most,
            visibility_timeout=options.visibility_timeout,
            max_deliveries=options.max_deliveries,
            dead_letter_channel=options.dead_letter_channel,
        )
        return [LeasedJob(delivery, options, leases, outage) for delivery in deliveries]

"""What a worker took from a channel, and how it tells the layer what became of it."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from sealane.consumers.delivered import DeliveredMessage, MessageDelivery
from sealane.exceptions import MessageError, RejectMessage, RetryMessage
from sealane.layers import BaseChannelLayer, Delivery
from sealane.types import Message
from sealane.worker.leases import Leases
from sealane.worker.options import WorkerOptions
from sealane.worker.outage import Outage
from sealane.worker.verdict import Retry, decide

__all__ = ["Job", "LeasedJob", "PlainJob"]

logger = logging.getLogger("sealane.worker")


class Job(ABC):
    """A message, and what its worker does about it in the end: one of the four calls, once; none where it is lost."""

    message: Message

    @property
    def lost(self) -> bool:
        """Whether it is known that another worker may have it by now. It is not to be begun then."""
        return False

    @abstractmethod
    async def done(self) -> None:
        """Say that it was handled."""

    @abstractmethod
    async def failed(self, error: BaseException, *, reported: bool) -> None:
        """Say that its handler raised ``error``; ``reported``: its traceback is in the log already."""

    @abstractmethod
    async def hand_back(self, *, begun: bool) -> None:
        """Give it to another worker, since this one stops; ``begun``: a handler was cancelled that had it."""

    @abstractmethod
    def leave(self) -> None:
        """Leave it alone, since this worker stops, and the handler that has it still runs."""


class PlainJob(Job):
    """A message that was taken for good: at most once."""

    def __init__(self, channel: str, message: Message, layer: BaseChannelLayer, options: WorkerOptions) -> None:
        self.message = message
        self._options = options
        self._channel = channel
        self._layer = layer

    async def done(self) -> None:
        pass

    async def failed(self, error: BaseException, *, reported: bool) -> None:
        if not reported:
            logger.error("A message on channel %r failed, and is dropped", self._channel, exc_info=error)

    async def hand_back(self, *, begun: bool) -> None:
        if begun:
            logger.error("A message on channel %r was cancelled, and is dropped: the worker stops", self._channel)
            return
        try:
            async with asyncio.timeout(self._options.cancel_timeout):
                await self._layer.send(self._channel, self.message)
        except Exception as error:
            logger.error("A message on channel %r could not be handed back, and is lost", self._channel, exc_info=error)

    def leave(self) -> None:
        logger.error(
            "A message on channel %r was cancelled, but its handler still runs after cancel_timeout = %g s, and ends "
            "with the process: the message is dropped",
            self._channel,
            self._options.cancel_timeout,
        )


class LeasedJob(Job):
    """A message that is leased: the layer gives it to another worker unless this one acknowledges it in time."""

    def __init__(self, delivery: Delivery, options: WorkerOptions, leases: Leases, outage: Outage) -> None:
        self.delivery = delivery
        self.message = DeliveredMessage(
            delivery.message,
            MessageDelivery(
                channel=delivery.channel,
                id=delivery.id,
                attempt=delivery.attempt,
                first_seen=delivery.first_seen,
                max_deliveries=options.max_deliveries,
            ),
        )
        self._options = options
        self._hold = leases.hold(delivery)
        self._outage = outage
        self._taken_at = time.monotonic()

    def __str__(self) -> str:
        delivery = self.delivery
        return f"Message {delivery.id} on channel {delivery.channel!r}"

    @property
    def lost(self) -> bool:
        return self._hold.lost

    async def done(self) -> None:
        await self._settle("acknowledge", self.delivery.ack)

    async def failed(self, error: BaseException, *, reported: bool) -> None:
        # First of all: whatever becomes of the rest, its lease must be able to end.
        self._hold.end()
        options, attempt = self._options, self.delivery.attempt
        verdict = decide(error, attempt, options.max_deliveries, first_delay=options.retry_delay)
        # What a handler asked for is no failure, and a message that no handler fits has no traceback worth reading.
        asked = isinstance(error, RejectMessage | RetryMessage)
        trace = None if asked or reported or isinstance(error, MessageError) else error
        if isinstance(verdict, Retry):
            logger.warning(
                "%s: delivery %d of %d %s, the next one in %.1f s",
                self,
                attempt,
                options.max_deliveries,
                "was given back by its handler" if asked else f"failed ({type(error).__name__})",
                verdict.delay,
                exc_info=trace,
            )
            await self._settle("retry", lambda: self.delivery.retry(verdict.delay))
        else:
            logger.error(
                "%s goes to the dead letters after delivery %d: %s", self, attempt, verdict.reason, exc_info=trace
            )
            await self._settle("reject", lambda: self.delivery.reject(verdict.reason))

    async def hand_back(self, *, begun: bool) -> None:
        if begun:
            logger.warning("%s was cancelled, and is handed back: the worker stops", self)
        # One try: the worker is on its way out, and the lease ends by itself.
        self._hold.end()
        try:
            async with asyncio.timeout(self._options.cancel_timeout):
                await self.delivery.release()
        except Exception as error:
            logger.warning(
                "%s could not be handed back (%s), so it comes again when its lease ends", self, type(error).__name__
            )

    def leave(self) -> None:
        self._hold.end()
        logger.warning(
            "%s was cancelled, but its handler still runs after cancel_timeout = %g s: it is not handed back, and "
            "comes again when its lease ends, within visibility_timeout = %g s",
            self,
            self._options.cancel_timeout,
            self._options.visibility_timeout,
        )

    async def _settle(self, what: str, call: Callable[[], Awaitable[bool]]) -> None:
        self._hold.end()
        try:
            settled, first = await self._outage.outlast(call)
        except asyncio.CancelledError:
            logger.warning("%s: the worker stops before it could %s it, so it may come again", self, what)
            raise
        except Exception as error:
            logger.error("%s: the worker could not %s it, so it may come again", self, what, exc_info=error)
            return
        # A try whose answer was lost may have settled it, and the next one finds nothing then.
        if not settled and first and not self._hold.lost:
            logger.warning(
                "%s: the lease was lost before the worker could %s it, %.1f s after it was taken; it may have been "
                "handled twice",
                self,
                what,
                time.monotonic() - self._taken_at,
            )

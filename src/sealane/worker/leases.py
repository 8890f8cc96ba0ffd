"""The leases of the messages that a worker has, renewed while they wait or are handled."""

import asyncio
import logging

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers import Delivery

__all__ = ["Hold", "Leases"]

logger = logging.getLogger("sealane.worker")


class Hold:
    """The hold on one message."""

    __slots__ = ("_leases", "delivery", "lost")

    def __init__(self, delivery: Delivery, leases: "Leases") -> None:
        self.delivery = delivery
        #: Whether it is known to be lost; the log has a line for it then.
        self.lost = False
        self._leases = leases

    def end(self) -> None:
        """Renew it no more. Doing it twice is harmless."""
        self._leases.forget(self)


class Leases:
    """Renew every lease three times within its ``visibility_timeout`` seconds.

    It works in the event loop of the worker: a handler that blocks the loop for longer loses its lease.
    """

    def __init__(self, visibility_timeout: float) -> None:
        self._timeout = visibility_timeout
        self._held: set[Hold] = set()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, delivery: Delivery) -> Hold:
        """Renew the lease of a message from now on, until its ``end()``."""
        hold = Hold(delivery, self)
        self._held.add(hold)
        return hold

    def forget(self, hold: Hold) -> None:
        self._held.discard(hold)

    async def keep(self) -> None:
        """Renew the leases until the task is cancelled."""
        while True:
            await asyncio.sleep(self._timeout / 3)
            await asyncio.gather(*(self._renew(hold) for hold in self._held))

    async def _renew(self, hold: Hold) -> None:
        delivery = hold.delivery
        try:
            kept = await delivery.extend(self._timeout)
        except ChannelLayerUnavailable:
            return  # whoever takes or settles messages says so; the next round tries again
        except Exception as error:
            logger.error(
                "The lease of message %s on channel %r could not be renewed",
                delivery.id,
                delivery.channel,
                exc_info=error,
            )
            return
        # It may have been settled meanwhile.
        if not kept and hold in self._held:
            hold.lost = True
            self.forget(hold)
            logger.warning(
                "The lease of message %s on channel %r was lost, so another worker may handle it too: this one was "
                "away from its channel layer, or blocked its event loop, for more than visibility_timeout = %g s",
                delivery.id,
                delivery.channel,
                self._timeout,
            )

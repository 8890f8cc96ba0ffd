"""Calls to a channel layer that go on by themselves when its server was away."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.redis.backoff import Backoff

__all__ = ["Outage"]

logger = logging.getLogger("sealane.worker")

T = TypeVar("T")

#: The most seconds between two tries.
_MOST_WAIT = 2.0


class Outage:
    """Repeat calls until the layer's server carries them out, and say once that it is away, and once that they go on.

    One for all calls of a worker, so that an outage is one line in the log, however many calls it concerns.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        # When a call was last carried out.
        self._reached = -math.inf

    async def outlast(self, call: Callable[[], Awaitable[T]]) -> tuple[T, bool]:
        """Repeat a call while the server is away. Returns its result, and whether no earlier try was carried out.

        False: one may have been.
        Errors of other kinds pass, and so does a cancellation.
        """
        backoff = Backoff(most=_MOST_WAIT)
        first = True
        while True:
            begun = self._clock()
            try:
                result = await call()
            except ChannelLayerUnavailable as error:
                first = first and not error.sent
                # Where another call was carried out since this one began, it failed over what is past.
                if begun >= self._reached:
                    self._failed(error)
            else:
                self._succeeded()
                return result, first
            await asyncio.sleep(backoff.next())

    def _failed(self, error: ChannelLayerUnavailable) -> None:
        if self._since is None:
            self._since = self._clock()
            logger.warning("The worker waits for its channel layer, and goes on when it is back: %s", error)

    def _succeeded(self) -> None:
        self._reached = self._clock()
        if self._since is not None:
            # Where nothing was to be told or taken, that is the first message after the outage.
            logger.info("The worker goes on, %.1f s after its channel layer went away", self._clock() - self._since)
            self._since = None

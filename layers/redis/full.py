"""The log of plain channels that are full."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from sealane.layers.notices import OverflowPolicy

__all__ = ["FullLog"]

logger = logging.getLogger("sealane.layers")

#: Seconds between two lines about the same channel.
_EVERY: Final = 60.0

#: Of how many channels it is known when they were last logged.
_REMEMBERED: Final = 1000


class FullLog:
    """Logs that a group's message was dropped because a plain channel is full, at most once a minute for a channel."""

    def __init__(self, policy: OverflowPolicy, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._logged: OrderedDict[str, float] = OrderedDict()

    def note(self, channel: str, capacity: Callable[[str], int]) -> None:
        """Log it, unless that has been done."""
        now = self._clock()
        last = self._logged.get(channel)
        if last is not None and now - last < _EVERY:
            return
        self._logged[channel] = now
        if len(self._logged) > _REMEMBERED:
            self._logged.popitem(last=False)
        logger.warning(
            "Channel %r is full, %d messages wait there: a group's message was dropped by the policy %r",
            channel,
            capacity(channel),
            self._policy,
        )

"""Acknowledged deliveries within one process: the shell around ``sealane.layers.leases`` that waits."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from sealane.exceptions import ChannelClosed, UndecodableMessage
from sealane.layers import dead_letters
from sealane.layers.delivery import Delivery, Lease, Terms
from sealane.layers.exchange import Exchange
from sealane.layers.leases import DeliveryReceiver, LeasingSwitchboard
from sealane.layers.parcel import Parcel
from sealane.layers.switchboard import L, R
from sealane.types import Message

__all__ = ["LeasingExchange", "UndecodableLog"]

logger = logging.getLogger("sealane.layers")

#: Seconds between two lines in the log about messages that cannot be decoded.
_QUIET: Final = 60.0


class LeasingExchange(Exchange):
    """Makes the calls of a board with leases one at a time."""

    board: LeasingSwitchboard

    def __init__(
        self, make_switchboard: Callable[[], LeasingSwitchboard], deserialize: Callable[[bytes], Message]
    ) -> None:
        super().__init__(make_switchboard, deserialize)
        self._undecodable = UndecodableLog()

    def receive(self, channel: str, wait: Callable[[str, L], R], loop: L) -> Parcel | R:
        entered = super().receive(channel, wait, loop)
        if self.board.untold:
            self._act(self.board.collect)
        return entered

    async def receive_delivery(self, channel: str, terms: Terms) -> Delivery:
        """Wait for a message, and return it under a lease. What cannot be decoded goes to the dead letters."""
        while True:
            receiver = DeliveryReceiver(channel, asyncio.get_running_loop(), terms)
            self._act(self.board.enter, receiver)
            try:
                while not receiver.future.done() and receiver.parcel is None:
                    await asyncio.wait([receiver.future], timeout=receiver.look_again)
                    if not receiver.future.done():
                        self._act(self.board.look, receiver)
            except BaseException:
                # Cancelled, or the coroutine was thrown away. It may have been given a message by then.
                self._act(self.board.abandon, receiver)
                raise
            parcel = receiver.parcel
            if parcel is None:
                raise ChannelClosed(channel)
            lease = _InMemoryLease(self, channel, parcel.number, receiver.lease)
            try:
                message = parcel.open(self.deserialize)
            except UndecodableMessage as exc:
                self._undecodable.note(channel, terms.dead_letter_channel, exc)
                await lease.reject(dead_letters.UNDECODABLE)
            else:
                return Delivery(
                    channel,
                    message,
                    lease,
                    id=self.board.identify(parcel),
                    attempt=receiver.attempt,
                    first_seen=receiver.first_seen,
                )

    # The calls of a delivery

    def ack(self, channel: str, number: int, lease: int) -> bool:
        done: list[bool] = []
        self._act(self.board.ack, channel, number, lease, done)
        return bool(done)

    def extend(self, channel: str, number: int, lease: int, seconds: float) -> bool:
        done: list[bool] = []
        self._act(self.board.extend, channel, number, lease, seconds, done)
        return bool(done)

    def give_back(self, channel: str, number: int, lease: int, delay: float | None) -> bool:
        done: list[bool] = []
        self._act(self.board.give_back, channel, number, lease, delay, done)
        return bool(done)

    def reject(self, channel: str, number: int, lease: int, reason: str) -> bool:
        done: list[bool] = []
        self._act(self.board.reject, channel, number, lease, reason, done)
        return bool(done)

    def serve(self, channel: str) -> None:
        """Give what is due in a channel to those who wait there."""
        self._act(self.board.serve, channel)


class _InMemoryLease(Lease):
    """A lease of one message. Each call is complete when its first step is."""

    __slots__ = ("_at", "_exchange")

    def __init__(self, exchange: LeasingExchange, channel: str, number: int, lease: int) -> None:
        self._exchange = exchange
        self._at = channel, number, lease

    async def ack(self) -> bool:
        return self._exchange.ack(*self._at)

    async def retry(self, delay: float) -> bool:
        done = self._exchange.give_back(*self._at, delay)
        if done and delay:
            # Whoever waits there looks at longer intervals.
            asyncio.get_running_loop().call_later(delay, self._exchange.serve, self._at[0])
        return done

    async def release(self) -> bool:
        return self._exchange.give_back(*self._at, None)

    async def reject(self, reason: str) -> bool:
        return self._exchange.reject(*self._at, reason)

    async def extend(self, visibility_timeout: float) -> bool:
        return self._exchange.extend(*self._at, visibility_timeout)


class UndecodableLog:
    """Logs that messages become dead letters since they cannot be decoded, once a minute. Each is counted elsewhere."""

    __slots__ = ("_clock", "_next")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = float("-inf")

    def note(self, channel: str, dead_letter_channel: str, error: UndecodableMessage) -> None:
        """Log one, unless another one was within a minute. Two threads that come at once log two."""
        now = self._clock()
        if now >= self._next:
            self._next = now + _QUIET
            logger.warning(
                "A message of channel %r becomes a dead letter in %r. %s", channel, dead_letter_channel, error
            )

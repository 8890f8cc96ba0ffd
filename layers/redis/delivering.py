"""``receive_deliveries()`` of the Redis layers, and the leases of what it returns."""

import time
from typing import TYPE_CHECKING, Any

from sealane.exceptions import InvalidDeliveryOption, UndecodableMessage
from sealane.layers import dead_letters
from sealane.layers.delivery import Delivery, Lease, Terms
from sealane.layers.parcel import Parcel
from sealane.layers.redis.leasing import Leased
from sealane.layers.redis.mailbox import Mailbox
from sealane.layers.redis.script import Script

if TYPE_CHECKING:
    from sealane.layers.redis.layer import RedisLayer

__all__ = ["receive_deliveries"]


async def receive_deliveries(layer: "RedisLayer", channel: str, terms: Terms, most: int) -> list[Delivery]:
    """Wait for a message, and return it, and what is there behind it, under leases: up to ``most``.

    What cannot be read goes to the dead letters. Raises InvalidDeliveryOption where these would be on another server:
    one script moves them.
    """
    options = layer.options
    of_channel = options.shards.of_channel
    dead = terms.dead_letter_channel
    if of_channel(dead) != of_channel(channel):
        raise InvalidDeliveryOption(
            "dead_letter_channel",
            dead,
            f"a channel on the same server as {channel!r}, which {channel + '.dead'!r} always is. With several "
            "servers, or in a Cluster, another name may be on another one",
        )
    leasing = layer.here().plain.leasing
    while True:
        taken = await leasing.receive(channel, terms, most)
        found: list[Delivery] = []
        unreadable: list[tuple[_RedisLease, str]] = []
        for leased in taken:
            lease = _RedisLease(layer, leased)
            data = options.unseal(leased.data, f"channel {channel!r}")
            if data is None:
                unreadable.append((lease, dead_letters.UNDECRYPTABLE))
                continue
            try:
                message = Parcel(data, 0.0, 0, False).open(options.deserialize)
            except UndecodableMessage as exc:
                layer.undecodable.note(channel, dead, exc)
                unreadable.append((lease, dead_letters.UNDECODABLE))
                continue
            found.append(
                Delivery(
                    channel,
                    message,
                    lease,
                    id=leased.stamp,
                    attempt=leased.attempt,
                    first_seen=leased.first_seen / 1000,
                )
            )
        try:
            for lease, reason in unreadable:
                await lease.reject(reason)
        except BaseException:
            # Cancelled, or the server does not answer: the others are not lost with it.
            leasing.release(leased for leased in taken if any(leased.stamp == delivery.id for delivery in found))
            raise
        if found:
            return found


class _RedisLease(Lease):
    """A lease at a server. Its calls are made in the mailbox of whatever event loop they are called in."""

    __slots__ = ("_layer", "_leased", "_until")

    def __init__(self, layer: "RedisLayer", leased: Leased) -> None:
        self._layer = layer
        self._leased = leased
        #: When it ends, by time.monotonic(), about.
        self._until = leased.until

    async def ack(self) -> bool:
        return await self._call(self._layer.scripts.ack, *self._at())

    async def extend(self, visibility_timeout: float) -> bool:
        begun = time.monotonic()
        milliseconds = max(1, round(visibility_timeout * 1000))
        done = await self._call(self._layer.scripts.extend, *self._at(), milliseconds)
        if done:
            self._until = begun + visibility_timeout
        return done

    async def retry(self, delay: float) -> bool:
        return await self._call(self._layer.scripts.retry, *self._stored(), round(delay * 1000))

    async def release(self) -> bool:
        return await self._call(self._layer.scripts.retry, *self._stored(), -1)

    async def reject(self, reason: str) -> bool:
        # As it is in memory: a surrogate that stands alone has no bytes of its own.
        text = reason.encode("utf-8", "backslashreplace")
        return await self._call(self._layer.scripts.reject, *self._stored(), self._layer.options.seal_reason(text))

    def _at(self) -> tuple[str, str, str]:
        return self._leased.channel, self._leased.stamp, self._leased.lease

    def _stored(self) -> tuple[Any, ...]:
        options = self._layer.options
        return options.maxlen, options.expiry, *self._at()

    async def _call(self, script: Script, *arguments: Any) -> bool:
        """Make a call that is carried out once; return whether the lease was good."""
        mailbox = self._layer.here()
        branch = mailbox.branch(self._layer.options.shards.of_channel(self._leased.channel))
        call = branch.run(script, *arguments)
        outcome: list[bool] = []
        # Not after a cancellation: by then the reply may have come.
        branch.link.follow(call, lambda reply: outcome.append(self._note(mailbox, script, arguments, reply)))
        await call
        return outcome[0]

    def _note(self, mailbox: Mailbox, script: Script, arguments: tuple[Any, ...], reply: Any) -> bool:
        """Count what a call did, and return whether the lease was good."""
        scripts, counters = self._layer.scripts, mailbox.counters
        if reply is None:
            # It was carried out, and the reply got lost. Within its time the lease was good.
            good = time.monotonic() < self._until
        else:
            good = bool(reply if isinstance(reply, int) else reply[0])
        if not good:
            counters.leases_lost += 1
        elif script is scripts.ack:
            counters.delivered += 1
        elif script is scripts.retry:
            delay = arguments[-1]
            if delay < 0:
                counters.released += 1
            else:
                counters.retried += 1
        if isinstance(reply, list):
            leasing = mailbox.plain.leasing
            leasing.count(reply)
            if script is scripts.retry and arguments[-1] > 0:
                # Whoever waits looks at longer intervals.
                leasing.look_after(self._leased.channel, reply[1])
        return good

"""A mailbox for one wait of a thread: it takes one message of a channel that Redis holds, and is gone."""

import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from sealane.exceptions import ChannelClosed, ChannelLayerUnavailable
from sealane.layers.redis.blocking_link import BlockingLink
from sealane.layers.redis.options import Options
from sealane.layers.redis.wire import CLOSE, PLAIN, STAMP, make_mailbox_id

__all__ = ["Guest"]

# What became of a `take`.
_CLOSED: Final = 2
_FORGOTTEN: Final = 3


class Guest:
    """Waits in a thread for one message of a channel.

    Whatever comes into the mailbox and is not returned goes back to its old place in the channel when the ``with``
    block is left. Where that cannot be told to the server in time, a later call of some process clears up.
    """

    def __init__(self, link: BlockingLink, options: Options, channel: str, count: Callable[..., None]) -> None:
        """Take the link to the channel's shard, and whom to tell what was dropped."""
        self._link = link
        self._options = options
        self._scripts = options.scripts
        self._channel = channel
        self._count = count
        self._id = make_mailbox_id()
        self._stream = b"%b:m:%b" % (link.base, self._id.encode())
        # The last entry that was read for good.
        self._read = b"0-0"
        self._waits = False
        # Whether the server may know the mailbox.
        self._known = False
        # When the lease must be renewed, by time.monotonic().
        self._due = 0.0
        # The reply to a read must come within the time limit of the connection, and a lease be renewed in time.
        self._block = max(0.001, min(link.timeout / 4, options.beat))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._known:
            # Nothing is to be cleared up, and a server that is away would be waited for a second time.
            return
        with contextlib.suppress(ChannelLayerUnavailable):
            if self._waits:
                self._link.run(self._scripts.unwait, self._channel, self._id, 1)
            more = 1
            while more:
                reply = self._link.run(
                    self._scripts.unregister, self._options.maxlen, self._options.expiry, self._id, self._read
                )
                more, _, closed = reply or (0, 0, 0)
                self._count(dropped_closed=closed)

    def wait(self, deadline: float | None) -> bytes | None:
        """Return the next message, or None where none has come by the deadline, which is of ``time.monotonic()``.

        Raises ChannelClosed where the channel is closed, or becomes so meanwhile.
        """
        self._enter()
        position = self._read
        while True:
            left = self._block if deadline is None else min(self._block, deadline - time.monotonic())
            reply = self._link.call(
                "XREAD", "BLOCK", max(1, int(left * 1000)), "COUNT", 10, "STREAMS", self._stream, position
            )
            for position, (address, payload) in reply[0][1] if reply else ():
                kind = address[0] if address else None
                if kind == PLAIN and address[1 + STAMP :] == self._channel.encode():
                    self._read = position
                    self._waits = False
                    return bytes(payload)
                if kind == CLOSE:
                    raise ChannelClosed(self._channel)
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return None
            if now >= self._due and not self._renew(now):
                position = b"0-0"
                self._enter()

    def _enter(self) -> None:
        """Make the mailbox known, and take a message or wait for one."""
        options = self._options
        while True:
            known, self._known = self._known, True
            try:
                self._link.run(self._scripts.register, self._id, options.lease, options.kept, 0)
            except ChannelLayerUnavailable as exc:
                self._known = known or exc.sent
                raise
            self._due = time.monotonic() + options.beat
            self._waits = True
            reply = self._link.run(
                self._scripts.take, options.maxlen, options.expiry, self._channel, self._id, options.remembered, 1
            )
            state, expired, *others = reply if isinstance(reply, list) else (reply, 0)
            self._count(dropped_expired=expired)
            if others:
                self._count(dead_lettered=others[0], dropped_full=others[1])
            if state == _CLOSED:
                self._waits = False
                raise ChannelClosed(self._channel)
            if state != _FORGOTTEN:
                return

    def _renew(self, now: float) -> bool:
        """Renew the lease; return whether it was still there."""
        options = self._options
        reply: Any = self._link.run(
            self._scripts.refresh, self._id, options.lease, options.kept, self._read, options.expiry, self._channel
        )
        self._due = now + options.beat
        self._count(dropped_expired=reply[2])
        return bool(reply[0])

"""One blocking connection, and what is known of the numbered calls that went over it."""

import contextlib
import secrets
import time
from typing import Any

import redis

from sealane.layers.redis.opening import ERROR_REPLIES
from sealane.layers.redis.pipeline import CLAIM, CLAIMED, EPOCH, pack, pack_arguments
from sealane.layers.redis.script import KEPT

__all__ = ["Line"]


class Line:
    """A connection that one thread at a time uses, and the count of the calls that were numbered for it.

    The count outlives the connection: after a loss, claiming the count anew tells whether the last call was carried
    out, and keeps it from being carried out later.
    """

    __slots__ = (
        "__weakref__",
        "_connection",
        "_key",
        "claimed",
        "connected",
        "counted",
        "epoch",
        "number",
        "sender",
        "sent",
    )

    def __init__(self, connection: Any, prefix: bytes) -> None:
        """Take a connection of redis-py, not connected yet, and how the name of the key that counts begins."""
        self._connection = connection
        #: Never used by another line: its count would go on from there.
        self._key = prefix + secrets.token_hex(8).encode()
        #: The key as it stands in a command.
        self.sender = pack_arguments((self._key,))
        #: Whether the connection is open, as far as is known.
        self.connected = False
        #: Whether something was written, and not all of it answered.
        self.sent = False
        self.epoch = 0
        #: How many numbered calls were carried out.
        self.number = 0
        #: Whether ``number`` is certain.
        self.counted = True
        #: When the count was claimed, by ``time.monotonic()``; None: it must be claimed before the next call.
        self.claimed: float | None = None

    @property
    def turn(self) -> bytes:
        """What the key must hold for the next numbered call, as it stands in a command."""
        turn = b"%d" % (self.epoch * EPOCH + self.number)
        return b"$%d\r\n%b\r\n" % (len(turn), turn)

    def due(self, now: float) -> bool:
        """Return whether the count must be claimed before the next numbered call."""
        return self.claimed is None or now - self.claimed > CLAIMED

    def claim(self) -> bytes:
        """Begin an epoch; return the command that claims the count for it. Calls of earlier epochs are void then."""
        self.epoch += 1
        self.claimed = None
        return pack("EVAL", CLAIM, 1, self._key, self.epoch, KEPT)

    def connect(self) -> None:
        """Connect, unless connected. Raises ServerUnreachable."""
        if not self.connected:
            self._connection.connect()
            self.connected = True

    def is_stale(self) -> bool:
        """Return whether the other side has closed the connection, or has sent what nobody asked for."""
        try:
            return bool(self._connection.can_read(0))
        except (redis.RedisError, OSError):
            return True

    def exchange(self, data: bytes, count: int = 1, deadline: float | None = None) -> list[Any]:
        """Write packed commands, and return the replies to them; error replies are not raised.

        With a deadline, in seconds of ``time.monotonic()``, it does not wait for a reply after it: then, and as always
        when the connection is lost, it raises redis-py's errors, or OSError.
        """
        connection = self._connection
        connection.send_packed_command((data,), check_health=False)
        self.sent = True
        replies = []
        for _ in range(count):
            if deadline is not None and not connection.can_read(max(0.0, deadline - time.monotonic())):
                raise redis.TimeoutError("no reply in time")
            try:
                replies.append(connection.read_response(disconnect_on_error=False))
            except ERROR_REPLIES as exc:
                replies.append(exc)
        self.sent = False
        return replies

    def lose(self) -> None:
        """Close the connection. The next call connects again, and finds out what became of the last one."""
        self.connected = self.sent = False
        self.claimed = None
        with contextlib.suppress(Exception):
            self._connection.disconnect()

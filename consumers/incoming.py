"""What a client may send: frames up to a size, and so many a second."""

import time
from collections.abc import Callable
from typing import Final

from sealane.consumers.connection import frame_size
from sealane.consumers.token_bucket import TokenBucket
from sealane.exceptions import FrameError, FrameTooLarge, TooManyFrames
from sealane.types import Message, Receive

__all__ = ["REFUSED", "Incoming", "original_of"]

#: The type of what stands for a frame that is over a limit. Only :class:`Incoming` makes it: no client can.
REFUSED: Final = "sealane.refused"

_FRAME: Final = "websocket.receive"


class Incoming:
    """Stands before the server's ``receive()`` and exchanges frames that are over a limit for a note that says so.

    Each frame is judged when it is read, which is in the order in which the client sent them, and as soon as there is
    room to read it. Everything else passes as it is. A cancelled call loses what the server's own would lose.
    """

    __slots__ = ("_bucket", "_burst", "_clock", "_held", "_max_size", "_rate", "_read_at", "_receive")

    def __init__(
        self,
        receive: Receive,
        *,
        max_size: int | None,
        max_rate: float | None,
        burst: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        max_size: bytes of a frame's content, text as UTF-8; None for any.
        max_rate: frames per second; None for any.
        burst: how many may come at once; None for those of one second, and one at least.
        """
        self._receive = receive
        self._max_size = max_size
        self._rate = max_rate or 0.0
        self._burst = burst or max(1, round(self._rate))
        self._bucket = None if max_rate is None else TokenBucket(max_rate, self._burst, clock)
        self._clock = clock
        self._held = 0.0
        self._read_at = clock()

    async def receive(self) -> Message:
        """Return the client's next message, or the note that stands for it."""
        # Since the call before nobody has read: what the client sent meanwhile comes all at once.
        self._held += self._clock() - self._read_at
        message = await self._receive()
        self._read_at = self._clock()
        if isinstance(message, dict) and message.get("type") == _FRAME:
            return self.judge(message)
        return message

    def judge(self, message: Message) -> Message:
        """Return a frame as it is, or the note that stands for one over a limit.

        The note has what the frame had, for ``on_error()``, but never the content of one that is too large.
        """
        error: FrameError | None = None
        content = {key: value for key, value in message.items() if key != "type"}
        if self._max_size is not None:
            size = frame_size(message)
            if size > self._max_size:
                error = FrameTooLarge(size, self._max_size)
                content = {}
        if self._bucket is not None:
            held, self._held = self._held, 0.0
            if not self._bucket.take(held):
                error = TooManyFrames(self._rate, self._burst)
        return message if error is None else {**content, "type": REFUSED, "error": error}


def original_of(note: Message) -> Message:
    """Return what is left of the frame that a note stands for."""
    return {key: value for key, value in note.items() if key != "error"} | {"type": _FRAME}

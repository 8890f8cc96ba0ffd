"""The frames that wait for a client which reads more slowly than it is written to: decisions only, no I/O."""

from collections import deque
from typing import Final, Literal, NamedTuple

from sealane.consumers.connection import frame_size
from sealane.types import Message

__all__ = ["OVERHEAD", "SLOW_CLIENT_POLICIES", "Outbox", "SlowClientPolicy", "Verdict"]

SlowClientPolicy = Literal["close", "drop_oldest", "drop_newest"]

SLOW_CLIENT_POLICIES: Final = ("close", "drop_oldest", "drop_newest")

#: Bytes that a frame takes in memory beside its content, rounded up: without them a million of empty ones were nothing.
OVERHEAD: Final = 512


class Verdict(NamedTuple):
    """What became of a frame that was put into a full outbox, and of those before it."""

    outcome: Literal["queued", "dropped_oldest", "dropped_newest", "overflowed"]
    #: How many frames were dropped.
    frames: int = 0


QUEUED = Verdict("queued")


class Outbox:
    """A queue of frames, bounded in bytes, with a policy for the frame that does not fit.

    A frame counts with its content, text as UTF-8, and :data:`OVERHEAD` bytes more. Where nothing waits, any frame
    fits, also one that is larger than the limit: so at most ``limit`` bytes wait, or one frame. Frames leave in the
    order in which they came; the policy decides which do not leave at all:

    - ``"drop_oldest"``: as many of the oldest as it takes for the new one to fit,
    - ``"drop_newest"``: the new one,
    - ``"close"``: the new one, and whoever asks is told that the connection is to be closed.
    """

    __slots__ = ("_frames", "limit", "policy", "waiting_bytes")

    def __init__(self, limit: int, policy: SlowClientPolicy) -> None:
        #: How many bytes may wait.
        self.limit = limit
        self.policy: SlowClientPolicy = policy
        #: How many bytes wait, by its own way of counting.
        self.waiting_bytes = 0
        self._frames: deque[tuple[int, Message]] = deque()

    def put(self, event: Message) -> Verdict:
        """Add a frame at the end, and tell what became of it."""
        size = frame_size(event) + OVERHEAD
        frames = self._frames
        verdict = QUEUED
        if frames and self.waiting_bytes + size > self.limit:
            if self.policy == "drop_newest":
                return Verdict("dropped_newest", 1)
            if self.policy == "close":
                return Verdict("overflowed", 1)
            dropped = 0
            while frames and self.waiting_bytes + size > self.limit:
                self.take()
                dropped += 1
            verdict = Verdict("dropped_oldest", dropped)
        frames.append((size, event))
        self.waiting_bytes += size
        return verdict

    def take(self) -> Message | None:
        """Remove and return the oldest frame; None where none waits."""
        if not self._frames:
            return None
        size, event = self._frames.popleft()
        self.waiting_bytes -= size
        return event

    def clear(self) -> int:
        """Remove every frame; return how many there were."""
        count = len(self._frames)
        self._frames.clear()
        self.waiting_bytes = 0
        return count

    def __len__(self) -> int:
        return len(self._frames)

    def __repr__(self) -> str:
        return f"<Outbox {len(self)} frames, {self.waiting_bytes} of {self.limit} bytes, {self.policy}>"

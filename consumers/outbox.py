"""The frames that wait for a client which reads more slowly than it is written to: decisions only, no I/O."""

from collections import deque
from typing import Final, Literal, NamedTuple

from sealane.consumers.connection import frame_size
from sealane.types import Message

__all__ = ["OVERHEAD", "QUEUED", "SLOW_CLIENT_POLICIES", "Outbox", "SlowClientPolicy", "Verdict"]

SlowClientPolicy = Literal["close", "drop_oldest", "drop_newest"]

SLOW_CLIENT_POLICIES: Final = ("close", "drop_oldest", "drop_newest")

#: Bytes that a frame takes in memory beside its content, rounded up: without them a million of empty ones were nothing.
OVERHEAD: Final = 512


class Verdict(NamedTuple):
    """What became of a frame that was put into a full outbox, and of those before it."""

    outcome: Literal["queued", "dropped_oldest", "dropped_newest", "overflowed"]
    #: How many frames were dropped.
    frames: int = 0


#: The verdict on a frame that has found room.
QUEUED: Final = Verdict("queued")

_DROPPED: Final[dict[SlowClientPolicy, Literal["dropped_oldest", "dropped_newest"]]] = {
    "drop_oldest": "dropped_oldest",
    "drop_newest": "dropped_newest",
}


class Outbox:
    """A queue of frames, bounded in bytes, with a policy for the frame that does not fit.

    A frame counts with its content, text as UTF-8, and :data:`OVERHEAD` bytes more. Where nothing waits, any frame
    fits, also one that is larger than the limit: so at most ``limit`` bytes wait, or one frame. Frames leave in the
    order in which they came; the policy decides which do not leave at all:

    - ``"drop_oldest"``: as many of the oldest as it takes for the new one to fit,
    - ``"drop_newest"``: the new one,
    - ``"close"``: the new one, and whoever asks is told that the connection is to be closed.

    A frame that is to be *kept* is never dropped: others make room for it, the oldest or the newest by the policy.
    Where there are not enough of them, the connection is to be closed.
    """

    __slots__ = ("_frames", "_kept_bytes", "limit", "policy", "waiting_bytes")

    def __init__(self, limit: int, policy: SlowClientPolicy) -> None:
        #: How many bytes may wait.
        self.limit = limit
        self.policy: SlowClientPolicy = policy
        #: How many bytes wait, by its own way of counting.
        self.waiting_bytes = 0
        self._kept_bytes = 0
        self._frames: deque[tuple[int, Message, bool]] = deque()

    def put(self, event: Message, *, kept: bool = False) -> Verdict:
        """Add a frame at the end, and tell what became of it."""
        size = frame_size(event) + OVERHEAD
        frames = self._frames
        verdict = QUEUED
        if frames and self.waiting_bytes + size > self.limit:
            fits_beside_kept = not self._kept_bytes or self._kept_bytes + size <= self.limit
            if self.policy == "close" or (kept and not fits_beside_kept):
                return Verdict("overflowed", 1)
            if not kept and (self.policy == "drop_newest" or not fits_beside_kept):
                return Verdict("dropped_newest", 1)
            verdict = Verdict(_DROPPED[self.policy], self._make_room(size))
        frames.append((size, event, kept))
        self.waiting_bytes += size
        if kept:
            self._kept_bytes += size
        return verdict

    def _make_room(self, size: int) -> int:
        """Drop what the policy drops until a frame fits, or only kept frames are left; return how many there were."""
        frames = self._frames
        oldest = self.policy == "drop_oldest"
        kept = []
        dropped = 0
        while frames and self.waiting_bytes + size > self.limit:
            entry = frames.popleft() if oldest else frames.pop()
            if entry[2]:
                kept.append(entry)
            else:
                self.waiting_bytes -= entry[0]
                dropped += 1
        if oldest:
            frames.extendleft(reversed(kept))
        else:
            frames.extend(reversed(kept))
        return dropped

    def take(self) -> Message | None:
        """Remove and return the oldest frame; None where none waits."""
        if not self._frames:
            return None
        size, event, kept = self._frames.popleft()
        self.waiting_bytes -= size
        if kept:
            self._kept_bytes -= size
        return event

    def clear(self) -> int:
        """Remove every frame; return how many there were."""
        count = len(self._frames)
        self._frames.clear()
        self.waiting_bytes = self._kept_bytes = 0
        return count

    def __len__(self) -> int:
        return len(self._frames)

    def __repr__(self) -> str:
        return f"<Outbox {len(self)} frames, {self.waiting_bytes} of {self.limit} bytes, {self.policy}>"

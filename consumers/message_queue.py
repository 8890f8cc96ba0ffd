"""Where a source that pushes puts its messages for a dispatcher, and what stands for a source that failed."""

from typing import Protocol

from sealane.layers.gap import Gap
from sealane.types import Message

__all__ = ["Failure", "MessageQueue"]


class MessageQueue(Protocol):
    """Where a source that pushes puts its messages: a channel layer's inbox, for one."""

    #: Whether it had to drop what came, so that its owner should end.
    overflowed: bool
    #: What was missed on the way here; whoever was told sets it back to None.
    gap: Gap | None

    def take(self) -> Message | None:
        """Return the next message, or None where there is none now. It raises what hinders a message to be read."""

    def __len__(self) -> int:
        """How many messages wait."""


class Failure:
    """Stands in the queue for a source that raised, behind everything it and the others handed out before."""

    __slots__ = ("behind", "error")

    def __init__(self, error: BaseException, behind: int) -> None:
        self.error = error
        #: How many pushed messages waited when it came. More that come later do not put it off.
        self.behind = behind

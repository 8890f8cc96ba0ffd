"""What a dispatcher asks of the place where a source that pushes puts its messages."""

from typing import Protocol

from sealane.layers.gap import Gap
from sealane.types import Message

__all__ = ["MessageQueue"]


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

"""A message that its worker acknowledges: a dict, with what is known of its delivery."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DeliveredMessage", "MessageDelivery"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDelivery:
    """What is known of the delivery of a message. It only tells: ``self.reject()`` and ``self.retry()`` act."""

    #: The channel that the message was sent to.
    channel: str
    #: What the layer calls the message. It stays the same at each delivery.
    id: str
    #: Which delivery it is: 1 for the first one.
    attempt: int
    #: When it was delivered for the first time, in seconds since the epoch, by the clock of the layer's server.
    first_seen: float
    #: After how many deliveries it goes to the dead letters; None for no end.
    max_deliveries: int | None


class DeliveredMessage(dict[str, Any]):
    """A message with its ``delivery``, as handlers get it from a worker that acknowledges."""

    __slots__ = ("delivery", "error")

    def __init__(self, message: Mapping[str, Any], delivery: MessageDelivery) -> None:
        super().__init__(message)
        self.delivery = delivery
        #: What its handler raised, so that the worker knows of it where the consumer goes on.
        self.error: Exception | None = None

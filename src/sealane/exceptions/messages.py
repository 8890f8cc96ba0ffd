"""Messages: those that a handler gives up or wants again, that find no handler, that a layer does not carry."""

from collections.abc import Sequence

from sealane.exceptions.base import SealaneError

__all__ = [
    "MessageError",
    "MessageTooLarge",
    "MessageWithoutType",
    "RejectMessage",
    "RetryMessage",
    "UndecodableMessage",
    "UndecryptableMessage",
    "UnhandledMessage",
    "UnserializableMessage",
]


# Asked for by handlers


class RejectMessage(SealaneError):
    """Raise it in a handler to give its message up: it goes to the dead letters, with ``reason``, and comes no more.

    ``self.reject(reason)`` raises it. The message has to come from a worker that acknowledges. Raises TypeError where
    the reason is not a str.
    """

    def __init__(self, reason: str) -> None:
        if not isinstance(reason, str):
            raise TypeError(f"The reason of a rejection is {reason!r}; expected a str")
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"A handler rejected its message ({self.reason}). {_NEEDS_A_DELIVERY}"


class RetryMessage(SealaneError):
    """Raise it in a handler to get its message again: in ``delay`` seconds, None for what the worker thinks fit.

    ``self.retry(delay)`` raises it. The message has to come from a worker that acknowledges. Each delivery counts.
    Raises ValueError for a delay that is negative or no number.
    """

    def __init__(self, delay: float | None = None) -> None:
        is_number = isinstance(delay, int | float) and not isinstance(delay, bool) and 0 <= delay < float("inf")
        if delay is not None and not is_number:
            raise ValueError(f"The delay of a retry is {delay!r}; expected seconds, 0 or more, or None")
        super().__init__(delay)
        self.delay = delay

    def __str__(self) -> str:
        when = "later" if self.delay is None else f"in {self.delay:g} s"
        return f"A handler asked for its message again, {when}. {_NEEDS_A_DELIVERY}"


_NEEDS_A_DELIVERY = (
    "Only the handler of a message that a worker acknowledges can do that: run the worker with --ack (ack=True), and "
    "do it in the handler, not in a task that it has spawned"
)


# On the way to a handler


class MessageError(SealaneError, ValueError):
    """A message that cannot be dispatched. ``source`` says where it came from: ``"client"`` or ``"layer"``."""

    source: str


class MessageWithoutType(MessageError):
    """A message has no ``type``, or one that is not a string."""

    def __init__(self, consumer: str, source: str, keys: Sequence[object]) -> None:
        super().__init__(consumer, source, keys)
        self.consumer = consumer
        self.source = source
        self.keys = tuple(keys)

    def __str__(self) -> str:
        keys = ", ".join(repr(key) for key in self.keys) or "none"
        return (
            f"Incoming message has no 'type' attribute (its keys: {keys}); {self.consumer} needs a string such as "
            "'chat.message' to choose a handler"
        )


class UndecodableMessage(MessageError):
    """What came through a channel layer is not a message: another program wrote it, or another serializer."""

    source = "layer"

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"What came through the channel layer cannot be decoded: {self.problem}. Do all processes use the same "
            "serializer_format and prefix?"
        )


class UnhandledMessage(MessageError):
    """No handler for a message's ``type``, or one that its source may not reach."""

    def __init__(self, consumer: str, source: str, type: str, reason: str) -> None:
        super().__init__(consumer, source, type, reason)
        self.consumer = consumer
        self.source = source
        self.type = type
        self.reason = reason

    def __str__(self) -> str:
        return f"No handler for message type {self.type!r} on {self.consumer}: {self.reason}"


# On the way through a layer


class UnserializableMessage(SealaneError, TypeError):
    """A message that the layer's serializer refuses. ``key`` is the path to the offending value."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return f"Message cannot be serialized at {self.key}: {self.problem}"


class MessageTooLarge(SealaneError):
    """A message is over the layer's size limit, in bytes. A layer of your own may leave out what it does not know."""

    def __init__(self, size: int = 0, limit: int = 0) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        if isinstance(self.size, str):
            return f"Message is too large: {self.size}"  # as Channels' exception of this name, which takes anything
        if not self.limit:
            return f"Message is too large{f': {self.size} bytes when serialized' if self.size else ''}"
        if not self.size:
            return f"Message is too large: the limit is {self.limit} bytes"
        return f"Message is {self.size} bytes when serialized; the limit is {self.limit}"


class UndecryptableMessage(SealaneError):
    """A message that is not encrypted with any of the layer's keys, or was changed since."""

    def __str__(self) -> str:
        return "Message cannot be decrypted with any key of symmetric_encryption_keys"

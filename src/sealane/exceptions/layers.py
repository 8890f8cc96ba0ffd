"""Channel layers: their configuration, the arguments of their calls, their channels and their servers."""

from collections.abc import Sequence

from sealane.exceptions.base import SealaneError

__all__ = [
    "AcknowledgementsUnsupported",
    "CallRefused",
    "ChannelClosed",
    "ChannelFull",
    "ChannelLayerUnavailable",
    "InvalidChannelLayerError",
    "InvalidDeliveryOption",
    "InvalidName",
    "ServerUnreachable",
    "UnknownChannelLayer",
]


# Configuration


class InvalidChannelLayerError(SealaneError, ValueError):
    """A channel layer is configured incorrectly."""


class UnknownChannelLayer(InvalidChannelLayerError, KeyError):
    """No channel layer is configured under an alias."""

    def __init__(self, alias: object, known: Sequence[str]) -> None:
        super().__init__(alias, known)
        self.alias = alias
        self.known = tuple(known)

    def __str__(self) -> str:
        known = ", ".join(repr(name) for name in self.known) or "none"
        return f"No channel layer is configured as {self.alias!r}. Aliases in CHANNEL_LAYERS: {known}"


# Calls


class InvalidName(SealaneError, TypeError):
    """A channel or group name that the contract does not allow."""

    def __init__(self, kind: str, name: object, problem: str) -> None:
        super().__init__(kind, name, problem)
        self.kind = kind
        self.name = name
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.kind} name {self.name!r} is not valid: {self.problem}"


class InvalidDeliveryOption(SealaneError, ValueError):
    """An argument of ``receive_delivery()``, or of a method of a Delivery, that cannot be used."""

    def __init__(self, option: str, value: object, expected: str) -> None:
        super().__init__(option, value, expected)
        self.option = option
        self.value = value
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.option} is {self.value!r}; expected {self.expected}"


class AcknowledgementsUnsupported(SealaneError, NotImplementedError):
    """A channel layer has no ``receive_delivery()``; ``layer`` is the name of its class."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer

    def __str__(self) -> str:
        return (
            f"{self.layer} has no acknowledgements: 'acknowledgements' is not in its extensions. Read the channel with "
            "receive(), at most once, or take a layer that has them, such as those of sealane.layers"
        )


# Channels


class ChannelFull(SealaneError):
    """A channel holds as many messages as its capacity; the message was not taken.

    A layer of your own may leave out what it does not know.
    """

    def __init__(self, channel: str = "", capacity: int = 0) -> None:
        super().__init__(channel, capacity)
        self.channel = channel
        self.capacity = capacity

    def __str__(self) -> str:
        waiting = f": {self.capacity} messages wait there" if self.capacity else ""
        return f"Channel {self.channel!r} is full{waiting}" if self.channel else f"A channel is full{waiting}"


class ChannelClosed(SealaneError):
    """A channel was closed while something waited on it."""

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.channel = channel

    def __str__(self) -> str:
        return f"Channel {self.channel!r} was closed"


# Servers


class ChannelLayerUnavailable(SealaneError, ConnectionError):
    """A layer's server did not carry out a call: it is away, too slow, or its memory is full.

    ``sent`` tells whether the call may have been carried out all the same; false: it certainly was not.
    ``seconds`` is how long it waited, ``error`` the text of the last error of the connection, without any password.
    """

    def __init__(
        self, place: str, problem: str, seconds: float = 0.0, error: str | None = None, sent: bool = False
    ) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem
        self.seconds = seconds
        self.error = error
        self.sent = sent

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.place, self.problem, self.seconds, self.error, self.sent)

    def __str__(self) -> str:
        cause = f" (last error: {self.error})" if self.error else ""
        outcome = "it may have been carried out" if self.sent else "it was not carried out"
        return f"No call to {self.place}: {self.problem}{cause}; {outcome}"


class CallRefused(SealaneError):
    """A layer's server answered a call with an error that does not go away by itself, ``error``.

    So it is where an ACL forbids something, or where somebody else has written to a key of the layer: the call may have
    been carried out in part then. The text holds no password.
    """

    def __init__(self, place: str, error: str) -> None:
        super().__init__(place, error)
        self.place = place
        self.error = error

    def __str__(self) -> str:
        return (
            f"{self.place} answered a call with an error: {self.error}. Look whether the layer's user may do what it "
            "needs, and whether others write to keys with its prefix"
        )


class ServerUnreachable(SealaneError, ConnectionError):
    """A layer's server could not be reached, or let nobody in. ``problem`` says why, and holds no password."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(place, problem)
        self.place = place
        self.problem = problem

    def __str__(self) -> str:
        return f"Cannot connect to {self.place}: {self.problem}"

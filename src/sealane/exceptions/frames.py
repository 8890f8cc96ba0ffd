"""Frames from clients that are refused, each with its close code."""

from sealane.exceptions.base import SealaneError

__all__ = [
    "EnvelopeError",
    "FrameError",
    "FrameTooLarge",
    "InvalidEnvelope",
    "InvalidJSON",
    "InvalidText",
    "StreamConflict",
    "TooManyFrames",
    "UnexpectedBinary",
    "UnknownStream",
]


class FrameError(SealaneError, ValueError):
    """A frame from a client that cannot be read, or is over a limit. ``code`` is the close code of RFC 6455."""

    code = 1007

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class InvalidJSON(FrameError):
    """A text frame that is not JSON."""

    code = 1007


class InvalidText(FrameError):
    """A text frame that is not UTF-8."""

    code = 1007


class UnexpectedBinary(FrameError):
    """A binary frame for a consumer that takes text only."""

    code = 1003


class FrameTooLarge(FrameError):
    """A frame over the consumer's ``max_message_size``: its size and the limit, in bytes."""

    code = 1009

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"Frame is {size} bytes; the limit is {limit}")
        self.args = (size, limit)
        self.size = size
        self.limit = limit


class TooManyFrames(FrameError):
    """A frame over the consumer's ``max_message_rate``: frames per second, and how many may come at once."""

    code = 1008

    def __init__(self, rate: float, burst: int) -> None:
        super().__init__(f"Frames come faster than {rate:g} per second, with up to {burst} at once")
        self.args = (rate, burst)
        self.rate = rate
        self.burst = burst


# For a demultiplexer


class EnvelopeError(FrameError):
    """A frame for a demultiplexer that comes to nothing: ``stream`` is the name in it, None where there is none.

    The client is told, with ``code``; no stream changes by it.
    """

    code = 4400
    stream: str | None = None


class InvalidEnvelope(EnvelopeError):
    """A frame that is not an envelope."""

    def __init__(self, problem: str, stream: str | None = None) -> None:
        super().__init__(problem)
        self.stream = stream

    def __str__(self) -> str:
        of = "" if self.stream is None else f" of the stream {self.stream!r}"
        return f"An envelope{of} cannot be read: {self.problem}"


class UnknownStream(EnvelopeError):
    """An envelope of a stream that the demultiplexer does not have."""

    code = 4404

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.stream = stream

    def __str__(self) -> str:
        return f"There is no stream {self.stream!r}"


class StreamConflict(EnvelopeError):
    """An envelope that does not fit the state of its stream: a message before it is opened, a second opening."""

    code = 4409

    def __init__(self, stream: str, state: str) -> None:
        super().__init__(f"The stream {stream!r} is {state}")
        self.stream = stream
        self.state = state

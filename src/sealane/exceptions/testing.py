"""What a test waited for in vain, or did not expect, and live servers that did not do their part."""

from collections.abc import Mapping, Sequence

from sealane.exceptions.base import SealaneError

__all__ = [
    "ApplicationEnded",
    "ApplicationTimeout",
    "LiveServerError",
    "UnexpectedEvent",
    "WebsocketDenied",
]


class ApplicationTimeout(SealaneError, TimeoutError):
    """A test waited for an application in vain, for ``seconds``. ``sent`` has the types of its last events."""

    def __init__(self, awaited: str, seconds: float, sent: Sequence[str], count: int) -> None:
        super().__init__(awaited)
        self.awaited = awaited
        self.seconds = seconds
        self.sent = tuple(sent)
        self.count = count

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.awaited, self.seconds, self.sent, self.count)

    def __str__(self) -> str:
        return (
            f"Waited {self.seconds:g} s for {self.awaited} in vain: the application is running and has sent "
            f"{_events(self.sent, self.count)}"
        )


class ApplicationEnded(SealaneError, TimeoutError):
    """The application ended, or was stopped, while a test waited for an event from it.

    It is a TimeoutError, since that is what asgiref's communicator raises here, later.
    """

    def __init__(self, awaited: str, sent: Sequence[str], count: int, cancelled: bool = False) -> None:
        super().__init__(awaited)
        self.awaited = awaited
        self.sent = tuple(sent)
        self.count = count
        self.cancelled = cancelled

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.awaited, self.sent, self.count, self.cancelled)

    def __str__(self) -> str:
        end = "was cancelled" if self.cancelled else "has ended"
        return f"Waited for {self.awaited}, but the application {end}; it sent {_events(self.sent, self.count)}"


def _events(sent: Sequence[str], count: int) -> str:
    if not count:
        return "nothing"
    types = ", ".join(sent)
    if count > len(sent):
        return f"{count} events, at last {types}"
    return f"{count} event{'s' if count > 1 else ''}: {types}"


class UnexpectedEvent(SealaneError, AssertionError):
    """The application sent another event than a test expected. It is an AssertionError: the test fails."""

    def __init__(self, expected: str, event: Mapping[str, object]) -> None:
        super().__init__(expected, event)
        self.expected = expected
        self.event = event

    def __str__(self) -> str:
        event = repr(self.event)
        if len(event) > 300:
            event = f"{event[:300]}... ({len(event)} characters)"
        return f"Expected {self.expected}, but the application sent {event}"


class WebsocketDenied(SealaneError, AssertionError):
    """The application refused the WebSocket of a test, with a close ``code`` or with an HTTP response."""

    def __init__(self, code: int | None, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(code, status, body)
        self.code = code
        self.status = status
        self.body = body

    def __str__(self) -> str:
        if self.status is None:
            return f"The application denied the WebSocket with close code {self.code}"
        return f"The application denied the WebSocket with HTTP status {self.status} and the body {self.body[:300]!r}"


class LiveServerError(SealaneError, RuntimeError):
    """A live server did not start or did not stop, or was asked for what it has only while it runs."""

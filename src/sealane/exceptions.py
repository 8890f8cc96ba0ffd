"""Every exception of Sealane.

::

    SealaneError
    ├── StopConsumer                         a handler asks the consumer to end
    ├── AcceptConnection                     connect() asks to accept the WebSocket
    ├── DenyConnection                       connect() asks to refuse it
    ├── RejectMessage                        a handler gives its message up: to the dead letters
    ├── RetryMessage                         a handler wants its message again, later
    ├── ConnectionClosed                     something was sent after the end of a connection
    ├── HandlerCancelled                     a handler was cancelled from inside, the connection was not
    ├── IllegalEvent (RuntimeError)          an event that the connection's state does not allow
    ├── MessageError (ValueError)            a message that cannot be dispatched
    │   ├── MessageWithoutType
    │   ├── UndecodableMessage
    │   └── UnhandledMessage
    ├── FrameError (ValueError)              a frame from a client that is refused; has a close code
    │   ├── EnvelopeError                    a frame for a demultiplexer that comes to nothing
    │   │   ├── InvalidEnvelope              4400
    │   │   ├── StreamConflict               4409
    │   │   └── UnknownStream                4404
    │   ├── FrameTooLarge                    1009
    │   ├── InvalidJSON                      1007
    │   ├── InvalidText                      1007
    │   ├── TooManyFrames                    1008
    │   └── UnexpectedBinary                 1003
    ├── TooManyGroups                        a connection would be in more groups than its max_groups
    ├── RequestAborted                       the client left before its request was complete
    │   └── RequestTimeout
    ├── RequestBodyTooLarge                  a request body over DATA_UPLOAD_MAX_MEMORY_SIZE
    ├── HandshakeTimeout (OSError)           a WebSocket was refused: its handshake took too long
    ├── ServerStopping (OSError)             a WebSocket was closed: the server stops
    ├── StartupFailed (RuntimeError)         the application's lifespan startup failed
    ├── NoRouteFound (ValueError)            no route matches a path
    ├── UnknownScopeType (ValueError)        no application for a scope's type
    ├── UnknownChannel (ValueError)          no application for a channel's name
    ├── InvalidChannelLayerError (ValueError)  a channel layer is configured incorrectly
    │   └── UnknownChannelLayer (KeyError)   no channel layer is configured under an alias
    ├── InvalidName (TypeError)              a channel or group name that the contract does not allow
    ├── InvalidDeliveryOption (ValueError)   an argument of receive_delivery() or a Delivery that cannot be used
    ├── AcknowledgementsUnsupported (NotImplementedError)  the layer has no receive_delivery()
    ├── UnserializableMessage (TypeError)    a message that the layer's serializer refuses
    ├── ChannelFull                          a channel holds as many messages as its capacity
    ├── ChannelClosed                        a channel was closed while something waited on it
    ├── MessageTooLarge                      a message over the layer's size limit
    ├── UndecryptableMessage                 a message that no encryption key of the layer fits
    ├── ChannelLayerUnavailable (ConnectionError)  a layer's server did not carry out a call in time
    ├── CallRefused                          a layer's server answered a call with an error
    ├── ServerUnreachable (ConnectionError)  a layer's server could not be reached, or let nobody in
    ├── ApplicationTimeout (TimeoutError)    a test waited for the application in vain
    ├── ApplicationEnded (TimeoutError)      the application ended while a test waited for an event from it
    ├── UnexpectedEvent (AssertionError)     the application sent another event than a test expected
    ├── WebsocketDenied (AssertionError)     the application refused the WebSocket of a test
    ├── LiveServerError (RuntimeError)       a live server did not start, or did not stop
    ├── ChannelsImported (ImportError)       install_as_channels() came after the import of Channels
    └── ChannelsInstalled (ImportError)      install_as_channels() where Channels is installed too

An exception carries its data as attributes and builds its text from them in ``__str__``.
"""

from collections.abc import Iterable, Mapping, Sequence

from sealane.types import Headers

__all__ = [
    "AcceptConnection",
    "AcknowledgementsUnsupported",
    "ApplicationEnded",
    "ApplicationTimeout",
    "CallRefused",
    "ChannelClosed",
    "ChannelFull",
    "ChannelLayerUnavailable",
    "ChannelsImported",
    "ChannelsInstalled",
    "ConnectionClosed",
    "DenyConnection",
    "EnvelopeError",
    "FrameError",
    "FrameTooLarge",
    "HandlerCancelled",
    "HandshakeTimeout",
    "IllegalEvent",
    "InvalidChannelLayerError",
    "InvalidDeliveryOption",
    "InvalidEnvelope",
    "InvalidJSON",
    "InvalidName",
    "InvalidText",
    "LiveServerError",
    "MessageError",
    "MessageTooLarge",
    "MessageWithoutType",
    "NoRouteFound",
    "RejectMessage",
    "RequestAborted",
    "RequestBodyTooLarge",
    "RequestTimeout",
    "RetryMessage",
    "SealaneError",
    "ServerStopping",
    "ServerUnreachable",
    "StartupFailed",
    "StopConsumer",
    "StreamConflict",
    "TooManyFrames",
    "TooManyGroups",
    "UndecodableMessage",
    "UndecryptableMessage",
    "UnexpectedBinary",
    "UnexpectedEvent",
    "UnhandledMessage",
    "UnknownChannel",
    "UnknownChannelLayer",
    "UnknownScopeType",
    "UnknownStream",
    "UnserializableMessage",
    "WebsocketDenied",
]


class SealaneError(Exception):
    """The base of every exception that Sealane raises."""


# Asked for by handlers


class StopConsumer(SealaneError):
    """Raise it in a handler to end the consumer. The usual end of the connection follows."""


class AcceptConnection(SealaneError):
    """Raise it in ``connect()`` to accept the WebSocket, with an optional subprotocol and response headers."""

    def __init__(self, subprotocol: str | None = None, headers: Iterable[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(subprotocol, headers)
        self.subprotocol = subprotocol
        self.headers: Headers = list(headers or [])


class DenyConnection(SealaneError):
    """Raise it in ``connect()`` to refuse the WebSocket.

    With a ``status`` (and ``body``, ``headers``) the client gets that HTTP response, where the server has the
    ``websocket.http.response`` extension; a server without it, or no ``status``, answers 403.
    """

    def __init__(
        self,
        status: int | None = None,
        body: bytes | str = b"",
        headers: Iterable[tuple[bytes, bytes]] | None = None,
    ) -> None:
        super().__init__(status, body, headers)
        self.status = status
        self.body = body.encode() if isinstance(body, str) else body
        self.headers: Headers = list(headers or [])


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


# Connections


class ConnectionClosed(SealaneError):
    """Something was sent on a connection that has ended.

    It is normal: the client may leave at any time. A consumer that lets it escape from a handler is not reported;
    the end of the connection follows by itself.
    """

    def __init__(self, event: str, code: int | None = None) -> None:
        super().__init__(event, code)
        self.event = event
        self.code = code

    def __str__(self) -> str:
        code = "" if self.code is None else f" with code {self.code}"
        return f"{self.event!r} was not sent: the connection is closed{code}"


class HandlerCancelled(SealaneError):
    """A handler awaited something that was cancelled, though nobody cancelled the connection."""

    def __str__(self) -> str:
        return "A handler awaited something that was cancelled, and let its CancelledError pass"


class IllegalEvent(SealaneError, RuntimeError):
    """An event that the state of the connection does not allow: the program is wrong, not the client."""

    def __init__(self, event: str, state: str, expected: Sequence[str]) -> None:
        super().__init__(event, state, expected)
        self.event = event
        self.state = state
        self.expected = tuple(expected)

    def __str__(self) -> str:
        allowed = " or ".join(repr(name) for name in self.expected) or "nothing"
        return f"{self.event!r} cannot be sent while the connection is {self.state}: expected {allowed}"


# Messages


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


class FrameError(SealaneError, ValueError):
    """A frame from a client that cannot be read, or is over a limit. ``code`` is the close code of RFC 6455."""

    code = 1007

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


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


class TooManyGroups(SealaneError):
    """A group that was not joined, since the connection is in as many as its ``max_groups`` allows."""

    def __init__(self, group: str, limit: int) -> None:
        super().__init__(group, limit)
        self.group = group
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"Group {self.group!r} was not joined: the connection is in {self.limit} already, which is its max_groups"
        )


# HTTP


class RequestAborted(SealaneError):
    """The client left before its request was complete."""


class RequestTimeout(RequestAborted):
    """A request was not complete in time."""


class RequestBodyTooLarge(SealaneError):
    """A request body is over the limit, in bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"Request body is over DATA_UPLOAD_MAX_MEMORY_SIZE, which is {self.limit} bytes"


# The development server


class HandshakeTimeout(SealaneError, OSError):
    """Something was sent on a WebSocket whose handshake had taken longer than ``limit`` seconds.

    The server has refused it. An OSError, as the ASGI specification has it for a send after the end.
    """

    def __init__(self, event: str, limit: float) -> None:
        super().__init__(event, limit)
        self.event = event
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"{self.event!r} was not sent: the WebSocket was neither accepted nor refused within "
            f"{self.limit:g} s, so the server has refused it"
        )


class ServerStopping(SealaneError, OSError):
    """Something was sent on a WebSocket or an event stream that was closed, since the server stops or restarts.

    An OSError, as the ASGI specification has it for a send after the end.
    """

    def __init__(self, event: str) -> None:
        super().__init__(event)
        self.event = event

    def __str__(self) -> str:
        done = "closed the WebSocket with code 1012" if self.event.startswith("websocket.") else "ended the response"
        return f"{self.event!r} was not sent: the server is stopping and has {done}"


class StartupFailed(SealaneError, RuntimeError):
    """The application's lifespan startup failed, so the server did not start. The log has the reason."""

    def __str__(self) -> str:
        return "The application's lifespan startup failed (the reason is logged above)"


# Routing


class NoRouteFound(SealaneError, ValueError):
    """No route matches a path, and the router has no ``not_found``."""

    def __init__(self, path: str, tried: Sequence[str]) -> None:
        super().__init__(path, tried)
        self.path = path
        self.tried = tuple(tried)

    def __str__(self) -> str:
        # As routes are written, without the slash. A path comes from anybody, and this text goes into logs.
        path = self.path.lstrip("/")
        path = path if len(path) <= 200 else f"{path[:200]}..."
        routes = ", ".join(repr(route) for route in self.tried) or "none"
        return f"No route found for path {path!r}. Routes tried: {routes}"


class UnknownScopeType(SealaneError, ValueError):
    """A ProtocolTypeRouter has no application for a scope's type."""

    def __init__(self, type: str, known: Sequence[str]) -> None:
        super().__init__(type, known)
        self.type = type
        self.known = tuple(known)

    def __str__(self) -> str:
        known = ", ".join(repr(name) for name in self.known) or "none"
        return f"No application configured for scope type {self.type!r}. Types known: {known}"


class UnknownChannel(SealaneError, ValueError):
    """A ChannelNameRouter has no application for a channel's name."""

    def __init__(self, channel: str, known: Sequence[str]) -> None:
        super().__init__(channel, known)
        self.channel = channel
        self.known = tuple(known)

    def __str__(self) -> str:
        known = ", ".join(repr(name) for name in self.known) or "none"
        return f"No application configured for channel name {self.channel!r}. Channels known: {known}"


# Layers


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


class UnserializableMessage(SealaneError, TypeError):
    """A message that the layer's serializer refuses. ``key`` is the path to the offending value."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return f"Message cannot be serialized at {self.key}: {self.problem}"


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


# Testing


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


# Compatibility


class ChannelsImported(SealaneError, ImportError):
    """``install_as_channels()`` came too late: a package whose place it takes was imported before."""

    def __init__(self, package: str, file: str | None) -> None:
        super().__init__(package, file)
        self.package = package
        self.file = file

    def __str__(self) -> str:
        return (
            f"{self.package!r} was imported already, from {self.file or 'an unknown place'}, and who has it would keep "
            "its classes. Call install_as_channels() before: at the top of the settings module, or of manage.py, "
            "asgi.py or conftest.py"
        )


class ChannelsInstalled(SealaneError, ImportError):
    """``install_as_channels()`` was called where a package whose place it takes is installed too."""

    def __init__(self, package: str, version: str | None, place: str) -> None:
        super().__init__(package, version, place)
        self.package = package
        self.version = version
        self.place = place

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return (
            f"{self.package}{version} is installed too, at {self.place}, so 'import {self.package}' could mean either. "
            f"Uninstall it, or call install_as_channels(force=True): then it means Sealane"
        )

"""WebsocketDemultiplexer: several consumers over one WebSocket, each with its own scope, channel, groups and end."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from sealane.consumers.base import AsyncConsumer
from sealane.consumers.connection import ConnectionState
from sealane.consumers.ending import Step
from sealane.consumers.envelope import MAX_NAME, Close, Frame, Open, build_error, parse
from sealane.consumers.http import AsyncHttpConsumer
from sealane.consumers.limits import check_limit
from sealane.consumers.stream_table import StreamTable
from sealane.consumers.websocket import ABNORMAL, AsyncWebsocketConsumer
from sealane.exceptions import EnvelopeError
from sealane.types import ASGIApplication, Message

__all__ = ["WebsocketDemultiplexer"]

#: A consumer class, or an ASGI application, such as what ``as_asgi()`` returns.
StreamApplication = type[AsyncConsumer] | ASGIApplication

_OPEN: Final = ConnectionState.OPEN

_LIMITS: Final = {"max_streams": "streams", "max_stream_queue": "bytes"}


def _check_streams(cls: "type[WebsocketDemultiplexer]") -> None:
    """Raise TypeError or ValueError where a class has streams that cannot be run."""
    if not isinstance(cls.streams, Mapping):
        raise TypeError(f"{cls.__name__}.streams is {cls.streams!r}; expected consumers by the names of their streams")
    for name, application in cls.streams.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"{cls.__name__}.streams has {name!r}; expected names of 1 to {MAX_NAME} characters")
        _check_application(cls.__name__, name, application)
    if isinstance(cls.open_on_connect, str):
        raise TypeError(f"{cls.__name__}.open_on_connect is {cls.open_on_connect!r}; expected a list of names")
    unknown = [name for name in cls.open_on_connect if name not in cls.streams]
    if unknown and cls.stream_application is WebsocketDemultiplexer.stream_application:
        raise ValueError(f"{cls.__name__}.open_on_connect has {unknown}; expected names of its streams")
    if cls.max_streams is not None and len(cls.open_on_connect) > cls.max_streams:
        raise ValueError(
            f"{cls.__name__}.open_on_connect has {len(cls.open_on_connect)} streams; expected {cls.max_streams} at "
            "most, as max_streams says"
        )


def _check_application(owner: str, name: str, application: Any) -> None:
    problem = None
    kind = application if isinstance(application, type) else getattr(application, "consumer_class", None)
    if kind is not None:
        if not issubclass(kind, AsyncConsumer) or issubclass(kind, AsyncHttpConsumer):
            problem = f"the class {kind.__name__}"
    elif isinstance(application, AsyncConsumer):
        problem = f"an instance of {type(application).__name__}, which would serve one connection only"
    elif not callable(application):
        problem = repr(application)
    if problem is not None:
        raise TypeError(
            f"The stream {name!r} of {owner} is {problem}; expected a class of a WebSocket consumer, or an ASGI "
            "application"
        )


class WebsocketDemultiplexer(AsyncWebsocketConsumer):
    """Run several consumers over one WebSocket.

    ::

        class Demultiplexer(WebsocketDemultiplexer):
            streams = {"chat": ChatConsumer, "notices": NoticesConsumer.as_asgi(limit=20)}

    Each stream that the client opens runs its application as a server would, with a copy of the scope, in which
    ``scope["stream"]`` is the name, and a channel, groups and an end of its own. The envelopes that go over the socket,
    their order and their loss are a protocol of the reference.

    A stream that raises, closes or is refused ends alone: the client is told the code, the others go on, and it can be
    opened again. When the WebSocket ends, for whatever reason, each application gets ``websocket.disconnect`` with its
    code, and has ``end_timeout`` seconds to end before it is cancelled; ``disconnect()`` of the demultiplexer runs
    after all of theirs.

    It is a consumer itself: ``connect()`` accepts or refuses the WebSocket, the limits and the tests of the user are
    the socket's, and it may have groups and handlers. An envelope that comes to nothing goes to ``on_error()`` as an
    :exc:`~sealane.exceptions.EnvelopeError`; by default the client is told, and nothing else happens.
    """

    #: The applications by the names of their streams: consumer classes for WebSockets, or ASGI applications.
    streams: Mapping[str, StreamApplication] = {}

    #: The streams that are opened without being asked for, when the WebSocket is accepted.
    open_on_connect: Collection[str] = ()

    #: How many streams may run at once, those that are about to end included; None for any number. A stream that is
    #: opened again while it ends counts once.
    max_streams: int | None = 64

    #: Bytes of the client's frames that may wait for one stream, beyond what its consumer reads ahead. A stream that is
    #: slower is closed with 1013.
    max_stream_queue: int = 256 * 1024

    _table: StreamTable | None = None

    @classmethod
    def _prepare(cls) -> None:
        super()._prepare()
        for name, unit in _LIMITS.items():
            check_limit(cls, name, unit, whole=True)
        if cls.max_stream_queue is None:
            raise ValueError(f"{cls.__name__}.max_stream_queue is None; expected a whole number of bytes above 0")
        if not hasattr(cls.streams, "__get__"):
            _check_streams(cls)

    def stream_application(self, name: str) -> StreamApplication | None:
        """Return what runs a stream, or None where there is no stream of that name.

        By default it is looked up in ``streams``. Override it for names that are made of something, such as
        ``"room.42"``. It is called in the event loop, for every stream that a client opens, with any text of at most
        100 characters.
        """
        return self.streams.get(name)

    # The events of the WebSocket

    async def websocket_connect(self, message: Message) -> None:
        """Run ``connect()``, and open the streams of ``open_on_connect`` where it has accepted."""
        await super().websocket_connect(message)
        if self._state is _OPEN:
            table = self._streams_table()
            for name in self.open_on_connect:
                if self._state is _OPEN and table.get(name) is None:
                    await table.open(Open(name))

    async def websocket_receive(self, message: Message) -> None:
        """Hand an envelope to its stream."""
        text = message.get("text")
        # Asked first is the common case of _is_received().
        if (text is None or not text.isascii() or self._closed_here) and not self._is_received(message):
            return
        envelope = parse(text)
        table = self._table
        if table is None:
            table = self._streams_table()
        if type(envelope) is Frame:
            stream = table.get(envelope.stream)
            # The way of nearly every frame; bring() says what is wrong with the others.
            if stream is None or not stream.put(envelope.event):
                await table.bring(envelope)
        elif type(envelope) is Open:
            if table.doubts_user:
                table.doubts_user = False
                await self._check_user()
            if self._state is _OPEN:
                await table.open(envelope)
        elif type(envelope) is Close:
            await table.close(envelope)

    def _streams_table(self) -> StreamTable:
        if self._table is None:
            self._table = StreamTable(
                self._name(),
                find=self._find,
                scope=self.scope,
                send_frame=self._send_frame,
                send_event=self._send_event,
                note=self._note,
                max_streams=self.max_streams,
                max_queue=self.max_stream_queue,
            )
        return self._table

    def _find(self, name: str) -> ASGIApplication | None:
        application = self.stream_application(name)
        if isinstance(application, type):
            _check_application(type(self).__name__, name, application)
            return application.as_asgi()
        return application

    # To the client

    async def _send_frame(self, text: str) -> None:
        if self._state is not _OPEN:
            raise ConnectionResetError("The WebSocket of the stream is closed")
        try:
            await self.base_send({"type": "websocket.send", "text": text})
        except OSError:
            self._note_closed()
            raise

    async def _send_event(self, text: str) -> None:
        if self._state is not _OPEN:
            return
        event = {"type": "websocket.send", "text": text}
        try:
            if self._outgoing is None:
                await self._asgi_send(event)
            else:
                await self._outgoing.send(event, kept=True)
        except OSError:
            self._note_closed()

    async def on_error(self, error: Exception, message: Message | None) -> None:
        """Tell the client of an envelope that came to nothing; anything else as every consumer does."""
        if not isinstance(error, EnvelopeError):
            return await super().on_error(error, message)
        self._note("refused_envelope", 1, f"refused a frame: {error}")
        await self._send_event(build_error(error.stream, error.code, str(error)))

    # The end

    def _steps_after_close(self) -> Iterator[Step]:
        if self._table is not None:
            # Twice as much again: what is cancelled has its own disconnect() to run.
            yield Step(f"The end of the streams of {self._name()}", 3 * self.end_timeout, self._end_streams)

    async def _end_streams(self) -> None:
        assert self._table is not None
        code = ABNORMAL if self._close_code is None else self._close_code
        try:
            await self._table.end(code, self.end_timeout)
        finally:
            self._table = None  # they refer to each other

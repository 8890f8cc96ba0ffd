"""A WebSocket over one stream of an HTTP/2 connection, as RFC 8441 has it."""

import socket
import ssl
from collections import deque
from types import TracebackType
from typing import Self, TypeVar

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RemoteSettingsChanged, ResponseReceived
from h2.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

from tests.asgi_servers.asgi_server import LIMIT
from tests.servers.ports import HOST

__all__ = ["Http2Socket"]

EventType = TypeVar("EventType", bound=Event)


class Http2Socket:
    """A connection of its own, on which one WebSocket may be opened. It blocks; use it as a context manager."""

    def __init__(self, plain: socket.socket) -> None:
        """Take a connected socket, over TLS or not, and begin to speak HTTP/2 on it."""
        self._socket = plain
        self._connection = H2Connection(H2Configuration(client_side=True))
        self._connection.initiate_connection()
        self._events: deque[Event] = deque()
        self._stream = 0
        self._frames = StreamReader()
        self._flush()

    @classmethod
    def open(cls, port: int, *, tls: ssl.SSLContext | None = None) -> Self:
        """Connect: over TLS where a context is given, else without, knowing that the server speaks it."""
        plain = socket.create_connection((HOST, port), timeout=LIMIT)
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
            plain = tls.wrap_socket(plain, server_hostname=HOST)
        return cls(plain)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    def offers_websockets(self) -> bool:
        """Tell whether the server speaks HTTP/2, and says in its settings that it takes WebSockets."""
        try:
            self._next(RemoteSettingsChanged)
        except (ProtocolError, ConnectionError):
            return False
        return bool(self._connection.remote_settings.enable_connect_protocol)

    def upgrade(self, path: str, *, origin: str) -> int:
        """Ask for a WebSocket, after `offers_websockets()`, and return the status of the answer."""
        self._stream = self._connection.get_next_available_stream_id()
        headers = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "{}:{}".format(*self._socket.getpeername()[:2])),
            ("sec-websocket-version", "13"),
            ("origin", origin),
        ]
        self._connection.send_headers(self._stream, headers)
        self._flush()
        answer = self._next(ResponseReceived)
        return next(int(value) for name, value in answer.headers or [] if name == b":status")

    def send(self, text: str) -> None:
        self._send(Frame(Opcode.TEXT, text.encode()))

    def receive(self) -> str:
        """Return the next message, which is one text frame."""
        frame = self._next_frame()
        assert (frame.opcode, frame.fin) == (Opcode.TEXT, True)
        return bytes(frame.data).decode()

    def close(self, code: int) -> int:
        """Close the WebSocket, and return the code of the server's close frame."""
        self._send(Frame(Opcode.CLOSE, Close(code, "").serialize()))
        frame = self._next_frame()
        assert frame.opcode == Opcode.CLOSE
        return Close.parse(frame.data).code

    def _send(self, frame: Frame) -> None:
        self._connection.send_data(self._stream, frame.serialize(mask=True))
        self._flush()

    def _next_frame(self) -> Frame:
        parsing = Frame.parse(self._frames.read_exact, mask=False)
        while True:
            try:
                next(parsing)
            except StopIteration as parsed:
                frame: Frame = parsed.value
                return frame
            arrived = self._next(DataReceived)
            self._frames.feed_data(arrived.data or b"")
            self._connection.acknowledge_received_data(arrived.flow_controlled_length or 0, self._stream)
            self._flush()

    def _next(self, kind: type[EventType]) -> EventType:
        """Return the next event of a kind; the others are settings and windows, which need no answer of ours."""
        while True:
            while self._events:
                event = self._events.popleft()
                if isinstance(event, kind):
                    return event
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionError("the server has closed the connection")
            self._events.extend(self._connection.receive_data(data))
            self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())

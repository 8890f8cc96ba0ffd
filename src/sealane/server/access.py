"""One line per request and per WebSocket, in the style of Django's own development server."""

import copy
import logging
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from django.core.management.color import Style
from django.utils.log import ServerFormatter

from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["LOGGER_NAME", "AccessLog", "HTTPExchange", "Line", "WebSocketExchange", "server_logger"]

#: The logger that projects which ran Channels' development server have configured already.
LOGGER_NAME = "django.channels.server"


class Line(NamedTuple):
    """One line for the log. ``status`` picks its level and colour; None is neutral."""

    message: str
    args: tuple[object, ...]
    status: int | None

    @property
    def level(self) -> int:
        """Django's rule: client errors are warnings, server errors are errors."""
        if self.status is None or self.status < 400:
            return logging.INFO
        return logging.WARNING if self.status < 500 else logging.ERROR


class HTTPExchange:
    """Decide what is logged of one request: one line, when its response is complete or cannot be any more.

    It does no I/O: tell it what the application sent and received, and how it ended.
    """

    def __init__(self, scope: Scope, *, now: float) -> None:
        self._method = scope["method"]
        self._path = _path(scope, query=True)
        self._client = _client(scope)
        self._since = now
        self._status: int | None = None
        self._client_left = False
        self._logged = False

    def received(self, message: Message) -> None:
        """Take note of an event that the application received."""
        if message["type"] == "http.disconnect":
            self._client_left = True

    def sent(self, message: Message, *, now: float) -> Line | None:
        """Take note of an event that the server took; the last one of a response gives the line."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            return self._line(str(self._status), self._status, now=now)
        return None

    def ended(self, error: BaseException | None, *, now: float) -> Line | None:
        """Take note of the application's end; None where the line was given already.

        A response that began and did not end is ``incomplete``. Where none began, it was ``aborted`` by the
        client or by the server's own end; else the application is to blame, and the server answers 500 in its
        place.
        """
        if self._status is not None:
            return self._line(f"{self._status} incomplete", self._status, now=now)
        if self._client_left or not (error is None or isinstance(error, Exception)):
            return self._line("aborted", None, now=now)
        return self._line("500", 500, now=now)

    def _line(self, outcome: str, status: int | None, *, now: float) -> Line | None:
        if self._logged:
            return None
        self._logged = True
        args = (self._method, self._path, outcome, now - self._since, self._client)
        return Line("HTTP %s %s %s [%.2f s, %s]", args, status)


class WebSocketExchange:
    """Decide what is logged of one WebSocket: CONNECT and DISCONNECT, or REJECT.

    It does no I/O: tell it what the application sent and received, and how it ended. The query string is left
    out: where a token travels in it, it is a secret.
    """

    def __init__(self, scope: Scope) -> None:
        self._path = _path(scope, query=False)
        self._client = _client(scope)
        self._accepted = False
        self._over = False

    def received(self, message: Message) -> Line | None:
        """Take note of an event that the application received."""
        if message["type"] == "websocket.disconnect":
            return self._disconnected(message.get("code", 1005))
        return None

    def sent(self, message: Message) -> Line | None:
        """Take note of an event that the server took."""
        kind = message["type"]
        if kind == "websocket.accept":
            self._accepted = True
            return Line("WebSocket CONNECT %s [%s]", (self._path, self._client), 101)
        if kind == "websocket.http.response.start":
            return self._rejected(message["status"])
        if kind == "websocket.close":
            return self._disconnected(message.get("code", 1000)) if self._accepted else self._rejected(403)
        return None

    def ended(self) -> Line | None:
        """Take note of the application's end; None where the WebSocket was over before.

        The server then drops an open connection, which is 1006 for the client, and answers 500 to a handshake
        that nobody decided.
        """
        return self._disconnected(1006) if self._accepted else self._rejected(500)

    def _disconnected(self, code: int) -> Line | None:
        return self._last(Line("WebSocket DISCONNECT %s %s [%s]", (self._path, code, self._client), None))

    def _rejected(self, status: int) -> Line | None:
        return self._last(Line("WebSocket REJECT %s %s [%s]", (self._path, status, self._client), status))

    def _last(self, line: Line) -> Line | None:
        if self._over:
            return None
        self._over = True
        return line


class AccessLog:
    """Wrap an ASGI application: what its HTTP and WebSocket connections do is logged, and nothing is changed.

    Put it outermost, where it sees what the client sees. Errors and cancellation pass through, logged as the
    client sees them.
    """

    def __init__(
        self,
        application: ASGIApplication,
        *,
        logger: logging.Logger,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.application = application
        self._logger = logger
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self.application(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = HTTPExchange(scope, now=self._clock())

        async def watched_receive() -> Message:
            message = await receive()
            exchange.received(message)
            return message

        async def watched_send(message: Message) -> None:
            await send(message)
            self._log(exchange.sent(message, now=self._clock()))

        error: BaseException | None = None
        try:
            await self.application(scope, watched_receive, watched_send)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._log(exchange.ended(error, now=self._clock()))

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = WebSocketExchange(scope)

        async def watched_receive() -> Message:
            message = await receive()
            self._log(exchange.received(message))
            return message

        async def watched_send(message: Message) -> None:
            await send(message)
            self._log(exchange.sent(message))

        try:
            await self.application(scope, watched_receive, watched_send)
        finally:
            self._log(exchange.ended())

    def _log(self, line: Line | None) -> None:
        if line is None:
            return
        # As Django's own server gives it: without the milliseconds of the formatter's default.
        extra: dict[str, object] = {"server_time": time.strftime(ServerFormatter.default_time_format)}
        if line.status is not None:
            extra["status_code"] = line.status
        self._logger.log(line.level, line.message, *line.args, extra=extra)


def server_logger(style: Style) -> logging.Logger:
    """Return the logger of the lines, made visible where the project's LOGGING says nothing about it.

    A project that gives ``django.channels.server`` or ``django.channels`` handlers, or stops their
    propagation, has decided: nothing is changed. Otherwise the lines go where those of Django's own
    development server go: to the handlers of ``django.server``, at its level unless one of the two has its
    own. Where such a handler has Django's ServerFormatter, the lines are coloured by ``style``, so that
    ``--no-color`` and ``--force-color`` count. Call it after the application was imported:
    ``django.setup()``, which a project's asgi.py calls, configures logging again.
    """
    logger = logging.getLogger(LOGGER_NAME)
    family = (logger, logging.getLogger("django.channels"))
    if any(member.handlers or not member.propagate for member in family):
        return logger
    model = logging.getLogger("django.server")
    for handler in model.handlers:
        logger.addHandler(_styled(handler, style))
    logger.propagate = model.propagate
    if all(member.level == logging.NOTSET for member in family):
        logger.setLevel(model.level)
    return logger


def _styled(handler: logging.Handler, style: Style) -> logging.Handler:
    # A copy: the handler itself is Django's, and the --noasgi server writes through it.
    if not isinstance(handler.formatter, ServerFormatter):
        return handler
    formatter = copy.copy(handler.formatter)
    formatter.style = style
    styled = copy.copy(handler)
    styled.setFormatter(formatter)
    return styled


def _path(scope: Scope, *, query: bool) -> str:
    # As it travelled, percent-encoded: a decoded path could hold a line break or an escape sequence.
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else _printable(raw.partition(b"?")[0])
    if query and scope.get("query_string"):
        path += "?" + _printable(scope["query_string"])
    return path


def _printable(raw: bytes) -> str:
    return "".join(chr(byte) if 0x20 < byte < 0x7F else f"%{byte:02X}" for byte in raw)


def _client(scope: Scope) -> str:
    client = scope.get("client")
    if not client:
        return "unknown"
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

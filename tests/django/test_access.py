"""The lines of the development server's log: what they say, where they go, and their colours."""

import asyncio
import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management.color import Style, make_style, no_style
from django.utils.log import ServerFormatter

from sealane.server.access import LOGGER_NAME, AccessLog, HTTPExchange, Line, WebSocketExchange, server_logger
from sealane.types import Message, Receive, Scope, Send

START = {"type": "http.response.start", "status": 200}
PART = {"type": "http.response.body", "body": b"x", "more_body": True}
END = {"type": "http.response.body", "body": b"x"}


def http_scope(**changes: Any) -> Scope:
    return {
        "type": "http",
        "method": "GET",
        "path": "/room/1",
        "raw_path": b"/room/1",
        "query_string": b"",
        "client": ("127.0.0.1", 5000),
        **changes,
    }


def websocket_scope(**changes: Any) -> Scope:
    return http_scope(type="websocket", path="/ws/1", raw_path=b"/ws/1", query_string=b"token=secret", **changes)


def text(line: Line | None) -> str:
    assert line is not None
    return line.message % line.args


def request(scope: Scope) -> str:
    """The line of a request that succeeded in a quarter of a second."""
    exchange = HTTPExchange(scope, now=10.0)
    exchange.sent({"type": "http.response.start", "status": 200}, now=10.1)
    return text(exchange.sent({"type": "http.response.body"}, now=10.25))


@pytest.mark.parametrize(
    ("status", "level"),
    [(101, "INFO"), (200, "INFO"), (304, "INFO"), (404, "WARNING"), (499, "WARNING"), (500, "ERROR"), (None, "INFO")],
)
def test_the_level_follows_the_status(status: int | None, level: str) -> None:
    assert logging.getLevelName(Line("", (), status).level) == level


def test_a_request_gives_one_line_when_its_response_is_complete() -> None:
    exchange = HTTPExchange(http_scope(), now=10.0)

    assert exchange.sent({"type": "http.response.start", "status": 201}, now=10.0) is None
    assert exchange.sent(PART, now=10.1) is None
    line = exchange.sent(END, now=10.25)
    assert text(line) == "HTTP GET /room/1 201 [0.25 s, 127.0.0.1:5000]"
    assert line is not None
    assert line.status == 201
    assert exchange.ended(None, now=12.0) is None


@pytest.mark.parametrize(
    ("scope", "shown"),
    [
        (http_scope(query_string=b"page=2"), "/room/1?page=2"),
        (http_scope(raw_path=b"/room/%0A%1B[31m", path="/room/\n\x1b[31m"), "/room/%0A%1B[31m"),
        (http_scope(raw_path=b"/caf\xc3\xa9 \n?x", path="/x"), "/caf%C3%A9%20%0A"),
        (http_scope(raw_path=None, path="/café\n"), "/caf%C3%A9%0A"),
        (http_scope(query_string=b"a=\x1b[31m"), "/room/1?a=%1B[31m"),
        (http_scope(raw_path=b"/100%25", path="/100%"), "/100%25"),
    ],
)
def test_a_path_is_shown_as_it_travelled_and_cannot_forge_a_line(scope: Scope, shown: str) -> None:
    assert request(scope) == f"HTTP GET {shown} 200 [0.25 s, 127.0.0.1:5000]"


@pytest.mark.parametrize(
    ("client", "shown"),
    [(("::1", 5000), "[::1]:5000"), (["127.0.0.1", 1], "127.0.0.1:1"), (None, "unknown")],
)
def test_a_client_is_shown_with_its_port(client: object, shown: str) -> None:
    assert request(http_scope(client=client)) == f"HTTP GET /room/1 200 [0.25 s, {shown}]"


def test_a_response_that_began_and_did_not_end_is_incomplete() -> None:
    exchange = HTTPExchange(http_scope(), now=0.0)
    exchange.sent(START, now=0.0)
    exchange.sent(PART, now=0.0)

    assert text(exchange.ended(None, now=1.0)) == "HTTP GET /room/1 200 incomplete [1.00 s, 127.0.0.1:5000]"


def test_a_client_that_left_before_the_response_has_aborted() -> None:
    exchange = HTTPExchange(http_scope(), now=0.0)
    exchange.received({"type": "http.request"})
    exchange.received({"type": "http.disconnect"})

    line = exchange.ended(None, now=1.0)

    assert text(line) == "HTTP GET /room/1 aborted [1.00 s, 127.0.0.1:5000]"
    assert line is not None
    assert line.status is None


def test_a_cancelled_application_has_aborted() -> None:
    line = HTTPExchange(http_scope(), now=0.0).ended(asyncio.CancelledError(), now=1.0)

    assert text(line) == "HTTP GET /room/1 aborted [1.00 s, 127.0.0.1:5000]"


@pytest.mark.parametrize("error", [ValueError(), None])
def test_an_application_that_ends_without_a_response_is_the_servers_500(error: Exception | None) -> None:
    line = HTTPExchange(http_scope(), now=0.0).ended(error, now=1.0)

    assert text(line) == "HTTP GET /room/1 500 [1.00 s, 127.0.0.1:5000]"
    assert line is not None
    assert line.status == 500


def test_a_websocket_gives_a_line_for_its_begin_and_one_for_its_end_without_the_query() -> None:
    exchange = WebSocketExchange(websocket_scope())

    assert exchange.received({"type": "websocket.connect"}) is None
    accepted = exchange.sent({"type": "websocket.accept"})
    assert text(accepted) == "WebSocket CONNECT /ws/1 [127.0.0.1:5000]"
    assert accepted is not None
    assert accepted.status == 101
    assert exchange.sent({"type": "websocket.send", "text": "x"}) is None
    assert exchange.received({"type": "websocket.receive", "text": "x"}) is None
    left = exchange.received({"type": "websocket.disconnect", "code": 1001})
    assert text(left) == "WebSocket DISCONNECT /ws/1 1001 [127.0.0.1:5000]"
    assert left is not None
    assert left.status is None
    assert exchange.sent({"type": "websocket.close"}) is None
    assert exchange.ended() is None


@pytest.mark.parametrize(("event", "code"), [({}, 1000), ({"code": 4001}, 4001)])
def test_a_close_by_the_application_ends_with_its_code(event: Message, code: int) -> None:
    exchange = WebSocketExchange(websocket_scope())
    exchange.sent({"type": "websocket.accept"})

    assert f"DISCONNECT /ws/1 {code} " in text(exchange.sent({"type": "websocket.close", **event}))
    assert exchange.received({"type": "websocket.disconnect", "code": 1006}) is None


def test_a_disconnect_without_a_code_is_1005() -> None:
    assert " 1005 " in text(WebSocketExchange(websocket_scope()).received({"type": "websocket.disconnect"}))


def test_an_application_that_drops_an_open_websocket_gives_1006() -> None:
    exchange = WebSocketExchange(websocket_scope())
    exchange.sent({"type": "websocket.accept"})

    assert text(exchange.ended()) == "WebSocket DISCONNECT /ws/1 1006 [127.0.0.1:5000]"


@pytest.mark.parametrize(
    ("event", "status"),
    [({"type": "websocket.close"}, 403), ({"type": "websocket.http.response.start", "status": 401}, 401)],
)
def test_a_refused_websocket_gives_its_status(event: Message, status: int) -> None:
    exchange = WebSocketExchange(websocket_scope())

    line = exchange.sent(event)

    assert text(line) == f"WebSocket REJECT /ws/1 {status} [127.0.0.1:5000]"
    assert line is not None
    assert line.status == status
    assert exchange.ended() is None


def test_a_handshake_that_nobody_decided_is_the_servers_500() -> None:
    assert text(WebSocketExchange(websocket_scope()).ended()) == "WebSocket REJECT /ws/1 500 [127.0.0.1:5000]"


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _drop(message: Message) -> None:
    pass


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What a logger of the test's own gets."""
    taken: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            taken.append(record)

    logger = logging.getLogger("tests.access")
    handler = Keep()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield taken
    logger.removeHandler(handler)


def access_log(application: Any) -> AccessLog:
    times = iter(range(100))
    return AccessLog(application, logger=logging.getLogger("tests.access"), clock=lambda: float(next(times)))


async def test_the_wrapper_logs_once_what_the_server_took(records: list[logging.LogRecord]) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(END)

    await access_log(application)(http_scope(), _nothing, _drop)

    assert [record.getMessage() for record in records] == ["HTTP GET /room/1 200 [2.00 s, 127.0.0.1:5000]"]
    assert records[0].status_code == 200  # type: ignore[attr-defined]
    assert records[0].server_time.count(":") == 2  # type: ignore[attr-defined]


async def test_the_wrapper_lets_an_error_pass_and_logs_the_end(records: list[logging.LogRecord]) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        raise ValueError("mine")

    for scope in (http_scope(), websocket_scope()):
        with pytest.raises(ValueError, match="mine"):
            await access_log(application)(scope, _nothing, _drop)

    assert [record.getMessage().rpartition(" [")[0] for record in records] == [
        "HTTP GET /room/1 aborted",
        "WebSocket CONNECT /ws/1",
        "WebSocket DISCONNECT /ws/1 1006",
    ]


async def test_a_lifespan_is_not_logged(records: list[logging.LogRecord]) -> None:
    seen: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    await access_log(application)({"type": "lifespan"}, _nothing, _drop)

    assert seen == [{"type": "lifespan"}]
    assert records == []


# Where the lines go


@pytest.fixture
def output(loggers: dict[str, logging.Logger]) -> io.StringIO:
    """What Django's own handler of the development server writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    formatter = ServerFormatter("[{server_time}] {message}", style="{")
    formatter.style = no_style()
    handler.setFormatter(formatter)
    loggers["django.server"].addHandler(handler)
    return stream


def loud() -> Style:
    """A style with colours, wherever the tests write to."""
    return make_style("light")


def test_by_default_the_lines_go_where_djangos_own_go_in_the_commands_style(output: io.StringIO) -> None:
    server_logger(loud()).warning("lost %s", "/x", extra={"status_code": 404, "server_time": "now"})

    assert output.getvalue() == "[now] " + loud().HTTP_NOT_FOUND("lost /x") + "\n"
    assert "\x1b[" in output.getvalue()


def test_without_colours_the_lines_are_plain(output: io.StringIO) -> None:
    server_logger(no_style()).warning("lost", extra={"status_code": 404, "server_time": "now"})

    assert output.getvalue() == "[now] lost\n"


def test_djangos_own_handler_keeps_its_style(output: io.StringIO, loggers: dict[str, logging.Logger]) -> None:
    server_logger(loud())
    loggers["django.server"].warning("lost", extra={"status_code": 404, "server_time": "now"})

    assert output.getvalue() == "[now] lost\n"


def test_asking_twice_gives_no_second_line(output: io.StringIO) -> None:
    server_logger(no_style())
    server_logger(no_style()).info("once", extra={"server_time": "now"})

    assert output.getvalue() == "[now] once\n"


def test_a_handler_with_another_formatter_is_used_as_it_is(loggers: dict[str, logging.Logger]) -> None:
    handler = logging.StreamHandler(io.StringIO())
    loggers["django.server"].addHandler(handler)

    # pytest adds handlers of its own to a logger that does not propagate.
    assert handler in server_logger(loud()).handlers


@pytest.mark.parametrize("name", [LOGGER_NAME, "django.channels"])
def test_a_project_that_gave_the_logger_handlers_has_decided(name: str, loggers: dict[str, logging.Logger]) -> None:
    own = logging.StreamHandler(io.StringIO())
    loggers[name].addHandler(own)
    loggers["django.server"].addHandler(logging.StreamHandler(io.StringIO()))

    logger = server_logger(loud())

    assert logger.handlers == ([own] if name == LOGGER_NAME else [])
    assert logger.propagate
    assert logger.level == logging.NOTSET


def test_a_project_that_stopped_propagation_has_decided(
    output: io.StringIO, loggers: dict[str, logging.Logger]
) -> None:
    loggers[LOGGER_NAME].propagate = False

    assert server_logger(loud()).handlers == []


@pytest.mark.usefixtures("output")
def test_a_level_for_django_does_not_hide_the_lines_but_one_for_channels_does(
    loggers: dict[str, logging.Logger],
) -> None:
    loggers["django"].setLevel(logging.ERROR)
    assert server_logger(loud()).isEnabledFor(logging.INFO)

    loggers[LOGGER_NAME].handlers.clear()
    loggers[LOGGER_NAME].propagate = True
    loggers[LOGGER_NAME].setLevel(logging.NOTSET)
    loggers["django.channels"].setLevel(logging.ERROR)
    assert not server_logger(loud()).isEnabledFor(logging.INFO)

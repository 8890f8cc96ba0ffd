"""The development server's time limits, at the level of ASGI events."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from sealane.exceptions import HandshakeTimeout
from sealane.server import deadlines
from sealane.server.deadlines import Deadlines
from sealane.types import Message, Receive, Scope, Send

SHORT = 0.02


class Connection:
    """A server's side of one connection: events for the application in, its events out."""

    def __init__(self, type: str, *, extensions: dict[str, Any] | None = None) -> None:
        self.scope: Scope = {"type": type, "extensions": extensions}
        self.sent: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    async def serve(self, application: Deadlines) -> None:
        async with asyncio.timeout(10):
            await application(self.scope, self.incoming.get, self.send)

    @property
    def types(self) -> list[str]:
        return [message["type"] for message in self.sent]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("limit", [None, 0, 5.0])
@pytest.mark.parametrize("type", ["http", "websocket", "lifespan"])
async def test_an_application_in_time_notices_nothing(type: str, limit: float | None) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": await receive()})

    connection = Connection(type)
    connection.incoming.put_nowait("hello")  # type: ignore[arg-type]

    await connection.serve(Deadlines(application, http=limit, handshake=limit))

    assert connection.types == ["hello"]


@pytest.mark.parametrize("type", ["http", "websocket"])
async def test_an_error_of_the_application_passes(type: str) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await Connection(type).serve(Deadlines(application, http=5, handshake=5))


async def test_a_request_without_a_response_gets_a_503_and_the_application_is_cancelled_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deadlines, "PATIENCE", SHORT)
    events: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    connection = Connection("http")
    await connection.serve(Deadlines(application, http=SHORT))

    assert events == [], "the client has its answer before the application has ended"
    start, body = connection.sent
    assert (start["type"], start["status"]) == ("http.response.start", 503)
    assert body == {
        "type": "http.response.body",
        "body": b"No complete response within the server's time limit\n",
    }
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(body["body"])
    await until(lambda: events == ["cancelled"])


async def test_an_application_that_hears_of_the_end_ends_by_itself_and_what_it_sends_is_dropped() -> None:
    events: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        event = await receive()
        await send({"type": "http.response.start", "status": 200})
        events.append(event["type"])

    connection = Connection("http")
    limited = Deadlines(application, http=SHORT)
    await connection.serve(limited)
    connection.incoming.put_nowait({"type": "http.disconnect"})
    await until(lambda: events)

    assert events == ["http.disconnect"]
    assert [message["status"] for message in connection.sent if "status" in message] == [503]


async def test_a_response_that_has_begun_is_left_without_its_end() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await receive()

    connection = Connection("http")
    await connection.serve(Deadlines(application, http=SHORT))

    assert connection.types == ["http.response.start"]
    connection.incoming.put_nowait({"type": "http.disconnect"})


async def test_an_error_after_the_limit_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError("late")

    connection = Connection("http")
    await connection.serve(Deadlines(application, http=SHORT))
    with caplog.at_level(logging.ERROR, logger="sealane.server"):
        connection.incoming.put_nowait({"type": "http.disconnect"})
        await until(lambda: caplog.records)

    assert caplog.records[0].getMessage() == "Exception in ASGI application, after its time limit"
    assert caplog.records[0].exc_info is not None
    assert str(caplog.records[0].exc_info[1]) == "late"


async def test_cancellation_reaches_the_application_and_waits_for_its_end() -> None:
    events: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        events.append("began")
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            events.append("cleaned up")

    task = asyncio.create_task(Connection("http").serve(Deadlines(application, http=3600)))
    await until(lambda: events)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert events == ["began", "cleaned up"]


@pytest.mark.parametrize(
    ("extensions", "sent"),
    [
        ({"websocket.http.response": {}}, ["websocket.http.response.start", "websocket.http.response.body"]),
        ({}, ["websocket.close"]),
        (None, ["websocket.close"]),
    ],
)
async def test_an_undecided_websocket_is_refused(extensions: dict[str, Any] | None, sent: list[str]) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await until(lambda: connection.types == sent)

    connection = Connection("websocket", extensions=extensions)
    await connection.serve(Deadlines(application, handshake=SHORT))

    assert connection.types == sent
    assert connection.sent[0].get("status", 503) == 503


async def test_what_is_sent_after_the_refusal_raises_and_may_escape() -> None:
    raised: list[HandshakeTimeout] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await until(lambda: connection.sent)
        try:
            await send({"type": "websocket.accept"})
        except HandshakeTimeout as error:
            raised.append(error)
            raise

    connection = Connection("websocket")
    await connection.serve(Deadlines(application, handshake=SHORT))

    assert connection.types == ["websocket.close"]
    assert isinstance(raised[0], OSError)
    assert (raised[0].event, raised[0].limit) == ("websocket.accept", SHORT)
    assert str(raised[0]) == (
        "'websocket.accept' was not sent: the WebSocket was neither accepted nor refused within 0.02 s, so the "
        "server has refused it"
    )


@pytest.mark.parametrize("decision", ["websocket.accept", "websocket.close", "websocket.http.response.start"])
async def test_a_decision_in_time_ends_the_limit(decision: str) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": decision})
        await asyncio.sleep(SHORT * 3)
        await send({"type": "websocket.send", "text": "still here"})

    connection = Connection("websocket")
    await connection.serve(Deadlines(application, handshake=SHORT))

    assert connection.types == [decision, "websocket.send"]


async def test_no_task_is_left_behind() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})

    before = asyncio.all_tasks()
    for _ in range(3):
        await Connection("websocket").serve(Deadlines(application, handshake=3600))
        await Connection("http").serve(Deadlines(application, http=3600))

    assert asyncio.all_tasks() == before


async def test_a_client_that_left_needs_no_refusal() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await until(lambda: connection.sent)

    class Gone(Connection):
        async def send(self, message: Message) -> None:
            self.sent.append(message)
            raise OSError("the client has left")

    connection = Gone("websocket")

    await connection.serve(Deadlines(application, http=None, handshake=SHORT))

    assert connection.types == ["websocket.close"]

"""HttpCommunicator: the whole response, the response piece by piece, and leaving early."""

import asyncio
import time
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler

from sealane.exceptions import ApplicationEnded, UnexpectedEvent
from sealane.testing import HttpCommunicator
from sealane.types import Message, Receive, Scope, Send


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the request, in two pieces."""
    request = await receive()
    await send({"type": "http.response.start", "status": 201, "headers": [(b"x-path", scope["raw_path"])]})
    await send({"type": "http.response.body", "body": scope["method"].encode() + b" ", "more_body": True})
    await send({"type": "http.response.body", "body": request["body"]})


def sending(*events: Message) -> Any:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for event in events:
            await send(event)

    return application


async def ticker(scope: Scope, receive: Receive, send: Send) -> None:
    """Send a tick for each event but the disconnect."""
    await send({"type": "http.response.start", "status": 200})
    while (await receive())["type"] != "http.disconnect":
        await send({"type": "http.response.body", "body": b"tick", "more_body": True})
    ticker.left = True  # type: ignore[attr-defined]


async def test_the_whole_response() -> None:
    async with HttpCommunicator(show, "post", "/a%20b/?q=1", body=b"hello") as communicator:
        response = await communicator.get_response()
        assert response == {"status": 201, "headers": [(b"x-path", b"/a%20b/")], "body": b"POST hello"}
        assert await communicator.get_response() == response


async def test_channels_positional_arguments() -> None:
    communicator = HttpCommunicator(show, "GET", "/", b"body", [(b"Accept", b"*/*")])
    assert communicator.scope["headers"] == [(b"accept", b"*/*")]
    assert (await communicator.get_response(1))["body"] == b"GET body"
    await communicator.wait()


def test_the_scope_is_what_a_server_makes() -> None:
    communicator = HttpCommunicator(show, "get", "/caf%C3%A9/é?x=%20y")
    assert communicator.scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/café/é",
        "raw_path": b"/caf%C3%A9/%C3%A9",
        "root_path": "",
        "query_string": b"x=%20y",
        "headers": [],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
    }


@pytest.mark.parametrize(
    ("given", "path", "query"),
    [
        ("/a", "/a", b""),
        ("//a//b?c=//d", "//a//b", b"c=//d"),
        ("http://example.com/a?b=c", "/a", b"b=c"),
        ("http://example.com", "/", b""),
        ("/a?next=http://example.com/", "/a", b"next=http://example.com/"),
        ("/a?b#c", "/a", b"b"),
        ("/a?b=?", "/a", b"b=?"),
    ],
)
def test_paths(given: str, path: str, query: bytes) -> None:
    scope = HttpCommunicator(show, "GET", given).scope
    assert (scope["path"], scope["query_string"]) == (path, query)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"X-Name", b"caf\xe9")],
        [("X-Name", "café")],
        [[b"x-name", b"caf\xe9"]],
        {"X-Name": "café"},
        {b"X-Name": b"caf\xe9"},
        iter([(b"x-name", "café")]),
    ],
)
def test_headers_in_every_spelling(headers: Any) -> None:
    assert HttpCommunicator(show, "GET", "/", headers=headers).scope["headers"] == [(b"x-name", b"caf\xe9")]


def test_arguments_of_the_wrong_type() -> None:
    with pytest.raises(TypeError, match=r"^A path is a str such as '/chat/\?room=1', not b'/'$"):
        HttpCommunicator(show, "GET", b"/")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^A request's body is bytes, not str$"):
        HttpCommunicator(show, "GET", "/", body="text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^A header's value is bytes or str, not 1$"):
        HttpCommunicator(show, "GET", "/", headers=[(b"a", 1)])  # type: ignore[list-item]


async def test_a_response_in_pieces() -> None:
    pieces = [b"a", b"", b"bc"]
    application = sending(
        {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]},
        *({"type": "http.response.body", "body": piece, "more_body": True} for piece in pieces),
        {"type": "http.response.body"},
    )
    async with HttpCommunicator(application, "GET", "/") as communicator:
        assert await communicator.get_start() == {"status": 200, "headers": [(b"a", b"b")]}
        assert [piece async for piece in communicator.iter_body()] == [b"a", b"bc"]
        assert await communicator.receive_chunk() == b""
        assert (await communicator.get_response())["body"] == b""


async def test_a_call_that_times_out_loses_nothing() -> None:
    gate = asyncio.Semaphore(0)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.acquire()
        await send({"type": "http.response.start", "status": 200})
        for piece, more in ((b"a", True), (b"b", False)):
            await gate.acquire()
            await send({"type": "http.response.body", "body": piece, "more_body": more})

    async with HttpCommunicator(application, "GET", "/") as communicator:
        for awaited in ("start", "body", "body"):
            with pytest.raises(TimeoutError, match=rf"^Waited 0\.01 s for http\.response\.{awaited} in vain"):
                await communicator.get_response(timeout=0.01)
            gate.release()
        assert await communicator.get_response() == {"status": 200, "headers": [], "body": b"ab"}


async def test_what_comes_in_the_turn_in_which_the_time_is_over_has_come_in_time() -> None:
    gate = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await gate.wait()
        await send({"type": "http.response.start", "status": 200})

    def stand_still() -> None:
        time.sleep(0.02)  # as the whole process may on a busy machine
        gate.set()

    async with HttpCommunicator(application, "GET", "/") as communicator:
        with pytest.raises(TimeoutError):
            await communicator.get_start(timeout=0.01)
        asyncio.get_running_loop().call_soon(stand_still)
        assert await communicator.get_start(timeout=0.01) == {"status": 200, "headers": []}
        await communicator.disconnect()


async def test_a_long_response_is_left() -> None:
    async with HttpCommunicator(ticker, "GET", "/") as communicator:
        assert await communicator.receive_chunk() == b"tick"
        with pytest.raises(TimeoutError):
            await communicator.receive_chunk(timeout=0.01)
        await communicator.disconnect()
        assert ticker.left  # type: ignore[attr-defined]


async def test_leaving_the_block_leaves_the_response() -> None:
    ticker.left = False  # type: ignore[attr-defined]
    async with HttpCommunicator(ticker, "GET", "/") as communicator:
        assert (await communicator.get_start())["status"] == 200
    assert ticker.left  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (
            [{"type": "http.response.body"}],
            r"^Expected http\.response\.start, but the application sent \{'type': 'http\.re",
        ),
        (
            [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
            r"^Expected http\.response\.body, but",
        ),
        (
            [{"type": "http.response.start", "status": 200}, {"type": "http.response.body", "body": "text"}],
            r"^Expected http\.response\.body with a body of bytes, but",
        ),
        (
            [{"type": "x" * 400}],
            r"but the application sent \{'type': 'x{290}\.\.\. \(412 characters\)$",
        ),
    ],
)
async def test_events_out_of_order_fail_the_test(events: list[Message], message: str) -> None:
    async with HttpCommunicator(sending(*events), "GET", "/") as communicator:
        with pytest.raises(UnexpectedEvent, match=message) as caught:
            await communicator.get_response()
        assert isinstance(caught.value, AssertionError)
        assert caught.value.event == events[-1]


async def test_an_application_that_does_not_answer() -> None:
    async with HttpCommunicator(sending(), "GET", "/") as communicator:
        with pytest.raises(
            ApplicationEnded,
            match=r"^Waited for http\.response\.start, but the application has ended; it sent nothing$",
        ):
            await communicator.get_response()


async def test_django_itself_answers() -> None:
    async with HttpCommunicator(ASGIHandler(), "GET", "/") as communicator:
        response = await communicator.get_response(timeout=10)
    assert (response["status"], response["body"]) == (200, b"Django: /")

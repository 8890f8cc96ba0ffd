"""WebsocketCommunicator: the handshake and its refusals, frames, JSON, and both ways of closing."""

import asyncio
import datetime
import decimal
import uuid
from typing import Any

import pytest

from sealane.exceptions import ApplicationTimeout, UnexpectedEvent, WebsocketDenied
from sealane.testing import WebsocketCommunicator
from sealane.types import Message, Receive, Scope, Send


class Echo:
    """Accept, echo every frame, close when told so; and remember the disconnect."""

    def __init__(self) -> None:
        self.scope: Scope = {}
        self.disconnects: list[Message] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        assert (await receive())["type"] == "websocket.connect"
        await send(
            {
                "type": "websocket.accept",
                "subprotocol": next(iter(scope["subprotocols"]), None),
                "headers": [(b"x-hello", b"there")],
            }
        )
        while (event := await receive())["type"] == "websocket.receive":
            if event.get("text") == "close":
                await send({"type": "websocket.close", "code": 4321, "reason": "as you wish"})
            else:
                await send({**event, "type": "websocket.send"})
        self.disconnects.append(event)


def sending(*events: Message) -> Any:
    """Make an application that answers the handshake with these events and waits for the disconnect."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for event in events:
            await send(event)
        await receive()

    return application


ACCEPT = {"type": "websocket.accept"}


async def test_channels_way() -> None:
    echo = Echo()
    communicator = WebsocketCommunicator(echo, "/ws/?room=1", [(b"Origin", b"http://a")], ["v2", "v1"])
    assert await communicator.connect() == (True, "v2")
    assert communicator.response_headers == [(b"x-hello", b"there")]
    await communicator.send_to(text_data="hello")
    assert await communicator.receive_from() == "hello"
    await communicator.send_to(bytes_data=b"\0")
    assert await communicator.receive_from() == b"\0"
    assert await communicator.receive_nothing(timeout=0.01)
    await communicator.disconnect(code=1001)
    await communicator.disconnect()
    assert echo.disconnects == [{"type": "websocket.disconnect", "code": 1001}]
    assert echo.scope["headers"] == [(b"origin", b"http://a")]
    assert (echo.scope["path"], echo.scope["query_string"]) == ("/ws/", b"room=1")


async def test_the_block_connects_and_disconnects() -> None:
    echo = Echo()
    async with WebsocketCommunicator(echo, "/ws/") as ws:
        await ws.send_to("")
        assert await ws.receive_from() == ""
        assert await ws.connect() == (True, None)
    assert echo.disconnects == [{"type": "websocket.disconnect", "code": 1000}]


async def test_the_block_does_not_mask_the_error_of_the_test() -> None:
    echo = Echo()
    with pytest.raises(ZeroDivisionError):
        async with WebsocketCommunicator(echo, "/ws/"):
            _ = 1 / 0
    assert echo.disconnects == [{"type": "websocket.disconnect", "code": 1000}]


def test_the_scope_is_what_a_server_makes() -> None:
    scope = WebsocketCommunicator(Echo(), "/a%20b/").scope
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/a b/",
        "raw_path": b"/a%20b/",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }
    scope = WebsocketCommunicator(Echo(), "/", spec_version="2.3", denial_response=False).scope
    assert scope["spec_version"] == scope["asgi"]["spec_version"] == "2.3"
    assert "extensions" not in scope


class TestARefusal:
    async def test_has_a_close_code(self) -> None:
        async with asyncio.timeout(20):
            communicator = WebsocketCommunicator(sending({"type": "websocket.close", "code": 4001}), "/")
            assert await communicator.connect() == (False, 4001)
            assert await communicator.connect() == (False, 4001)
            assert await communicator.receive_close() == 4001
            await communicator.disconnect()

    async def test_has_code_1000_by_default(self) -> None:
        communicator = WebsocketCommunicator(sending({"type": "websocket.close"}), "/")
        assert await communicator.connect() == (False, 1000)
        await communicator.disconnect()

    async def test_may_be_an_http_response(self) -> None:
        application = sending(
            {"type": "websocket.http.response.start", "status": 404, "headers": [(b"a", b"b")]},
            {"type": "websocket.http.response.body", "body": b"no ", "more_body": True},
            {"type": "websocket.http.response.body", "body": b"room"},
        )
        communicator = WebsocketCommunicator(application, "/")
        assert await communicator.connect() == (False, 404)
        assert communicator.denial == {"status": 404, "headers": [(b"a", b"b")], "body": b"no room"}
        await communicator.disconnect()

    async def test_is_an_error_in_a_block_and_the_application_ends(self) -> None:
        communicator = WebsocketCommunicator(sending({"type": "websocket.close", "code": 4001}), "/")
        with pytest.raises(WebsocketDenied, match=r"^The application denied the WebSocket with close code 4001$"):
            async with communicator:
                pytest.fail("entered")
        assert communicator.future.done()
        assert not communicator.future.cancelled()

    async def test_tells_the_http_response_in_a_block(self) -> None:
        application = sending(
            {"type": "websocket.http.response.start", "status": 404},
            {"type": "websocket.http.response.body", "body": b"no room"},
        )
        message = r"^The application denied the WebSocket with HTTP status 404 and the body b'no room'$"
        with pytest.raises(WebsocketDenied, match=message) as caught:
            async with WebsocketCommunicator(application, "/"):
                pytest.fail("entered")
        assert (caught.value.code, caught.value.status, caught.value.body) == (None, 404, b"no room")

    async def test_in_the_wrong_order_fails_the_test(self) -> None:
        async with asyncio.timeout(20):
            communicator = WebsocketCommunicator(sending({"type": "websocket.send", "text": "early"}), "/")
            with pytest.raises(UnexpectedEvent, match=r"^Expected websocket\.accept or websocket\.close, but"):
                await communicator.connect()
            await communicator.disconnect()
            start = {"type": "websocket.http.response.start", "status": 404}
            communicator = WebsocketCommunicator(sending(start, ACCEPT), "/")
            with pytest.raises(UnexpectedEvent, match=r"^Expected websocket\.http\.response\.body, but"):
                await communicator.connect()
            await communicator.disconnect()


async def test_a_connect_that_times_out_asks_only_once() -> None:
    gate = asyncio.Event()
    got: list[str] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        got.append((await receive())["type"])
        await gate.wait()
        await send(ACCEPT)
        got.append((await receive())["type"])

    communicator = WebsocketCommunicator(slow, "/")
    with pytest.raises(ApplicationTimeout, match=r"^Waited 0\.01 s for an answer to the handshake in vain"):
        await communicator.connect(timeout=0.01)
    gate.set()
    assert await communicator.connect() == (True, None)
    await communicator.disconnect()
    assert got == ["websocket.connect", "websocket.disconnect"]


async def test_an_application_that_fails_in_the_handshake_fails_the_block() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise KeyError("room")

    with pytest.raises(KeyError, match="room") as caught:
        async with WebsocketCommunicator(broken, "/"):
            pytest.fail("entered")
    assert not hasattr(caught.value, "__notes__")


async def test_send_to_takes_exactly_one_frame_of_the_right_type() -> None:
    async with WebsocketCommunicator(Echo(), "/") as ws:
        for arguments in ({}, {"text_data": "a", "bytes_data": b"a"}):
            with pytest.raises(TypeError, match=r"^send_to\(\) takes exactly one of text_data and bytes_data$"):
                await ws.send_to(**arguments)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^text_data is a str, not bytes$"):
            await ws.send_to(text_data=b"a")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"^bytes_data is bytes, not str$"):
            await ws.send_to(bytes_data="a")  # type: ignore[arg-type]
        assert await ws.receive_nothing(timeout=0.01)


async def test_json_by_the_rules_of_django() -> None:
    identity = uuid.uuid4()
    async with WebsocketCommunicator(Echo(), "/") as ws:
        await ws.send_json_to(
            {"id": identity, "at": datetime.date(2024, 2, 29), "price": decimal.Decimal("1.50"), "é": None}
        )
        assert await ws.receive_json_from() == {"id": str(identity), "at": "2024-02-29", "price": "1.50", "é": None}


async def test_what_is_not_json_fails_the_test() -> None:
    async with WebsocketCommunicator(Echo(), "/") as ws:
        await ws.send_to(bytes_data=b"{}")
        with pytest.raises(UnexpectedEvent, match=r"^Expected JSON in a text frame, but .*b'\{\}'"):
            await ws.receive_json_from()
        await ws.send_to("{")
        with pytest.raises(UnexpectedEvent, match=r"^Expected JSON, but the application sent .*'text': '\{'"):
            await ws.receive_json_from()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({}, r"exactly one of 'text' and 'bytes', but"),
        ({"text": "a", "bytes": b"a"}, r"exactly one of 'text' and 'bytes', but"),
        ({"text": b"a"}, r"a 'text' that is a str, but"),
        ({"bytes": "a"}, r"'bytes' that are bytes, but"),
    ],
)
async def test_a_malformed_frame_fails_the_test(frame: Message, message: str) -> None:
    async with WebsocketCommunicator(sending(ACCEPT, {"type": "websocket.send", **frame}), "/") as ws:
        with pytest.raises(UnexpectedEvent, match=message):
            await ws.receive_from()


async def test_a_frame_may_name_the_other_kind_as_none() -> None:
    async with WebsocketCommunicator(
        sending(ACCEPT, {"type": "websocket.send", "text": None, "bytes": b"a"}), "/"
    ) as ws:
        assert await ws.receive_from() == b"a"


class TestAnApplicationThatCloses:
    async def test_is_seen_with_code_and_reason(self) -> None:
        echo = Echo()
        async with WebsocketCommunicator(echo, "/") as ws:
            await ws.send_to("close")
            assert await ws.receive_close() == 4321
            assert (ws.close_code, ws.close_reason) == (4321, "as you wish")
        # A server gives the application its own code back.
        assert echo.disconnects == [{"type": "websocket.disconnect", "code": 4321}]

    async def test_gets_its_code_back_when_nobody_looked(self) -> None:
        echo = Echo()
        async with WebsocketCommunicator(echo, "/") as ws:
            await ws.send_to("close")
            await ws.send_to("a")
            assert (await ws.receive_output())["type"] == "websocket.close"
            assert await ws.receive_from() == "a"
        assert echo.disconnects == [{"type": "websocket.disconnect", "code": 4321}]

    async def test_closes_with_1000_by_default(self) -> None:
        async with WebsocketCommunicator(sending(ACCEPT, {"type": "websocket.close"}), "/") as ws:
            assert await ws.receive_close() == 1000
            assert ws.close_reason == ""

    async def test_fails_a_receive_from_and_is_remembered(self) -> None:
        async with WebsocketCommunicator(Echo(), "/") as ws:
            await ws.send_to("close")
            with pytest.raises(UnexpectedEvent, match=r"^Expected websocket\.send, but .*'code': 4321"):
                await ws.receive_from()
            assert await ws.receive_close() == 4321

    async def test_and_a_frame_before_it_fails_receive_close(self) -> None:
        async with WebsocketCommunicator(Echo(), "/") as ws:
            await ws.send_to("frame")
            with pytest.raises(UnexpectedEvent, match=r"^Expected websocket\.close, but .*'frame'"):
                await ws.receive_close()


async def test_a_reason_is_passed_on() -> None:
    echo = Echo()
    communicator = WebsocketCommunicator(echo, "/")
    await communicator.connect()
    await communicator.disconnect(4000, reason="enough")
    assert echo.disconnects == [{"type": "websocket.disconnect", "code": 4000, "reason": "enough"}]


async def test_a_disconnect_that_the_application_ignores_cancels_it() -> None:
    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await asyncio.Event().wait()

    communicator = WebsocketCommunicator(deaf, "/")
    await communicator.connect()
    with pytest.raises(ApplicationTimeout, match=r"^Waited 0\.01 s for the application's end in vain"):
        await communicator.disconnect(timeout=0.01)
    assert communicator.future.cancelled()

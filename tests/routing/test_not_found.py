"""not_found, on a real server and against the ASGI events."""

import asyncio
import logging
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.exceptions

from sealane.exceptions import UnknownScopeType
from sealane.routing import ProtocolTypeRouter, URLRouter, not_found
from sealane.types import Message
from tests.routing.exchange import Exchange
from tests.routing.recording import serving

DENIAL: dict[str, Any] = {"websocket.http.response": {}}


def _lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    assert all(record.exc_info is None for record in caplog.records)
    return [entry for entry in caplog.record_tuples if entry[0] == "sealane.routing"]


async def _request(port: int, method: str, path: str) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


async def test_http_on_a_real_server(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(20), serving(URLRouter([], not_found=not_found), lifespan="off") as port:
        head, body = await _request(port, "GET", "/nothing/here")
        bare_head, bare_body = await _request(port, "HEAD", "/bare")
    assert head.startswith(b"HTTP/1.1 404 ")
    assert b"\r\ncontent-type: text/plain; charset=utf-8\r\n" in head + b"\r\n"
    assert b"\r\ncontent-length: 9\r\n" in head + b"\r\n"
    assert body == b"Not Found"
    assert bare_head.startswith(b"HTTP/1.1 404 ")
    assert bare_body == b""
    assert _lines(caplog) == [
        ("sealane.routing", logging.WARNING, "Not Found: /nothing/here"),
        ("sealane.routing", logging.WARNING, "Not Found: /bare"),
    ]


async def test_websocket_on_a_real_server(caplog: pytest.LogCaptureFixture) -> None:
    application = ProtocolTypeRouter({"websocket": URLRouter([], not_found=not_found)})
    async with asyncio.timeout(20), serving(application, lifespan="off") as port:
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            await websockets.asyncio.client.connect(f"ws://127.0.0.1:{port}/nothing", proxy=None)
    assert refused.value.response.status_code == 404
    assert refused.value.response.body == b"Not Found"
    assert _lines(caplog) == [("sealane.routing", logging.WARNING, "Not Found: /nothing")]


async def test_http_events() -> None:
    sent = await Exchange.http(path="/x").run(not_found)
    assert sent == [
        {
            "type": "http.response.start",
            "status": 404,
            "headers": [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"9")],
        },
        {"type": "http.response.body", "body": b"Not Found"},
    ]


async def test_websocket_events_with_the_denial_extension() -> None:
    exchange = Exchange.websocket(extensions=DENIAL)
    sent = await exchange.run(not_found)
    assert exchange.events == []
    assert [message["type"] for message in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert sent[0]["status"] == 404


@pytest.mark.parametrize("scope", [{}, {"extensions": {}}, {"extensions": None}])
async def test_websocket_events_without_the_extension(scope: dict[str, Any]) -> None:
    exchange = Exchange.websocket(**scope)
    assert await exchange.run(not_found) == [{"type": "websocket.close"}]
    assert exchange.events == []


async def test_nothing_is_sent_before_the_connect_was_received() -> None:
    sent: list[Message] = []
    connect: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    async def receive() -> Message:
        return await connect

    async def send(message: Message) -> None:
        sent.append(message)

    task = asyncio.create_task(not_found({"type": "websocket", "path": "/x"}, receive, send))
    for _ in range(5):
        await asyncio.sleep(0)
    assert sent == []
    connect.set_result({"type": "websocket.connect"})
    await task
    assert sent == [{"type": "websocket.close"}]


async def test_a_websocket_that_left_already() -> None:
    scope = {"type": "websocket", "path": "/x", "extensions": DENIAL}
    assert await Exchange(scope, {"type": "websocket.disconnect", "code": 1006}).run(not_found) == []


@pytest.mark.parametrize("extensions", [{}, DENIAL])
@pytest.mark.parametrize("protocol", ["http", "websocket"])
async def test_a_client_that_leaves_meanwhile_is_no_error(protocol: str, extensions: dict[str, Any]) -> None:
    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        raise ConnectionResetError

    await not_found({"type": protocol, "path": "/x", "extensions": extensions}, receive, send)


async def test_two_answers_share_no_headers() -> None:
    first, _ = await Exchange.http().run(not_found)
    first["headers"].append((b"x-more", b"1"))
    second, _ = await Exchange.http().run(not_found)
    assert len(second["headers"]) == 2


async def test_a_path_cannot_forge_or_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await Exchange.http(path="/x\nERROR forged \x1b[31m é").run(not_found)
    await Exchange.http(path="/" + "y" * 100_000).run(not_found)
    forged, flood = (line for _, _, line in _lines(caplog))
    assert forged == r"Not Found: /x\nERROR forged \x1b[31m \xe9"
    assert flood == f"Not Found: /{'y' * 199}..."


async def test_other_scopes() -> None:
    with pytest.raises(UnknownScopeType, match=r"scope type 'channel'\. Types known: 'http', 'websocket'$"):
        await Exchange({"type": "channel"}).run(not_found)

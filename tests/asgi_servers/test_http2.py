"""The example project over HTTP/2, where the server speaks it; beside it, windows that came over HTTP/1.1."""

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.asgi_servers.asgi_server import LIMIT, AsgiServer
from tests.asgi_servers.http2_socket import Http2Socket
from tests.asgi_servers.visitor import Visitor
from tests.asgi_servers.window import Window, looking_into

pytestmark = pytest.mark.untraced


@pytest.fixture
def modern(server: AsgiServer, claim: Callable[[str], str]) -> Iterator[Visitor]:
    """Somebody with a browser that speaks HTTP/2 and nothing else."""
    if claim("HTTP/2") == "no":
        pytest.skip(f"{server.kind.name} has no HTTP/2")
    with httpx.Client(base_url=server.http2_url, http1=False, http2=True, verify=server.tls(), timeout=LIMIT) as client:
        yield Visitor(client)


def test_pages_and_forms(modern: Visitor) -> None:
    slug = modern.open_room(f"Modern {uuid.uuid4().hex[:12]}")
    page = modern.look(f"/rooms/{slug}/")
    assert (page.status_code, page.http_version) == (200, "HTTP/2")
    assert 'id="log"' in page.text
    assert modern.look("/nowhere/").status_code == 404


async def test_a_notice_reaches_every_window(server: AsgiServer, modern: Visitor, room: str) -> None:
    async with looking_into(server, room) as ada:
        await ada.join("Ada")
        assert await asyncio.to_thread(modern.post_notice, "From the future") == {"sent": True}
        assert (await ada.receive("notice"))["text"] == "From the future"


def test_the_ticker_ticks_beside_other_requests(modern: Visitor) -> None:
    with modern.client.stream("GET", "/ticker/") as response:
        assert response.http_version == "HTTP/2"
        lines = (line for line in response.iter_lines() if line.startswith("data: "))
        first = json.loads(next(lines).removeprefix("data: "))
        # On the same connection, while the stream goes on.
        assert modern.look("/").status_code == 200
        assert json.loads(next(lines).removeprefix("data: "))["at"] > first["at"]


async def test_a_window_over_http2_talks_with_one_over_http1(
    server: AsgiServer, claim: Callable[[str], str], room: str
) -> None:
    if claim("WebSockets over HTTP/2") == "no":
        pytest.skip(f"{server.kind.name} has no WebSockets over HTTP/2")
    async with looking_into(server, room) as ada:
        await ada.join("Ada")
        with await asyncio.to_thread(Http2Socket.open, server.port) as grace:
            await asyncio.to_thread(join, grace, server, room)
            assert (await ada.receive("presence"))["name"] == "Grace"
            said = await ada.say("Welcome to the future")
            assert await asyncio.to_thread(receive, grace) == said
            words = {"action": "say", "text": "Thank you", "key": uuid.uuid4().hex}
            await asyncio.to_thread(grace.send, json.dumps(words))
            assert (await ada.receive("message"))["text"] == "Thank you"
            assert (await asyncio.to_thread(receive, grace))["text"] == "Thank you"
            assert await asyncio.to_thread(grace.close, 1000) == 1000
        await hears_that_grace_left(ada)


def join(window: Http2Socket, server: AsgiServer, room: str) -> None:
    assert window.offers_websockets()
    assert window.upgrade(f"/ws/rooms/{room}/", origin=server.url) == 200
    window.send(json.dumps({"action": "join", "name": "Grace", "after": 0}))
    assert receive(window)["type"] == "welcome"
    assert receive(window)["type"] == "presence"


def receive(window: Http2Socket) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(window.receive())
    return event


async def hears_that_grace_left(window: Window) -> None:
    left = await window.receive("presence")
    assert (left["name"], left["change"]) == ("Grace", "left")

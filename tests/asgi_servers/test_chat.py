"""The example project on each server, as its pages' visitors see it, over HTTP/1.1."""

import asyncio
import json
from collections.abc import Callable

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedOK, InvalidStatus
from websockets.typing import Origin

from tests.asgi_servers.asgi_server import LIMIT, AsgiServer
from tests.asgi_servers.visitor import Visitor
from tests.asgi_servers.window import looking_into

pytestmark = pytest.mark.untraced


async def test_what_is_typed_in_one_window_appears_in_the_other(server: AsgiServer, room: str) -> None:
    async with looking_into(server, room) as ada, looking_into(server, room) as grace:
        assert (await ada.join("Ada"))["people"] == 1
        assert (await grace.join("Grace"))["people"] == 2
        joined = await ada.receive("presence")
        assert (joined["name"], joined["change"], joined["people"]) == ("Grace", "joined", 2)

        for number, (speaker, listener, name) in enumerate([(ada, grace, "Ada"), (grace, ada, "Grace")]):
            said = await speaker.say(f"Line {number}, für alle: 船")
            assert (said["name"], said["text"]) == (name, f"Line {number}, für alle: 船")
            assert await listener.receive("message") == said


async def test_who_comes_later_reads_what_was_said(server: AsgiServer, room: str) -> None:
    async with looking_into(server, room) as ada:
        assert (await ada.join("Ada"))["messages"] == []
        said = [await ada.say(f"Line {number}") for number in range(3)]
        async with looking_into(server, room) as grace:
            welcome = await grace.join("Grace")
    assert [message["id"] for message in welcome["messages"]] == [message["id"] for message in said]
    assert [(message["name"], message["text"]) for message in welcome["messages"]] == [
        ("Ada", f"Line {number}") for number in range(3)
    ]


@pytest.mark.parametrize("how", ["closed", "cut"])
async def test_the_room_hears_who_left(server: AsgiServer, room: str, how: str) -> None:
    async with looking_into(server, room) as ada:
        await ada.join("Ada")
        async with looking_into(server, room) as grace:
            await grace.join("Grace")
            await ada.receive("presence")
            if how == "cut":
                grace.socket.transport.abort()
        left = await ada.receive("presence")
    assert left == {"type": "presence", "name": "Grace", "change": "left", "people": 1}


async def test_a_notice_of_the_view_reaches_every_window(server: AsgiServer, room: str, visitor: Visitor) -> None:
    """The view is synchronous, and sends by `layer.sync`."""
    other = await asyncio.to_thread(visitor.open_room, f"Other {room}")
    async with looking_into(server, room) as ada, looking_into(server, other) as grace:
        await ada.join("Ada")
        await grace.join("Grace")
        assert await asyncio.to_thread(visitor.post_notice, "The crane stops at noon") == {"sent": True}
        for window in (ada, grace):
            assert (await window.receive("notice"))["text"] == "The crane stops at noon"


def test_the_pages_are_there(room: str, visitor: Visitor) -> None:
    assert f"/rooms/{room}/" in visitor.look("/").text
    page = visitor.look(f"/rooms/{room}/")
    assert (page.status_code, page.http_version) == (200, "HTTP/1.1")
    assert 'id="log"' in page.text


def test_the_ticker_ticks(visitor: Visitor) -> None:
    first, second = (json.loads(tick) for tick in visitor.ticks(2))
    assert first["at"] < second["at"]


def test_an_unknown_page_is_not_found(visitor: Visitor) -> None:
    assert visitor.look("/nowhere/").status_code == 404
    assert visitor.look("/rooms/nowhere/").status_code == 404


@pytest.mark.parametrize(
    ("path", "body"), [("/ws/rooms/nowhere/", b"There is no such room."), ("/ws/nowhere/", b"Not Found")]
)
async def test_a_denied_socket_gets_a_status_and_a_text(
    server: AsgiServer, claim: Callable[[str], str], path: str, body: bytes
) -> None:
    with pytest.raises(InvalidStatus) as denied:
        await connect(server.ws_url + path, origin=Origin(server.url), open_timeout=LIMIT)
    response = denied.value.response
    if claim("Denial response") == "yes":
        assert (response.status_code, response.body) == (404, body)
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
    else:
        assert response.status_code == 403


async def test_a_page_of_another_site_is_refused(server: AsgiServer, room: str) -> None:
    with pytest.raises(InvalidStatus) as denied:
        await connect(f"{server.ws_url}/ws/rooms/{room}/", origin=Origin("http://elsewhere.example"))
    assert denied.value.response.status_code == 403


async def test_bad_input_is_answered_and_the_socket_stays(server: AsgiServer, room: str) -> None:
    async with looking_into(server, room) as ada:
        await ada.send(action="join", name="A" * 25)
        assert "name: Ensure this value has at most 24 characters" in (await ada.receive("error"))["message"]
        await ada.join("Ada")
        frames: list[tuple[str | bytes, str]] = [
            ("{not JSON", "not JSON"),
            (b"picture", "text"),
            ("[]", "Expected an object"),
        ]
        for frame, answer in frames:
            await ada.socket.send(frame)
            assert answer in (await ada.receive("error"))["message"]
        await ada.send(action="say", text="a" * 1001, key="0" * 32)
        assert "text: Ensure this value has at most 1000 characters" in (await ada.receive("error"))["message"]
        assert (await ada.say("Still here"))["text"] == "Still here"


async def test_a_close_is_clean(server: AsgiServer, room: str) -> None:
    async with looking_into(server, room) as ada:
        await ada.join("Ada")
        await ada.socket.close(1000, "Good night")
        with pytest.raises(ConnectionClosedOK) as closed:
            await ada.socket.recv()
    # The server has answered the close frame with its own.
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000

"""Users by tokens: from the header, the subprotocol or the first message, and never from the address."""

import asyncio
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sealane.consumers import AsyncHttpConsumer, AsyncWebsocketConsumer, attendance, login_required
from sealane.consumers.complaint import Complaint
from sealane.consumers.credentials import CREDENTIALS
from sealane.exceptions import DenyConnection
from sealane.layers import InMemoryChannelLayer, channel_layers
from sealane.routing import TokenAuthMiddleware
from sealane.testing import HttpCommunicator, WebsocketCommunicator
from tests.routing.exchange import Exchange, served

GOOD = "ada.s3cr3t_T0ken-~"
BAD = "eve.st0len"
LOGGER = "sealane.routing"


def user(name: str, **attributes: Any) -> Any:
    return SimpleNamespace(is_authenticated=True, pk=1, username=name, **attributes)


class Registry:
    """The tokens of a site."""

    def __init__(self) -> None:
        self.users: dict[str, Any] = {GOOD: user("ada"), "inactive": user("bob", is_active=False)}
        self.users["nobody"] = AnonymousUser()
        self.asked = 0

    async def verify(self, token: str) -> Any:
        self.asked += 1
        return self.users.get(token)


class Room(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        scope = self.scope
        match scope["path"]:
            case "/close":
                await self.close()
            case "/code":
                await self.close(4242)
            case "/deny":
                raise DenyConnection(404, "Nothing here")
            case "/chat":
                await self.accept("chat")
            case _:
                await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        name = getattr(self.scope.get("user"), "username", "")
        await self.send(f"{text_data} {name} {self.scope['subprotocols']} {GOOD in repr(self.scope['headers'])}")


class Page(AsyncHttpConsumer):
    async def handle(self, body: bytes) -> None:
        await self.send_response(200, self.scope["user"].username.encode())


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture(autouse=True)
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer()
    before = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", before)


@pytest.fixture(autouse=True)
def _no_token_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG, "sealane")
    yield
    for token in (GOOD, BAD):
        assert token not in caplog.text


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def socket(registry: Registry, *, path: str = "/", header: str | None = None, **options: Any) -> WebsocketCommunicator:
    subprotocols = options.pop("subprotocols", None)
    extension = options.pop("denial_response", True)
    application = TokenAuthMiddleware(options.pop("inner", None) or Room.as_asgi(), registry.verify, **options)
    headers: Any = [] if header is None else [("Authorization", header)]
    if subprotocols:
        headers.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    return WebsocketCommunicator(application, path, headers, subprotocols, denial_response=extension)


# The header


@pytest.mark.parametrize("header", [f"Bearer {GOOD}", f"bearer {GOOD}", f"BEARER   {GOOD} "])
async def test_a_token_in_the_header(registry: Registry, header: str) -> None:
    async with socket(registry, header=header) as client:
        await client.send_to("hi")
        assert str(await client.receive_from()).startswith("hi ada []")
    assert registry.asked == 1


async def test_an_http_request(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    application = TokenAuthMiddleware(Page.as_asgi(), registry.verify, scheme="Token", sources="header")  # type: ignore[arg-type]
    for token, status, challenge in [
        (f"Token {GOOD}", 200, None),
        (f"Token {BAD}", 401, b'Token error="invalid_token"'),
        (f"Bearer {GOOD}", 401, b"Token"),
    ]:
        async with HttpCommunicator(application, "GET", "/", headers=[("Authorization", token)]) as request:
            response = await request.get_response()
        assert response["status"] == status
        assert dict(response["headers"]).get(b"www-authenticate") == challenge
    assert warnings(caplog) == ["Refused a token for /: the token is not valid"]


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (f"Bearer {BAD}", "the token is not valid"),
        ("Bearer inactive", "the token is not valid"),
        ("Bearer nobody", "the token is not valid"),
        ("Bearer ", "the header names no token"),
        (f"Bearer {GOOD} {GOOD}", "the header holds what no token does: a space, or no visible ASCII"),
        ("Bearer t\xf6ken", "the header holds what no token does: a space, or no visible ASCII"),
        ("Bearer " + "x" * 101, "the header has 101 characters; a token may have 100"),
    ],
)
async def test_what_is_no_good_token_is_refused_with_one_line(
    registry: Registry, header: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = socket(registry, header=header, max_length=100, path="/room/\n")
    assert await client.connect() == (False, 401)
    assert client.denial is not None
    assert client.denial["body"] == b"Authentication required"
    await client.disconnect()
    assert warnings(caplog) == [f"Refused a token for /room/\\n: {problem}"]


async def test_two_headers_are_no_token(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    client = socket(registry, header=f"Bearer {GOOD}")
    client.headers.append((b"authorization", b"Basic YTpi"))
    assert await client.connect() == (False, 401)
    await client.disconnect()
    assert warnings(caplog) == ["Refused a token for /: there is more than one Authorization header"]


async def test_without_the_extension_it_is_a_close(registry: Registry) -> None:
    client = socket(registry, header=f"Bearer {BAD}", denial_response=False)
    assert await client.connect() == (False, 4401)
    await client.disconnect()


@pytest.mark.parametrize("header", [None, "Basic YTpi"])
async def test_no_token_is_refused_without_a_line(
    registry: Registry, header: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    client = socket(registry, header=header)
    assert await client.connect() == (False, 401)
    assert dict(client.response_headers or ())[b"www-authenticate"] == b"Bearer"
    await client.disconnect()
    assert warnings(caplog) == []
    assert registry.asked == 0


async def test_the_address_is_never_looked_at(registry: Registry) -> None:
    client = socket(registry, path=f"/?token={GOOD}&access_token={GOOD}&bearer={GOOD}")
    assert await client.connect() == (False, 401)
    await client.disconnect()
    assert registry.asked == 0


async def test_a_token_that_is_not_required_is_still_looked_at(registry: Registry) -> None:
    async with socket(registry, required=False) as client:
        await client.send_to("hi")
        assert await client.receive_from() == "hi  [] False"
    client = socket(registry, required=False, header=f"Bearer {BAD}")
    assert await client.connect() == (False, 401)
    await client.disconnect()


async def test_who_is_logged_in_already_stays_and_an_anonymous_user_does_not(registry: Registry) -> None:
    for found, expected in [(user("session"), (True, None)), (AnonymousUser(), (False, 401))]:
        client = socket(registry)
        client.scope["user"] = found
        assert await client.connect() == expected
        await client.disconnect()


async def test_what_the_verifier_raises_goes_to_the_server(registry: Registry) -> None:
    async def verify(token: str) -> Any:
        raise ConnectionError("no identity provider")

    registry.verify = verify  # type: ignore[method-assign]
    for options in ({"header": f"Bearer {GOOD}"}, {"sources": ["message"]}):
        client = socket(registry, **options)
        with pytest.raises(ConnectionError, match="no identity provider"):
            async with client:
                await client.send_json_to({"token": GOOD})
                await client.receive_from()


# The subprotocol


@pytest.mark.parametrize(
    ("offered", "path", "left", "answered"),
    [
        (["bearer", GOOD], "/", [], "bearer"),
        (["chat", "bearer", GOOD, "echo"], "/", ["chat", "echo"], "bearer"),
        (["chat", "bearer", GOOD], "/chat", ["chat"], "chat"),
    ],
)
async def test_a_token_among_the_subprotocols(
    registry: Registry, offered: list[str], path: str, left: list[str], answered: str
) -> None:
    client = socket(registry, subprotocols=offered, path=path)
    assert await client.connect() == (True, answered)
    await client.send_to("hi")
    assert await client.receive_from() == f"hi ada {left} False"
    await client.disconnect()


async def test_a_word_without_a_token_is_refused(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    client = socket(registry, subprotocols=["bearer"])
    assert await client.connect() == (False, 401)
    await client.disconnect()
    assert warnings(caplog) == ["Refused a token for /: the subprotocol names no token"]


async def test_sources_that_were_not_chosen_are_not_looked_at(registry: Registry) -> None:
    client = socket(registry, subprotocols=["bearer", GOOD], header=f"Bearer {GOOD}", sources=["message"], timeout=0.01)
    assert await client.connect() == (True, None)
    assert await client.receive_close() == 4401
    await client.disconnect()
    assert registry.asked == 0


# The first message


async def test_a_token_in_the_first_message(registry: Registry) -> None:
    async with socket(registry, sources=["header", "message"]) as client:
        await client.send_json_to({"token": GOOD})
        await client.send_to("hi")
        assert await client.receive_from() == "hi ada [] False"
    async with socket(registry, sources=["header", "message"], header=f"Bearer {GOOD}") as client:
        await client.send_to("hi")
        assert str(await client.receive_from()).startswith("hi ada")


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ({"text_data": json.dumps({"token": BAD})}, "the token is not valid"),
        ({"text_data": BAD}, 'the first message is not JSON; expected {"token": "..."}'),
        ({"text_data": "[" * 90}, 'the first message is not JSON; expected {"token": "..."}'),
        ({"text_data": "[1]"}, 'the first message has no token; expected {"token": "..."}'),
        ({"text_data": '{"token": 7}'}, 'the first message has no token; expected {"token": "..."}'),
        ({"text_data": '{"token": ""}'}, "the message names no token"),
        ({"text_data": '{"token": "a\\nb"}'}, "the message holds what no token does: a space, or no visible ASCII"),
        ({"text_data": "x" * 101}, "the first message has 101 characters; it may have 100"),
        ({"bytes_data": b"{}"}, "the first message is not a text frame"),
    ],
)
async def test_a_first_message_that_is_no_good_closes(
    registry: Registry, frame: dict[str, Any], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with socket(registry, sources=["message"], max_length=100) as client:
        await client.send_to(**frame)
        assert await client.receive_close() == 4401
        assert client.close_reason == "Authentication required"
    assert warnings(caplog) == [f"Refused a token for /: {problem}"]


async def test_a_first_message_that_does_not_come(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    async with socket(registry, sources=["message"], timeout=0.01) as client:
        assert await client.receive_close() == 4401
    assert warnings(caplog) == ["Refused a token for /: no token came within 0.01 seconds"]


async def test_a_client_that_leaves_before_its_token_comes(registry: Registry) -> None:
    async with socket(registry, sources=["message"]):
        pass
    assert registry.asked == 0


@pytest.mark.parametrize(("path", "code"), [("/close", 4403), ("/code", 4242), ("/deny", 4404)])
async def test_a_refusal_behind_the_accept_is_a_close(registry: Registry, path: str, code: int) -> None:
    async with socket(registry, sources=["message"], path=path) as client:
        await client.send_json_to({"token": GOOD})
        assert await client.receive_close() == code


@pytest.mark.parametrize("sources", [["header"], ["message"]])
async def test_a_client_that_is_gone_is_no_error(registry: Registry, sources: Any) -> None:
    class Gone(Exchange):
        async def send(self, message: Any) -> None:
            raise OSError("gone")

    gone = Gone({"type": "websocket", "path": "/", "headers": []}, {"type": "websocket.connect"})
    await gone.run(TokenAuthMiddleware(Room.as_asgi(), registry.verify, sources=sources))
    left = Exchange({"type": "websocket", "path": "/", "headers": []}, {"type": "websocket.disconnect", "code": 1006})
    assert await left.run(TokenAuthMiddleware(Room.as_asgi(), registry.verify, sources=sources)) == []


# Later


async def test_a_token_that_is_withdrawn_closes(registry: Registry) -> None:
    consumer: Any = type("Room", (Room,), {"revalidate": 0.01})
    async with socket(registry, header=f"Bearer {GOOD}", inner=login_required(consumer.as_asgi())) as client:
        asked = registry.asked
        async with asyncio.timeout(20):
            while registry.asked == asked:
                await asyncio.sleep(0.001)
        await client.send_to("hi")
        assert str(await client.receive_from()).startswith("hi ada")
        del registry.users[GOOD]
        assert await client.receive_close() == 4401


async def test_a_verifier_that_fails_later_closes_nobody_and_shows_nothing(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(attendance, "_unanswered", Complaint())
    failing = False
    verify = registry.verify

    async def fail(token: str) -> Any:
        if failing:
            registry.asked += 1
            raise LookupError(f"no identity provider for {token}")
        return await verify(token)

    registry.verify = fail  # type: ignore[method-assign]
    consumer: Any = type("Room", (Room,), {"revalidate": 0.01})
    async with socket(registry, header=f"Bearer {GOOD}", inner=consumer.as_asgi()) as client:
        failing, asked = True, registry.asked
        async with asyncio.timeout(20):
            while registry.asked < asked + 2:
                await asyncio.sleep(0.001)
        await client.send_to("hi")
        assert str(await client.receive_from()).startswith("hi ada")
    assert warnings(caplog) == [
        "Room at '/': the user could not be read anew, and stays until the next try: LookupError"
    ]


async def test_the_scope_shows_no_token(registry: Registry) -> None:
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "websocket.accept"})

    exchange = Exchange.websocket([(b"sec-websocket-protocol", GOOD.encode())], subprotocols=["bearer", GOOD])
    middleware = TokenAuthMiddleware(application, registry.verify)
    [answer] = await exchange.run(middleware)
    assert answer == {"type": "websocket.accept", "subprotocol": "bearer"}
    assert GOOD not in repr(seen)
    assert repr(seen[0][CREDENTIALS]) == "<TokenCredentials>"
    assert exchange.scope["subprotocols"] == ["bearer", GOOD], "the scope of who stands outside is not changed"


async def test_other_scopes_pass(registry: Registry) -> None:
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    middleware = TokenAuthMiddleware(application, registry.verify)
    for kind in ("lifespan", "channel"):
        await Exchange({"type": kind}).run(middleware)
    assert seen == ["lifespan", "channel"]


# What it takes


def test_what_cannot_work_is_refused_when_it_is_made(registry: Registry) -> None:
    def plain(token: str) -> Any: ...

    application = Room.as_asgi()
    coroutine = r"takes a verifier that is a coroutine function \(async def verify\(token\)\)"
    known = r"has the sources .*; expected some of \('header', 'subprotocol', 'message'"
    for verify in (plain, None, "verify"):
        with pytest.raises(TypeError, match=coroutine):
            TokenAuthMiddleware(application, verify)  # type: ignore[arg-type]
    for sources in ((), ["query"], "cookie"):
        with pytest.raises(ValueError, match=known):
            TokenAuthMiddleware(application, registry.verify, sources=sources)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot wait for a first message with a token that is not required"):
        TokenAuthMiddleware(application, registry.verify, sources=["message"], required=False)


# On a server


async def test_on_a_server(registry: Registry) -> None:
    application = TokenAuthMiddleware(Room.as_asgi(), registry.verify, sources=["header", "subprotocol", "message"])
    async with asyncio.timeout(20), served(application) as port:
        url = f"ws://127.0.0.1:{port}/"
        ways: list[dict[str, Any]] = [
            {"additional_headers": {"Authorization": f"Bearer {GOOD}"}},
            {"subprotocols": ["bearer", GOOD]},
            {},
        ]
        for way in ways:
            async with connect(url, proxy=None, **way) as client:
                assert client.subprotocol == ("bearer" if "subprotocols" in way else None)
                if not way:
                    await client.send(json.dumps({"token": GOOD}))
                await client.send("hi")
                assert str(await client.recv()).startswith("hi ada []")
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, proxy=None, additional_headers={"Authorization": f"Bearer {BAD}"})
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        async with connect(url, proxy=None) as client:
            await client.send("[]")
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401

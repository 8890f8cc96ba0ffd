"""SessionMiddleware: a session is found by its cookie, loaded when read, and saved when the answer begins."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.cookies import SimpleCookie
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.file import SessionStore as FileStore
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.core.exceptions import SuspiciousOperation
from django.test import override_settings
from websockets.asyncio.client import connect

from sealane.db import aclose_old_connections, database_sync_to_async
from sealane.routing.sessions import SessionMiddleware, SessionMiddlewareStack
from sealane.types import Message, Receive, Scope, Send
from tests.routing.exchange import (
    ACCEPT,
    Answering,
    Exchange,
    busy_database_thread,
    cookie_headers,
    served,
    set_cookies,
)
from tests.routing.session_engine import FOREVER

OK: Message = {"type": "http.response.start", "status": 200, "headers": []}
CLOSE: Message = {"type": "websocket.close"}
WITH_RESPONSES: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}

ENGINES = ["db", "cached_db", "cache", "file", "signed_cookies"]

Change = Callable[[SessionBase], Awaitable[object]]


class Visit(Answering):
    """An application that does something with its session, then answers."""

    def __init__(self, change: Change, *answer: Message) -> None:
        super().__init__(*answer)
        self.change = change
        self.result: object = None

    async def prepare(self, scope: Scope) -> None:
        self.result = await self.change(scope["session"])


async def nothing(session: SessionBase) -> None:
    pass


def put(key: str, value: object) -> Change:
    return lambda session: session.aset(key, value)


def read(key: str) -> Change:
    return lambda session: session.aget(key)


async def flush(session: SessionBase) -> None:
    await database_sync_to_async(session.flush)()


async def websocket(change: Change, *answer: Message, key: str | None = None, **scope: Any) -> list[Message]:
    headers = cookie_headers(sessionid=key) if key else []
    return await Exchange.websocket(headers, **scope).run(SessionMiddlewareStack(Visit(change, *answer)))


async def http(change: Change, *answer: Message, key: str | None = None) -> list[Message]:
    headers = cookie_headers(sessionid=key) if key else []
    return await Exchange.http(headers).run(SessionMiddlewareStack(Visit(change, *(answer or (OK,)))))


def session_key(message: Message, name: str = "sessionid") -> str:
    """Return the key that an answer gives to the browser, in its one session cookie."""
    [value] = set_cookies(message)
    key = SimpleCookie(value)[name].value
    assert key
    return key


def store(key: str | None = None) -> Any:
    from django.conf import settings

    return import_module(settings.SESSION_ENGINE).SessionStore(key)


@database_sync_to_async
def stored(key: str) -> dict[str, Any]:
    """Return what the store has under a key, read by Django."""
    return dict(store(key).items())


@database_sync_to_async
def new_session(**data: object) -> str:
    session = store()
    session.update(data)
    session.save()
    key: str = session.session_key
    return key


@database_sync_to_async
def rows() -> int:
    return Session.objects.count()


@pytest.fixture
async def database(transactional_db: None) -> AsyncIterator[None]:
    yield
    await aclose_old_connections()


@pytest.fixture(params=ENGINES)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> Iterator[str]:
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    name = f"django.contrib.sessions.backends.{request.param}"
    with override_settings(SESSION_ENGINE=name, CACHES=caches):
        # The file engine finds its directory once per process.
        monkeypatch.setattr(FileStore, "_storage_path", str(tmp_path), raising=False)
        yield str(request.param)
        cache.clear()


# Every engine


@pytest.mark.parametrize("visit", [websocket, http], ids=["websocket", "http"])
async def test_a_session_lasts_from_visit_to_visit_on_every_engine(engine: str, visit: Any) -> None:
    [answer] = await visit(put("room", "lobby"))
    key = session_key(answer)
    assert await stored(key) == {"room": "lobby"}

    reader = Visit(read("room"), ACCEPT)
    await Exchange.websocket(cookie_headers(sessionid=key)).run(SessionMiddlewareStack(reader))
    assert reader.result == "lobby"

    [answer] = await visit(put("room", "attic"), key=key)
    second = session_key(answer)
    assert (second == key) is (engine != "signed_cookies")
    assert await stored(second) == {"room": "attic"}

    [answer] = await visit(flush, key=second)
    [deletion] = set_cookies(answer)
    assert deletion.startswith('sessionid="";')
    assert "Max-Age=0" in deletion
    if engine != "signed_cookies":
        assert await stored(second) == {}


async def test_an_engine_of_the_projects_own_is_saved_by_its_own_methods(database: None) -> None:
    with override_settings(SESSION_ENGINE="tests.routing.session_engine"):
        [answer] = await websocket(put("a", 1))
    row = await Session.objects.aget(session_key=session_key(answer))
    assert row.expire_date == FOREVER


# Loading


async def test_a_session_that_nobody_reads_never_asks_its_store() -> None:
    # Without the fixture of the database, any query would be an error too.
    async with busy_database_thread():
        for key in (None, "a" * 32):
            assert await websocket(nothing, key=key) == [ACCEPT]
            assert await websocket(nothing, CLOSE, key=key) == [CLOSE]
            assert await http(nothing, key=key) == [OK]


@pytest.mark.parametrize("key", ["short", "", "unknown" * 5])
async def test_a_cookie_that_names_no_session_is_an_empty_session(database: None, key: str) -> None:
    visit = Visit(read("a"))
    exchange = Exchange.websocket(cookie_headers(sessionid=key))
    # The cookie stays: a handshake runs beside the page's own requests, and one of them may just have replaced it.
    assert await exchange.run(SessionMiddlewareStack(visit)) == [ACCEPT]
    assert visit.result is None
    assert visit.scope["session"].session_key is None


async def test_the_cookies_are_needed() -> None:
    with pytest.raises(ValueError, match="no 'cookies' in the scope: put CookieMiddleware outside it, or use Sess"):
        await Exchange.websocket().run(SessionMiddleware(Answering()))


# Saving


async def test_a_session_that_was_only_read_is_not_saved(database: None) -> None:
    key = await new_session(a=1)
    assert await websocket(read("a"), key=key) == [ACCEPT]


async def test_an_emptied_session_that_the_browser_never_knew_leaves_no_trace(database: None) -> None:
    assert await websocket(flush) == [ACCEPT]
    assert await rows() == 0


async def test_an_emptied_session_needs_no_visit_to_its_store() -> None:
    async def clear(session: SessionBase) -> None:
        session.clear()

    async with busy_database_thread():
        assert await websocket(clear) == [ACCEPT]
        [answer] = await websocket(clear, key="short")
    assert "Max-Age=0" in set_cookies(answer)[0]


async def test_a_cleared_session_keeps_its_key(database: None) -> None:
    async def clear(session: SessionBase) -> None:
        session.clear()

    key = await new_session(a=1)
    [answer] = await websocket(clear, key=key)
    assert session_key(answer) == key
    assert await stored(key) == {}


@pytest.mark.parametrize(("status", "saved"), [(200, True), (404, True), (500, False), (503, False)])
async def test_a_response_that_failed_saves_nothing(database: None, status: int, saved: bool) -> None:
    start: Message = {"type": "http.response.start", "status": status}
    [answer] = await http(put("a", 1), start)
    assert bool(set_cookies(answer)) is saved
    assert await rows() == saved


async def test_the_events_of_the_application_are_not_changed(database: None) -> None:
    headers = [(b"x-frame-options", b"DENY")]
    accept: Message = {"type": "websocket.accept", "subprotocol": "chat", "headers": headers}
    [answer] = await websocket(put("a", 1), accept)
    assert answer["subprotocol"] == "chat"
    assert [name for name, _ in answer["headers"]] == [b"x-frame-options", b"set-cookie"]
    assert accept == {
        "type": "websocket.accept",
        "subprotocol": "chat",
        "headers": [(b"x-frame-options", b"DENY")],
    }


async def test_a_session_is_saved_once_and_not_by_what_follows(database: None) -> None:
    class Late(Answering):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await scope["session"].aset("early", 1)
            await send(ACCEPT)
            await scope["session"].aset("late", 1)
            await send({"type": "websocket.send", "text": "hello"})
            await send(CLOSE)

    answer, *rest = await Exchange.websocket(**WITH_RESPONSES).run(SessionMiddlewareStack(Late()))
    assert await stored(session_key(answer)) == {"early": 1}
    assert rest == [{"type": "websocket.send", "text": "hello"}, CLOSE]


async def test_a_session_that_was_deleted_meanwhile_is_told(database: None) -> None:
    async def lose(session: SessionBase) -> None:
        await session.aset("a", 1)
        await database_sync_to_async(store(session.session_key).flush)()

    key = await new_session(a=0)
    visit = Visit(lose)
    exchange = Exchange.websocket(cookie_headers(sessionid=key))
    with pytest.raises(SuspiciousOperation, match="The session was deleted while its connection was being answered"):
        await exchange.run(SessionMiddlewareStack(visit))
    assert exchange.sent == []
    # The consumer can still end the connection.
    assert visit.send is not None
    await visit.send(CLOSE)
    assert exchange.sent == [CLOSE]


@pytest.mark.parametrize(
    ("expiry", "project", "expected"),
    [
        (None, {}, "Max-Age=1209600"),
        (None, {"SESSION_COOKIE_AGE": 60}, "Max-Age=60"),
        (90, {}, "Max-Age=90"),
        (0, {}, None),
        (None, {"SESSION_EXPIRE_AT_BROWSER_CLOSE": True}, None),
        (90, {"SESSION_EXPIRE_AT_BROWSER_CLOSE": True}, "Max-Age=90"),
    ],
)
async def test_the_cookie_lives_as_long_as_the_session(
    database: None, expiry: int | None, project: dict[str, Any], expected: str | None
) -> None:
    async def change(session: SessionBase) -> None:
        await session.aset("a", 1)
        session.set_expiry(expiry)

    with override_settings(**project):
        [answer] = await websocket(change)
    [value] = set_cookies(answer)
    ages = [part for part in value.split("; ") if part.startswith(("Max-Age", "expires"))]
    assert [age for age in ages if age.startswith("Max-Age")] == ([expected] if expected else [])
    assert len(ages) == (2 if expected else 0)


async def test_the_cookie_is_as_the_settings_say(database: None) -> None:
    with override_settings(
        SESSION_COOKIE_NAME="__Secure-sid",
        SESSION_COOKIE_DOMAIN="example.com",
        SESSION_COOKIE_PATH="/chat/",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
    ):
        [answer] = await websocket(put("a", 1))
        key = session_key(answer, "__Secure-sid")
        [value] = set_cookies(answer)
        assert {"Domain=example.com", "Path=/chat/", "Secure", "HttpOnly", "SameSite=Strict"} <= set(value.split("; "))
        headers = [(b"cookie", f"__Secure-sid={key}".encode())]
        [answer] = await Exchange.websocket(headers).run(SessionMiddlewareStack(Visit(flush)))
    [value] = set_cookies(answer)
    assert {"Max-Age=0", "Domain=example.com", "Path=/chat/", "Secure", "SameSite=Strict"} <= set(value.split("; "))


async def test_every_connection_saves_where_the_settings_say_so(database: None) -> None:
    key = await new_session(a=1)
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        [answer] = await websocket(nothing, key=key)
        assert session_key(answer) == key
        # Nothing to save, and nothing that the browser should forget.
        assert await websocket(nothing) == [ACCEPT]
        [answer] = await websocket(nothing, key="unknown" * 5)
        assert "Max-Age=0" in set_cookies(answer)[0]
    assert await rows() == 1


# Refusals


async def test_a_refusal_by_response_carries_the_cookie(database: None) -> None:
    start: Message = {"type": "websocket.http.response.start", "status": 401, "headers": []}
    body: Message = {"type": "websocket.http.response.body", "body": b"Who are you?"}
    answer, second = await websocket(put("tries", 1), start, body)
    assert await stored(session_key(answer)) == {"tries": 1}
    assert answer["status"] == 401
    assert second == body


async def test_a_refusal_by_close_carries_the_cookie_where_the_server_can(database: None) -> None:
    answer, body = await websocket(put("tries", 1), CLOSE, **WITH_RESPONSES)
    assert answer["type"] == "websocket.http.response.start"
    assert answer["status"] == 403
    assert await stored(session_key(answer)) == {"tries": 1}
    assert body == {"type": "websocket.http.response.body", "body": b""}


async def test_a_refusal_by_close_saves_what_the_browser_can_find_again(database: None) -> None:
    key = await new_session(tries=1)
    assert await websocket(put("tries", 2), CLOSE, key=key) == [CLOSE]
    assert await stored(key) == {"tries": 2}
    assert await websocket(put("tries", 1), CLOSE) == [CLOSE]
    assert await rows() == 1


# The way of the events


async def test_a_session_from_outside_is_left_to_whoever_made_it() -> None:
    inner = Answering()
    exchange = Exchange.websocket(session={"outer": True}, cookies={})
    await exchange.run(SessionMiddleware(inner))
    assert inner.scope["session"] == {"outer": True}
    assert inner.send == exchange.send


async def test_two_middlewares_save_once_with_one_cookie(database: None) -> None:
    [answer] = await Exchange.websocket().run(SessionMiddlewareStack(SessionMiddlewareStack(Visit(put("a", 1)))))
    assert await stored(session_key(answer)) == {"a": 1}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.send", "text": "hello"},
        {"type": "http.response.body", "body": b"", "more_body": True},
        {"type": "http.response.trailers"},
        {"no type": "is the server's to complain about"},
    ],
)
async def test_other_events_are_the_servers_own_send(message: Message) -> None:
    async def send(message: Message) -> None:
        raise AssertionError("not awaited here")

    on_their_way: list[Awaitable[None]] = []

    def server(message: Message) -> Awaitable[None]:
        on_their_way.append(send(message))
        return on_their_way[-1]

    class Sending(Answering):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            coroutine = send(message)
            assert [coroutine] == on_their_way
            coroutine.close()  # type: ignore[attr-defined]

    await SessionMiddlewareStack(Sending())(Exchange.websocket().scope, Exchange.websocket().receive, server)
    assert len(on_their_way) == 1


# Caches


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], [b"Cookie"]),
        ([(b"vary", b"Accept-Language")], [b"Accept-Language", b"Cookie"]),
        ([(b"vary", b"Accept, cookie")], [b"Accept, cookie"]),
        ([(b"Vary", b"*")], [b"*"]),
    ],
)
async def test_a_response_that_read_the_session_varies_by_cookie(
    database: None, headers: list[tuple[bytes, bytes]], expected: list[bytes]
) -> None:
    start: Message = {"type": "http.response.start", "status": 200, "headers": headers}
    [answer] = await http(read("a"), start, key=await new_session(a=1))
    assert [value for name, value in answer["headers"] if name.lower() == b"vary"] == expected


# A real server


async def test_a_browser_gets_its_cookie_with_the_handshake(database: None) -> None:
    class Counting(Answering):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            session = scope["session"]
            await session.aset("visits", (await session.aget("visits", 0)) + 1)
            await send(ACCEPT)
            await send({"type": "websocket.send", "text": str(await session.aget("visits"))})
            while (await receive())["type"] != "websocket.disconnect":
                pass

    async with served(SessionMiddlewareStack(Counting())) as port:
        async with connect(f"ws://127.0.0.1:{port}/", proxy=None) as browser:
            assert await browser.recv() == "1"
            assert browser.response is not None
            cookie = browser.response.headers["Set-Cookie"].partition(";")[0]
        headers = {"Cookie": f"theme=dark; {cookie}"}
        async with connect(f"ws://127.0.0.1:{port}/", additional_headers=headers, proxy=None) as browser:
            assert await browser.recv() == "2"

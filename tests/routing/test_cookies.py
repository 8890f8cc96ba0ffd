"""CookieMiddleware: cookies as a Django view sees them, Set-Cookie as a Django response writes it."""

import datetime
from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse

from sealane.routing.cookies import CookieMiddleware
from sealane.types import Headers, Message
from tests.routing.exchange import Answering, Exchange, set_cookies

UTC = datetime.UTC


async def cookies_of(*headers: bytes) -> Any:
    inner = Answering()
    await Exchange.websocket([(b"host", b"x"), *((b"cookie", value) for value in headers)]).run(CookieMiddleware(inner))
    return inner.scope["cookies"]


@pytest.mark.parametrize(
    "header",
    [
        b"sessionid=abc; theme=dark",
        b'quoted="a \\"b\\" \\054"; empty=; =nameless; bare',
        b" a = b ;; ; a=c",
        "name=Zoë".encode(),
        b"raw=\xff\xfe",
        b"",
    ],
)
async def test_cookies_are_those_of_a_django_view(header: bytes) -> None:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"cookie", header)]}
    assert await cookies_of(header) == ASGIRequest(scope, BytesIO()).COOKIES


async def test_no_cookie_header_is_no_cookies() -> None:
    assert await cookies_of() == {}


async def test_several_cookie_headers_are_one() -> None:
    assert await cookies_of(b"a=1; b=2", b"c=3", b"a=4") == {"a": "4", "b": "2", "c": "3"}


async def test_a_scope_without_headers_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="scope of type 'channel' has none: wrap only the applications"):
        await Exchange({"type": "channel", "channel": "thumbnails"}).run(CookieMiddleware(Answering()))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "k=v; Path=/; SameSite=lax"),
        ({"samesite": None}, "k=v; Path=/"),
        ({"samesite": "None", "secure": True}, "k=v; Path=/; SameSite=None; Secure"),
        ({"path": None}, "k=v; SameSite=lax"),
        ({"path": "/chat/", "domain": "example.com"}, "Domain=example.com; k=v; Path=/chat/; SameSite=lax"),
        ({"httponly": True, "secure": True}, "HttpOnly; k=v; Path=/; SameSite=lax; Secure"),
        ({"httponly": None, "secure": None}, "k=v; Path=/; SameSite=lax"),
        (
            {"expires": "Thu, 01 Jan 2099 00:00:00 GMT"},
            "expires=Thu, 01 Jan 2099 00:00:00 GMT; k=v; Path=/; SameSite=lax",
        ),
    ],
)
def test_set_cookie_writes_its_options(options: dict[str, Any], expected: str) -> None:
    message: Message = {"type": "websocket.accept"}
    CookieMiddleware.set_cookie(message, "k", "v", **options)
    assert message["type"] == "websocket.accept"
    [value] = set_cookies(message)
    assert sorted(value.split("; "), key=str.lower) == sorted(expected.split("; "), key=str.lower)


@pytest.mark.parametrize("max_age", [60, 60.7, datetime.timedelta(minutes=1)])
def test_max_age_is_whole_seconds_with_an_expiry_beside_it(max_age: Any) -> None:
    message: Message = {"type": "http.response.start", "status": 200}
    CookieMiddleware.set_cookie(message, "k", "v", max_age=max_age)
    [value] = set_cookies(message)
    assert "Max-Age=60;" in value
    assert "expires=" in value


@pytest.mark.parametrize("zone", [None, UTC, datetime.timezone(datetime.timedelta(hours=5))])
def test_expires_may_be_a_datetime_naive_in_utc_or_aware(zone: datetime.timezone | None) -> None:
    when = datetime.datetime.now(zone or UTC) + datetime.timedelta(hours=1)
    message: Message = {"type": "http.response.start", "status": 200}
    CookieMiddleware.set_cookie(message, "k", "v", expires=when if zone else when.replace(tzinfo=None))
    [value] = set_cookies(message)
    [age] = [int(part.removeprefix("Max-Age=")) for part in value.split("; ") if part.startswith("Max-Age=")]
    assert 3590 <= age <= 3601


def test_options_that_contradict_are_refused() -> None:
    when = datetime.datetime.now(UTC)
    with pytest.raises(ValueError, match="'expires' and 'max_age'"):
        CookieMiddleware.set_cookie({"type": "websocket.accept"}, "k", "v", expires=when, max_age=1)
    with pytest.raises(ValueError, match="samesite must be"):
        CookieMiddleware.set_cookie({"type": "websocket.accept"}, "k", "v", samesite="sometimes")


@pytest.mark.parametrize("value", ["a b", 'say "hi"', "a;b,c", "line\r\nSet-Cookie: x=y", "plain", b"bytes", 7])
async def test_a_value_comes_back_as_it_was_set(value: object) -> None:
    message: Message = {"type": "websocket.accept"}
    CookieMiddleware.set_cookie(message, "k", value)
    [header] = set_cookies(message)
    assert "\n" not in header
    assert await cookies_of(header.split("; Path=")[0].encode()) == {
        "k": value.decode() if isinstance(value, bytes) else str(value)
    }


def test_a_shared_list_of_headers_gets_no_cookie() -> None:
    # One list for every answer of a program is common, and a cookie in it would go to everybody.
    shared: Headers = [(b"x-frame-options", b"DENY")]
    first: Message = {"type": "websocket.accept", "headers": shared}
    CookieMiddleware.set_cookie(first, "sessionid", "secret")
    assert shared == [(b"x-frame-options", b"DENY")]
    assert [name for name, _ in first["headers"]] == [b"x-frame-options", b"set-cookie"]


@pytest.mark.parametrize("headers", [(), None, ((b"a", b"b"),)])
def test_headers_may_be_any_iterable_or_none(headers: Any) -> None:
    message: Message = {"type": "websocket.accept", "headers": headers}
    CookieMiddleware.set_cookie(message, "k", "v")
    CookieMiddleware.set_cookie(message, "l", "w")
    assert [value[:3] for value in set_cookies(message)] == ["k=v", "l=w"]


@pytest.mark.parametrize("key", ["sessionid", "__Host-session", "__Secure-session"])
@pytest.mark.parametrize("options", [{}, {"path": "/chat/", "domain": "example.com"}, {"samesite": "None"}])
def test_delete_cookie_writes_what_a_django_response_writes(key: str, options: dict[str, Any]) -> None:
    response = HttpResponse()
    response.delete_cookie(key, **options)
    message: Message = {"type": "websocket.accept"}
    CookieMiddleware.delete_cookie(message, key, **options)
    assert set_cookies(message) == [response.cookies[key].OutputString()]
    assert "Max-Age=0" in set_cookies(message)[0]

"""OriginValidator, AllowedHostsOriginValidator: whose pages may open a WebSocket, how others are refused."""

import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import ParseResult

import pytest
from django.test import override_settings
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sealane.routing.origin import AllowedHostsOriginValidator, OriginValidator
from sealane.types import Message, Receive, Scope, Send
from tests.routing.exchange import ACCEPT, CONNECT, Answering, Exchange, served

CLOSE: Message = {"type": "websocket.close"}
WITH_RESPONSES: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}

#: Allowed origins, the Origin header (None: missing), whether the WebSocket is let in.
CASES: list[tuple[list[str], bytes | None, bool]] = [
    # A scheme, a host and a port: all three count, and the scheme's own port need not be written.
    (["https://example.com"], b"https://example.com", True),
    (["https://example.com"], b"https://example.com:443", True),
    (["https://example.com:443"], b"https://example.com", True),
    (["https://example.com"], b"http://example.com", False),
    (["https://example.com"], b"http://example.com:443", False),
    (["https://example.com"], b"https://example.com:8443", False),
    (["https://example.com:8443"], b"https://example.com:8443", True),
    (["https://example.com:8443"], b"https://example.com", False),
    (["http://example.com"], b"http://example.com:80", True),
    (["http://example.com:80"], b"http://example.com", True),
    (["http://example.com"], b"http://example.com:", True),
    (["https://example.com"], b"wss://example.com", False),
    (["ws://example.com"], b"ws://example.com:80", True),
    (["wss://example.com:443"], b"wss://example.com", True),
    (["https://example.com"], b"https://example.org", False),
    (["https://example.com"], b"https://example.com.evil.org", False),
    (["https://example.com"], b"https://evilexample.com", False),
    (["https://example.com"], b"https://www.example.com", False),
    # A host alone: any scheme and any port.
    (["example.com"], b"https://example.com", True),
    (["example.com"], b"http://example.com:8000", True),
    (["example.com"], b"http://www.example.com", False),
    (["localhost"], b"http://localhost:5173", True),
    (["127.0.0.1"], b"http://127.0.0.1:8000", True),
    (["my_host-1"], b"http://my_host-1", True),
    # A host and a port: any scheme.
    (["localhost:8000"], b"http://localhost:8000", True),
    (["localhost:8000"], b"http://localhost:8001", False),
    (["localhost:8000"], b"http://localhost", False),
    (["example.com:443"], b"https://example.com", True),
    # All subdomains.
    ([".example.com"], b"https://example.com", True),
    ([".example.com"], b"https://a.b.example.com:8000", True),
    ([".example.com"], b"https://evilexample.com", False),
    (["*.example.com"], b"https://a.example.com", True),
    (["https://.example.com"], b"https://a.example.com", True),
    (["https://*.example.com"], b"https://a.example.com", True),
    (["https://*.example.com"], b"https://example.com", True),
    (["https://*.example.com"], b"http://a.example.com", False),
    (["https://*.example.com:8443"], b"https://a.example.com:8443", True),
    (["https://*.example.com:8443"], b"https://a.example.com", False),
    ([".example.com"], b"https://.example.com", False),
    # One of several is enough.
    (["https://a.example", "https://b.example"], b"https://b.example", True),
    ([], b"https://example.com", False),
    # Upper case, a final dot, a path: none of it counts.
    (["https://example.com"], b"HTTPS://EXAMPLE.COM", True),
    (["HTTPS://Example.COM"], b"https://example.com", True),
    (["Example.com"], b"https://EXAMPLE.com", True),
    (["https://example.com"], b"https://example.com.", True),
    (["example.com."], b"https://example.com", True),
    (["https://example.com/"], b"https://example.com", True),
    (["https://example.com"], b"https://example.com/chat/", True),
    # IPv6.
    (["[::1]"], b"http://[::1]:8000", True),
    (["http://[::1]:8000"], b"http://[::1]:8000", True),
    (["http://[::1]"], b"http://[::1]:8000", False),
    (["[::1]"], b"http://[0:0:0:0:0:0:0:1]", True),
    (["[2001:DB8::A]"], b"http://[2001:db8::a]", True),
    (["[::1]"], b"http://[::2]", False),
    (["[::1]"], b"http://[::1", False),
    (["[::1]"], b"http://[example.com]", False),
    (["example.com"], b"http://[example.com]", False),
    (["127.0.0.1"], b"http://[127.0.0.1]", False),
    (["v1.example"], b"http://[v1.example]", False),
    (["[::1]"], b"http://evil.org[::1]", False),
    (["[::1]"], b"http://[::1]evil.org", False),
    (["[::1]"], b"http://[::1]:", True),
    (["[fe80::1]"], b"http://[fe80::1%25eth0]", False),
    (["[::ffff:127.0.0.1]"], b"http://[::ffff:7f00:1]", True),
    (["127.0.0.1"], b"http://[::ffff:127.0.0.1]", False),
    (["127.0.0.1"], b"http://127.1", False),
    # International names: Unicode and Punycode say the same, and similar is not the same.
    (["https://bücher.example"], b"https://xn--bcher-kva.example", True),
    (["https://xn--bcher-kva.example"], "https://bücher.example".encode(), True),
    (["https://BÜCHER.example"], b"https://XN--BCHER-KVA.example", True),
    ([".bücher.example"], b"https://www.xn--bcher-kva.example", True),
    (["https://bu\u0308cher.example"], b"https://xn--bcher-kva.example", True),
    (["https://bücher.example"], b"https://bucher.example", False),
    (["https://straße.example"], b"https://xn--strae-oqa.example", True),
    (["https://straße.example"], b"https://strasse.example", False),
    (["https://例え。example"], b"https://xn--r8jz45g.example", True),
    # Schemes without a port of their own.
    (["chrome-extension://abcdefgh"], b"chrome-extension://abcdefgh", True),
    (["chrome-extension://abcdefgh"], b"chrome-extension://hgfedcba", False),
    (["capacitor://localhost"], b"capacitor://localhost", True),
    (["capacitor://localhost"], b"capacitor://localhost:80", False),
    # No origin to speak of: only "*" lets it in.
    (["https://example.com"], None, False),
    (["*"], None, True),
    (["https://example.com", "*"], None, True),
    (["null"], b"null", False),
    (["*"], b"null", True),
    (["*"], b"https://anything.example:1", True),
    (["example.com"], b"", False),
    (["example.com"], b"example.com", False),
    (["example.com"], b"//example.com", False),
    (["example.com"], b"file://", False),
    # What cannot be read is no reason for a traceback, nor to guess.
    (["example.com"], b"https://example.com\xff", False),
    (["example.com"], b"\xff\xfe", False),
    (["*"], b"\xff\xfe", True),
    (["example.com"], b"https://example.com:99999", False),
    (["example.com"], b"https://example.com:http", False),
    (["example.com"], b"https://user@example.com", False),
    (["example.com"], b"https://example.com@evil.org", False),
    (["example.com"], b"https://evil.org\\@example.com", False),
    (["example.com"], b"https://exa mple.com", False),
    (["example.com"], b"https://exa\tmple.com", False),
    (["example.com"], b" https://example.com", False),
    (["example.com"], b"https://example.com ", False),
    (["example.com"], b"https://example.com, https://example.com", False),
    (["example.com"], b"https://ex%61mple.com", False),
    (["example.com"], b"https://example.com:443:443", False),
    (["example.com"], "https://ex\u00adample.com".encode(), False),
    (["example.com"], "https://example\uff0ecom".encode(), True),
    (["example.com"], b"https://example.com,https://evil.org", False),
    (["example.com"], b"https://a..example.com", False),
    (["example.com"], "https://evil.org℀.example.com".encode(), False),
]


def origins(*values: bytes | None) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"example.com"), *((b"origin", value) for value in values if value is not None)]


async def is_let_in(validator: OriginValidator, *values: bytes | None) -> bool:
    sent = await Exchange.websocket(origins(*values)).run(validator)
    assert sent in ([ACCEPT], [CLOSE])
    return sent == [ACCEPT]


@pytest.mark.parametrize(("allowed", "origin", "expected"), CASES)
async def test_the_table_of_origins(allowed: list[str], origin: bytes | None, expected: bool) -> None:
    assert await is_let_in(OriginValidator(Answering(), allowed), origin) is expected


@pytest.mark.parametrize("allowed", [["https://example.com"], ["*"]])
@pytest.mark.parametrize("second", [b"https://example.com", b"https://evil.org"])
async def test_several_origin_headers_are_refused(
    allowed: list[str], second: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    validator = OriginValidator(Answering(), allowed)
    assert not await is_let_in(validator, b"https://example.com", second)
    assert "it has 2 Origin headers, 'https://example.com, https://" in caplog.text


async def test_the_inner_application_gets_a_copy_of_the_scope_and_the_connect() -> None:
    received: list[Message] = []

    class Reading(Answering):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            received.append(await receive())
            await super().__call__(scope, receive, send)

    inner = Reading()
    validator = OriginValidator(inner, ["*"])
    exchange = Exchange.websocket()
    await exchange.run(validator)
    assert received == [CONNECT]
    assert inner.scope == exchange.scope
    assert inner.scope is not exchange.scope
    assert inner.send == exchange.send
    assert validator.application is validator.inner is inner


# Refusals


async def test_a_refusal_is_a_close_before_any_accept() -> None:
    exchange = Exchange.websocket(origins(b"https://evil.org"))
    assert await exchange.run(OriginValidator(Answering(), ["example.com"])) == [CLOSE]
    assert exchange.events == []


async def test_a_refusal_is_a_response_where_the_server_can_send_one() -> None:
    exchange = Exchange.websocket(origins(b"https://evil.org"), **WITH_RESPONSES)
    start, body = await exchange.run(OriginValidator(Answering(), ["example.com"]))
    assert start == {
        "type": "websocket.http.response.start",
        "status": 403,
        "headers": [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body["body"])).encode()),
        ],
    }
    assert body["type"] == "websocket.http.response.body"
    assert b"Origin" in body["body"]


async def test_nothing_is_sent_to_a_client_that_left() -> None:
    exchange = Exchange.websocket(origins(b"https://evil.org"))
    exchange.events = [{"type": "websocket.disconnect", "code": 1006}]
    assert await exchange.run(OriginValidator(Answering(), ["example.com"])) == []


async def test_a_client_that_leaves_meanwhile_is_no_error() -> None:
    class Leaving(Exchange):
        async def send(self, message: Message) -> None:
            await super().send(message)
            raise OSError("the client has left")

    exchange = Leaving({"type": "websocket", "path": "/", "headers": [], **WITH_RESPONSES}, CONNECT)
    [start] = await exchange.run(OriginValidator(Answering(), ["example.com"]))
    assert start["status"] == 403


@pytest.mark.parametrize(
    ("origin", "line"),
    [
        (
            b"https://evil.org",
            "Refused the WebSocket for '/chat/': its Origin 'https://evil.org' is not in allowed_origins",
        ),
        (
            None,
            "Refused the WebSocket for '/chat/': it has no Origin header, which only '*' in allowed_origins lets in",
        ),
        (
            b"a\r\nb\x1b[31m",
            r"Refused the WebSocket for '/chat/': its Origin 'a\r\nb\x1b[31m' is not in allowed_origins",
        ),
        (b"x\xff", r"Refused the WebSocket for '/chat/': its Origin 'x\\xff' is not in allowed_origins"),
        (
            b"https://" + b"a" * 5000,
            f"Refused the WebSocket for '/chat/': its Origin 'https://{'a' * 192}'... is not in allowed_origins",
        ),
    ],
    ids=["refused", "missing", "control", "undecodable", "long"],
)
async def test_a_refusal_is_one_line_that_names_the_origin(
    origin: bytes | None, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    await Exchange.websocket(origins(origin)).run(OriginValidator(Answering(), ["example.com"]))
    assert caplog.record_tuples == [("sealane.routing", logging.WARNING, line)]


async def test_a_long_path_is_cut_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    scope = {"type": "websocket", "path": "/" + "a" * 5000, "headers": []}
    await Exchange(scope, CONNECT).run(OriginValidator(Answering(), ["example.com"]))
    assert f"'/{'a' * 199}'...: it has no Origin" in caplog.text


async def test_nobody_is_logged_who_is_let_in(caplog: pytest.LogCaptureFixture) -> None:
    assert await is_let_in(OriginValidator(Answering(), ["example.com"]), b"https://example.com")
    assert caplog.record_tuples == []


# Mistakes of the program


@pytest.mark.parametrize("scope_type", ["http", "channel"])
async def test_only_websockets_have_an_origin_to_check(scope_type: str) -> None:
    with pytest.raises(ValueError, match=f"was given a scope of type '{scope_type}': wrap only the application"):
        await Exchange({"type": scope_type, "headers": []}).run(OriginValidator(Answering(), ["*"]))


def test_a_string_is_not_a_list_of_origins() -> None:
    with pytest.raises(TypeError, match=r"takes a list of origins, not the string '\*': write \['\*'\]"):
        OriginValidator(Answering(), "*")


def test_an_origin_is_a_string() -> None:
    origins: Any = [b"https:"]
    with pytest.raises(TypeError, match="takes origins as strings, not b'https:'"):
        OriginValidator(Answering(), origins)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "https://",
        " https://example.com",
        "https://[example.com]",
        "https://*",
        "https://exa*mple.com",
        "https://example.com:port",
        "a b",
        "https://[::1",
        "::1",
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_at_once(pattern: str) -> None:
    with pytest.raises(ValueError, match="cannot read the allowed origin"):
        OriginValidator(Answering(), ["https://example.com", pattern])


# Subclasses, as they are written for Channels


async def test_a_subclass_lets_in_clients_that_are_no_browsers() -> None:
    class ForPrograms(OriginValidator):
        def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
            return parsed_origin is None or super().valid_origin(parsed_origin)

    validator = ForPrograms(Answering(), ["example.com"])
    assert await is_let_in(validator, None)
    assert await is_let_in(validator, b"https://example.com")
    assert not await is_let_in(validator, b"https://evil.org")
    assert not await is_let_in(validator, b"null")
    assert not await is_let_in(validator, b"\xff")


async def test_a_subclass_that_matches_in_its_own_way_is_asked_about_origins_only() -> None:
    class ByLength(OriginValidator):
        def match_allowed_origin(self, parsed_origin: ParseResult | None, pattern: str) -> bool:
            assert parsed_origin is not None
            return len(parsed_origin.netloc) == len(pattern)

    validator = ByLength(Answering(), ["example.com"])
    assert not await is_let_in(validator, None)
    assert await is_let_in(validator, b"https://example.org")


def test_the_steps_of_the_check_are_there_for_subclasses() -> None:
    validator = OriginValidator(Answering(), ["https://example.com"])
    origin = ParseResult("https", "example.com", "", "", "", "")
    assert validator.allowed_origins == ("https://example.com",)
    assert validator.valid_origin(origin)
    assert not validator.valid_origin(None)
    assert validator.validate_origin(origin)
    assert not validator.validate_origin(None)
    assert validator.match_allowed_origin(origin, "https://.example.com")
    assert not validator.match_allowed_origin(origin, "https://")
    assert validator.get_origin_port(origin) == 443
    assert validator.get_origin_port(ParseResult("wss", "example.com:1", "", "", "", "")) == 1
    assert validator.get_origin_port(ParseResult("app", "example.com", "", "", "", "")) is None


# The settings' hosts


@pytest.mark.parametrize(
    ("hosts", "trusted", "debug", "origin", "expected"),
    [
        (["example.com"], [], False, b"https://example.com", True),
        (["example.com"], [], False, b"http://example.com:8000", True),
        (["example.com"], [], False, b"https://a.example.com", False),
        ([".example.com"], [], False, b"https://a.example.com", True),
        (["[::1]"], [], False, b"http://[::1]:8000", True),
        (["*"], [], False, b"https://anything.example", True),
        (["*"], [], False, None, True),
        (["example.com"], [], False, None, False),
        (["example.com"], [], False, b"null", False),
        # A host that no origin can have matches nothing, and is no error.
        (["a b", "example.com"], [], False, b"https://example.com", True),
        (["a b"], [], False, b"https://example.com", False),
        # DEBUG with nothing allowed: this machine.
        ([], [], True, b"http://localhost:8000", True),
        ([], [], True, b"http://shop.localhost:8000", True),
        ([], [], True, b"http://127.0.0.1:8000", True),
        ([], [], True, b"http://[::1]:8000", True),
        ([], [], True, b"http://example.com", False),
        ([], [], True, None, False),
        ([], [], False, b"http://localhost", False),
        (["example.com"], [], True, b"http://localhost", False),
        # The origins that Django's own forms trust.
        (["api.example.com"], ["https://www.example.com"], False, b"https://www.example.com", True),
        (["api.example.com"], ["https://www.example.com"], False, b"http://www.example.com", False),
        (["api.example.com"], ["https://*.example.org"], False, b"https://a.example.org", True),
        (["api.example.com"], ["https://*.example.org"], False, b"https://example.com", False),
        # Not trusted by Django either.
        (["api.example.com"], ["www.example.com", "*"], False, b"https://www.example.com", False),
        (["api.example.com"], ["https://*", "a://b c"], False, b"https://www.example.com", False),
        ([], ["http://localhost:5173"], True, b"http://localhost:5173", True),
    ],
)
async def test_the_hosts_of_the_settings(
    hosts: Sequence[str], trusted: Sequence[str], debug: bool, origin: bytes | None, expected: bool
) -> None:
    with override_settings(ALLOWED_HOSTS=hosts, CSRF_TRUSTED_ORIGINS=trusted, DEBUG=debug):
        assert await is_let_in(AllowedHostsOriginValidator(Answering()), origin) is expected


async def test_the_settings_count_as_they_are_when_the_websocket_comes() -> None:
    validator = AllowedHostsOriginValidator(Answering())
    assert isinstance(validator, OriginValidator)
    with override_settings(ALLOWED_HOSTS=["later.example"]):
        assert validator.allowed_origins == ["later.example"]
        assert await is_let_in(validator, b"https://later.example")
    assert not await is_let_in(validator, b"https://later.example")


async def test_a_refusal_names_the_settings(caplog: pytest.LogCaptureFixture) -> None:
    assert not await is_let_in(AllowedHostsOriginValidator(Answering()), b"https://evil.org")
    assert "'https://evil.org' is not in ALLOWED_HOSTS or CSRF_TRUSTED_ORIGINS" in caplog.text


# A real server


async def test_a_server_answers_403_and_lets_the_others_in() -> None:
    class Waiting(Answering):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await super().__call__(scope, receive, send)
            while (await receive())["type"] != "websocket.disconnect":
                pass

    async with served(OriginValidator(Waiting(), ["https://example.com"])) as port:
        url = f"ws://127.0.0.1:{port}/chat/"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, additional_headers={"Origin": "https://evil.org"}, proxy=None)
        assert refused.value.response.status_code == 403
        assert b"Origin" in (refused.value.response.body or b"")
        async with connect(url, additional_headers={"Origin": "https://example.com"}, proxy=None) as websocket:
            await (await websocket.ping())

"""The check of a WebSocket's Origin, which keeps other sites' pages from using a visitor's cookies here.

Browsers let any page open a WebSocket to any site, and send that site's cookies along. Only the Origin header
says whose page it was.
"""

import ipaddress
import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import ParseResult, urlsplit

from django.conf import settings
from django.utils.http import is_same_domain

from sealane.routing.middleware import BaseMiddleware
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["AllowedHostsOriginValidator", "OriginValidator"]

logger = logging.getLogger("sealane.routing")

_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}

_HOST = re.compile(r"\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*")

# What may stand beside brackets. Not every Python that we support refuses the rest.
_BRACKETED = re.compile(r"\[[0-9a-f.]*:[0-9a-f:.]*\](:[0-9]*)?", re.IGNORECASE)

_REFUSAL = b"Forbidden: the Origin of this WebSocket is not allowed.\n"

#: How much of a header is logged, in characters.
_LOGGED = 200


class OriginValidator(BaseMiddleware):
    """Let a WebSocket in only where its Origin is among ``allowed_origins``; refuse all others with a 403.

    An allowed origin is one of:

    ==========================  ==========================================================================
    ``https://example.com``     this scheme, this host, and the port, which is the scheme's where none stands
    ``https://.example.com``    the same for the domain and all its subdomains; ``*.example.com`` says it too
    ``example.com``             this host under any scheme and any port, and ``.example.com`` its subdomains
    ``example.com:8000``        this host and this port under any scheme
    ``*``                       everything, a missing Origin too: no check at all
    ==========================  ==========================================================================

    Case does not count. International names match in both spellings, ``bücher.example`` and its ``xn--``
    form. IPv6 addresses stand in brackets. A WebSocket without an Origin, with the Origin ``null``, or with
    one that cannot be read is let in by ``*`` only; one with several Origin headers is always refused, since
    no browser sends that.

    A refusal is one line on the logger ``sealane.routing``, a warning, and never an exception. The server
    makes a 403 of it: of ``websocket.close``, or of a response with a body where it has the
    ``websocket.http.response`` extension.

    A lifespan scope passes as it is; another scope than a WebSocket's is a ValueError. A pattern that cannot
    match anything, or a string in place of the list, is an error when the validator is made.
    """

    def __init__(self, application: ASGIApplication, allowed_origins: Iterable[str]) -> None:
        super().__init__(application)
        if isinstance(allowed_origins, str):
            raise TypeError(
                f"OriginValidator takes a list of origins, not the string {allowed_origins!r}: "
                f"write [{allowed_origins!r}]"
            )
        self._allowed_origins = tuple(allowed_origins)
        for pattern in self._allowed_origins:
            if not isinstance(pattern, str):
                raise TypeError(f"OriginValidator takes origins as strings, not {pattern!r}")
            if pattern != "*" and _parse_pattern(pattern) is None:
                raise ValueError(
                    f"OriginValidator cannot read the allowed origin {pattern!r}: write "
                    "'https://example.com', 'https://.example.com' for all subdomains too, "
                    "'example.com:8000' or '*'"
                )

    @property
    def allowed_origins(self) -> Sequence[str]:
        """The allowed origins, as they stand in the program or the settings."""
        return self._allowed_origins

    @property
    def application(self) -> ASGIApplication:
        """The inner application, under the name that it has in Channels."""
        return self.inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = dict(scope)
        kind = scope.get("type")
        if kind == "lifespan":
            await self.inner(scope, receive, send)
            return
        if kind != "websocket":
            raise ValueError(
                f"OriginValidator checks WebSockets, and was given a scope of type {kind!r}: wrap only the "
                "application for 'websocket' in it"
            )
        headers = [value for name, value in scope.get("headers") or () if name == b"origin"]
        if len(headers) > 1:
            reason = f"it has {len(headers)} Origin headers, {_shorten(b', '.join(headers))}"
        elif self.valid_origin(_parse_origin(headers[0]) if headers else None):
            await self.inner(scope, receive, send)
            return
        elif headers:
            reason = f"its Origin {_shorten(headers[0])} is not in {self._where()}"
        else:
            reason = f"it has no Origin header, which only '*' in {self._where()} lets in"
        logger.warning("Refused the WebSocket for %s: %s", _shorten(scope.get("path", "")), reason)
        await _refuse(scope, receive, send)

    def valid_origin(self, parsed_origin: ParseResult | None) -> bool:
        """Tell whether an origin is allowed. None is a missing one; an unreadable one has no ``hostname``.

        A subclass that lets in clients without an Origin, as programs that are no browsers are, does it here.
        """
        if parsed_origin is None and "*" not in self.allowed_origins:
            return False
        return self.validate_origin(parsed_origin)

    def validate_origin(self, parsed_origin: ParseResult | None) -> bool:
        """Tell whether an origin matches one of the allowed ones."""
        return any(
            pattern == "*" or self.match_allowed_origin(parsed_origin, pattern) for pattern in self.allowed_origins
        )

    def match_allowed_origin(self, parsed_origin: ParseResult | None, pattern: str) -> bool:
        """Tell whether an origin matches an allowed one other than ``*``."""
        allowed = _parse_pattern(pattern)
        if parsed_origin is None or allowed is None or not parsed_origin.hostname:
            return False
        return (
            allowed.scheme in (None, parsed_origin.scheme)
            and (allowed.any_port or allowed.port == self.get_origin_port(parsed_origin))
            and is_same_domain(parsed_origin.hostname, allowed.host)
        )

    def get_origin_port(self, origin: ParseResult) -> int | None:
        """Return an origin's port: the scheme's own where none is given, None where the scheme has none."""
        return origin.port if origin.port is not None else _DEFAULT_PORTS.get(origin.scheme)

    def _where(self) -> str:
        return "allowed_origins"


class _AllowedHostsOriginValidator(OriginValidator):
    """An OriginValidator for the hosts of the settings."""

    def __init__(self, application: ASGIApplication) -> None:
        super().__init__(application, ())

    @property
    def allowed_origins(self) -> Sequence[str]:
        # Read for each WebSocket: live servers in tests and override_settings() change ALLOWED_HOSTS after
        # the routing was imported.
        hosts = settings.ALLOWED_HOSTS
        if settings.DEBUG and not hosts:
            hosts = [".localhost", "127.0.0.1", "[::1]"]
        # As Django reads them: an entry without a scheme trusts nobody.
        return [*hosts, *(origin for origin in settings.CSRF_TRUSTED_ORIGINS if "://" in origin)]

    def _where(self) -> str:
        return "ALLOWED_HOSTS or CSRF_TRUSTED_ORIGINS"


def AllowedHostsOriginValidator(application: ASGIApplication) -> OriginValidator:  # noqa: N802
    """Wrap an application in an OriginValidator for the settings' hosts and trusted origins.

    It lets in a page of any host in ``ALLOWED_HOSTS``, under any scheme and port, and of any origin in
    ``CSRF_TRUSTED_ORIGINS``, where ``https://*.example.com`` stands for a domain and all its subdomains. With
    ``DEBUG`` on and no ``ALLOWED_HOSTS`` it lets in ``localhost``, its subdomains, ``127.0.0.1`` and ``[::1]``, as
    Django does. An entry that cannot be read as an origin matches nothing, nor does one of
    ``CSRF_TRUSTED_ORIGINS`` without a scheme.
    """
    return _AllowedHostsOriginValidator(application)


class _Pattern(NamedTuple):
    """An allowed origin, taken apart."""

    scheme: str | None  # None: any
    host: str  # with a leading dot: its subdomains too
    any_port: bool
    port: int | None


@lru_cache(maxsize=1024)
def _parse_pattern(pattern: str) -> _Pattern | None:
    """Take an allowed origin apart. None: it cannot be read, and matches nothing."""
    has_scheme = "://" in pattern
    try:
        scheme, host, port = _split(pattern if has_scheme else f"//{pattern}")
    except ValueError:
        return None
    if not has_scheme:
        return _Pattern(None, host, port is None, port)
    return _Pattern(scheme, host, False, _DEFAULT_PORTS.get(scheme) if port is None else port)


def _parse_origin(value: bytes) -> ParseResult:
    """Take an Origin header apart. One that cannot be read has no host."""
    try:
        scheme, host, port = _split(value.decode())
        if not scheme or host.startswith("."):
            raise ValueError("an origin has a scheme and a host of its own")
    except ValueError:  # UnicodeDecodeError too
        return ParseResult("", "", value.decode("latin-1"), "", "", "")
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc = f"{netloc}:{port}"
    return ParseResult(scheme, netloc, "", "", "", "")


def _split(origin: str) -> tuple[str, str, int | None]:
    """Return an origin's scheme, host and port in the one spelling that is compared, or raise ValueError."""
    if not origin.isprintable() or " " in origin:
        # urlsplit() would take some of them out and read on.
        raise ValueError("an origin has no spaces and no control characters")
    parts = urlsplit(origin)
    if "@" in parts.netloc:
        raise ValueError("an origin has no user name")
    if ("[" in parts.netloc or "]" in parts.netloc) and not _BRACKETED.fullmatch(parts.netloc):
        raise ValueError("only an IPv6 address stands in brackets, and nothing beside them")
    return parts.scheme, _spell_host(parts.hostname or ""), parts.port


def _spell_host(host: str) -> str:
    """Return a host in lower case and ASCII, without a final dot; an IPv6 address in its short form."""
    if ":" in host:
        return ipaddress.IPv6Address(host).compressed
    # Not the idna codec: it follows the rules of 2003, which take "straße" for "strasse", another domain.
    # What is left is what browsers do with a name that is spelled with care.
    host = unicodedata.normalize("NFKC", host).lower().replace("\u3002", ".").removesuffix(".")
    host = host.removeprefix("*") if host.startswith("*.") else host
    labels = [
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii") for label in host.split(".")
    ]
    host = ".".join(labels)
    if not _HOST.fullmatch(host):
        raise ValueError("an origin has a host")
    return host


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    # Servers wait for an answer only to a connect that was received.
    if (await receive())["type"] == "websocket.disconnect":
        return
    if "websocket.http.response" in (scope.get("extensions") or ()):
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(_REFUSAL)).encode()),
        ]
        answer: list[Message] = [
            {"type": "websocket.http.response.start", "status": 403, "headers": headers},
            {"type": "websocket.http.response.body", "body": _REFUSAL},
        ]
    else:
        answer = [{"type": "websocket.close"}]
    for message in answer:
        try:
            await send(message)
        except OSError:
            # ASGI's way to say that the client has left.
            return


def _shorten(value: str | bytes) -> str:
    """Return what a client sent in a form that is safe and short enough for a log."""
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return repr(text) if len(text) <= _LOGGED else f"{text[:_LOGGED]!r}..."

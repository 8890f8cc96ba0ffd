"""What the HTTP and the WebSocket communicator share: a client's scope, its headers, and its login."""

from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, unquote, urlsplit

from sealane.testing.application import ApplicationCommunicator
from sealane.types import ASGIApplication, Headers, Scope

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

__all__ = ["ClientCommunicator", "HeadersLike", "client_scope"]

#: Headers as a test may write them: ASGI's list of pairs of bytes, or with strings, or a mapping.
HeadersLike = Iterable[tuple[bytes | str, bytes | str]] | Mapping[str, bytes | str] | Mapping[bytes, bytes | str]


class ClientCommunicator(ApplicationCommunicator):
    """Be a browser: an ApplicationCommunicator whose scope has headers, and which can log a user in."""

    def __init__(self, application: ASGIApplication, scope: Scope) -> None:
        super().__init__(application, scope)
        #: The headers that the application sees. They may be changed until it starts.
        self.headers: Headers = scope["headers"]

    async def login(self, user: "AbstractBaseUser", backend: str | None = None) -> Self:
        """Log ``user`` in, without a password, before the application starts. Returns the communicator.

        It does what ``force_login`` of Django's test client does: it makes a session in the project's
        ``SESSION_ENGINE``, or goes on with the one whose cookie the headers have, writes into it what
        Django's login writes (``user_logged_in`` is sent), saves it, and puts its cookie into the headers.
        ``backend`` is a dotted name out of ``AUTHENTICATION_BACKENDS``, by default the first one that can
        find users.

        Raises RuntimeError where the application runs already, since it would not see the cookie, and
        ValueError for an AnonymousUser.
        """
        from django.conf import settings

        if self._task is not None:
            raise RuntimeError(
                f"login() came too late for {self!r}: the application has its headers already. Call it before "
                "connect(), get_response() or 'async with'"
            )
        if user.is_anonymous:
            raise ValueError("login() was given an AnonymousUser: there is nobody to log in")
        name = settings.SESSION_COOKIE_NAME
        session_key = await _log_in(user, backend or _default_backend(), _cookies(self.headers).get(name))
        _set_cookie(self.headers, name, session_key)
        return self


def client_scope(type: str, path: str, headers: HeadersLike | None) -> Scope:
    """Make the scope of a client's connection to ``path``, which may have a query string, or be a whole URL.

    As a server does: ``path`` is decoded, ``raw_path`` and ``query_string`` are not, header names are in
    lower case. The server's name is the one that Django's test client uses, ``testserver``.
    """
    if not isinstance(path, str):
        raise TypeError(f"A path is a str such as '/chat/?room=1', not {path!r}")
    if "://" in path.partition("?")[0]:
        url = urlsplit(path)
        raw_path, query = url.path or "/", url.query
    else:
        raw_path, _, query = path.partition("#")[0].partition("?")
    return {
        "type": type,
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "path": unquote(raw_path),
        "raw_path": quote(raw_path, safe="/%:@!$&'()*+,;=~").encode("ascii"),
        "root_path": "",
        "query_string": query.encode(),
        "headers": _headers(headers),
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
    }


def _headers(given: HeadersLike | None) -> Headers:
    pairs: Iterable[tuple[Any, Any]] = given.items() if isinstance(given, Mapping) else given or ()
    return [(_bytes(name, "name").lower(), _bytes(value, "value")) for name, value in pairs]


def _bytes(value: object, what: str) -> bytes:
    if isinstance(value, str):
        return value.encode("latin-1")
    if isinstance(value, bytes):
        return value
    raise TypeError(f"A header's {what} is bytes or str, not {value!r}")


def _cookies(headers: Headers) -> dict[str, str]:
    from django.http import parse_cookie

    return parse_cookie("; ".join(value.decode("latin-1") for name, value in headers if name == b"cookie"))


def _set_cookie(headers: Headers, name: str, value: str) -> None:
    """Set one cookie in the headers, in place, and keep the others in one header, as ASGI has it."""
    cookies = _cookies(headers) | {name: value}
    headers[:] = [header for header in headers if header[0] != b"cookie"]
    headers.append((b"cookie", "; ".join(f"{key}={cookie}" for key, cookie in cookies.items()).encode("latin-1")))


def _default_backend() -> str:
    from django.conf import settings
    from django.contrib.auth import load_backend

    paths: list[str] = settings.AUTHENTICATION_BACKENDS
    for path in paths:
        if hasattr(load_backend(path), "get_user"):
            return path
    raise ValueError(
        "login() needs an authentication backend that can find users, and none of AUTHENTICATION_BACKENDS "
        f"has a get_user(): {settings.AUTHENTICATION_BACKENDS!r}"
    )


async def _log_in(user: "AbstractBaseUser", backend: str, session_key: str | None) -> str:
    """Write a login into a session, save it, and return its key."""
    from django.conf import settings
    from django.contrib.auth import alogin
    from django.http import HttpRequest

    request = HttpRequest()
    session: Any = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    request.session = session
    await alogin(request, user, backend)
    await session.asave()
    key: str = session.session_key
    return key

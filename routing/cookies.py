"""Cookies of a connection, read from its headers and written onto its answer."""

import datetime

from django.http import HttpResponse
from django.http.cookie import parse_cookie
from django.utils.encoding import force_str

from sealane.routing.middleware import BaseMiddleware
from sealane.types import Message, Receive, Scope, Send

__all__ = ["CookieMiddleware"]


class CookieMiddleware(BaseMiddleware):
    """Put the connection's cookies into ``scope["cookies"]``, as ``request.COOKIES`` has them in a view.

    Several Cookie headers, as HTTP/2 allows, are read as one. Where a name comes twice, its last value
    counts. A lifespan scope passes as it is. Any other scope without ``headers`` is a ValueError: it has no
    client.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = dict(scope)
        if "headers" in scope:
            scope["cookies"] = _parse(scope)
        elif scope.get("type") != "lifespan":
            raise ValueError(
                "CookieMiddleware reads the headers of a connection, but the scope of type "
                f"{scope.get('type')!r} has none: wrap only the applications for 'http' and 'websocket' in it"
            )
        await self.inner(scope, receive, send)

    @classmethod
    def set_cookie(
        cls,
        message: Message,
        key: str,
        value: object = "",
        max_age: float | datetime.timedelta | None = None,
        expires: datetime.datetime | str | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool | None = False,
        httponly: bool | None = False,
        samesite: str | None = "lax",
    ) -> None:
        """Add a Set-Cookie header to an event that has headers, such as ``websocket.accept``.

        The options are those of Django's ``HttpResponse.set_cookie``: ``max_age`` in seconds or as a
        timedelta, ``expires`` as a string in the header's own format or as a datetime, which is UTC where it
        is naive. A ``max_age`` beside a datetime, or a ``samesite`` that is not strict, lax or none, is a
        ValueError.

        The event gets a new list of headers: the one that it came with may be shared with other answers.
        """
        response = HttpResponse()
        response.set_cookie(
            key,
            force_str(value),
            max_age=max_age,  # type: ignore[arg-type]  # Django takes fractions of a second, the stubs do not
            expires=expires,
            path=path or "",
            domain=domain,
            secure=bool(secure),
            httponly=bool(httponly),
            samesite=samesite,  # type: ignore[arg-type]  # Django takes any case, the stubs lower case
        )
        _add(message, response, key)

    @classmethod
    def delete_cookie(
        cls,
        message: Message,
        key: str,
        path: str = "/",
        domain: str | None = None,
        samesite: str | None = None,
    ) -> None:
        """Add a Set-Cookie header that makes the browser forget a cookie.

        ``path`` and ``domain`` have to be those that it was set with, and so has a ``samesite`` of "none":
        browsers ignore the header otherwise.
        """
        response = HttpResponse()
        response.delete_cookie(key, path=path, domain=domain, samesite=samesite)  # type: ignore[arg-type]
        _add(message, response, key)


def _parse(scope: Scope) -> dict[str, str]:
    values = [value for name, value in scope["headers"] if name == b"cookie"]
    if not values:
        return {}
    return parse_cookie(b"; ".join(values).decode("latin-1"))


def _add(message: Message, response: HttpResponse, key: str) -> None:
    header = (b"set-cookie", response.cookies[key].OutputString().encode())
    message["headers"] = [*(message.get("headers") or ()), header]

"""Django's sessions for connections: found by their cookie, saved when the answer to the client begins."""

from collections.abc import Awaitable
from importlib import import_module
from typing import NamedTuple

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.exceptions import SuspiciousOperation

from sealane.db import database_sync_to_async
from sealane.routing.cookies import CookieMiddleware
from sealane.routing.middleware import BaseMiddleware
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["SessionMiddleware", "SessionMiddlewareStack"]

#: The events that answer a client. The session is saved on the first of them; all others go straight to the
#: server.
_ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.close", "websocket.http.response.start"})


class SessionMiddleware(BaseMiddleware):
    """Put a session of ``SESSION_ENGINE`` into ``scope["session"]``. It needs CookieMiddleware outside it.

    **Loading.** Django loads a session when it is first read. A connection that never reads it never asks the
    store.

    **Saving.** A session that was changed (or every one, under ``SESSION_SAVE_EVERY_REQUEST``) is saved when
    the answer begins, and the same event carries the cookie: ``http.response.start`` with a status below 500,
    ``websocket.accept``, and ``websocket.http.response.start``, which refuses a WebSocket. An emptied session
    has its cookie deleted. A ``websocket.close`` that refuses a WebSocket saves too: where the server has the
    ``websocket.http.response`` extension, the refusal carries the cookie; where it has not, no cookie can
    follow, and only a session that the browser knows already is saved. What changes later in a connection's
    life is not saved by itself: ``await scope["session"].asave()`` does it, and no cookie can follow.

    A session that was deleted meanwhile, by a logout in another window say, is a SuspiciousOperation when it
    would be saved. Each save is one visit to a database thread, through the engine's synchronous methods: the
    asynchronous ones of Django's engines visit several times, and pass over what an engine of your own
    overrides in ``save()`` or ``create_model_instance()``. A save that is cancelled is still finished in its
    thread; the answer is not sent then.

    A scope that has a session already passes with it: the middleware that made it also saves it. A lifespan
    scope passes as it is. Without ``scope["cookies"]`` it is a ValueError.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = dict(scope)
        if "session" not in scope and scope.get("type") != "lifespan":
            if "cookies" not in scope:
                raise ValueError(
                    "SessionMiddleware found no 'cookies' in the scope: put CookieMiddleware outside it, or "
                    "use SessionMiddlewareStack, which has both"
                )
            store = import_module(settings.SESSION_ENGINE).SessionStore
            session = store(scope["cookies"].get(settings.SESSION_COOKIE_NAME))
            scope["session"] = session
            send = _Answer(session, scope, send).send
        await self.inner(scope, receive, send)


def SessionMiddlewareStack(inner: ASGIApplication) -> CookieMiddleware:  # noqa: N802
    """Wrap an application in SessionMiddleware and in the CookieMiddleware that it needs."""
    return CookieMiddleware(SessionMiddleware(inner))


class _Saved(NamedTuple):
    """What the browser has to know of a saved session."""

    key: str | None
    max_age: int | None  # seconds; None until the browser is closed


class _Answer:
    """The way from one connection to its client, on which its session is saved once."""

    __slots__ = ("_cookie", "_forward", "_refusal", "_session", "_started")

    def __init__(self, session: SessionBase, scope: Scope, send: Send) -> None:
        self._session = session
        self._cookie: str | None = scope["cookies"].get(settings.SESSION_COOKIE_NAME)
        self._refusal = "websocket.http.response" in (scope.get("extensions") or ())
        self._forward = send
        self._started = False

    def send(self, message: Message) -> Awaitable[None]:
        # Not a coroutine: a broadcast passes here once per member, and pays for one look at a set.
        if message.get("type") not in _ANSWERS:
            return self._forward(message)
        return self._start(message)

    async def _start(self, message: Message) -> None:
        first, self._started = not self._started, True
        if not first:
            await self._forward(message)
        elif message["type"] == "websocket.close":
            await self._refuse(message)
        else:
            message = dict(message)
            if message.get("status", 200) < 500:
                await self._save(message)
            if message["type"] == "http.response.start" and self._session.accessed:
                _vary(message)
            await self._forward(message)

    async def _refuse(self, message: Message) -> None:
        """Pass a ``websocket.close`` on that comes before any ``websocket.accept``."""
        if not self._due():
            await self._forward(message)
        elif self._refusal:
            # A server makes a 403 of the close. This is the same, with room for a cookie.
            headers = [(b"content-length", b"0")]
            start: Message = {"type": "websocket.http.response.start", "status": 403, "headers": headers}
            await self._save(start)
            await self._forward(start)
            await self._forward({"type": "websocket.http.response.body", "body": b""})
        else:
            if self._cookie and self._cookie == self._session.session_key:
                await _save(self._session)
            await self._forward(message)

    async def _save(self, message: Message) -> None:
        """Save the session where that is due, and set or delete the cookie on the event."""
        if not self._due():
            return
        saved: _Saved | None = None if self._session.is_empty() else await _save(self._session)
        if saved is not None:
            CookieMiddleware.set_cookie(
                message,
                settings.SESSION_COOKIE_NAME,
                saved.key,
                max_age=saved.max_age,
                domain=settings.SESSION_COOKIE_DOMAIN,
                path=settings.SESSION_COOKIE_PATH,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=settings.SESSION_COOKIE_HTTPONLY,
                samesite=settings.SESSION_COOKIE_SAMESITE,
            )
        elif self._cookie is not None:
            CookieMiddleware.delete_cookie(
                message,
                settings.SESSION_COOKIE_NAME,
                path=settings.SESSION_COOKIE_PATH,
                domain=settings.SESSION_COOKIE_DOMAIN,
                samesite=settings.SESSION_COOKIE_SAMESITE,
            )

    def _due(self) -> bool:
        # An unchanged session leaves the cookie alone, even one that the store does not know: a handshake
        # runs beside page loads, and must not delete the cookie that a login has just set.
        return bool(self._session.modified or settings.SESSION_SAVE_EVERY_REQUEST)


@database_sync_to_async
def _save(session: SessionBase) -> _Saved | None:
    """Save a session, in a database thread. None says that it is empty: there is nothing to save."""
    # This reads the session. One that was never read and is not in the store turns out empty here; saving it
    # would be an UpdateError.
    until_browser_is_closed = session.get_expire_at_browser_close()
    if session.is_empty():
        return None
    max_age = None if until_browser_is_closed else session.get_expiry_age()
    try:
        session.save()
    except UpdateError as error:
        raise SuspiciousOperation(
            "The session was deleted while its connection was being answered, by a logout in another window "
            "for instance, so it was not saved"
        ) from error
    return _Saved(session.session_key, max_age)


def _vary(message: Message) -> None:
    """Tell caches that a response depends on the cookies, unless it says so itself."""
    headers = message.get("headers") or ()
    for name, value in headers:
        if name.lower() == b"vary" and {b"*", b"cookie"} & {item.strip() for item in value.lower().split(b",")}:
            return
    message["headers"] = [*headers, (b"vary", b"Cookie")]

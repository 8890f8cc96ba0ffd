"""The user of a connection: read from Django's session, logged in and out by a consumer."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.backends.base import SessionBase
from django.utils.crypto import constant_time_compare
from django.utils.functional import LazyObject

from sealane.consumers.credentials import CREDENTIALS
from sealane.consumers.revocation import announce
from sealane.db import database_sync_to_async
from sealane.routing.cookies import CookieMiddleware
from sealane.routing.credentials import SessionCredentials
from sealane.routing.middleware import BaseMiddleware
from sealane.routing.sessions import SessionMiddleware
from sealane.types import ASGIApplication, Receive, Scope, Send

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

__all__ = ["AuthMiddleware", "AuthMiddlewareStack", "UserLazyObject", "get_user", "login", "logout"]


async def get_user(scope: Scope) -> "AbstractBaseUser | AnonymousUser":
    """Return the user of the scope's session, or an ``AnonymousUser``.

    The rules are Django's own, since ``django.contrib.auth.get_user`` applies them: the backend that logged
    the user in must still be in ``AUTHENTICATION_BACKENDS``, and the session's hash must fit the user's
    password. Where it does not fit, the session is flushed. Where it fits under one of
    ``SECRET_KEY_FALLBACKS``, the session moves to a new key and gets a new hash. Either reaches the browser
    by a cookie when SessionMiddleware answers; after that none can follow, so ask early in a connection's
    life.

    Where the scope has no user yet, the session becomes what the user's connection is measured by: see ``revalidate``
    and ``close_on_logout`` of consumers.

    A session that nobody has begun costs nothing. Any other is one visit to a database thread, where the
    session is loaded and the user fetched. A scope without a session is a ValueError.
    """
    from django.contrib.auth.models import AnonymousUser

    session = _session_of(scope, "get_user()")
    if isinstance(session, SessionBase) and session.is_empty():
        session.accessed = True  # the answer depends on it, and tells caches so
        return AnonymousUser()
    user: AbstractBaseUser | AnonymousUser = await _get_user(session)
    if scope.get("user") is None or type(scope["user"]) is UserLazyObject:
        scope.setdefault(CREDENTIALS, SessionCredentials(session))
    return user


async def login(scope: Scope, user: "AbstractBaseUser | None" = None, backend: str | None = None) -> None:
    """Log a user in: write the user into the scope's session, and into ``scope["user"]``.

    What an anonymous session holds is kept, under a new key. The session of another user, or of this user
    with another password, is flushed first. ``user_logged_in`` is sent from the database thread, with
    ``request=None``.

    Without a ``user`` it is the one of the scope. ``backend`` is the dotted path of the authentication
    backend; it may be left out where the user has a ``backend``, as one from ``authenticate()`` does, or
    where the project has only one. It is a ValueError where the scope has no session, where there is no user
    or nobody to log in, and where the backend is not certain; then nothing has changed.

    Before a connection is answered, SessionMiddleware saves the session and sends its cookie. Afterwards
    nobody does: call ``await scope["session"].asave()``. The browser keeps its old cookie then, so a
    WebSocket that logs somebody in logs in itself and not the pages around it. A login that is cancelled is
    still finished in its thread.
    """
    session = _session_of(scope, "login()")
    if user is None:
        user = scope.get("user")
    if user is None:
        raise ValueError("login() needs a user, as its argument or in the scope, and found neither")
    if getattr(user, "is_anonymous", False):
        raise ValueError("login() was given an AnonymousUser: there is nobody to log in")
    await _login(scope, session, user, _backend_of(user, backend))


async def logout(scope: Scope) -> None:
    """Log the scope's user out: flush the session, and put an ``AnonymousUser`` into ``scope["user"]``.

    ``user_logged_out`` is sent first, from the database thread, with ``request=None``, so that a receiver
    still finds the session; it is not sent where nobody was logged in. The session's data is deleted from its
    store at once, and its cookie when the connection is answered. A scope without a session is a ValueError.
    A logout that is cancelled is still finished in its thread, but ``scope["user"]`` stays.
    """
    from django.contrib.auth.models import AnonymousUser

    await _logout(_session_of(scope, "logout()"), scope.get("user"))
    scope.pop(CREDENTIALS, None)
    if "user" in scope:
        scope["user"] = AnonymousUser()


class UserLazyObject(LazyObject):  # type: ignore[type-arg]  # not generic when it runs
    """Stand in ``scope["user"]`` until the user is known. Any use of it before that is a ValueError."""

    def _setup(self) -> None:
        raise ValueError(
            "scope['user'] was used before AuthMiddleware found the user: await resolve_scope(scope) first"
        )


class AuthMiddleware(BaseMiddleware):
    """Put the session's user, or an AnonymousUser, into ``scope["user"]``. It needs SessionMiddleware.

    The user is known before the inner application runs. A connection without a session cookie is anonymous
    without a look at the database. A user that the scope has already, put there by a middleware for tokens or
    by a test, stays.

    A subclass that finds users in another way overrides ``resolve_scope``.

    A lifespan scope passes as it is. Without ``scope["session"]`` it is a ValueError.
    """

    def populate_scope(self, scope: Scope) -> None:
        """Make ``scope["user"]`` be there, without any I/O. The scope is this middleware's own copy."""
        if "session" not in scope:
            raise ValueError(
                "AuthMiddleware found no 'session' in the scope: put SessionMiddleware outside it, or use "
                "AuthMiddlewareStack, which has all that it needs"
            )
        if "user" not in scope:
            scope["user"] = UserLazyObject()

    async def resolve_scope(self, scope: Scope) -> None:
        """Find the user. The scope is this middleware's own copy."""
        if type(scope["user"]) is UserLazyObject:
            scope["user"] = await get_user(scope)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = dict(scope)
        if scope.get("type") != "lifespan":
            self.populate_scope(scope)
            await self.resolve_scope(scope)
        await self.inner(scope, receive, send)


def AuthMiddlewareStack(inner: ASGIApplication) -> CookieMiddleware:  # noqa: N802
    """Wrap an application in AuthMiddleware, and in the SessionMiddleware and CookieMiddleware it needs."""
    return CookieMiddleware(SessionMiddleware(AuthMiddleware(inner)))


def _session_of(scope: Scope, caller: str) -> Any:
    try:
        return scope["session"]
    except KeyError:
        raise ValueError(
            f"{caller} found no 'session' in the scope: wrap the application in SessionMiddlewareStack or "
            "AuthMiddlewareStack"
        ) from None


def _backend_of(user: Any, backend: str | None) -> str:
    path = backend or getattr(user, "backend", None)
    if path is None:
        paths = settings.AUTHENTICATION_BACKENDS
        if len(paths) != 1:
            raise ValueError(
                f"login() cannot choose between the project's {len(paths)} authentication backends: give it "
                "backend='the.dotted.Path', or a user from authenticate(), which has a 'backend'"
            )
        path = paths[0]
    if not isinstance(path, str):
        raise TypeError(
            "login() takes a backend as a dotted path, such as 'django.contrib.auth.backends.ModelBackend', "
            f"not {path!r}"
        )
    return path


@database_sync_to_async
def _get_user(session: Any) -> Any:
    # All that Django reads of a request here is its session.
    return auth.get_user(SimpleNamespace(session=session))  # type: ignore[arg-type]


@database_sync_to_async
def _login(scope: Scope, session: Any, user: Any, backend: str) -> None:
    auth_hash: str = user.get_session_auth_hash() if hasattr(user, "get_session_auth_hash") else ""
    if auth.SESSION_KEY in session:
        same_user = auth.get_user_model()._meta.pk.to_python(session[auth.SESSION_KEY]) == user.pk
        if not same_user or (
            auth_hash and not constant_time_compare(session.get(auth.HASH_SESSION_KEY, ""), auth_hash)
        ):
            session.flush()
    else:
        session.cycle_key()
    session[auth.SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[auth.BACKEND_SESSION_KEY] = backend
    session[auth.HASH_SESSION_KEY] = auth_hash
    scope["user"] = user
    scope[CREDENTIALS] = SessionCredentials(session)
    auth.user_logged_in.send(sender=user.__class__, request=None, user=user)


@database_sync_to_async
def _logout(session: Any, user: Any) -> None:
    if user is not None and getattr(user, "is_authenticated", True):
        auth.user_logged_out.send(sender=user.__class__, request=None, user=user)
    session_key = getattr(session, "session_key", None)
    session.flush()
    if session_key is not None:
        announce(user, session_key)

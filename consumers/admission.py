"""Who may use a consumer: tests of the connection's user, made before it is answered and when the user is read anew."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from asgiref.sync import iscoroutinefunction
from django.utils.functional import LazyObject, empty

from sealane.db import database_sync_to_async
from sealane.types import Scope

if TYPE_CHECKING:
    from sealane.consumers.base import AsyncConsumer

__all__ = [
    "FORBIDDEN",
    "UNAUTHENTICATED",
    "Refusal",
    "UserTest",
    "examine",
    "is_logged_in",
    "login_required",
    "permission_required",
    "user_passes_test",
]


class Refusal(NamedTuple):
    """Why somebody may not use a consumer, in the words of HTTP and of WebSockets."""

    #: The status of the response that refuses a connection.
    status: int
    #: The code that closes a WebSocket after it was accepted.
    code: int
    reason: str


UNAUTHENTICATED = Refusal(401, 4401, "Authentication required")
FORBIDDEN = Refusal(403, 4403, "Permission denied")

#: Looks at a user, and returns why the consumer is not for them; None where it is.
UserTest = Callable[[Any], Awaitable[Refusal | None]]

#: A consumer class, or what its ``as_asgi()`` returns.
Consumer = TypeVar("Consumer", bound=Callable[..., Any])


def is_logged_in(user: object) -> bool:
    """Tell whether an object of a scope is a user who is not anonymous. One that is yet to be found is not."""
    if isinstance(user, LazyObject) and user._wrapped is empty:
        return False  # to ask it would ask the database, in an event loop
    return user is not None and bool(getattr(user, "is_authenticated", False))


async def examine(tests: Iterable[UserTest], scope: Scope) -> Refusal | None:
    """Make tests of the scope's user in order, and return the first refusal. No user in the scope is a ValueError."""
    for test in tests:
        try:
            user = scope["user"]
        except KeyError:
            raise ValueError(
                "A consumer for certain users found no 'user' in the scope: wrap the application in "
                "AuthMiddlewareStack or TokenAuthMiddleware"
            ) from None
        refusal = await test(user)
        if refusal is not None:
            return refusal
    return None


async def _must_be_logged_in(user: Any) -> Refusal | None:
    return None if is_logged_in(user) else UNAUTHENTICATED


def login_required(consumer: Consumer) -> Consumer:
    """Let only users who are logged in use a consumer, as Django's decorator of this name does with a view.

    It takes a consumer class, which it changes, or what ``as_asgi()`` returned. Others are refused before anything
    of the consumer runs: with status 401 where a WebSocket or an HTTP request is to be answered; a server without the
    ``websocket.http.response`` extension answers 403. ``connect()`` and ``disconnect()`` do not run then.

    Under ``revalidate`` the test is made again with the user as it is then, and closes a WebSocket with 4401.

    Raises TypeError for anything but a consumer of WebSockets or HTTP requests.
    """
    return _guarded(consumer, _must_be_logged_in, "login_required")


def permission_required(permission: str | Iterable[str]) -> Callable[[Consumer], Consumer]:
    """Let only users with a permission, or with all of several, use a consumer: ``"polls.vote"``.

    As :func:`login_required`; who is logged in without the permission gets 403, or 4403 under ``revalidate``. The
    permissions are asked for in a database thread, through the user's ``has_perms()``: one visit for each connection.
    """
    permissions = (permission,) if isinstance(permission, str) else tuple(permission)
    if not permissions or not all(isinstance(name, str) for name in permissions):
        raise TypeError(f"permission_required() takes names such as 'polls.vote', not {permission!r}")

    async def must_have_permission(user: Any) -> Refusal | None:
        if not is_logged_in(user):
            return UNAUTHENTICATED
        return None if await database_sync_to_async(user.has_perms)(permissions) else FORBIDDEN

    return lambda consumer: _guarded(consumer, must_have_permission, "permission_required")


def user_passes_test(test: Callable[[Any], Any]) -> Callable[[Consumer], Consumer]:
    """Let only users use a consumer for whom ``test(user)`` is true.

    As :func:`permission_required`, with a test of your own: a coroutine function, which is awaited, or a plain
    function, which runs in a database thread. An anonymous user who fails gets 401, another one 403. What the test
    raises is raised to the server.
    """
    if not callable(test):
        raise TypeError(f"user_passes_test() takes a function of the user, not {test!r}")
    call = test if iscoroutinefunction(test) else database_sync_to_async(test)

    async def must_pass(user: Any) -> Refusal | None:
        if await call(user):
            return None
        return FORBIDDEN if is_logged_in(user) else UNAUTHENTICATED

    return lambda consumer: _guarded(consumer, must_pass, "user_passes_test")


def _guarded(consumer: Consumer, test: UserTest, name: str) -> Consumer:
    """Add a test in front of those that a consumer has: decorators are written from the outside in."""
    given: Any = consumer
    cls: type[AsyncConsumer] | None
    if isinstance(given, type):
        cls = given if hasattr(given, "_user_tests") else None
    else:
        inner = getattr(given, "consumer_class", None)
        # A class of its own: the same consumer may be at another path for everybody.
        cls = None if inner is None else type(inner.__name__, (inner,), {"__module__": inner.__module__})
    if cls is None or not cls._can_refuse:
        raise TypeError(
            f"{name}() guards a consumer of WebSockets or of HTTP requests, as a class or from as_asgi(), not "
            f"{given!r}; elsewhere, look at scope['user'] yourself"
        )
    cls._user_tests = (test, *cls._user_tests)
    guarded: Any = given if isinstance(given, type) else cls.as_asgi(**given.consumer_initkwargs)
    return guarded  # type: ignore[no-any-return]

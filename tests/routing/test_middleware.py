"""BaseMiddleware: what every middleware of ours does with the scope and the application inside it."""

from typing import Any

import pytest

from sealane.routing.auth import AuthMiddleware, AuthMiddlewareStack
from sealane.routing.cookies import CookieMiddleware
from sealane.routing.middleware import BaseMiddleware
from sealane.routing.origin import AllowedHostsOriginValidator, OriginValidator
from sealane.routing.sessions import SessionMiddleware, SessionMiddlewareStack
from sealane.types import ASGIApplication, Receive, Scope, Send
from tests.routing.exchange import Answering, Exchange

MAKERS = [
    BaseMiddleware,
    CookieMiddleware,
    SessionMiddleware,
    SessionMiddlewareStack,
    AuthMiddleware,
    AuthMiddlewareStack,
    AllowedHostsOriginValidator,
    lambda inner: OriginValidator(inner, ["*"]),
]
NAMES = [
    "BaseMiddleware",
    "CookieMiddleware",
    "SessionMiddleware",
    "SessionMiddlewareStack",
    "AuthMiddleware",
    "AuthMiddlewareStack",
    "AllowedHostsOriginValidator",
    "OriginValidator",
]
each = pytest.mark.parametrize("make", MAKERS, ids=NAMES)


class Router(Answering):
    """What a router says of itself to the routers around it."""

    _path_routing = True


async def test_a_subclass_adds_to_its_own_copy_of_the_scope() -> None:
    class Tenants(BaseMiddleware):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await super().__call__({**scope, "tenant": "acme"}, receive, send)

    inner = Answering()
    exchange = Exchange.websocket()
    await exchange.run(Tenants(inner))
    assert inner.scope["tenant"] == "acme"
    assert "tenant" not in exchange.scope


@each
async def test_the_scope_is_copied_and_never_changed(make: Any) -> None:
    # Given a session, the middleware that need one find it, and those that make one leave it.
    class Session:
        def __getitem__(self, key: str) -> object:
            raise KeyError(key)

    class Greedy(Answering):
        async def prepare(self, scope: Scope) -> None:
            scope["mine"] = True

    session = Session()
    exchange = Exchange.websocket(
        [(b"cookie", b"a=b"), (b"origin", b"http://localhost")], session=session, user="somebody", cookies={}
    )
    before = {**exchange.scope, "headers": list(exchange.scope["headers"])}
    inner = Greedy()
    await exchange.run(make(inner))
    assert inner.scope["mine"]
    assert inner.scope["session"] is session
    assert inner.scope["user"] == "somebody"
    assert exchange.scope == before


@each
async def test_a_lifespan_scope_passes_with_its_state(make: Any) -> None:
    inner = Answering({"type": "lifespan.startup.complete"})
    exchange = Exchange({"type": "lifespan", "state": {}})
    assert await exchange.run(make(inner)) == [{"type": "lifespan.startup.complete"}]
    assert inner.scope == exchange.scope
    assert inner.scope["state"] is exchange.scope["state"]


@each
def test_a_router_is_known_through_any_middleware(make: Any) -> None:
    assert make(Router())._path_routing is True
    assert make(make(Router()))._path_routing is True
    assert make(Answering())._path_routing is False


@each
async def test_an_error_of_the_inner_application_passes_through(make: Any) -> None:
    class Broken(Answering):
        async def prepare(self, scope: Scope) -> None:
            raise LookupError("broken inside")

    exchange = Exchange.websocket([(b"origin", b"http://localhost")], session=object(), user=None, cookies={})
    with pytest.raises(LookupError, match="broken inside"):
        await exchange.run(make(Broken()))


def test_the_inner_application_is_kept_and_shown() -> None:
    async def chat(scope: Scope, receive: Receive, send: Send) -> None: ...

    application: ASGIApplication = chat
    assert BaseMiddleware(application).inner is application
    stack = AuthMiddlewareStack(application)
    assert isinstance(stack.inner, SessionMiddleware)
    assert isinstance(stack.inner.inner, AuthMiddleware)
    assert stack.inner.inner.inner is application
    assert repr(stack) == f"CookieMiddleware(SessionMiddleware(AuthMiddleware({application!r})))"


@pytest.mark.parametrize("inner", [None, "chat.consumers.Chat", [1]])
def test_what_cannot_be_called_cannot_be_wrapped(inner: Any) -> None:
    with pytest.raises(TypeError, match=r"CookieMiddleware wraps an ASGI application, such as .*, not "):
        CookieMiddleware(inner)

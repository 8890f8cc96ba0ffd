"""Routers in routers: what is merged, and where the search goes on."""

import asyncio
from collections import UserDict
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, path, re_path
from django.urls.exceptions import Resolver404

from sealane.exceptions import NoRouteFound
from sealane.routing import BaseMiddleware, URLRouter
from sealane.types import ASGIApplication, Receive, Scope, Send
from tests.routing.recording import Recorder, call, router

Routes = list[URLPattern | URLResolver]


class Wrapper:
    """Middleware that counts its calls and keeps what it wraps under one of the usual names."""

    def __init__(self, wrapped: ASGIApplication, attribute: str = "inner") -> None:
        self._wrapped = wrapped
        setattr(self, attribute, wrapped)
        self.calls = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        self.calls += 1
        await self._wrapped({**scope, "wrapped": True}, receive, send)


async def test_nested_routers_merge_what_they_capture() -> None:
    app: Any = Recorder()
    inner = router(re_path(r"^(\d+)/$", app, {"both": "inner", "b": 2}))
    outer = router(re_path(r"^(\w+)/", inner, {"both": "outer", "a": 1}))
    await call(outer, type="websocket", path="/x/12/")
    assert app.url_route == {"args": ("x", "12"), "kwargs": {"both": "inner", "a": 1, "b": 2}}
    assert app.path_remaining == ""


async def test_what_came_in_the_scope_is_merged_too() -> None:
    app: Any = Recorder()
    given = {"args": ("before",), "kwargs": {"a": 1, "n": 0}}
    await call(router(path("<int:n>/", app)), type="websocket", path="/5/", url_route=given)
    assert app.url_route == {"args": ("before",), "kwargs": {"a": 1, "n": 5}}
    assert given == {"args": ("before",), "kwargs": {"a": 1, "n": 0}}


async def test_a_nested_router_sees_the_rest_without_slashes() -> None:
    app: Any = Recorder()
    assert router(path("universe", router(path("home/", app)))).resolve("/universe/home/").application is app
    assert router(path("universe/", router(path("", app)))).resolve("/universe/").application is app


async def test_without_a_match_inside_the_next_route_is_tried() -> None:
    inner: Any = Recorder("inner")
    later: Any = Recorder("later")
    routes = router(path("a/", router(path("b/", inner))), path("a/c/", later), path("<path:rest>", inner))
    assert routes.resolve("/a/c/").application is later
    assert routes.resolve("/a/d/").application is inner


async def test_the_not_found_of_a_nested_router_ends_the_search() -> None:
    app: Any = Recorder()
    missing = Recorder("missing")
    nested = router(path("b/", app), not_found=missing)
    wrapped: Any = BaseMiddleware(nested)
    for inner in (nested, wrapped):
        await call(router(path("<int:n>/", inner), path("<path:rest>", app)), type="http", path="/4/x/")
    assert app.scopes == []
    assert [scope["path_remaining"] for scope in missing.scopes] == ["x/", "x/"]
    assert [scope["url_route"] for scope in missing.scopes] == [{"args": (), "kwargs": {"n": 4}}] * 2


async def test_one_nest_is_one_copy_of_the_scope() -> None:
    copies = 0

    class Counted(UserDict[str, Any]):
        def keys(self) -> Any:
            nonlocal copies
            copies += 1
            return super().keys()

    app: Any = Recorder()
    routes = router(path("a/", router(path("b/", router(path("c/", app))))))
    await routes(Counted(type="websocket", path="/a/b/c/"), None, None)
    assert len(app.scopes) == 1
    assert copies == 1


@pytest.mark.parametrize("attribute", ["inner", "application", "app"])
async def test_a_router_behind_middleware(attribute: str) -> None:
    app: Any = Recorder()
    wrapper: Any = Wrapper(Wrapper(router(path("<int:m>/", app)), attribute), attribute)
    await call(router(path("a/<int:n>/", wrapper)), type="websocket", path="/a/1/2/")
    assert app.url_route == {"args": (), "kwargs": {"n": 1, "m": 2}}
    assert app.scopes[0]["wrapped"] is True


async def test_an_application_that_says_that_it_routes_paths() -> None:
    app: Any = Recorder()
    inner = router(path("b/", app))

    async def custom(scope: Scope, receive: Receive, send: Send) -> Any:
        await inner(scope, receive, send)

    custom._path_routing = True  # type: ignore[attr-defined]
    routes = router(path("a/", custom))
    await call(routes, type="websocket", path="/a/b/")
    assert len(app.scopes) == 1
    with pytest.raises(NoRouteFound, match=r"Routes tried: 'a/\.\.\.'$"):
        await call(routes, type="websocket", path="/a/x/")


async def test_an_endpoint_behind_middleware_stays_an_endpoint() -> None:
    app: Any = Recorder()
    wrapper: Any = Wrapper(app)
    with pytest.raises(NoRouteFound):
        await call(router(path("a/", wrapper)), type="websocket", path="/a/b/")
    assert wrapper.calls == 0


def test_middleware_that_wraps_itself_is_an_endpoint() -> None:
    wrapper: Any = Wrapper(Recorder())
    wrapper.inner = wrapper
    assert router(path("a/", wrapper)).resolve("/a/b/") is None


async def test_without_a_match_behind_middleware_the_next_route_is_tried() -> None:
    inner: Any = Recorder("inner")
    later: Any = Recorder("later")
    wrapper: Any = Wrapper(router(path("b/", inner)))
    routes = router(path("a/", router(path("", wrapper))), path("a/<str:x>/", later))
    await call(routes, type="websocket", path="/a/c/")
    assert wrapper.calls == 1
    assert inner.scopes == []
    assert later.url_route == {"args": (), "kwargs": {"x": "c"}}
    assert "wrapped" not in later.scopes[0]


async def test_without_any_match_behind_middleware() -> None:
    app: Any = Recorder()
    wrapper: Any = Wrapper(router(path("b/", app)))
    with pytest.raises(NoRouteFound, match=r"No route found for path 'a/c/'\. Routes tried: 'a/b/'$") as caught:
        await call(router(path("a/", wrapper)), type="websocket", path="/a/c/")
    assert type(caught.value) is NoRouteFound
    assert caught.value.__context__ is None


async def test_a_subclass_with_a_call_of_its_own_is_called() -> None:
    class Loud(URLRouter):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await super().__call__({**scope, "loud": True}, receive, send)

    app: Any = Recorder()
    routes = router(path("a/", Loud([path("b/", app)])))  # type: ignore[arg-type]
    await call(routes, type="websocket", path="/a/b/")
    assert app.scopes[0]["loud"] is True


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("error", [Resolver404("mine"), NoRouteFound("/mine", [])])
async def test_an_error_of_an_application_is_not_taken_for_no_match(error: Exception, nested: bool) -> None:
    failing: Any = Recorder(error=error)
    later: Any = Recorder()
    inner: Any = router(path("", failing))
    if nested:
        inner = Wrapper(inner)
    with pytest.raises(type(error)) as caught:
        await call(router(path("a/", inner), path("<path:rest>", later)), type="websocket", path="/a/")
    assert caught.value is error
    assert later.scopes == []
    assert len(failing.scopes) == 1


async def test_a_router_deep_in_an_application_does_not_start_the_search_again() -> None:
    started: list[str] = []
    innermost = router(path("b/", Recorder()))

    async def application(scope: Scope, receive: Receive, send: Send) -> Any:
        started.append(scope["path"])
        await innermost(scope, receive, send)

    later: Any = Recorder()
    middle: Any = Wrapper(router(re_path("^", application)))
    with pytest.raises(NoRouteFound, match="No route found for path 'x/'") as caught:
        await call(router(path("a/", middle), path("<path:rest>", later)), type="websocket", path="/a/x/")
    assert type(caught.value) is NoRouteFound
    assert started == ["/a/x/"]
    assert later.scopes == []


async def test_cancellation_reaches_the_application() -> None:
    cancelled = asyncio.Event()
    running = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> Any:
        running.set()
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    routes = router(path("", application))
    task = asyncio.create_task(call(routes, type="websocket", path="/"))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cancelled.is_set()

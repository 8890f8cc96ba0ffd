"""URLRouter: what a route captures and leaves, include(), root_path, and what is no route."""

import asyncio
import re
import sys
import types
import uuid
from typing import Any

import pytest
import uvicorn
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.urls.converters import get_converters, register_converter
from django.urls.resolvers import RoutePattern
from django.views import View

from sealane.exceptions import NoRouteFound
from sealane.routing import BaseMiddleware, ProtocolTypeRouter, URLRouter
from sealane.types import Receive, Scope, Send
from tests.routing.recording import Recorder, call, router

Routes = list[URLPattern | URLResolver]


class Unlucky:
    """A converter that takes any number but 13."""

    regex = "[0-9]+"

    def to_python(self, value: str) -> int:
        if value == "13":
            raise ValueError("13 is not taken")
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


if "unlucky" not in get_converters():
    register_converter(Unlucky, "unlucky")


# Endpoints


async def test_path_captures_and_leaves_nothing() -> None:
    app: Any = Recorder()
    await call(router(path("chat/<slug:room>/<int:page>/", app)), type="websocket", path="/chat/lobby/7/")
    assert app.url_route == {"args": (), "kwargs": {"room": "lobby", "page": 7}}
    assert app.path_remaining == ""


async def test_unnamed_groups_are_positional() -> None:
    app: Any = Recorder()
    await call(router(re_path(r"^n/(\d+)/(\w+)/$", app)), type="websocket", path="/n/12/ab/")
    assert app.url_route == {"args": ("12", "ab"), "kwargs": {}}


async def test_default_kwargs_go_on_top_of_captured_ones() -> None:
    app: Any = Recorder()
    route = path("chat/<slug:room>/", app, {"room": "fixed", "extra": 1})
    await call(router(route), type="websocket", path="/chat/lobby/")
    assert app.url_route == {"args": (), "kwargs": {"room": "fixed", "extra": 1}}


async def test_a_regex_without_an_end_leaves_the_rest() -> None:
    app: Any = Recorder()
    await call(router(re_path(r"^files/", app)), type="http", path="/files/a/b")
    assert app.path_remaining == "a/b"


async def test_the_first_match_in_the_declared_order_wins() -> None:
    before: Any = Recorder("before")
    exact: Any = Recorder("exact")
    after: Any = Recorder("after")
    routes: Routes = [
        path("<int:x>/", before),
        path("12/", exact),
        path("<str:x>/", after),
        path("ab/", exact),
    ]
    for urls, found in [("/12/", before), ("/ab/", after)]:
        match = router(*routes).resolve(urls)
        assert match.application is found
    match = router(*reversed(routes)).resolve("/12/")
    assert match.application is after
    match = router(routes[1], routes[0]).resolve("/12/")
    assert match.application is exact


async def test_of_two_routes_for_the_same_path_the_first_wins() -> None:
    first, second = Recorder("first"), Recorder("second")
    apps: list[Any] = [first, second]
    await call(router(*(path("x/", app) for app in apps)), type="http", path="/x/")
    assert len(first.scopes) == 1
    assert second.scopes == []


async def test_the_scope_is_copied() -> None:
    app: Any = Recorder()
    scope = {"type": "websocket", "path": "/x/", "state": {}}
    untouched = dict(scope)
    await call(router(path("x/", app)), **scope)
    asked: Scope = dict(scope)
    await router(path("x/", app))(asked, None, None)
    assert asked == untouched
    assert app.scopes[1] is not asked
    assert app.scopes[1]["state"] is asked["state"]


async def test_captured_values_of_two_connections_are_separate() -> None:
    app: Any = Recorder()
    routes = router(path("x/", app, {"a": 1}))
    await call(routes, type="websocket", path="/x/")
    app.scopes[0]["url_route"]["kwargs"]["a"] = 2
    await call(routes, type="websocket", path="/x/")
    assert app.scopes[1]["url_route"] == {"args": (), "kwargs": {"a": 1}}


async def test_a_converter_that_refuses_is_no_match() -> None:
    taken: Any = Recorder("taken")
    rest: Any = Recorder("rest")
    routes = router(path("<unlucky:n>/", taken), path("<str:n>/", rest))
    assert routes.resolve("/12/").application is taken
    assert routes.resolve("/13/").application is rest


def test_resolve_tells_what_was_found() -> None:
    app: Any = Recorder()
    match = router(path("chat/<uuid:key>/", app)).resolve("/chat/7c9e6679-7425-40de-944b-e07fc1f90ae7/")
    assert match == (app, "", (), {"key": uuid.UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")}, True)
    assert router(path("chat/", app)).resolve("/other/") is None


# No match


async def test_no_route_names_the_path_and_the_routes() -> None:
    app: Any = Recorder()
    routes = router(
        path("chat/<slug:room>/", app),
        re_path(r"^n/(\d+)/$", app),
        path("in/", include([re_path(r"^deep/$", app)])),
        path("nested/", router(path("a/", app))),
        path("wrapped/", BaseMiddleware(router(path("b/", app)))),  # type: ignore[arg-type]
    )
    with pytest.raises(
        NoRouteFound,
        match=re.escape(
            r"No route found for path 'x'. Routes tried: 'chat/<slug:room>/', '^n/(\\d+)/$', 'in/deep/$', "
            "'nested/a/', 'wrapped/b/'"
        )
        + "$",
    ) as caught:
        await call(routes, type="websocket", path="/x")
    assert isinstance(caught.value, ValueError)
    assert caught.value.path == "/x"
    assert caught.value.tried[0] == "chat/<slug:room>/"


async def test_no_route_at_all() -> None:
    with pytest.raises(NoRouteFound, match=r"No route found for path 'x'\. Routes tried: none$"):
        await call(router(), type="websocket", path="/x")


async def test_a_long_path_is_cut_in_the_message_only() -> None:
    with pytest.raises(NoRouteFound) as caught:
        await call(router(), type="websocket", path="/" + "x" * 100_000)
    assert len(caught.value.path) == 100_001
    assert len(str(caught.value)) < 300


async def test_not_found_gets_the_scope_as_it_came() -> None:
    app: Any = Recorder()
    missing = Recorder("missing")
    routes = router(path("x/", app), not_found=missing)
    await call(routes, type="websocket", path="/y/", root_path="")
    await call(routes, type="websocket", path="/y/", root_path="/root")
    assert missing.scopes == [
        {"type": "websocket", "path": "/y/", "root_path": ""},
        {"type": "websocket", "path": "/y/", "root_path": "/root"},
    ]


async def test_a_scope_without_a_path() -> None:
    with pytest.raises(ValueError, match="URLRouter got a scope of type 'channel' without a 'path' key"):
        await call(router(), type="channel")


# root_path


@pytest.mark.parametrize(
    ("root", "url", "found"),
    [
        ("", "/x/", True),
        ("/app", "/app/x/", True),
        ("/app/", "/app/x/", True),
        ("/app", "/x/", False),
        ("/app", "/appx/", False),
        ("/app", "/other/x/", False),
    ],
)
async def test_root_path_is_taken_off(root: str, url: str, found: bool) -> None:
    app: Any = Recorder()
    routes = router(path("x/", app))
    if found:
        await call(routes, type="websocket", path=url, root_path=root)
        assert len(app.scopes) == 1
    else:
        with pytest.raises(NoRouteFound, match=f"No route found for path '{url.lstrip('/')}'"):
            await call(routes, type="websocket", path=url, root_path=root)


async def test_root_path_is_taken_off_once_only() -> None:
    app: Any = Recorder()
    inside: Any = BaseMiddleware(router(path("app/x/", app)))
    await call(router(path("", inside)), type="websocket", path="/app/app/x/", root_path="/app")
    assert app.path_remaining == ""


async def test_root_path_alone_is_the_empty_path() -> None:
    app: Any = Recorder()
    await call(router(path("", app)), type="http", path="/app", root_path="/app")
    assert len(app.scopes) == 1


# include()


async def test_include_of_a_list_with_default_kwargs() -> None:
    app: Any = Recorder()
    inner = [path("<int:n>/", app, {"inner": 1, "both": "inner"})]
    await call(
        router(path("<slug:shop>/", include(inner), {"outer": 2, "both": "outer"})),
        type="websocket",
        path="/books/3/",
    )
    assert app.url_route["kwargs"] == {"shop": "books", "n": 3, "inner": 1, "outer": 2, "both": "inner"}


async def test_include_of_a_module_with_a_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    app: Any = Recorder()
    module = types.ModuleType("shop_routing")
    vars(module).update(urlpatterns=[path("cart/", app)], app_name="shop")
    monkeypatch.setitem(sys.modules, "shop_routing", module)
    for included in (include("shop_routing"), include("shop_routing", namespace="other"), include(module)):
        assert router(path("shop/", included)).resolve("/shop/cart/").application is app
    by_name = URLResolver(RoutePattern("shop/"), "shop_routing")
    assert router(by_name).resolve("/shop/cart/").application is app


async def test_include_without_a_match_goes_on_with_the_next_route() -> None:
    inner: Any = Recorder("inner")
    later: Any = Recorder("later")
    routes = router(path("a/", include([path("b/", inner)])), path("a/<str:x>/", later))
    assert routes.resolve("/a/c/").application is later


async def test_a_router_inside_an_include() -> None:
    app: Any = Recorder()
    nested = router(re_path(r"^(\d+)/$", app))
    routes = router(re_path(r"^(\w+)/", include([re_path(r"^(\w)/", nested)])))
    await call(routes, type="websocket", path="/ab/c/12/")
    assert app.url_route == {"args": ("ab", "c", "12"), "kwargs": {}}


def test_include_without_patterns() -> None:
    with pytest.raises(ImproperlyConfigured, match="which has no list of routes named urlpatterns"):
        router(URLResolver(RoutePattern("x/"), types.ModuleType("empty")))


def test_include_of_itself() -> None:
    routes: Routes = []
    routes.append(path("again/", include((routes, "loop"))))
    with pytest.raises(ImproperlyConfigured, match="includes itself, so its routes have no end"):
        URLRouter(routes)


# What is not a route


def test_what_is_not_a_route() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"URLRouter got 'chat/' in the place of a route; expected what"):
        URLRouter(["chat/"])  # type: ignore[list-item]


def test_a_consumer_class_without_as_asgi() -> None:
    class Chat:
        @classmethod
        def as_asgi(cls) -> Any: ...

    with pytest.raises(ImproperlyConfigured, match=r"'chat/'.* leads to a class; .*: Chat\.as_asgi\(\)$"):
        router(path("chat/", Chat))  # type: ignore[arg-type]


def test_a_class_may_be_an_application() -> None:
    class Endpoint:
        def __init__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

        def __await__(self) -> Any: ...

    assert router(path("x/", Endpoint)).resolve("/x/").application is Endpoint  # type: ignore[arg-type]


def test_a_django_view() -> None:
    class Page(View):
        def get(self, request: HttpRequest) -> HttpResponse:
            return HttpResponse()

    with pytest.raises(ImproperlyConfigured, match="leads to a Django view; expected an ASGI application"):
        router(path("page/", Page.as_view()))


# For operators and servers


def test_repr_names_the_routes() -> None:
    app: Any = Recorder()
    assert repr(router(path("a/", app), path("b/", router(path("c/", app))))) == "URLRouter(['a/', 'b/c/'])"
    many = router(*(path(f"{number}/", app) for number in range(12)), not_found=app)
    assert repr(many) == (
        "URLRouter(['0/', '1/', '2/', '3/', '4/', '5/', '6/', '7/', '8/', '9/', and 2 more], not_found=<recorder>)"
    )


def test_servers_recognise_it_as_asgi_3() -> None:
    config = uvicorn.Config(router(), log_config=None)
    config.load()
    assert config.interface == "asgi3"


def test_it_works_inside_a_protocol_router() -> None:
    app: Any = Recorder()
    asyncio.run(call(ProtocolTypeRouter({"websocket": router(path("x/", app))}), type="websocket", path="/x/"))
    assert len(app.scopes) == 1

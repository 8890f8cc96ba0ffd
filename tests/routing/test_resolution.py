"""URLRouter finds what Django's resolver finds, in any language, quickly, and changes nobody's routes."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.urls.converters import get_converters, register_converter
from django.urls.exceptions import Resolver404
from django.urls.resolvers import RegexPattern, RoutePattern
from django.utils.functional import lazy
from django.utils.translation import get_language, override
from hypothesis import given, settings
from hypothesis import strategies as st

from sealane.exceptions import NoRouteFound
from sealane.routing import BaseMiddleware, URLRouter
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


def translated(**texts: str) -> Any:
    """Make a lazy string, as gettext_lazy does, that reads differently in each language."""
    return lazy(lambda: texts[(get_language() or "en")[:2]], str)()


# Languages


async def test_translated_patterns_follow_the_active_language() -> None:
    app: Any = Recorder()
    inner: Any = Recorder("inner")
    word = translated(en="chat/", de="plausch/")
    pattern = translated(en=r"^room/(\d+)/$", de=r"^raum/(\d+)/$")
    routes = router(
        path(word, app),
        re_path(pattern, app),
        path(translated(en="shop/", de="laden/"), include([path("x/", inner)])),
        path(translated(en="in/", de="drin/"), router(path("x/", inner))),
    )
    expected = {
        "en": {"chat/": app, "room/1/": app, "shop/x/": inner, "in/x/": inner},
        "de": {"plausch/": app, "raum/1/": app, "laden/x/": inner, "drin/x/": inner},
    }
    for language in ("en", "de", "en"):
        with override(language):
            for other, urls in expected.items():
                for url, found in urls.items():
                    match = routes.resolve(url)
                    assert (match and match.application) is (found if other == language else None)
    with override("de"), pytest.raises(NoRouteFound, match=r"Routes tried: 'plausch/', '\^raum/"):
        await call(routes, type="websocket", path="/chat/")


def test_a_language_prefix_follows_the_active_language() -> None:
    app: Any = Recorder()
    routes = URLRouter(i18n_patterns(path("chat/<int:n>/", app)))
    for language in ("de", "fr"):
        with override(language):
            match = routes.resolve(f"/{language}/chat/4/")
            assert match is not None
            assert match.kwargs == {"n": 4}
            assert routes.resolve("/en/chat/4/") is None


# Nobody's routes are changed


def _picture(routes: Any) -> Iterator[object]:
    for route in routes:
        yield id(route)
        yield dict(vars(route))
        yield id(route.pattern)
        yield dict(vars(route.pattern))
        if isinstance(route, URLResolver):
            yield from _picture(route.urlconf_name)


def test_routes_are_not_changed_and_serve_two_routers() -> None:
    app: Any = Recorder()
    nested = router(path("b/", app))
    routes: Routes = [
        path("a/", nested),
        path("m/", BaseMiddleware(nested)),  # type: ignore[arg-type]
        re_path(r"^r/(\d+)/$", app),
        re_path(r"^q/", nested),
        path("e/<int:n>/", app, {"x": 1}),
        path(translated(en="t/", de="u/"), nested),
        path("i/", include([path("b/", nested), path("c/", app)]), {"y": 2}),
        *i18n_patterns(path("l/", app)),
    ]
    before = list(_picture(routes))
    first, second = URLRouter(routes), URLRouter(routes)
    with override("en"):
        for url in ("a/b/", "m/b/", "r/1/", "q/b/", "e/1/", "t/b/", "i/b/b/", "i/c/", "en/l/"):
            assert first.resolve(url) == second.resolve(url) != None  # noqa: E711
    assert list(_picture(routes)) == before
    resolver = URLResolver(RegexPattern(""), routes)
    assert resolver.resolve("a/").func is nested
    with pytest.raises(Resolver404):
        resolver.resolve("a/b/")


def test_changing_the_list_later_has_no_effect() -> None:
    app: Any = Recorder()
    routes: Routes = [path("a/", app)]
    compiled = URLRouter(routes)
    routes.clear()
    assert compiled.resolve("/a/") is not None


def test_routes_may_come_from_an_iterator() -> None:
    app: Any = Recorder()
    assert URLRouter(path(url, app) for url in ("a/", "b/")).resolve("/b/") is not None


class CaseBlind(RoutePattern):
    """A pattern of somebody's own."""

    def match(self, path: str) -> Any:
        return super().match(path.lower())


class Anything:
    """A pattern that is none of Django's."""

    def match(self, path: str) -> Any:
        return path, (), {"whole": path}

    def __str__(self) -> str:
        return "anything"


def test_patterns_of_other_classes_keep_their_match() -> None:
    app: Any = Recorder()
    nested = router(path("b/", app))
    endpoint = URLPattern(CaseBlind("a/", is_endpoint=True), app)
    assert router(endpoint).resolve("/A/") is not None
    assert router(endpoint).resolve("/A/b/") is None
    assert router(URLPattern(CaseBlind("a/", is_endpoint=True), nested)).resolve("/A/b/") is not None
    other = router(URLPattern(Anything(), nested))  # type: ignore[arg-type]
    assert other.resolve("/b/").kwargs == {"whole": "b/"}


# Against Django's own resolver


class Target:
    """A view to Django, an application to us."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any) -> Any: ...

    def __repr__(self) -> str:
        return self.name


TARGETS: list[Any] = [Target(f"target {number}") for number in range(3)]

_ROUTES = [
    "", "a/", "a/b/", "b/", "12/", "a", "<int:x>/", "<str:x>/", "a/<int:x>/", "a/<slug:y>/", "<path:p>",
    "<int:x>/<str:y>/", "a/<unlucky:u>/", "a<int:x>b/",
]  # fmt: skip
_PREFIXES = ["", "a/", "a", "<int:x>/", "<str:y>/", "a/<slug:x>/"]
_REGEXES = [
    r"", r"^$", r"^a/$", r"a/$", r"^a/", r"^(\d+)/$", r"(?P<x>\d+)/$", r"^(?P<x>\d+)?/?$", r"^(a)|(b)/$",
    r"^a|b$", r"(?i)^A/$", r"(?m)^b/$", r"\Aa/(\w+)", r"^(?P<x>a)?(b)?/", r"b", r"^ab?/$", r"^b*a/", r"^aa{0}b",
]  # fmt: skip
_PREFIX_REGEXES = [r"^(\d+)/", r"^(a)/?", r"(b)", r"^(?P<x>\d+)/", r"^(a)?", r""]
_KWARGS = [None, {"x": "default"}, {"k": 1}]

_targets = st.sampled_from(TARGETS)
_kwargs = st.sampled_from(_KWARGS)
_endpoints = st.builds(path, st.sampled_from(_ROUTES), _targets, _kwargs) | st.builds(
    re_path, st.sampled_from(_REGEXES), _targets, _kwargs
)


def _including(children: st.SearchStrategy[Routes]) -> st.SearchStrategy[Routes]:
    included: st.SearchStrategy[Any] = children.map(include)
    resolvers = st.builds(path, st.sampled_from(_PREFIXES), included, _kwargs) | st.builds(
        re_path, st.sampled_from(_PREFIX_REGEXES), included, _kwargs
    )
    return st.lists(_endpoints | resolvers, max_size=4)


_route_lists = st.recursive(st.lists(_endpoints, max_size=6), _including, max_leaves=4)
_paths = st.lists(st.sampled_from(["a", "b", "/", "a/", "b/", "12/", "13/", "A/", "é", "\n", " "]), max_size=6).map(
    lambda parts: "".join(parts).lstrip("/")
)


def _compare_with_django(routes: Routes, url: str) -> None:
    try:
        expected = URLResolver(RegexPattern(""), routes).resolve(url)
    except Resolver404:
        found = None
    else:
        found = (expected.func, expected.args, expected.kwargs)
    match = URLRouter(routes).resolve(url)
    assert (match and (match.application, match.args, match.kwargs)) == found


@pytest.mark.untraced
@pytest.mark.timeout(300)  # three seconds of the processor's time, whatever that is on a busy machine
@settings(max_examples=500, database=None)
@given(_route_lists, st.lists(_paths, min_size=4, max_size=4))
def test_it_finds_what_djangos_resolver_finds(routes: Routes, urls: list[str]) -> None:
    # Routes take longer to make than paths.
    for url in urls:
        _compare_with_django(routes, url)


@pytest.mark.parametrize("outer_kwargs", _KWARGS)
@pytest.mark.parametrize("middle_kwargs", _KWARGS)
@pytest.mark.parametrize("inner_kwargs", _KWARGS)
@pytest.mark.parametrize("inner", [r"^(b)/$", r"^(?P<y>b)/$", r"^b/$"])
@pytest.mark.parametrize("outer", [r"^(\d+)/", r"^(?P<x>\d+)/", r"^\d+/"])
def test_it_merges_arguments_as_djangos_resolver_does(
    outer: str, inner: str, outer_kwargs: Any, middle_kwargs: Any, inner_kwargs: Any
) -> None:
    routes: Routes = [
        re_path(
            outer,
            include([re_path(r"^(a)/", include([re_path(inner, TARGETS[0], inner_kwargs)]), middle_kwargs)]),
            outer_kwargs,
        )
    ]
    _compare_with_django(routes, "12/a/b/")


# Cost, by the time that this thread has had: what else the machine does counts for nothing.


def _fastest(resolve: Callable[[str], Any], url: str) -> float:
    times = []
    for _ in range(7):
        start = time.thread_time()
        assert resolve(url) is None
        times.append(time.thread_time() - start)
    return min(times)


@pytest.mark.untraced
def test_a_long_path_costs_no_more_than_a_short_one() -> None:
    app: Any = Recorder()
    routes = [path(f"<int:x>/{number}/", app) for number in range(50)]
    routes += [re_path(rf"^(?P<x>\d+)/{number}$", app) for number in range(50)]
    routes += [re_path(rf"^(?P<x>\d+)/{number}/", app) for number in range(50)]
    routes += [path(f"{number}/", app) for number in range(50)]
    compiled = URLRouter(routes)
    # A search along the path, once per route, takes some thousand times as long.
    assert _fastest(compiled.resolve, "x" * 100_000) < 50 * _fastest(compiled.resolve, "x")


@pytest.mark.untraced
def test_a_long_path_that_is_captured() -> None:
    app: Any = Recorder()
    compiled = URLRouter([path("<str:x>/<int:n>/", app), path("<int:n>/", app), path("f/<path:p>/end/", app)])
    start = time.thread_time()
    assert compiled.resolve("f/" + "x" * 100_000) is None
    assert compiled.resolve("f/" + "/" * 100_000) is None
    assert compiled.resolve("9" * 100_000 + "/") is None
    assert compiled.resolve("f/" + "x" * 100_000 + "/end/") is not None
    assert time.thread_time() - start < 1

"""Route a connection to an application by its path, with Django's ``path()`` and ``re_path()``."""

from collections.abc import Iterable, Iterator
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple, cast

from django.core.exceptions import ImproperlyConfigured
from django.urls import URLPattern, URLResolver

from sealane.exceptions import NoRouteFound
from sealane.routing.application import application_name
from sealane.routing.patterns import Found, compile_pattern
from sealane.types import ASGIApplication, Receive, Scope, Send

__all__ = ["RouteMatch", "URLRouter"]

#: Where middleware keeps the application that it wraps: ours, Channels' origin validators, Starlette's.
_WRAPPED = ("inner", "application", "app")

#: No stack of middleware is deeper; an object whose attributes lead in a circle is not followed for ever.
_DEEPEST_STACK = 50

_POSITION = attrgetter("position")

_Args = tuple[Any, ...]
_Kwargs = dict[str, Any]


#: The fields of RouteMatch, without the price of making one for each connection.
_Candidate = tuple[ASGIApplication, str, _Args, _Kwargs, bool]


class RouteMatch(NamedTuple):
    """The application that a path leads to, and what the routes on the way captured.

    ``final`` is False where that application is a router behind middleware: only calling it shows whether it
    has a route for ``path_remaining``.
    """

    application: ASGIApplication
    path_remaining: str
    args: _Args
    kwargs: _Kwargs
    final: bool


class URLRouter:
    """Hand a scope to the application whose route matches its path. The first match in order wins.

    ::

        URLRouter(
            [
                path("ws/chat/<slug:room>/", ChatConsumer.as_asgi()),
                path("ws/admin/", AuthMiddlewareStack(URLRouter(admin_routes))),
                path("ws/shop/", include("shop.routing"), {"shop": "main"}),
            ],
            not_found=not_found,
        )

    ``routes`` are what Django's ``path()``, ``re_path()`` and ``i18n_patterns()`` return, with any ASGI
    application in the place of the view. They are compiled once, here, and never changed: one list may serve
    several routers, and changing it later has no effect. What is not a route, or does not lead to an ASGI
    application, is ImproperlyConfigured. Translated patterns follow the language that is active at each
    connection.

    **The scope.** The application gets a copy of it, with ``url_route`` (``{"args": tuple, "kwargs": dict}``:
    what was captured, default kwargs of the route on top) and ``path_remaining`` (what the route left over).

    **Nested routers.** A route to another router matches the beginning of the path, and the inner router sees
    the rest, without slashes at its beginning. Positional arguments add up; of keyword arguments, the inner
    ones win. Where the inner router has no match, the next route of the outer one is tried, unless the inner
    one has a ``not_found``. That holds for a router behind middleware too, if the middleware keeps what it
    wraps as ``inner``, ``application`` or ``app``, or says ``_path_routing = True``. Such a router can only
    be asked by calling the middleware, which then runs for nothing where the router has no match. No other
    application is ever called twice, nor is an exception that an application raises taken for "no match".

    **include().** Patterns of a list or a module, as in Django: the rest of the path as it stands, arguments
    merged by Django's rules. Namespaces have no meaning here and are ignored.

    **root_path.** As the ASGI specification has it, ``path`` begins with ``root_path``, which the outermost
    router takes off. A path that does not, such as from a server that takes it off itself, matches no route.

    **No match.** The ASGI application ``not_found`` gets the scope as it came. Without one: NoRouteFound, a
    ValueError naming the path and the routes. A scope without ``path`` is a ValueError.
    """

    #: What an outer router asks of an application, to leave the rest of the path to it.
    _path_routing = True

    def __init__(self, routes: Iterable[URLPattern | URLResolver], *, not_found: ASGIApplication | None = None) -> None:
        self.routes = tuple(routes)
        self.not_found = not_found
        self._table = _Table(self.routes)

    def resolve(self, path: str) -> RouteMatch | None:
        """Find the first route that matches ``path``, a path without ``root_path``; None where there is none.

        Nothing is called but converters of patterns. ``not_found`` is not looked at.
        """
        for candidate in self._table.candidates(path.lstrip("/"), (), (), {}):
            return RouteMatch(*candidate)
        return None

    # Any, not None: type checkers know of Django's path(), where a nested router stands, that it takes views.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        inside = "path_remaining" in scope
        path = scope["path_remaining"] if inside else _path_below_root(scope)
        application: ASGIApplication | None = None
        child = scope
        if path is not None:
            outer, named = _captured_outside(scope)
            for application, rest, args, kwargs, final in self._table.candidates(path.lstrip("/"), outer, (), named):
                child = {**scope, "path_remaining": rest, "url_route": {"args": args, "kwargs": kwargs}}
                if final:
                    # Leave the loop first, and its generator with it: a connection may last for days.
                    break
                try:
                    await application(child, receive, send)
                except _NothingInside:
                    continue
                return
            else:
                application = None
        if application is not None:
            try:
                await application(child, receive, send)
            except _NothingInside as nothing:
                # From a router somewhere in the application: that has run, so no other route may be tried.
                raise NoRouteFound(nothing.path, nothing.tried) from None
        elif self.not_found is not None:
            await self.not_found(scope, receive, send)
        elif inside:
            raise _NothingInside(scope["path_remaining"], tuple(self._table.texts()))
        else:
            raise NoRouteFound(scope["path"], tuple(self._table.texts()))

    def _candidates(self, rest: str, args: _Args, kwargs: _Kwargs) -> Iterator[_Candidate]:
        yield from self._table.candidates(rest.lstrip("/"), args, (), kwargs)
        if self.not_found is not None:
            yield self.not_found, rest, args, kwargs, True

    def __repr__(self) -> str:
        texts = list(self._table.texts())
        shown = ", ".join(repr(text) for text in texts[:10])
        more = f", and {len(texts) - 10} more" if len(texts) > 10 else ""
        not_found = "" if self.not_found is None else f", not_found={application_name(self.not_found)}"
        return f"{type(self).__name__}([{shown}{more}]{not_found})"


class _NothingInside(NoRouteFound):
    """What a nested router tells the outer one through the middleware between them."""


class _Route:
    """A compiled route: a pattern, and the application or the table of routes that it leads to."""

    def __init__(self, route: URLPattern | URLResolver, position: int, enclosing: tuple[object, ...]) -> None:
        #: None for an include(), which has a table of its own instead.
        self.application: ASGIApplication | None = None
        self.table: _Table | None = None
        #: The application, where it is a router without anything around it: its table is searched from here.
        self.router: URLRouter | None = None
        self.final = True
        if isinstance(route, URLResolver):
            self.table = _Table(*_included(route, enclosing))
            self.defaults = dict(route.default_kwargs)
        else:
            self.application = _application(route)
            self.defaults = dict(route.default_args)
            self.final = not any(getattr(layer, "_path_routing", False) is True for layer in _stack(self.application))
            if isinstance(self.application, URLRouter) and type(self.application).__call__ is URLRouter.__call__:
                self.router = self.application
        self.position = position
        self.source = route.pattern
        pattern = compile_pattern(route.pattern, prefix=not self.final)
        self.match, self.head, self.exact = pattern

    def candidates(self, found: Found, base: _Args, args: _Args, kwargs: _Kwargs) -> Iterable[_Candidate]:
        """Return where this route leads, given what its pattern found. For the rest see _Table.candidates."""
        rest, found_args, own = found
        if self.defaults:
            own = {**own, **self.defaults}
        merged = {**kwargs, **own} if kwargs else own
        if self.table is not None:
            return self.table.candidates(rest, base, () if own else args + found_args, merged)
        args = base + (found_args if own else args + found_args)
        if self.router is not None:
            return self.router._candidates(rest, args, merged)
        return ((cast(ASGIApplication, self.application), rest, args, merged, self.final),)

    def texts(self, prefix: str) -> Iterator[str]:
        """Yield the patterns of the endpoints that this route leads to, with what stands before them."""
        text = str(self.source)
        if prefix:
            text = prefix + text.removeprefix("^")
        table = self.table
        if table is None and not self.final:
            routers = [layer for layer in _stack(self.application) if isinstance(layer, URLRouter)]
            if not routers:
                yield f"{text}..."
                return
            table = routers[0]._table
        if table is None:
            yield text
        else:
            yield from table.texts(text)


class _Table:
    """Compiled routes in their order, and the search through them, which changes and calls nothing."""

    def __init__(self, routes: Iterable[URLPattern | URLResolver], enclosing: tuple[object, ...] = ()) -> None:
        self.routes = [_Route(route, position, enclosing) for position, route in enumerate(routes)]
        #: Routes that match one path each, by that path; of several for the same path the first.
        self.exact: dict[str, _Route] = {}
        #: The others, by the beginning that they need, in one dictionary for each length of it.
        self.heads: dict[int, dict[str, list[_Route]]] = {}
        for route in self.routes:
            if route.exact is not None:
                self.exact.setdefault(route.exact, route)
            else:
                self.heads.setdefault(len(route.head), {}).setdefault(route.head, []).append(route)

    def candidates(self, path: str, base: _Args, args: _Args, kwargs: _Kwargs) -> Iterator[_Candidate]:
        """Yield what ``path`` may lead to, best first. Nothing after a final candidate is of interest.

        ``base`` are the positional arguments of the routers outside, which stay; ``args`` those of the include()s in
        this router, which give way to keyword arguments further in; ``kwargs`` come from both.
        """
        for route in self._possible(path):
            found = route.match(path)
            if found is not None:
                yield from route.candidates(found, base, args, kwargs)

    def _possible(self, path: str) -> list[_Route]:
        # In the declared order, whatever the dictionaries' order is.
        possible = [self.exact[path]] if path in self.exact else []
        for size, routes in self.heads.items():
            possible += routes.get(path[:size], ())
        if len(possible) > 1:
            possible.sort(key=_POSITION)
        return possible

    def texts(self, prefix: str = "") -> Iterator[str]:
        """Yield the patterns of all endpoints, for messages."""
        for route in self.routes:
            yield from route.texts(prefix)


def _path_below_root(scope: Scope) -> str | None:
    path: str | None = scope.get("path")
    if path is None:
        raise ValueError(
            f"URLRouter got a scope of type {scope.get('type')!r} without a 'path' key. Use it for 'http' "
            "and 'websocket' only: ProtocolTypeRouter({'websocket': URLRouter(...)})"
        )
    root: str = scope.get("root_path") or ""
    if not path.startswith(root):
        return None
    rest = path[len(root) :]
    # /app is no root of /apples.
    return rest if not root or not rest or rest[0] == "/" or root[-1] == "/" else None


def _captured_outside(scope: Scope) -> tuple[_Args, _Kwargs]:
    outer = scope.get("url_route")
    return (tuple(outer.get("args", ())), outer.get("kwargs", {})) if outer else ((), {})


def _application(route: URLPattern) -> ASGIApplication:
    application: Any = getattr(route, "callback", None)
    if not (hasattr(route, "pattern") and callable(application)):
        raise ImproperlyConfigured(
            f"URLRouter got {route!r} in the place of a route; expected what django.urls.path() or re_path() returns"
        )
    if isinstance(application, type) and hasattr(application, "as_asgi"):
        raise ImproperlyConfigured(
            f"{route!r} leads to a class; expected an ASGI application: {application.__name__}.as_asgi()"
        )
    if hasattr(application, "view_class"):
        raise ImproperlyConfigured(
            f"{route!r} leads to a Django view; expected an ASGI application. Django's own URLs are served "
            "by get_asgi_application()"
        )
    return cast(ASGIApplication, application)


def _included(
    resolver: URLResolver, enclosing: tuple[object, ...]
) -> tuple[Iterable[URLPattern | URLResolver], tuple[object, ...]]:
    # As URLResolver.url_patterns does, which would leave its results in somebody's resolver.
    conf: Any = resolver.urlconf_name
    if isinstance(conf, str):
        conf = import_module(conf)
    patterns = getattr(conf, "urlpatterns", conf)
    if not isinstance(patterns, Iterable):
        raise ImproperlyConfigured(f"{resolver!r} includes {conf!r}, which has no list of routes named urlpatterns")
    if any(patterns is outer for outer in enclosing):
        raise ImproperlyConfigured(f"{resolver!r} includes itself, so its routes have no end")
    return patterns, (*enclosing, patterns)


def _stack(application: object) -> Iterator[object]:
    """Yield an application and, where it is middleware, what it wraps, and so on."""
    for _ in range(_DEEPEST_STACK):
        yield application
        for name in _WRAPPED:
            wrapped = getattr(application, name, None)
            if callable(wrapped):
                application = wrapped
                break
        else:
            return

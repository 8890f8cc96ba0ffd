"""The system checks of ``manage.py check --deploy``: what works on one machine with one visitor, and is wrong outside.

==== ================================================================================
W003 an in-memory channel layer is used where WEB_CONCURRENCY asks for several processes
W004 WebSockets know their visitors by cookies, and nobody looks at the Origin
W005 WebSockets know their visitors by cookies, and the origins of all sites are allowed
==== ================================================================================

Only what can be seen for certain is reported. An application of another kind, a middleware of the project's own among
them, may check the Origin itself, so what is inside it is left alone.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from django.core import checks

from sealane.consumers.websocket import WebsocketCore
from sealane.layers import InMemoryChannelLayer, channel_layers
from sealane.routing import (
    BaseMiddleware,
    CookieMiddleware,
    OriginValidator,
    ProtocolTypeRouter,
    TokenAuthMiddleware,
    URLRouter,
    get_default_application,
)

__all__ = ["Exposed", "Guard", "check_origins", "check_processes", "exposed"]

#: Who looks at the Origin on the way to a consumer: nobody, a validator that lets in all, one that does not.
Guard = Literal["none", "open", "closed"]

#: How many paths a message names.
_NAMED = 5


class Exposed(NamedTuple):
    """WebSockets that any site's page can open in the name of its visitor."""

    path: str
    guard: Guard


def check_processes() -> list[checks.CheckMessage]:
    """Check that no in-memory layer is to serve several processes, as far as the environment tells of them.

    ``WEB_CONCURRENCY`` is what uvicorn and gunicorn take for the number of their workers, unless an option says more.
    """
    wanted = os.environ.get("WEB_CONCURRENCY", "")
    count = int(wanted) if wanted.isdecimal() else 1
    if count < 2:
        return []
    return [
        checks.Warning(
            f"CHANNEL_LAYERS[{alias!r}] is an in-memory layer, and WEB_CONCURRENCY asks for {count} processes.",
            hint="Each process would have messages of its own. Use a layer that carries them between processes, such "
            "as sealane.layers.RedisChannelLayer.",
            id="sealane.W003",
        )
        for alias in _memory_layers()
    ]


def check_origins() -> list[checks.CheckMessage]:
    """Check that pages of other sites cannot open WebSockets with a visitor's cookies. It imports ASGI_APPLICATION."""
    try:
        application = get_default_application()
    except Exception:
        # sealane.E001 and sealane.E002 tell of it.
        return []
    found = list(exposed(application))
    messages: list[checks.CheckMessage] = []
    unguarded = [one.path for one in found if one.guard == "none"]
    if unguarded:
        messages.append(
            checks.Warning(
                f"WebSockets know their visitors by cookies, and no OriginValidator stands around them: "
                f"{_listed(unguarded)}.",
                hint="A page of any site can open them in a visitor's name. Put AllowedHostsOriginValidator around the "
                "application for 'websocket'.",
                id="sealane.W004",
            )
        )
    open_ = [one.path for one in found if one.guard == "open"]
    if open_:
        messages.append(
            checks.Warning(
                f"WebSockets know their visitors by cookies, and their OriginValidator lets in all sites: "
                f"{_listed(open_)}.",
                hint="A page of any site can open them in a visitor's name. Name the sites in place of '*': in "
                "ALLOWED_HOSTS for AllowedHostsOriginValidator, in allowed_origins for OriginValidator.",
                id="sealane.W005",
            )
        )
    return messages


def exposed(application: Any) -> Iterator[Exposed]:
    """Find the WebSocket consumers that know their visitors by cookies and that no origin check keeps others from."""
    while _is_ours(application):
        application = application.inner
    if isinstance(application, ProtocolTypeRouter):
        yield from _exposed(application.application_mapping.get("websocket"), "", False, "none")


def _exposed(application: Any, path: str, cookies: bool, guard: Guard) -> Iterator[Exposed]:
    if isinstance(application, OriginValidator):
        if "*" not in application.allowed_origins:
            return
        yield from _exposed(application.inner, path, cookies, "open")
    elif isinstance(application, TokenAuthMiddleware):
        return  # a page of another site does not have the token
    elif _is_ours(application):
        cookies = cookies or isinstance(application, CookieMiddleware)
        yield from _exposed(application.inner, path, cookies, guard)
    elif type(application) is URLRouter:
        for route in application.routes:
            yield from _exposed_route(route, path, cookies, guard)
    elif cookies and _is_websocket_consumer(application):
        yield Exposed(path, guard)


def _exposed_route(route: Any, path: str, cookies: bool, guard: Guard) -> Iterator[Exposed]:
    path = f"{path}{route.pattern}"
    callback = getattr(route, "callback", None)
    if callback is not None:
        yield from _exposed(callback, path, cookies, guard)
    else:
        for inner in route.url_patterns:
            yield from _exposed_route(inner, path, cookies, guard)


def _is_ours(application: object) -> bool:
    return isinstance(application, BaseMiddleware) and type(application).__module__.partition(".")[0] == "sealane"


def _is_websocket_consumer(application: object) -> bool:
    consumer = getattr(application, "consumer_class", None)
    return isinstance(consumer, type) and issubclass(consumer, WebsocketCore)


def _memory_layers() -> list[str]:
    try:
        layers = {alias: channel_layers.make_backend(alias) for alias in channel_layers.configs}
    except Exception:
        # sealane.E003 and sealane.E004 tell of it.
        return []
    return [alias for alias, layer in layers.items() if isinstance(layer, InMemoryChannelLayer)]


def _listed(paths: Sequence[str]) -> str:
    more = f", and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
    return ", ".join(repr(path) for path in paths[:_NAMED]) + more

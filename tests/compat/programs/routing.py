"""Routers."""

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter, get_default_application
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from django.urls import include, path, re_path

from tests.compat.transcripts import Transcript, case, failing


def tell(name):
    """An application that returns what it was given."""

    async def application(scope, receive, send):
        return {
            "name": name,
            "args": tuple(scope["url_route"]["args"]),
            "kwargs": scope["url_route"]["kwargs"],
            "rest": scope.get("path_remaining"),
        }

    return application


async def ask(application, url, **scope):
    """Call an application for a path."""
    sent = []

    async def send(event):
        sent.append(event)

    async def receive():
        return {"type": "websocket.connect"}

    value = await application({"type": "websocket", "path": url, "headers": []} | scope, receive, send)
    return value if value is not None else sent


ANSWERS = []


def heard(name):
    """An application that says what it was given, whatever the router does with its value."""

    async def application(scope, receive, send):
        ANSWERS.append(await tell(name)(scope, receive, send))

    return application


async def visit(out, application, url, **scope):
    """Say what a path leads to."""
    ANSWERS.clear()
    try:
        await ask(application, url, **scope)
    except Exception as error:
        names = [base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins"]
        out.say(url, "raises", names[0])
    else:
        out.say(url, ANSWERS)


@case
async def paths(out: Transcript) -> None:
    router = URLRouter(
        [
            path("", heard("root")),
            path("room/<slug:name>/", heard("room")),
            path("number/<int:pk>/", heard("number"), {"extra": 1}),
            re_path(r"^old/(\d+)/(\w+)/$", heard("old")),
            re_path(r"^named/(?P<year>\d{4})/$", heard("named")),
            re_path(r"^part/", heard("part")),
            re_path(r"^optional/(?P<pk>\d+)?", heard("optional")),
        ]
    )
    for url in (
        "/",
        "",
        "/room/lobby/",
        "/room/lobby",
        "/number/7/",
        "/number/x/",
        "/old/1/a/",
        "/named/2020/",
        "/part/of/it",
        "/optional/",
        "/optional/3",
        "/nowhere",
        "//room/lobby/",
    ):
        await visit(out, router, url)


@case
async def nested(out: Transcript) -> None:
    inner = URLRouter([path("room/<slug:name>/", heard("room")), re_path(r"^(\d+)/$", heard("number"))])
    router = URLRouter(
        [path("chat/<int:site>/", inner), re_path(r"^old/(\d+)/", inner), path("chat/<int:site>/last/", heard("last"))]
    )
    for url in ("/chat/1/room/lobby/", "/chat/1/5/", "/old/1/5/", "/old/1/room/a/", "/chat/1/nowhere/", "/chat/"):
        await visit(out, router, url)


@case
async def what_is_left_of_the_path(out: Transcript) -> None:
    router = URLRouter([re_path(r"^chat/", URLRouter([re_path(r"^room/", heard("room"))]))])
    await visit(out, router, "/chat/room/more/of/it")


@case
async def root_path(out: Transcript) -> None:
    router = URLRouter([path("room/", heard("room"))])
    for url, root in (("/app/room/", "/app"), ("/room/", "/app"), ("/room/", "")):
        await visit(out, router, url, root_path=root)


@case
async def no_route(out: Transcript) -> None:
    try:
        await ask(URLRouter([path("room/", heard("room"))]), "/nowhere")
    except ValueError as error:
        out.say(str(error)[: len("No route found for path 'nowhere'")])


@case
async def the_text_of_no_route(out: Transcript) -> None:
    await failing(out, "/nowhere", lambda: ask(URLRouter([path("room/", heard("room"))]), "/nowhere"))


@case
async def no_path(out: Transcript) -> None:
    async def application():
        return await URLRouter([])({"type": "lifespan"}, None, None)

    await failing(out, "no path", application, text=False)


@case
async def includes(out: Transcript) -> None:
    async def router():
        return URLRouter([path("chat/", include([path("room/", heard("room"))]))]) and "a router"

    try:
        out.say(await router())
    except ImproperlyConfigured:
        out.say("ImproperlyConfigured")


@case
async def protocols(out: Transcript) -> None:
    async def application(scope, receive, send):
        out.say("called for", scope["type"])

    router = ProtocolTypeRouter({"http": application, "custom": application})
    out.say(sorted(set(router.application_mapping) - {"lifespan"}))
    for kind in ("http", "custom"):
        await router({"type": kind}, None, None)
    try:
        await router({"type": "unknown"}, None, None)
    except ValueError as error:
        out.say(str(error)[: len("No application configured for scope type 'unknown'")])


@case
async def channels(out: Transcript) -> None:
    async def application(scope, receive, send):
        out.say("called for", scope["channel"])

    router = ChannelNameRouter({"thumbnails": application})
    await router({"type": "channel", "channel": "thumbnails"}, None, None)
    try:
        await router({"type": "channel", "channel": "other"}, None, None)
    except ValueError as error:
        out.say(str(error)[: len("No application configured for channel name 'other'")])
    try:
        await router({"type": "channel"}, None, None)
    except ValueError as error:
        out.say(str(error)[: len("ChannelNameRouter got a scope ")])


@case
async def the_default_application(out: Transcript) -> None:
    for name in ("tests.compat.programs.routing.ANSWERS_TO_ALL", "nowhere.application", "nodots", None):
        with override_settings(ASGI_APPLICATION=name):
            try:
                found = get_default_application()
            except ImproperlyConfigured:
                out.say(name, "ImproperlyConfigured")
            else:
                out.say(name, found is ANSWERS_TO_ALL)


ANSWERS_TO_ALL = heard("all")

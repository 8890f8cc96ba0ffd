"""Middleware: sessions, users, origins, and a project's own."""

from channels.auth import AuthMiddleware, AuthMiddlewareStack, get_user, login, logout
from channels.db import database_sync_to_async
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.middleware import BaseMiddleware
from channels.security.websocket import AllowedHostsOriginValidator, OriginValidator
from channels.sessions import CookieMiddleware, SessionMiddleware, SessionMiddlewareStack
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.test import override_settings

from tests.compat.transcripts import WAIT, Transcript, case, failing


@database_sync_to_async
def user_named(name):
    """An account."""
    return get_user_model().objects.get_or_create(username=name)[0]


@database_sync_to_async
def session_of(user):
    """The key of a session in which a user is logged in, as a page has left it."""
    session = SessionStore()
    session["_auth_user_id"] = str(user.pk)
    session["_auth_user_backend"] = settings.AUTHENTICATION_BACKENDS[0]
    session["_auth_user_hash"] = user.get_session_auth_hash()
    session["colour"] = "blue"
    session.save()
    return session.session_key


def cookie(key):
    """The header of a browser that has a session."""
    return [(b"cookie", f"{settings.SESSION_COOKIE_NAME}={key}; other=1".encode())]


@case
async def ones_own(out: Transcript) -> None:
    class Outer(BaseMiddleware):
        async def __call__(self, scope, receive, send):
            scope["outer"] = 1
            out.say("outer begins", "inner" in scope)
            value = await super().__call__(scope, receive, send)
            out.say("outer ends", "inner" in scope)
            return value

    class Inner(BaseMiddleware):
        def __init__(self, inner, colour="red"):
            super().__init__(inner)
            self.colour = colour

        async def __call__(self, scope, receive, send):
            out.say("inner", scope["outer"], self.colour)
            scope = dict(scope, inner=1)
            return await self.inner(scope, receive, send)

    async def application(scope, receive, send):
        out.say("application", sorted(scope))

    await Outer(Inner(application, colour="blue"))({"type": "websocket", "path": "/", "headers": []}, None, None)


@case
async def what_is_in_scope(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            out.say(sorted(self.scope))
            out.say(self.scope["cookies"], self.scope["session"].is_empty(), str(self.scope["user"]))
            out.say(
                isinstance(self.scope["user"], AnonymousUser),
                self.scope["user"].is_authenticated,
                self.scope["user"].is_anonymous,
            )
            await self.accept()

    communicator = WebsocketCommunicator(
        AuthMiddlewareStack(Consumer.as_asgi()), "/room/?a=1", [(b"cookie", b"c=1; d=2")]
    )
    # A server, or a test client, may add more.
    communicator.scope.pop("extensions", None)
    for name in ("asgi", "http_version", "scheme", "client", "server", "root_path", "raw_path", "state"):
        communicator.scope.pop(name, None)
    out.say(await communicator.connect(WAIT))
    await communicator.disconnect(timeout=WAIT)


@case
async def a_user(out: Transcript) -> None:
    user = await user_named("ada")

    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            found = self.scope["user"]
            out.say(found.username, found.is_authenticated, found == user, self.scope["session"]["colour"])
            out.say((await get_user(self.scope)).username)
            await self.accept()

    communicator = WebsocketCommunicator(AuthMiddlewareStack(Consumer.as_asgi()), "/", cookie(await session_of(user)))
    out.say(await communicator.connect(WAIT))
    await communicator.disconnect(timeout=WAIT)


@case
async def logging_in_and_out(out: Transcript) -> None:
    user = await user_named("grace")

    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            out.say(self.scope["user"].is_anonymous)
            await login(self.scope, user)
            out.say(self.scope["user"].username, sorted(self.scope["session"].keys()))
            await database_sync_to_async(self.scope["session"].save)()
            out.say((await get_user(self.scope)).username)
            await logout(self.scope)
            out.say(self.scope["user"].is_anonymous, self.scope["session"].is_empty())
            await self.accept()

    communicator = WebsocketCommunicator(AuthMiddlewareStack(Consumer.as_asgi()), "/")
    out.say((await communicator.connect(WAIT))[0])
    await communicator.disconnect(timeout=WAIT)


@case
async def a_changed_password(out: Transcript) -> None:
    user = await user_named("alan")
    key = await session_of(user)
    user.password = "another"
    await database_sync_to_async(user.save)()

    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            out.say(self.scope["user"].is_anonymous)
            await self.accept()

    communicator = WebsocketCommunicator(AuthMiddlewareStack(Consumer.as_asgi()), "/", cookie(key))
    await communicator.connect(WAIT)
    await communicator.disconnect(timeout=WAIT)


@case
async def what_is_missing(out: Transcript) -> None:
    async def application(scope, receive, send):
        out.say("called")

    scope = {"type": "websocket", "path": "/"}
    for name, call in (
        ("cookies without headers", lambda: CookieMiddleware(application)(scope, None, None)),
        ("session without cookies", lambda: SessionMiddleware(application)(scope, None, None)),
        ("auth without session", lambda: AuthMiddleware(application)(scope, None, None)),
        ("get_user", lambda: get_user({})),
        ("login", lambda: login({}, None)),
        ("login nobody", lambda: login({"session": {}}, None)),
        ("logout", lambda: logout({})),
    ):
        await failing(out, name, call, text=False)


@case
async def a_session_over_http(out: Transcript) -> None:
    class Consumer(AsyncHttpConsumer):
        async def handle(self, body):
            self.scope["session"]["visits"] = 1
            await self.send_response(200, b"seen", headers=[(b"x", b"y")])

    communicator = HttpCommunicator(SessionMiddlewareStack(Consumer.as_asgi()), "GET", "/")
    response = await communicator.get_response(WAIT)
    names = [name.lower() for name, _ in response["headers"]]
    [value] = [value for name, value in response["headers"] if name.lower() == b"set-cookie"]
    out.say(b"x" in names, value.startswith(b"sessionid="), b"HttpOnly" in value, b"SameSite=Lax" in value)


@case
async def headers_of_a_session(out: Transcript) -> None:
    class Consumer(AsyncHttpConsumer):
        async def handle(self, body):
            self.scope["session"]["visits"] = 1
            await self.send_response(200, b"seen")

    response = await HttpCommunicator(SessionMiddlewareStack(Consumer.as_asgi()), "GET", "/").get_response(WAIT)
    out.say([name for name, _ in response["headers"]])


@case
async def a_session_of_a_websocket(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            self.scope["session"]["visits"] = 1
            await self.accept()

    communicator = WebsocketCommunicator(SessionMiddlewareStack(Consumer.as_asgi()), "/")
    await communicator.connect(WAIT)
    out.say([name for name, _ in communicator.response_headers or ()])
    await communicator.disconnect(timeout=WAIT)


@case
async def cookies(out: Transcript) -> None:
    message = {"type": "http.response.start", "headers": [(b"a", b"b")]}
    CookieMiddleware.set_cookie(message, "colour", "blue", max_age=10, path="/x", secure=True, httponly=True)
    _, value = message["headers"][-1]
    out.say(sorted(part.strip().split(b"=")[0].lower() for part in value.split(b";")))
    CookieMiddleware.delete_cookie(message, "colour")
    out.say(len(message["headers"]), b"Max-Age=0" in message["headers"][-1][1])


@case
async def the_header_of_a_cookie(out: Transcript) -> None:
    message = {"type": "http.response.start"}
    CookieMiddleware.set_cookie(message, "colour", "blue")
    out.say(message["headers"])


async def origin(out, application, value):
    """Say whether a page may connect."""
    headers = [(b"origin", value.encode())] if value is not None else []
    communicator = WebsocketCommunicator(application, "/", headers)
    out.say(value, (await communicator.connect(WAIT))[0])


@case
async def origins(out: Transcript) -> None:
    names = ["http://allowed.com", ".sub.com", "https://*.never.com", "http://port.com:8000"]
    application = OriginValidator(AsyncWebsocketConsumer.as_asgi(), names)
    for value in (
        "http://allowed.com",
        "https://allowed.com",
        "http://allowed.com:80",
        "http://allowed.com:81",
        "http://a.sub.com",
        "https://sub.com",
        "http://port.com:8000",
        "http://evil.com",
        "null",
        None,
    ):
        await origin(out, application, value)
    await origin(out, OriginValidator(AsyncWebsocketConsumer.as_asgi(), ["*"]), None)
    await origin(out, OriginValidator(AsyncWebsocketConsumer.as_asgi(), ["*"]), "http://evil.com")


@case
async def allowed_hosts(out: Transcript) -> None:
    application = AllowedHostsOriginValidator(AsyncWebsocketConsumer.as_asgi())
    for value in ("http://example.com", "https://example.com:8443", "http://evil.com", None):
        await origin(out, application, value)
    with override_settings(ALLOWED_HOSTS=[], DEBUG=True):
        application = AllowedHostsOriginValidator(AsyncWebsocketConsumer.as_asgi())
        await origin(out, application, "http://localhost:8000")


@case
async def a_refused_origin(out: Transcript) -> None:
    application = OriginValidator(AsyncWebsocketConsumer.as_asgi(), ["http://allowed.com"])
    communicator = WebsocketCommunicator(application, "/", [(b"origin", b"http://evil.com")])
    out.say(await communicator.connect(WAIT))


@case
async def a_refused_origin_on_the_wire(out: Transcript) -> None:
    application = OriginValidator(AsyncWebsocketConsumer.as_asgi(), ["http://allowed.com"])
    communicator = WebsocketCommunicator(application, "/", [(b"origin", b"http://evil.com")])
    communicator.scope.pop("extensions", None)
    await communicator.send_input({"type": "websocket.connect"})
    out.say(await communicator.receive_output(WAIT))


@case
async def an_origin_over_http(out: Transcript) -> None:
    application = OriginValidator(AsyncWebsocketConsumer.as_asgi(), ["*"])
    await failing(out, "http", lambda: application({"type": "http", "headers": []}, None, None), text=False)

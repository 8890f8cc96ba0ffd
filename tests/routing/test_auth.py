"""Users of connections: found by Django's rules, logged in and out by a consumer."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib import auth
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.test import Client, override_settings
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from sealane.consumers import AsyncWebsocketConsumer, WebsocketConsumer
from sealane.db import aclose_old_connections, database_sync_to_async
from sealane.routing.auth import AuthMiddleware, AuthMiddlewareStack, UserLazyObject, get_user, login, logout
from sealane.types import Message, Scope
from tests.routing.exchange import (
    Answering,
    Exchange,
    busy_database_thread,
    cookie_headers,
    served,
    set_cookies,
)

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
SECOND_BACKEND = f"{__name__}.SecondBackend"
NO_HASH_BACKEND = f"{__name__}.NoHashBackend"
CLOSE: Message = {"type": "websocket.close"}


class SecondBackend(ModelBackend):
    """A second backend for the same users."""


class Ticket:
    """A user that is no model and has no session hash, as backends for other systems have them."""

    class _meta:  # noqa: N801  # the name that Django looks for
        class pk:  # noqa: N801
            @staticmethod
            def value_to_string(user: "Ticket") -> str:
                return str(user.pk)

    is_authenticated = True
    is_anonymous = False

    def __init__(self, pk: int) -> None:
        self.pk = pk

    def save(self, update_fields: Any) -> None:
        """Take the last login that Django's receiver writes."""


class NoHashBackend(BaseBackend):
    def get_user(self, user_id: int) -> Any:
        return Ticket(user_id)


class Room(Answering):
    """An application that logs in or out before it answers."""

    def __init__(self, act: Any, *answer: Message) -> None:
        super().__init__(*answer)
        self.act = act

    async def prepare(self, scope: Scope) -> None:
        await self.act(scope)


@pytest.fixture
async def database(transactional_db: None) -> AsyncIterator[None]:
    yield
    await aclose_old_connections()


@pytest.fixture
def ada(database: None) -> User:
    return User.objects.create_user("ada", password="difference engine")


@pytest.fixture
def bob(database: None) -> User:
    return User.objects.create_user("bob", password="builder")


@pytest.fixture
def signals() -> Iterator[list[tuple[str, Any]]]:
    """What was signalled by login() and logout(), in order."""
    told: list[tuple[str, Any]] = []

    def on_login(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        assert sender is user.__class__
        # Ours have no request; those of ordinary pages, which have one, are not told.
        if request is None:
            told.append(("in", user))

    def on_logout(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        assert (sender, request) == (user.__class__, None)
        told.append(("out", user))

    auth.user_logged_in.connect(on_login)
    auth.user_logged_out.connect(on_logout)
    yield told
    auth.user_logged_in.disconnect(on_login)
    auth.user_logged_out.disconnect(on_logout)


def browser_of(user: User, backend: str = MODEL_BACKEND) -> str:
    """Log a user in as an ordinary page does, and return the key of the session."""
    client = Client()
    client.force_login(user, backend)
    return str(client.cookies["sessionid"].value)


def scope_with(key: str | None = None, **scope: Any) -> Scope:
    return {"type": "websocket", "session": SessionStore(key), **scope}


async def user_of(key: str | None) -> Any:
    """Return the user that a consumer behind the stack finds."""
    inner = Answering()
    headers = cookie_headers(sessionid=key) if key else []
    await Exchange.websocket(headers).run(AuthMiddlewareStack(inner))
    return inner.scope["user"]


@database_sync_to_async
def stored(key: str | None) -> dict[str, Any]:
    return dict(SessionStore(key).items())


@database_sync_to_async
def exists(key: str | None) -> bool:
    return Session.objects.filter(session_key=key).exists()


def session_cookie(message: Message) -> str:
    [value] = set_cookies(message)
    return value.partition(";")[0].removeprefix("sessionid=")


# Finding the user


async def test_the_user_of_a_page_is_the_user_of_its_websocket(ada: User) -> None:
    key = await sync_to_async(browser_of)(ada)
    found = await user_of(key)
    assert found == ada
    assert type(found) is User
    assert await get_user(scope_with(key)) == ada


async def test_without_a_session_cookie_nobody_is_asked() -> None:
    async with busy_database_thread():
        found = await user_of(None)
        assert isinstance(found, AnonymousUser)
        assert isinstance(await user_of("short"), AnonymousUser)
        assert isinstance(await get_user(scope_with()), AnonymousUser)


async def test_a_response_varies_by_cookie_even_where_there_is_none() -> None:
    start: Message = {"type": "http.response.start", "status": 200}
    [answer] = await Exchange.http().run(AuthMiddlewareStack(Answering(start)))
    assert answer["headers"] == [(b"vary", b"Cookie")]


async def test_a_session_without_a_user_is_anonymous(database: None) -> None:
    session = SessionStore()
    await session.aset("theme", "dark")
    await session.asave()
    assert isinstance(await user_of(session.session_key), AnonymousUser)
    assert isinstance(await user_of("unknown" * 5), AnonymousUser)


async def test_a_user_that_left_is_anonymous(ada: User, bob: User) -> None:
    keys = [await sync_to_async(browser_of)(user) for user in (ada, bob)]
    await ada.adelete()
    bob.is_active = False
    await bob.asave()
    for key in keys:
        assert isinstance(await user_of(key), AnonymousUser)


async def test_a_backend_that_was_removed_has_no_users(ada: User) -> None:
    with override_settings(AUTHENTICATION_BACKENDS=[MODEL_BACKEND, SECOND_BACKEND]):
        key = await sync_to_async(browser_of)(ada, SECOND_BACKEND)
        assert await user_of(key) == ada
    assert isinstance(await user_of(key), AnonymousUser)


async def test_a_new_password_ends_the_sessions_of_the_old_one(ada: User) -> None:
    key = await sync_to_async(browser_of)(ada)
    ada.set_password("analytical engine")
    await ada.asave()
    inner = Answering()
    [answer] = await Exchange.websocket(cookie_headers(sessionid=key)).run(AuthMiddlewareStack(inner))
    assert isinstance(inner.scope["user"], AnonymousUser)
    assert session_cookie(answer) == '""'
    assert not await exists(key)


async def test_a_session_without_a_hash_is_not_believed(ada: User) -> None:
    key = await sync_to_async(browser_of)(ada)
    session = SessionStore(key)
    await session.apop(auth.HASH_SESSION_KEY)
    await session.asave()
    assert isinstance(await user_of(key), AnonymousUser)


async def test_a_user_without_a_session_hash_is_taken_as_the_backend_gives_it(database: None) -> None:
    with override_settings(AUTHENTICATION_BACKENDS=[NO_HASH_BACKEND]):
        scope = scope_with()
        await login(scope, Ticket(7))  # type: ignore[arg-type]
        await scope["session"].asave()
        found = await user_of(scope["session"].session_key)
        assert isinstance(found, Ticket)
        assert found.pk == 7


async def test_a_scope_without_a_session_is_refused_by_name() -> None:
    for call, name in ((get_user, "get_user"), (login, "login"), (logout, "logout")):
        with pytest.raises(ValueError, match=rf"{name}\(\) found no 'session' in the scope: wrap the application in"):
            await call({"type": "websocket"})


# A new secret key


async def test_a_fallback_key_keeps_the_user_and_renews_the_session(ada: User) -> None:
    with override_settings(SECRET_KEY="old"):
        old = await sync_to_async(browser_of)(ada)
        session = SessionStore(old)
        await session.aset("theme", "dark")
        await session.asave()
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["older", "old"]):
        inner = Answering()
        [answer] = await Exchange.websocket(cookie_headers(sessionid=old)).run(AuthMiddlewareStack(inner))
        assert inner.scope["user"] == ada
        new = session_cookie(answer)
        assert new != old
        assert not await exists(old)
        data = await stored(new)
        assert data["theme"] == "dark"
        assert data[auth.HASH_SESSION_KEY] == ada.get_session_auth_hash()
    with override_settings(SECRET_KEY="new"):
        assert await user_of(new) == ada
    with override_settings(SECRET_KEY="other", SECRET_KEY_FALLBACKS=["another"]):
        assert isinstance(await user_of(new), AnonymousUser)


async def test_a_renewed_session_is_in_its_store_at_once(ada: User) -> None:
    with override_settings(SECRET_KEY="old"):
        old = await sync_to_async(browser_of)(ada)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        scope = scope_with(old)
        assert await get_user(scope) == ada
        assert scope["session"].session_key != old
        assert (await stored(scope["session"].session_key))[auth.SESSION_KEY] == str(ada.pk)


async def test_a_renewed_session_reaches_a_browser_that_is_refused(ada: User) -> None:
    with override_settings(SECRET_KEY="old"):
        old = await sync_to_async(browser_of)(ada)
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        exchange = Exchange.websocket(cookie_headers(sessionid=old), extensions={"websocket.http.response": {}})
        start, _ = await exchange.run(AuthMiddlewareStack(Answering(CLOSE)))
        assert start["status"] == 403
        assert await user_of(session_cookie(start)) == ada


# The middleware


async def test_a_session_is_needed() -> None:
    with pytest.raises(ValueError, match="found no 'session' in the scope: put SessionMiddleware outside it, or use"):
        await Exchange.websocket().run(AuthMiddleware(Answering()))


async def test_a_user_that_is_there_stays(ada: User) -> None:
    key = await sync_to_async(browser_of)(ada)
    for user in (Ticket(7), AnonymousUser()):
        inner = Answering()
        exchange = Exchange.websocket(cookie_headers(sessionid=key), user=user)
        async with busy_database_thread():
            await exchange.run(AuthMiddlewareStack(inner))
        assert inner.scope["user"] is user


async def test_a_subclass_finds_users_in_its_own_way() -> None:
    class ByPath(AuthMiddleware):
        async def resolve_scope(self, scope: Scope) -> None:
            with pytest.raises(ValueError, match=r"scope\['user'\] was used before AuthMiddleware found the user"):
                scope["user"].pk  # noqa: B018
            # As subclasses for Channels write it.
            scope["user"]._wrapped = Ticket(7)

    inner = Answering()
    await Exchange.websocket(session=object()).run(ByPath(inner))
    assert type(inner.scope["user"]) is UserLazyObject
    assert inner.scope["user"].pk == 7
    assert isinstance(inner.scope["user"], Ticket)


# Logging in


async def test_login_before_the_answer_lasts(ada: User, signals: list[tuple[str, Any]]) -> None:
    inner = Room(lambda scope: login(scope, ada))
    [answer] = await Exchange.websocket().run(AuthMiddlewareStack(inner))
    assert inner.scope["user"] is ada
    assert signals == [("in", ada)]
    assert await user_of(session_cookie(answer)) == ada
    # Django's own receiver wrote it, in the database thread.
    await ada.arefresh_from_db()
    assert ada.last_login is not None


async def test_login_after_the_answer_is_saved_by_the_consumer(ada: User) -> None:
    scope = scope_with()
    await login(scope, ada)
    key = scope["session"].session_key
    assert isinstance(await user_of(key), AnonymousUser)
    await scope["session"].asave()
    assert await user_of(key) == ada


async def test_login_keeps_what_an_anonymous_session_holds_under_a_new_key(ada: User) -> None:
    before = SessionStore()
    await before.aset("basket", [1, 2])
    await before.asave()
    old = before.session_key
    headers = cookie_headers(sessionid=old)
    [answer] = await Exchange.websocket(headers).run(AuthMiddlewareStack(Room(lambda scope: login(scope, ada))))
    new = session_cookie(answer)
    assert new != old
    assert not await exists(old)
    assert (await stored(new))["basket"] == [1, 2]


async def test_login_again_keeps_the_session(ada: User) -> None:
    key = await sync_to_async(browser_of)(ada)
    scope = scope_with(key)
    await login(scope, ada)
    assert scope["session"].session_key == key


async def test_login_flushes_the_session_of_another_user(ada: User, bob: User) -> None:
    key = await sync_to_async(browser_of)(ada)
    scope = scope_with(key)
    await scope["session"].aset("secret", "ada's")
    await login(scope, bob)
    assert not await exists(key)
    assert await scope["session"].aget("secret") is None
    await scope["session"].asave()
    assert await user_of(scope["session"].session_key) == bob


async def test_login_flushes_the_session_of_an_old_password(ada: User) -> None:
    key = await sync_to_async(browser_of)(ada)
    ada.set_password("analytical engine")
    await ada.asave()
    scope = scope_with(key)
    await login(scope, ada)
    assert scope["session"].session_key != key
    assert not await exists(key)


@pytest.mark.parametrize(
    ("given", "of_user", "expected"),
    [
        (SECOND_BACKEND, None, SECOND_BACKEND),
        (None, SECOND_BACKEND, SECOND_BACKEND),
        (MODEL_BACKEND, SECOND_BACKEND, MODEL_BACKEND),
    ],
)
async def test_login_with_several_backends(ada: User, given: str | None, of_user: str | None, expected: str) -> None:
    if of_user:
        ada.backend = of_user
    scope = scope_with()
    with override_settings(AUTHENTICATION_BACKENDS=[MODEL_BACKEND, SECOND_BACKEND]):
        await login(scope, ada, backend=given)
        await scope["session"].asave()
        assert await user_of(scope["session"].session_key) == ada
    assert await scope["session"].aget(auth.BACKEND_SESSION_KEY) == expected


async def test_login_does_not_guess_between_backends(ada: User, signals: list[tuple[str, Any]]) -> None:
    scope = scope_with()
    with (
        override_settings(AUTHENTICATION_BACKENDS=[MODEL_BACKEND, SECOND_BACKEND]),
        pytest.raises(ValueError, match=r"cannot choose between the project's 2 authentication backends: give it back"),
    ):
        await login(scope, ada)
    backend: Any = ModelBackend()
    with pytest.raises(TypeError, match=r"takes a backend as a dotted path, such as 'django\..*', not <"):
        await login(scope, ada, backend)
    assert "user" not in scope
    assert scope["session"].is_empty()
    assert signals == []


async def test_login_takes_the_user_of_the_scope(ada: User) -> None:
    scope = scope_with(user=ada)
    await login(scope, None)
    assert await scope["session"].aget(auth.SESSION_KEY) == str(ada.pk)


@pytest.mark.parametrize("inside", [True, False])
async def test_login_needs_somebody(inside: bool) -> None:
    with pytest.raises(ValueError, match="needs a user, as its argument or in the scope, and found neither"):
        await login(scope_with(), None)
    nobody: Any = AnonymousUser()
    with pytest.raises(ValueError, match="was given an AnonymousUser: there is nobody to log in"):
        await login(scope_with(user=nobody), None if inside else nobody)


async def test_login_and_logout_from_a_synchronous_consumer(ada: User) -> None:
    scope = scope_with()

    def consume() -> None:
        async_to_sync(login)(scope, ada)
        scope["session"].save()
        assert async_to_sync(get_user)(scope) == ada
        async_to_sync(logout)(scope)

    async with asyncio.timeout(10):
        await database_sync_to_async(consume)()
    assert isinstance(scope["user"], AnonymousUser)


# Logging out


async def test_logout_ends_the_session_of_the_page_too(ada: User, signals: list[tuple[str, Any]]) -> None:
    key = await sync_to_async(browser_of)(ada)
    inner = Room(logout)
    [answer] = await Exchange.websocket(cookie_headers(sessionid=key)).run(AuthMiddlewareStack(inner))
    assert isinstance(inner.scope["user"], AnonymousUser)
    assert signals == [("out", ada)]
    assert session_cookie(answer) == '""'
    assert not await exists(key)


async def test_logout_tells_who_leaves_while_the_session_is_still_there(ada: User) -> None:
    key = await sync_to_async(browser_of)(ada)
    seen: list[Any] = []

    def remember(sender: Any, user: Any, **kwargs: Any) -> None:
        seen.append((user, Session.objects.filter(session_key=key).exists()))

    scope = scope_with(key, user=ada)
    auth.user_logged_out.connect(remember)
    try:
        await logout(scope)
    finally:
        auth.user_logged_out.disconnect(remember)
    assert seen == [(ada, True)]


@pytest.mark.parametrize("user", [{}, {"user": None}, {"user": AnonymousUser()}])
async def test_logout_of_nobody_signals_nothing(
    database: None, user: dict[str, Any], signals: list[tuple[str, Any]]
) -> None:
    scope = scope_with(**user)
    await scope["session"].aset("a", 1)
    await logout(scope)
    assert signals == []
    assert scope["session"].is_empty()
    assert isinstance(scope.get("user"), AnonymousUser) is ("user" in user)


# Consumers on a real server


class Sync(WebsocketConsumer):
    def connect(self) -> None:
        match self.scope["path"]:
            case "/login":
                async_to_sync(login)(self.scope, User.objects.get(username="ada"))
            case "/refuse":
                self.scope["session"]["tries"] = 1
                self.close()
                return
        self.accept()
        self.send(text_data=str(self.scope["user"]))
        async_to_sync(logout)(self.scope)
        self.send(text_data=str(async_to_sync(get_user)(self.scope)))


class Async(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        match self.scope["path"]:
            case "/login":
                await login(self.scope, await User.objects.aget(username="ada"))
            case "/refuse":
                await self.scope["session"].aset("tries", 1)
                await self.close()
                return
        await self.accept()
        await self.send(text_data=str(self.scope["user"]))
        await logout(self.scope)
        await self.send(text_data=str(await get_user(self.scope)))


@pytest.mark.parametrize("consumer", [Sync, Async])
async def test_consumers_log_in_and_out(ada: User, consumer: Any) -> None:
    async with asyncio.timeout(20), served(AuthMiddlewareStack(consumer.as_asgi())) as port:
        url = f"ws://127.0.0.1:{port}"
        page = {"Cookie": f"sessionid={await sync_to_async(browser_of)(ada)}"}
        for path, headers in (("/login", {}), ("/", page)):
            async with connect(f"{url}{path}", additional_headers=headers, proxy=None) as browser:
                assert await browser.recv() == "ada"
                assert await browser.recv() == "AnonymousUser"
                assert browser.response is not None
                assert ("Set-Cookie" in browser.response.headers) is (path == "/login")
        async with connect(url, additional_headers=page, proxy=None) as browser:
            assert await browser.recv() == "AnonymousUser"
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/refuse", proxy=None)
        assert refused.value.response.status_code == 403
        assert refused.value.response.headers["Content-Length"] == "0"
        key = refused.value.response.headers["Set-Cookie"].partition(";")[0].removeprefix("sessionid=")
        assert await stored(key) == {"tries": 1}


# A user model of the project's own


MODELS = """
import uuid

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models


class Person(AbstractBaseUser):
    key = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
    objects = BaseUserManager()
    USERNAME_FIELD = "email"
"""

PROGRAM = """
import asyncio

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x",
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions", "people"],
    AUTH_USER_MODEL="people.Person",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "people.sqlite3"}},
)

# Before the models are loaded, as in an asgi.py that imports its routing first.
from sealane.routing.auth import AuthMiddlewareStack, login

django.setup()

from django.core.management import call_command
from people.models import Person

call_command("migrate", run_syncdb=True, verbosity=0)
ada = Person.objects.create(email="ada@example.com")


async def visit(cookie, logging_in):
    sent, seen = [], []

    async def chat(scope, receive, send):
        if logging_in:
            await login(scope, ada)
        seen.append(scope["user"])
        await send({"type": "websocket.accept"})

    async def send(message):
        sent.append(message)

    headers = [(b"cookie", cookie)] if cookie else []
    await AuthMiddlewareStack(chat)({"type": "websocket", "path": "/", "headers": headers}, None, send)
    return seen[0], dict(sent[0].get("headers", ())).get(b"set-cookie")


async def main():
    user, cookie = await visit(None, False)
    assert user.is_anonymous and cookie is None
    user, cookie = await visit(None, True)
    user, _ = await visit(cookie.partition(b";")[0], False)
    assert type(user) is Person and user.pk == ada.pk, user
    print(user.email)


asyncio.run(main())
"""


def test_a_user_model_of_the_projects_own(tmp_path: Path) -> None:
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "__init__.py").touch()
    (tmp_path / "people" / "models.py").write_text(MODELS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ada@example.com\n"), done.stderr

"""login(): a real Django session for a communicator, read back by the real middleware."""

from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends.db import SessionStore
from django.http import parse_cookie
from django.test import TestCase, override_settings

from sealane.routing import AuthMiddlewareStack
from sealane.testing import HttpCommunicator, WebsocketCommunicator
from sealane.types import Receive, Scope, Send

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


async def who_am_i(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept a WebSocket, or answer a request, with the name of the user."""
    name = str(scope["user"])
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": name.encode()})
        return
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": name})
    while (await receive())["type"] != "websocket.disconnect":
        pass


application = AuthMiddlewareStack(who_am_i)


def session_of(communicator: Any) -> SessionStore:
    (cookie,) = [value for name, value in communicator.headers if name == b"cookie"]
    return SessionStore(parse_cookie(cookie.decode())[settings.SESSION_COOKIE_NAME])


class LoginTests(TestCase):
    user: User

    @classmethod
    def setUpTestData(cls) -> None:
        cls.user = User.objects.create_user("ann", password="secret")

    async def test_a_websocket_of_a_user(self) -> None:
        communicator = WebsocketCommunicator(application, "/")
        async with await communicator.login(self.user) as ws:
            self.assertEqual(await ws.receive_from(), "ann")

    async def test_a_request_of_a_user(self) -> None:
        communicator = HttpCommunicator(application, "GET", "/")
        async with await communicator.login(self.user):
            self.assertEqual((await communicator.get_response())["body"], b"ann")

    async def test_nobody_without_it(self) -> None:
        async with WebsocketCommunicator(application, "/") as ws:
            self.assertEqual(await ws.receive_from(), "AnonymousUser")

    async def test_the_session_has_what_djangos_login_writes(self) -> None:
        communicator = await WebsocketCommunicator(application, "/").login(self.user)
        session = session_of(communicator)
        self.assertEqual(await session.aget(SESSION_KEY), str(self.user.pk))
        self.assertEqual(await session.aget(BACKEND_SESSION_KEY), MODEL_BACKEND)
        self.assertEqual(await session.aget(HASH_SESSION_KEY), self.user.get_session_auth_hash())

    async def test_a_changed_password_ends_the_login(self) -> None:
        communicator = await WebsocketCommunicator(application, "/").login(self.user)
        self.user.set_password("another")
        await self.user.asave()
        async with communicator as ws:
            self.assertEqual(await ws.receive_from(), "AnonymousUser")

    async def test_user_logged_in_is_sent(self) -> None:
        seen: list[object] = []

        def receiver(user: User, **kwargs: object) -> None:
            seen.append(user)

        user_logged_in.connect(receiver)
        self.addCleanup(user_logged_in.disconnect, receiver)
        await WebsocketCommunicator(application, "/").login(self.user)
        self.assertEqual(seen, [self.user])

    async def test_other_cookies_stay(self) -> None:
        headers = [(b"cookie", b"a=b"), (b"host", b"example.com"), (b"cookie", b"c=d")]
        communicator = await HttpCommunicator(application, "GET", "/", headers=headers).login(self.user)
        key = session_of(communicator).session_key
        self.assertEqual(
            communicator.scope["headers"],
            [(b"host", b"example.com"), (b"cookie", f"a=b; c=d; sessionid={key}".encode())],
        )

    async def test_an_anonymous_session_goes_on_under_a_new_key(self) -> None:
        session = SessionStore()
        await session.aset("basket", 3)
        await session.asave()
        cookie = f"sessionid={session.session_key}"
        communicator = await HttpCommunicator(application, "GET", "/", headers={"Cookie": cookie}).login(self.user)
        after = session_of(communicator)
        self.assertNotEqual(after.session_key, session.session_key)
        self.assertEqual(await after.aget("basket"), 3)

    async def test_the_session_of_another_user_does_not(self) -> None:
        bob = await User.objects.acreate(username="bob")
        first = await HttpCommunicator(application, "GET", "/").login(bob)
        await (before := session_of(first)).aset("basket", 3)
        await before.asave()
        second = HttpCommunicator(application, "GET", "/", headers=first.headers)
        async with await second.login(self.user):
            self.assertIsNone(await session_of(second).aget("basket"))
            self.assertEqual((await second.get_response())["body"], b"ann")

    async def test_a_session_engine_without_a_database(self) -> None:
        with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies"):
            async with await WebsocketCommunicator(application, "/").login(self.user) as ws:
                self.assertEqual(await ws.receive_from(), "ann")

    async def test_another_cookie_name_and_backend(self) -> None:
        backend = "django.contrib.auth.backends.AllowAllUsersModelBackend"
        with override_settings(SESSION_COOKIE_NAME="sid", AUTHENTICATION_BACKENDS=[MODEL_BACKEND, backend]):
            communicator = WebsocketCommunicator(application, "/")
            async with await communicator.login(self.user, backend) as ws:
                self.assertEqual(await ws.receive_from(), "ann")
            self.assertTrue(communicator.headers[-1][1].startswith(b"sid="))
            self.assertEqual(await session_of(communicator).aget(BACKEND_SESSION_KEY), backend)

    async def test_the_default_backend_is_the_first_that_finds_users(self) -> None:
        backends = [f"{__name__}.Tokens", MODEL_BACKEND]
        with override_settings(AUTHENTICATION_BACKENDS=backends):
            communicator = await WebsocketCommunicator(application, "/").login(self.user)
            self.assertEqual(await session_of(communicator).aget(BACKEND_SESSION_KEY), MODEL_BACKEND)
        with (
            override_settings(AUTHENTICATION_BACKENDS=backends[:1]),
            pytest.raises(ValueError, match=r"none of AUTHENTICATION_BACKENDS has a get_user\(\): \['tests\."),
        ):
            await WebsocketCommunicator(application, "/").login(self.user)

    async def test_it_must_come_before_the_application_starts(self) -> None:
        async with WebsocketCommunicator(application, "/") as ws:
            with pytest.raises(
                RuntimeError, match=r"^login\(\) came too late for <WebsocketCommunicator .*Call it before"
            ):
                await ws.login(self.user)

    async def test_nobody_cannot_be_logged_in(self) -> None:
        with pytest.raises(ValueError, match="AnonymousUser: there is nobody to log in"):
            await WebsocketCommunicator(application, "/").login(AnonymousUser())  # type: ignore[arg-type]


class Tokens:
    """An authentication backend that cannot find users."""

"""The end of a login, as the sockets of its session see it: with real sessions, in a real database."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib import auth
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.http import HttpRequest
from django.test import Client, override_settings
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from sealane.consumers import (
    AsyncEventStreamConsumer,
    AsyncHttpConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
    attendance,
    permission_required,
    user_passes_test,
)
from sealane.consumers.complaint import Complaint
from sealane.consumers.credentials import CREDENTIALS
from sealane.consumers.revocation import revoked_message, user_group
from sealane.db import aclose_old_connections
from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers import InMemoryChannelLayer, RedisChannelLayer, RedisPubSubChannelLayer, channel_layers
from sealane.routing import AuthMiddleware, AuthMiddlewareStack, SessionMiddlewareStack, get_user, login, logout
from sealane.routing import credentials as session_credentials
from sealane.testing import HttpCommunicator
from sealane.types import Scope
from tests.patient import LIMIT, PatientCommunicator
from tests.routing.exchange import busy_database_thread, cookie_headers, served
from tests.servers import Server, available

#: Seconds between two checks, where a test wants them soon. It waits for what follows, not for the time.
SOON = 0.01


class Room(AsyncWebsocketConsumer):
    code: list[int]

    async def connect(self) -> None:
        if self.scope["path"] == "/login":
            await login(self.scope, await User.objects.aget(username="ada"))
        await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "logout":
            await logout(self.scope)
        await self.send(f"{self.scope['user']} {self.scope['user'].first_name if text_data == 'name' else ''}".strip())

    async def disconnect(self, code: int) -> None:
        self.code.append(code)


class SyncRoom(WebsocketConsumer):
    code: list[int]

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(str(self.scope["user"]))

    def disconnect(self, code: int) -> None:
        self.code.append(code)


@pytest.fixture(params=[Room, SyncRoom], ids=["async", "sync"])
def consumer(request: pytest.FixtureRequest) -> Any:
    return make(request.param)


def make(parent: Any = Room, **attributes: Any) -> Any:
    return type(parent.__name__, (parent,), {"code": [], **attributes})


@pytest.fixture
def layer() -> Iterator[InMemoryChannelLayer]:
    layer = InMemoryChannelLayer()
    before = channel_layers.set("default", layer)
    yield layer
    stats = layer.stats()
    assert (stats["channels"], stats["groups"]) == (0, 0)
    channel_layers.set("default", before)


@pytest.fixture
async def database(transactional_db: None, layer: InMemoryChannelLayer) -> AsyncIterator[None]:
    yield
    await aclose_old_connections()


@pytest.fixture
def ada(database: None) -> User:
    return User.objects.create_user("ada", password="difference engine")


def browser() -> Client:
    """Return a browser in which ada has logged in on a page."""
    client = Client()
    assert client.login(username="ada", password="difference engine")
    return client


def key_of(client: Client) -> str:
    return str(client.cookies["sessionid"].value)


def socket(consumer: Any, client: Client | str | None = None, path: str = "/") -> PatientCommunicator:
    key = key_of(client) if isinstance(client, Client) else client
    headers = cookie_headers(sessionid=key) if key else None
    return PatientCommunicator(AuthMiddlewareStack(consumer.as_asgi()), path, headers)


def page_request(client: Client, user: User) -> HttpRequest:
    """A request of a page, with its session and its user."""
    request = HttpRequest()
    request.session = SessionStore(key_of(client))
    request.user = user
    return request


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


# At once


async def test_logging_out_on_a_page_closes_the_sockets_of_its_session(ada: User, consumer: Any) -> None:
    here, elsewhere = [await sync_to_async(browser)() for _ in range(2)]
    async with socket(consumer, here) as one, socket(consumer, here) as two, socket(consumer, elsewhere) as other:
        await sync_to_async(here.logout)()
        for page in (one, two):
            assert await page.receive_close() == 4401
            assert page.close_reason == "Authentication required"
        await other.send_to("still there?")
        assert await other.receive_from() == "ada"
    assert sorted(consumer.code) == [1000, 4401, 4401]


async def test_the_asynchronous_logout_of_django_is_heard(ada: User) -> None:
    client = await sync_to_async(browser)()
    async with socket(make(), client) as page:
        await auth.alogout(_with_auser(page_request(client, ada), ada))
        assert await page.receive_close() == 4401


def _with_auser(request: HttpRequest, user: User) -> HttpRequest:
    async def auser() -> User:
        return user

    request.auser = auser
    return request


async def test_logging_out_in_one_socket_closes_the_others_and_leaves_itself(ada: User) -> None:
    client = await sync_to_async(browser)()
    consumer = make()
    async with socket(consumer, client) as one, socket(consumer, client) as two:
        await one.send_to("logout")
        assert await one.receive_from() == "AnonymousUser"
        assert await two.receive_close() == 4401
        # It has said so itself, and may go on as anybody.
        await one.send_to("")
        assert await one.receive_from() == "AnonymousUser"


async def test_the_session_is_gone_when_sealanes_logout_is_told(
    ada: User, layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await sync_to_async(browser)()
    there: list[bool] = []
    monkeypatch.setattr(
        "sealane.routing.auth.announce",
        lambda user, key: there.append(Session.objects.filter(session_key=key).exists()),
    )
    scope: dict[str, Any] = {"session": SessionStore(key_of(client)), "user": ada}
    await logout(scope)
    assert there == [False]


async def test_somebody_who_logs_in_while_connecting_is_followed(ada: User) -> None:
    async with socket(make(), path="/login") as page:
        cookie = dict(page.response_headers or ())[b"set-cookie"].decode()
        client = Client()
        client.cookies["sessionid"] = cookie.partition(";")[0].removeprefix("sessionid=")
        await sync_to_async(client.logout)()
        assert await page.receive_close() == 4401


async def test_a_new_password_closes_the_sockets_of_the_old_one(ada: User) -> None:
    here, elsewhere = [await sync_to_async(browser)() for _ in range(2)]

    def change() -> str:
        """As Django's own view does."""
        ada.set_password("analytical engine")
        ada.save()
        request = page_request(here, ada)
        auth.update_session_auth_hash(request, ada)
        request.session.save()
        return str(request.session.session_key)

    async with socket(make(), here) as one, socket(make(), elsewhere) as two:
        key = await sync_to_async(change)()
        assert await one.receive_close() == await two.receive_close() == 4401
    async with socket(make(), key) as again:
        await again.send_to("")
        assert await again.receive_from() == "ada"


@pytest.mark.parametrize("act", ["deactivate", "delete"])
async def test_an_account_that_is_closed_closes_its_sockets(ada: User, consumer: Any, act: str) -> None:
    client = await sync_to_async(browser)()
    async with socket(consumer, client) as page:
        if act == "delete":
            await ada.adelete()
        else:
            ada.is_active = False
            await ada.asave()
        assert await page.receive_close() == 4401


async def test_nobody_follows_where_the_consumer_does_not_want_it(ada: User, layer: InMemoryChannelLayer) -> None:
    client = await sync_to_async(browser)()
    async with socket(make(close_on_logout=False), client) as page, socket(make()) as anonymous:
        assert layer.stats()["groups"] == 0
        await sync_to_async(client.logout)()
        for who, name in ((page, "ada"), (anonymous, "AnonymousUser")):
            await who.send_to("")
            assert await who.receive_from() == name


async def test_a_logout_is_heard_while_a_layer_carries_a_strangers_message(
    ada: User, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    client = await sync_to_async(browser)()
    group = user_group(ada) or ""
    async with socket(make(), client) as page:
        for forged in (
            revoked_message("a-guess"),
            {"type": "sealane.revoked", "session": 7},
            {"type": "sealane.revoked"},
        ):
            await layer.group_send(group, forged)
        # One that asks for a look costs a look, and finds the session as it is.
        await layer.group_send(group, revoked_message(None))
        await page.send_to("")
        assert await page.receive_from() == "ada"
        await sync_to_async(client.logout)()
        assert await page.receive_close() == 4401
    assert caplog.records == []


async def test_a_client_cannot_send_it(ada: User) -> None:
    client = await sync_to_async(browser)()
    consumer = make()
    async with socket(consumer, client) as page:
        await page.send_json_to({"type": "sealane.revoked", "session": None})
        assert await page.receive_from() == "ada"


async def test_a_layer_that_is_away_refuses_nobody(
    ada: User, layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(attendance, "_unheard", Complaint())

    async def fail(group: str, channel: str) -> None:
        raise ChannelLayerUnavailable("redis://somewhere", "did not answer", 5.0)

    client = await sync_to_async(browser)()
    with monkeypatch.context() as away:
        away.setattr(layer, "group_add", fail)
        async with socket(make(), client) as one, socket(make(revalidate=SOON), client) as two:
            [record] = caplog.records
            assert record.getMessage().startswith("Room at '/' would not notice a logout: ")
            away.undo()
            # It is tried again with the next look at the user.
            await until(lambda: layer.stats()["groups"])
            await sync_to_async(client.logout)()
            assert await two.receive_close() == 4401
            await one.send_to("")
            assert await one.receive_from() == "ada"


async def test_an_event_stream_ends_too(ada: User) -> None:
    class Stream(AsyncEventStreamConsumer):
        pass

    client = await sync_to_async(browser)()
    headers = cookie_headers(sessionid=key_of(client))
    async with HttpCommunicator(AuthMiddlewareStack(Stream.as_asgi()), "GET", "/", headers=headers) as request:
        await request.send_input({"type": "http.request"})
        assert (await request.receive_output(LIMIT))["status"] == 200
        assert (await request.receive_output(LIMIT))["more_body"]
        await sync_to_async(client.logout)()
        assert await request.receive_output(LIMIT) == {"type": "http.response.body", "body": b"", "more_body": False}


# At intervals


@pytest.mark.parametrize(
    "change",
    [
        lambda: Session.objects.all().delete(),
        lambda: User.objects.update(is_active=False),
        lambda: User.objects.update(password="!"),
        lambda: Session.objects.update(expire_date="2001-01-01T00:00:00Z"),
        lambda: Session.objects.update(session_data="nonsense"),
    ],
    ids=["session", "active", "password", "expired", "unreadable"],
)
async def test_revalidate_finds_what_nobody_told(ada: User, consumer: Any, change: Any, caplog: Any) -> None:
    caplog.set_level(logging.CRITICAL, "django.security.SuspiciousSession")
    consumer.revalidate = SOON
    async with socket(consumer, await sync_to_async(browser)()) as page:
        await page.send_to("")
        assert await page.receive_from() == "ada"
        await sync_to_async(change)()
        assert await page.receive_close() == 4401
    assert consumer.code == [4401]


async def test_the_user_of_the_scope_is_as_the_last_look_found_it(ada: User) -> None:
    async with socket(make(revalidate=SOON), await sync_to_async(browser)()) as page:
        await sync_to_async(User.objects.update)(first_name="Ada")

        async def ask() -> Any:
            await page.send_to("name")
            return await page.receive_from()

        async with asyncio.timeout(20):
            while await ask() != "ada Ada":
                await asyncio.sleep(0.001)


async def test_a_permission_that_was_taken_away_closes_with_4403(ada: User) -> None:
    view = await Permission.objects.aget(codename="view_user")
    await ada.user_permissions.aadd(view)
    consumer = permission_required("auth.view_user")(make(revalidate=SOON))
    async with socket(consumer, await sync_to_async(browser)()) as page:
        await ada.user_permissions.aremove(view)
        assert await page.receive_close() == 4403
        assert page.close_reason == "Permission denied"


async def test_looking_changes_nothing_in_the_store(ada: User) -> None:
    with override_settings(SECRET_KEY="old"):
        client = await sync_to_async(browser)()
    before = await Session.objects.aget()
    for settings in ({"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["old"]}, {"SECRET_KEY": "other"}):
        with override_settings(**settings):
            found = await session_credentials.SessionCredentials(SessionStore(key_of(client))).recheck()
            assert (found == ada) is ("SECRET_KEY_FALLBACKS" in settings)
            after = await Session.objects.aget()
            assert (after.pk, after.session_data) == (before.pk, before.session_data)


@pytest.mark.parametrize("user", ["nobody", "never"])
async def test_where_nothing_is_due_the_database_is_not_asked(ada: User, user: str) -> None:
    key = await sync_to_async(browser)() if user == "never" else None
    consumer = make(revalidate=None if user == "never" else SOON)
    async with socket(consumer, key) as page, busy_database_thread():
        for _ in range(20):
            await page.send_to("")
            assert (await page.receive_from()) == ("ada" if user == "never" else "AnonymousUser")


async def test_messages_do_not_wait_for_a_look(ada: User) -> None:
    async with socket(make(revalidate=SOON), await sync_to_async(browser)()) as page, busy_database_thread():
        for _ in range(20):
            await page.send_to("")
            assert await page.receive_from() == "ada"
            await asyncio.sleep(0.001)


async def test_a_database_that_is_away_closes_nobody_and_is_asked_again(
    ada: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(attendance, "_unanswered", Complaint())
    tries: list[int] = []
    reread = session_credentials._reread

    async def fail(store: Any, key: str) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("the secret address of the database")
        return await reread(store, key)

    monkeypatch.setattr(session_credentials, "_reread", fail)
    client = await sync_to_async(browser)()
    async with socket(make(revalidate=SOON), client) as page:
        await until(lambda: len(tries) >= 3)
        await page.send_to("")
        assert await page.receive_from() == "ada"
        await sync_to_async(Session.objects.all().delete)()
        assert await page.receive_close() == 4401
    assert [record.getMessage() for record in caplog.records] == [
        "Room at '/': the user could not be read anew, and stays until the next try: OperationalError"
    ]


async def test_a_test_that_cannot_be_made_closes_nobody(
    ada: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(attendance, "_unanswered", Complaint())
    made: list[Any] = []

    async def is_welcome(user: Any) -> bool:
        made.append(user)
        if len(made) > 1:
            raise OperationalError
        return True

    consumer = user_passes_test(is_welcome)(make(revalidate=SOON))
    async with socket(consumer, await sync_to_async(browser)()) as page:
        await until(lambda: len(made) >= 3)
        await page.send_to("")
        assert await page.receive_from() == "ada"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_client_that_leaves_during_a_look_leaves_nothing(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def hang(store: Any, key: str) -> Any:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    monkeypatch.setattr(session_credentials, "_reread", hang)
    consumer = make(revalidate=SOON)
    async with socket(consumer, await sync_to_async(browser)()):
        async with asyncio.timeout(20):
            await entered.wait()
    assert cancelled.is_set()
    assert consumer.code == [1000]


async def test_who_logged_out_during_a_look_is_not_closed_by_it(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, answer = asyncio.Event(), asyncio.Event()

    async def slow(store: Any, key: str) -> Any:
        entered.set()
        await answer.wait()

    monkeypatch.setattr(session_credentials, "_reread", slow)
    async with socket(make(revalidate=SOON), await sync_to_async(browser)()) as page:
        async with asyncio.timeout(20):
            await entered.wait()
        await page.send_to("logout")
        assert await page.receive_from() == "AnonymousUser"
        answer.set()
        await page.send_to("")
        assert await page.receive_from() == "AnonymousUser"


async def test_a_client_that_does_not_read_is_let_go(ada: User) -> None:
    class Deaf(Room):
        end_timeout = 0.05

    stuck = asyncio.Event()
    client = await sync_to_async(browser)()
    consumer = make(Deaf)
    events = [{"type": "websocket.connect"}]
    accepted = asyncio.Event()

    async def receive() -> Any:
        if events:
            return events.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        accepted.set()
        if message["type"] == "websocket.close":
            await stuck.wait()

    scope = {"type": "websocket", "path": "/", "headers": cookie_headers(sessionid=key_of(client))}
    task = asyncio.ensure_future(AuthMiddlewareStack(consumer.as_asgi())(scope, receive, send))
    async with asyncio.timeout(20):
        await accepted.wait()
        await sync_to_async(client.logout)()
        await task
    assert consumer.code == [4401]


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
async def test_every_engine_of_django_is_looked_into(ada: User, engine: str, tmp_path: Path) -> None:
    path = f"django.contrib.sessions.backends.{engine}"
    with override_settings(SESSION_ENGINE=path, SESSION_FILE_PATH=str(tmp_path)):
        client = await sync_to_async(browser)()
        session = import_module(path).SessionStore(key_of(client))
        credentials = session_credentials.SessionCredentials(session)
        assert await credentials.recheck() == ada
        assert credentials.session_key == key_of(client)
        await sync_to_async(client.logout)()
        # What is in the cookie itself, nobody can take back.
        assert await credentials.recheck() == (ada if engine == "signed_cookies" else None)
        await sync_to_async(User.objects.update)(password="!")
        assert await credentials.recheck() is None


# Users who came without a session


async def test_a_user_from_elsewhere_is_looked_up_by_the_account(ada: User) -> None:
    consumer = make(revalidate=SOON)
    for change in ({"password": "!"}, {"is_active": False}):
        user = await User.objects.aget()
        page = PatientCommunicator(consumer.as_asgi(), "/")
        page.scope["user"] = user
        async with page:
            await sync_to_async(User.objects.update)(**change)
            assert await page.receive_close() == 4401


@pytest.mark.parametrize("way", ["as for Channels", "by Django"])
async def test_a_middleware_of_ones_own_that_asks_the_session(ada: User, way: str) -> None:
    class Own(AuthMiddleware):
        async def resolve_scope(self, scope: Scope) -> None:
            if way == "by Django":
                scope["user"] = await User.objects.aget(pk=await scope["session"].aget(auth.SESSION_KEY))
            else:
                scope["user"]._wrapped = await get_user(scope)

    client = await sync_to_async(browser)()
    application = SessionMiddlewareStack(Own(make(revalidate=60).as_asgi()))
    async with PatientCommunicator(application, "/", cookie_headers(sessionid=key_of(client))) as page:
        await sync_to_async(client.logout)()
        assert await page.receive_close() == 4401


async def test_a_user_that_cannot_be_looked_up_is_an_error_that_says_what_to_do(database: None) -> None:
    page = PatientCommunicator(make(revalidate=SOON).as_asgi(), "/")
    page.scope["user"] = type("Ticket", (), {"is_authenticated": True, "pk": 7})()
    with pytest.raises(TypeError, match="of type Ticket, which cannot be read anew: revalidate needs a model"):
        async with page:
            await page.receive_close()


async def test_the_scope_shows_no_key(ada: User) -> None:
    class Asked(Room):
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            assert self.scope["user"] == ada
            await self.send(repr(self.scope[CREDENTIALS]))

    async with socket(make(Asked), await sync_to_async(browser)()) as page:
        await page.send_to("")
        assert await page.receive_from() == "<SessionCredentials>"


# HTTP


@pytest.mark.parametrize("begun", [False, True])
async def test_a_response_under_way_ends(ada: User, begun: bool) -> None:
    handling = asyncio.Event()

    class Slow(AsyncHttpConsumer):
        revalidate = SOON

        async def handle(self, body: bytes) -> None:
            handling.set()
            if begun:
                await self.send_headers()
                await self.send_body(b"one ", more_body=True)
            await asyncio.Event().wait()

    client = await sync_to_async(browser)()
    headers = cookie_headers(sessionid=key_of(client))
    async with HttpCommunicator(AuthMiddlewareStack(Slow.as_asgi()), "GET", "/", headers=headers) as request:
        await request.send_input({"type": "http.request"})
        async with asyncio.timeout(20):
            await handling.wait()
        await sync_to_async(Session.objects.all().delete)()
        start, *body = [await request.receive_output(LIMIT) for _ in range(3 if begun else 2)]
        assert start["status"] == (200 if begun else 401)
        assert b"".join(part["body"] for part in body) == (b"one " if begun else b"Authentication required")


# Between processes


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    if not available("valkey"):
        pytest.skip("there is no valkey-server here")
    with Server("valkey") as server:
        yield server


@pytest.mark.parametrize("kind", [RedisChannelLayer, RedisPubSubChannelLayer])
async def test_a_logout_in_another_process_is_heard(ada: User, valkey: Server, kind: Any) -> None:
    client = await sync_to_async(browser)()
    # Each has connections of its own, as two processes do.
    async with kind([valkey.url]) as of_the_socket, kind([valkey.url]) as of_the_page:
        before = channel_layers.set("default", of_the_socket)
        try:
            async with socket(make(), client) as page:
                channel_layers.set("default", of_the_page)
                await sync_to_async(client.logout)()
                assert await page.receive_close() == 4401
        finally:
            channel_layers.set("default", before)


# On a server


@asynccontextmanager
async def connected(port: int, client: Client) -> AsyncIterator[Any]:
    headers = {"Cookie": f"sessionid={key_of(client)}"}
    async with connect(f"ws://127.0.0.1:{port}/", additional_headers=headers, proxy=None) as page:
        yield page


async def test_on_a_server(ada: User) -> None:
    client = await sync_to_async(browser)()
    consumer = make()
    async with asyncio.timeout(20), served(AuthMiddlewareStack(consumer.as_asgi())) as port:
        async with connected(port, client) as page:
            await page.send("hello")
            assert await page.recv() == "ada"
            await sync_to_async(client.logout)()
            with pytest.raises(ConnectionClosed) as closed:
                await page.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "Authentication required")
        await until(lambda: consumer.code == [4401])

"""Who may use a consumer: refused before anything of it runs, with a status or a close code."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.utils.functional import SimpleLazyObject

from sealane.consumers import (
    AsyncConsumer,
    AsyncHttpConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
    login_required,
    permission_required,
    user_passes_test,
)
from sealane.consumers.admission import is_logged_in
from sealane.layers import InMemoryChannelLayer
from sealane.testing import HttpCommunicator, WebsocketCommunicator

pytestmark = pytest.mark.usefixtures("layer")


class Room(AsyncWebsocketConsumer):
    ran: list[str] = []
    groups = ["room"]

    async def websocket_connect(self, message: Any) -> None:
        # One of the user's own, as an application may have it, must not open the door.
        self.ran.append("connect")
        await self.accept()

    async def disconnect(self, code: int) -> None:
        self.ran.append("disconnect")


class SyncRoom(WebsocketConsumer):
    ran: list[str] = []

    def connect(self) -> None:
        self.ran.append("connect")
        self.accept()

    def disconnect(self, code: int) -> None:
        self.ran.append("disconnect")


class Page(AsyncHttpConsumer):
    ran: list[str] = []

    async def handle(self, body: bytes) -> None:
        self.ran.append("connect")
        await self.send_response(200, b"welcome")


def member(*permissions: str) -> Any:
    return SimpleNamespace(
        is_authenticated=True, pk=1, has_perms=lambda wanted: set(wanted) <= set(permissions), is_staff=False
    )


async def answer(application: Any, user: Any, *, kind: str = "websocket", extension: bool = True) -> Any:
    """Connect, and return the status or code of a refusal; True where it was let in."""
    if kind == "http":
        request = HttpCommunicator(application, "GET", "/")
        request.scope["user"] = user
        async with request:
            response = await request.get_response()
        return True if response["status"] == 200 else response["status"]
    socket = WebsocketCommunicator(application, "/", denial_response=extension)
    socket.scope["user"] = user
    accepted, code = await socket.connect()
    await socket.disconnect()
    return accepted or code


@pytest.fixture(params=[Room, SyncRoom, Page], ids=["async", "sync", "http"])
def consumer(request: pytest.FixtureRequest) -> Any:
    return type(request.param.__name__, (request.param,), {"ran": []})


def kind_of(consumer: Any) -> str:
    return "http" if issubclass(consumer, AsyncHttpConsumer) else "websocket"


async def test_login_required_answers_401(consumer: Any) -> None:
    guarded = login_required(consumer)
    assert guarded is consumer
    assert await answer(consumer.as_asgi(), AnonymousUser(), kind=kind_of(consumer)) == 401
    assert consumer.ran == []
    assert await answer(consumer.as_asgi(), member(), kind=kind_of(consumer)) is True
    assert consumer.ran[0] == "connect"


async def test_permission_required_tells_401_from_403(consumer: Any) -> None:
    guarded = permission_required("polls.vote")(consumer.as_asgi())
    for user, expected in [(AnonymousUser(), 401), (member("polls.see"), 403), (member("polls.vote"), True)]:
        assert await answer(guarded, user, kind=kind_of(consumer)) == expected
    # The class itself is as it was.
    assert await answer(consumer.as_asgi(), AnonymousUser(), kind=kind_of(consumer)) is True


async def test_all_of_several_permissions_are_needed() -> None:
    guarded = permission_required(["polls.vote", "polls.see"])(Room.as_asgi())
    assert await answer(guarded, member("polls.vote")) == 403
    assert await answer(guarded, member("polls.vote", "polls.see")) is True


@pytest.mark.django_db(transaction=True)
async def test_permissions_are_those_of_the_database() -> None:
    ada = await User.objects.acreate_user("ada")
    guarded = permission_required("auth.view_user")(Room.as_asgi())
    assert await answer(guarded, ada) == 403
    await ada.user_permissions.aadd(await Permission.objects.aget(codename="view_user"))
    assert await answer(guarded, await User.objects.aget()) is True


async def test_a_test_of_ones_own_may_be_a_coroutine_function() -> None:
    async def is_staff(user: Any) -> bool:
        return bool(user.is_staff)

    for test in (is_staff, lambda user: user.is_staff):
        guarded = user_passes_test(test)(Room.as_asgi())
        assert await answer(guarded, AnonymousUser()) == 401
        assert await answer(guarded, member()) == 403
        staff = member()
        staff.is_staff = True
        assert await answer(guarded, staff) is True


async def test_tests_are_made_from_the_outside_in_and_inherited() -> None:
    @login_required
    @permission_required("polls.vote")
    class Parent(AsyncWebsocketConsumer):
        pass

    @user_passes_test(lambda user: user.is_staff)
    class Child(Parent):
        pass

    assert len(Parent._user_tests) == 2
    assert len(Child._user_tests) == 3
    assert await answer(Child.as_asgi(), AnonymousUser()) == 401
    assert await answer(Parent.as_asgi(), member("polls.vote")) is True
    assert await answer(Child.as_asgi(), member("polls.vote")) == 403


async def test_arguments_of_the_consumer_are_kept() -> None:
    class Greeting(AsyncWebsocketConsumer):
        def __init__(self, word: str) -> None:
            super().__init__()
            self.word = word

        async def connect(self) -> None:
            await self.accept()
            await self.send(self.word)

    socket = WebsocketCommunicator(login_required(Greeting.as_asgi(word="hello")), "/")
    socket.scope["user"] = member()
    async with socket:
        assert await socket.receive_from() == "hello"


async def test_a_server_without_denial_responses_gets_a_close() -> None:
    guarded = login_required(Room.as_asgi())
    assert await answer(guarded, AnonymousUser(), extension=False) == 4401


async def test_a_client_that_left_is_not_answered() -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await login_required(Page.as_asgi())({"type": "http", "path": "/", "user": AnonymousUser()}, receive, send)
    assert sent == []


async def test_a_client_that_leaves_meanwhile_is_no_error() -> None:
    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        raise OSError("gone")

    await login_required(Room.as_asgi())({"type": "websocket", "path": "/", "user": AnonymousUser()}, receive, send)


async def test_a_refused_connection_costs_the_layer_nothing(layer: InMemoryChannelLayer) -> None:
    before = layer.stats()
    assert await answer(login_required(Room.as_asgi()), AnonymousUser()) == 401
    assert layer.stats() == before


async def test_without_a_user_it_is_an_error_that_says_what_to_do() -> None:
    socket = WebsocketCommunicator(login_required(Room.as_asgi()), "/")
    with pytest.raises(ValueError, match="found no 'user' in the scope: wrap the application in AuthMiddlewareStack"):
        await socket.connect()


def test_what_cannot_be_guarded_is_refused() -> None:
    class Worker(AsyncConsumer):
        pass

    async def application(scope: Any, receive: Any, send: Any) -> None: ...

    for thing in (Worker, Worker.as_asgi(), application, dict):
        with pytest.raises(TypeError, match=r"login_required\(\) guards a consumer of WebSockets or of HTTP requests"):
            login_required(thing)
    for names in ((), 5, [5]):
        with pytest.raises(TypeError, match=r"permission_required\(\) takes names such as 'polls.vote'|not iterable"):
            permission_required(names)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"user_passes_test\(\) takes a function of the user, not 'staff'"):
        user_passes_test("staff")  # type: ignore[arg-type]


def test_a_user_that_is_yet_to_be_found_is_not_asked() -> None:
    asked: list[int] = []

    def find() -> Any:
        asked.append(1)
        return member()

    user = SimpleLazyObject(find)
    assert is_logged_in(user) is False
    assert asked == []
    assert user.pk == 1
    assert is_logged_in(user) is True
    assert is_logged_in(None) is False

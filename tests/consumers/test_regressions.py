"""Defects that were found once, each with the shortest way to it."""

import asyncio
import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings

from sealane.consumers import (
    AsyncConsumer,
    AsyncEventStreamConsumer,
    AsyncHttpConsumer,
    AsyncWebsocketConsumer,
    WebsocketConsumer,
    threads,
)
from sealane.db import DatabaseUse, database_sync_to_async
from sealane.exceptions import HandlerCancelled, StopConsumer, UnknownScopeType
from sealane.layers import InMemoryChannelLayer
from sealane.testing import HttpCommunicator, WebsocketCommunicator

pytestmark = pytest.mark.usefixtures("layer")

LIMIT = 20.0


class Counts(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await asyncio.sleep(0.001)
        self.scope["seen"].append(text_data)


class SyncCounts(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.scope["seen"].append(text_data)


@pytest.mark.parametrize("consumer", [Counts, SyncCounts], ids=["async", "sync"])
async def test_what_a_client_sent_before_it_left_is_handled(consumer: type[AsyncConsumer]) -> None:
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    seen = client.scope["seen"] = []
    await client.connect()
    for n in range(5):
        await client.send_to(text_data=str(n))
    await client.disconnect(timeout=LIMIT)
    assert seen == ["0", "1", "2", "3", "4"]


class Ends(AsyncWebsocketConsumer):
    groups = ["room"]
    end_timeout = 0.05

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.spawn(self.ignores_its_cancellation())

    async def ignores_its_cancellation(self) -> None:
        while not self.scope["over"].is_set():
            try:
                await self.scope["over"].wait()
            except asyncio.CancelledError:
                pass

    async def disconnect(self, code: int) -> None:
        self.scope["codes"].append(code)


async def test_disconnect_runs_although_a_spawned_task_does_not_end() -> None:
    client = WebsocketCommunicator(Ends.as_asgi(), "/")
    client.scope |= {"over": asyncio.Event(), "codes": []}
    await client.connect()
    await client.send_to(text_data="spawn")
    await client.disconnect(timeout=LIMIT)
    assert client.scope["codes"] == [1000]
    client.scope["over"].set()
    await asyncio.sleep(0)


async def test_disconnect_runs_although_leaving_a_group_fails(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def gone(group: str, channel: str) -> None:
        raise ConnectionError("the layer is away")

    client = WebsocketCommunicator(Ends.as_asgi(), "/")
    client.scope |= {"over": asyncio.Event(), "codes": []}
    await client.connect()
    monkeypatch.setattr(layer, "group_discard", gone)
    await client.disconnect()
    assert client.scope["codes"] == [1000]
    assert "Leaving the groups of Ends at '/' failed" in caplog.messages


async def test_disconnect_runs_although_the_close_frame_cannot_leave() -> None:
    """A client that does not read: the server's send() waits."""
    received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    received.put_nowait({"type": "websocket.connect"})
    accepted = asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.close":
            await asyncio.get_running_loop().create_future()
        accepted.set()

    scope: dict[str, Any] = {"type": "websocket", "path": "/", "over": asyncio.Event(), "codes": []}
    task = asyncio.ensure_future(Ends.as_asgi()(scope, received.get, send))
    async with asyncio.timeout(LIMIT):
        await accepted.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert scope["codes"] == [1012]


@pytest.mark.parametrize("calls", [True, False], ids=["calls disconnect()", "does not"])
async def test_an_overridden_websocket_disconnect_is_followed_by_one_disconnect(calls: bool) -> None:
    class Overrides(AsyncWebsocketConsumer):
        async def websocket_disconnect(self, message: dict[str, Any]) -> None:
            if calls:
                await self.disconnect(message["code"])
                raise StopConsumer

        async def disconnect(self, code: int) -> None:
            self.scope["codes"].append(code)

    client = WebsocketCommunicator(Overrides.as_asgi(), "/")
    client.scope["codes"] = []
    await client.connect()
    await client.disconnect(code=4321)
    assert client.scope["codes"] == [4321]


async def test_a_handler_that_awaits_something_cancelled_is_an_error_and_not_a_silent_end() -> None:
    class Awaits(AsyncWebsocketConsumer):
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

    client = WebsocketCommunicator(Awaits.as_asgi(), "/")
    await client.connect()
    await client.send_to(text_data="x")
    with pytest.raises(HandlerCancelled, match="A handler awaited something that was cancelled"):
        await client.wait()


async def test_a_handle_that_awaits_something_cancelled_is_an_error() -> None:
    class Awaits(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            raise asyncio.CancelledError

    client = HttpCommunicator(Awaits.as_asgi(), "GET", "/")
    with pytest.raises(HandlerCancelled):
        await client.get_response()


async def test_an_event_that_comes_before_the_stream_began_waits_for_it(layer: InMemoryChannelLayer) -> None:
    class Stream(AsyncEventStreamConsumer):
        groups = ["events"]

        async def news(self, message: dict[str, Any]) -> None:
            await self.send_event("news")

        async def send(self, message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                await layer.group_send("events", {"type": "news"})
                await asyncio.sleep(0.01)
            await super().send(message)

    client = HttpCommunicator(Stream.as_asgi(), "GET", "/")
    await client.send_input({"type": "http.request", "body": b""})
    assert (await client.receive_output())["type"] == "http.response.start"
    assert (await client.receive_output())["body"] == b":\n\n"
    assert (await client.receive_output())["body"] == b"data: news\n\n"
    await client.send_input({"type": "http.disconnect"})
    await client.wait()


async def test_a_stop_is_not_put_off_by_an_inbox_that_never_empties(layer: InMemoryChannelLayer) -> None:
    class Endless(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            await self.accept()
            await layer.send(self.channel_name, {"type": "again"})
            self.spawn(self.fail())

        async def again(self, message: dict[str, Any]) -> None:
            await layer.send(self.channel_name, {"type": "again"})

        async def fail(self) -> None:
            raise ZeroDivisionError("spawned")

    client = WebsocketCommunicator(Endless.as_asgi(), "/")
    await client.connect()
    with pytest.raises(ZeroDivisionError, match="spawned"):
        await client.wait(LIMIT)


async def test_a_forwarded_frame_without_a_frame_closes_nobody(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    class Member(AsyncWebsocketConsumer):
        groups = ["room"]

    async with WebsocketCommunicator(Member.as_asgi(), "/") as client:
        await layer.group_send("room", {"type": "websocket.send"})
        await layer.group_send("room", {"type": "websocket_send", "text": "by its other name"})
        assert await client.receive_output() == {"type": "websocket.send", "text": "by its other name"}
    assert [message for message in caplog.messages if "neither text nor bytes to send" in message]


async def test_a_failed_connect_is_answered_even_where_on_error_lets_it_pass() -> None:
    class Fails(AsyncWebsocketConsumer):
        error_policy = "log"

        async def connect(self) -> None:
            raise ZeroDivisionError

    client = WebsocketCommunicator(Fails.as_asgi(), "/")
    client.scope["extensions"] = {"websocket.http.response": {}}
    await client.send_input({"type": "websocket.connect"})
    assert (await client.receive_output())["status"] == 500
    await client.wait()


async def test_the_lifespan_is_declined() -> None:
    async def nothing(*args: Any) -> Any:
        raise AssertionError

    with pytest.raises(UnknownScopeType, match="No application configured for scope type 'lifespan'"):
        await Counts.as_asgi()({"type": "lifespan"}, nothing, nothing)


async def test_groups_that_are_one_string_are_refused() -> None:
    class Wrong(AsyncWebsocketConsumer):
        groups = "lobby"

    client = WebsocketCommunicator(Wrong.as_asgi(), "/")
    with pytest.raises(TypeError, match=r"groups of Wrong must be a list of names, not the string 'lobby'"):
        await client.connect()


@pytest.mark.django_db(transaction=True)
async def test_a_handler_can_be_wrapped_for_the_database(layer: InMemoryChannelLayer) -> None:
    class Member(AsyncWebsocketConsumer):
        groups = ["room"]

        @database_sync_to_async
        def count(self, message: dict[str, Any]) -> None:
            self.scope["counts"].append(User.objects.count())

    client = WebsocketCommunicator(Member.as_asgi(), "/")
    counts = client.scope["counts"] = []
    await client.connect()
    await layer.group_send("room", {"type": "count"})
    async with asyncio.timeout(LIMIT):
        while not counts:
            await asyncio.sleep(0.001)
    await client.disconnect()
    assert counts == [0]


@override_settings(SEALANE_THREADS=2)
async def test_spawned_functions_do_not_keep_handlers_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_call", None)
    over = threading.Event()

    class Spawns(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            self.spawn(over.wait, LIMIT)
            self.send(text_data="spawned")

    async with WebsocketCommunicator(Spawns.as_asgi(), "/") as client:
        for _ in range(4):
            await client.send_to(text_data="x")
            assert await client.receive_from() == "spawned"
        over.set()


async def test_a_handler_that_raises_stop_iteration_fails_like_any_other() -> None:
    class Stops(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            raise StopIteration

    client = WebsocketCommunicator(Stops.as_asgi(), "/")
    await client.connect()
    await client.send_to(text_data="x")
    with pytest.raises(RuntimeError, match="A handler raised StopIteration"):
        await client.wait()


@pytest.mark.django_db(transaction=True)
async def test_queries_of_child_tasks_are_noticed() -> None:
    use = DatabaseUse()
    assert not use.is_due()
    await asyncio.gather(User.objects.acount(), User.objects.acount())
    assert use.is_due()
    await use.close_old_connections()
    assert not use.is_due()
    await database_sync_to_async(User.objects.count)()
    assert not use.is_due(), "it closes old connections by itself"


@pytest.mark.django_db(transaction=True)
def test_a_wrapper_that_connects_is_removed_again() -> None:
    calls: list[str] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        calls.append(sql)
        return execute(sql, params, many, context)

    connection.close()
    connection.execute_wrappers.clear()
    with connection.execute_wrapper(wrapper):
        User.objects.count()
    assert len(calls) == 1
    User.objects.count()
    assert len(calls) == 1
    assert wrapper not in connection.execute_wrappers


@pytest.mark.parametrize("kind", [None, False, [], 0], ids=repr)
async def test_an_event_of_no_type_calls_no_handler_again(kind: object) -> None:
    calls: list[str] = []

    class Noted(AsyncWebsocketConsumer):
        async def connect(self) -> None:
            calls.append("connect")
            await self.accept()

    async with WebsocketCommunicator(Noted.as_asgi(), "/") as client:
        await client.connect()
        await client.send_input({"type": kind})
        await client.receive_nothing()
        await client.send_to(text_data="on")
    assert calls == ["connect"]

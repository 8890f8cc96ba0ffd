"""AsyncConsumer and SyncConsumer by themselves: other protocols, layers that do not push, the database."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import TestCase

from sealane.consumers import AsyncConsumer, AsyncWebsocketConsumer, SyncConsumer, WebsocketConsumer, get_handler_name
from sealane.db import database_sync_to_async
from sealane.exceptions import MessageWithoutType, StopConsumer
from sealane.layers import InMemoryChannelLayer, channel_layers
from sealane.layers.inbox import Inbox
from sealane.testing import ApplicationCommunicator, WebsocketCommunicator
from tests.hops import Hops


class PullOnly(InMemoryChannelLayer):
    """A layer as third parties write it: it can be awaited and pushes nothing."""

    def attach(self, channel: str, wake: Callable[[], None]) -> Inbox | None:  # type: ignore[override]
        return None


@pytest.mark.parametrize(
    ("message", "name"),
    [({"type": "chat.message"}, "chat_message"), ({"type": "a.b.c"}, "a_b_c"), ({"type": "plain"}, "plain")],
)
def test_the_name_of_a_handler(message: dict[str, Any], name: str) -> None:
    assert get_handler_name(message) == name


def test_a_message_without_a_handler_name() -> None:
    with pytest.raises(MessageWithoutType, match=r"Incoming message has no 'type' attribute \(its keys: none\)"):
        get_handler_name({})
    with pytest.raises(ValueError, match="leading underscore"):
        get_handler_name({"type": "_x"})


class Job(AsyncConsumer):
    async def thumbnail_make(self, message: dict[str, Any]) -> None:
        await self.send({"type": "done", "n": message["n"]})

    async def finish(self, message: dict[str, Any]) -> None:
        raise StopConsumer


class SyncJob(SyncConsumer):
    def thumbnail_make(self, message: dict[str, Any]) -> None:
        self.send({"type": "done", "n": message["n"]})

    def finish(self, message: dict[str, Any]) -> None:
        raise StopConsumer


@pytest.mark.parametrize("consumer", [Job, SyncJob], ids=["async", "sync"])
async def test_any_protocol_can_be_handled(consumer: type[AsyncConsumer]) -> None:
    client = ApplicationCommunicator(consumer.as_asgi(), {"type": "channel", "channel": "thumbnails"})
    for n in range(3):
        await client.send_input({"type": "thumbnail.make", "n": n})
    assert [(await client.receive_output())["n"] for _ in range(3)] == [0, 1, 2]
    await client.send_input({"type": "finish"})
    await client.wait()


@pytest.mark.parametrize("consumer", [AsyncConsumer, SyncConsumer], ids=["async", "sync"])
async def test_a_job_is_not_taken_before_the_one_before_is_done(consumer: type[AsyncConsumer]) -> None:
    """Whoever takes a job loses it with the process, so a worker takes one at a time. A client is read ahead."""
    over = threading.Event()
    entered = threading.Event()

    async def make(self: AsyncConsumer, message: dict[str, Any]) -> None:
        entered.set()
        while not over.is_set():
            await asyncio.sleep(0.001)

    def make_in_thread(self: SyncConsumer, message: dict[str, Any]) -> None:
        entered.set()
        over.wait(20)

    make_it = make_in_thread if consumer is SyncConsumer else make
    worker: Any = type("Worker", (consumer,), {"thumbnail_make": make_it})
    for scope, taken in [({"type": "channel", "channel": "thumbnails"}, 1), ({"type": "other"}, 2)]:
        over.clear()
        entered.clear()
        jobs = asyncio.Queue[dict[str, Any]]()
        for _ in range(2):
            jobs.put_nowait({"type": "thumbnail.make"})
        call = asyncio.ensure_future(worker()(scope, jobs.get, None))
        async with asyncio.timeout(20):
            while not entered.is_set():
                await asyncio.sleep(0.001)
        for _ in range(20):
            await asyncio.sleep(0)
        assert 2 - jobs.qsize() == taken
        over.set()
        async with asyncio.timeout(20):
            while not jobs.empty():
                await asyncio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


class Member(AsyncWebsocketConsumer):
    groups = ["room"]

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])


class SyncMember(WebsocketConsumer):
    groups = ["room"]

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send(text_data=event["text"])


@pytest.mark.parametrize("consumer", [Member, SyncMember], ids=["async", "sync"])
async def test_a_layer_that_does_not_push_is_awaited(consumer: type[AsyncConsumer]) -> None:
    layer = PullOnly()
    before = channel_layers.set("default", layer)
    tasks = asyncio.all_tasks()
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
        for n in range(30):
            await layer.group_send("room", {"type": "chat.message", "text": str(n)})
        assert [await client.receive_from() for _ in range(30)] == [str(n) for n in range(30)]
    assert layer.stats()["channels"] == layer.stats()["groups"] == 0
    assert asyncio.all_tasks() == tasks
    channel_layers.set("default", before)


async def test_what_a_finished_connection_held_is_freed() -> None:
    seen: list[weakref.ref[AsyncConsumer]] = []

    class Noted(Member):
        async def connect(self) -> None:
            seen.append(weakref.ref(self))
            await self.accept()

    application = Noted.as_asgi()
    async with WebsocketCommunicator(application, "/"):
        assert seen[0]() is not None
    await asyncio.sleep(0)
    gc.collect()
    assert seen[0]() is None


class TestInADjangoTestCase(TestCase):
    """Handlers see what the test wrote: they run in its thread, inside its transaction."""

    async def test_a_sync_consumer(self) -> None:
        class Counts(WebsocketConsumer):
            def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
                User.objects.create(username="grace")
                self.send(text_data=str(User.objects.count()))

        await self.count(Counts)

    async def test_an_async_consumer(self) -> None:
        class Counts(AsyncWebsocketConsumer):
            async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
                await User.objects.acreate(username="grace")
                await self.send(text_data=str(await User.objects.acount()))

        await self.count(Counts)

    async def count(self, consumer: type[AsyncConsumer]) -> None:
        await User.objects.acreate(username="ada")
        async with WebsocketCommunicator(consumer.as_asgi(), "/") as client:
            await client.send_to(text_data="x")
            assert await client.receive_from() == "2"
        assert await User.objects.acount() == 2


# Context


async def test_context_variables_pass_from_handler_to_handler_of_a_sync_consumer() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    threads: set[int] = set()

    class Remembers(WebsocketConsumer):
        def connect(self) -> None:
            variable.set("set in connect")
            threads.add(threading.get_ident())
            self.accept()

        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            threads.add(threading.get_ident())
            self.send(text_data=variable.get())

    async with WebsocketCommunicator(Remembers.as_asgi(), "/") as client:
        await client.send_to(text_data="x")
        assert await client.receive_from() == "set in connect"
    assert threading.get_ident() not in threads


# The database


async def test_a_message_that_touches_no_database_hops_to_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Echo(AsyncWebsocketConsumer):
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            await self.send(text_data=text_data)

    hops = Hops(monkeypatch)
    async with WebsocketCommunicator(Echo.as_asgi(), "/") as client:
        for _ in range(10):
            await client.send_to(text_data="x")
            await client.receive_from()
    assert hops.count == 0


def _is_open() -> bool:
    return connection.connection is not None


@pytest.mark.django_db(transaction=True)
async def test_a_message_that_touches_the_database_is_followed_by_one_hop_that_closes_old_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hops = Hops(monkeypatch)
    counted: list[int] = []

    class Counts(AsyncWebsocketConsumer):
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            if text_data == "query":
                await User.objects.acount()
                assert await sync_to_async(_is_open)()
                counted.append(hops.count)
            await self.send(text_data=text_data)

    async with WebsocketCommunicator(Counts.as_asgi(), "/") as client:
        await client.send_to(text_data="query")
        await client.receive_from()
        await client.send_to(text_data="no query")
        await client.receive_from()
        # CONN_MAX_AGE is 0: Django's rule closes the connection after each use.
        assert hops.count == counted[0] + 1
        assert not await sync_to_async(_is_open)()


@pytest.mark.django_db(transaction=True)
async def test_sync_handlers_and_database_sync_to_async_close_their_connections_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[Any] = []

    class Counts(WebsocketConsumer):
        def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            User.objects.count()
            opened.append(connection)
            opened.append(connection.connection)
            self.send(text_data="done")

    hops = Hops(monkeypatch)
    async with WebsocketCommunicator(Counts.as_asgi(), "/") as client:
        before = hops.count
        await client.send_to(text_data="x")
        await client.receive_from()
        await client.send_to(text_data="x")
        await client.receive_from()
        assert hops.count == before + 2
    assert opened[1] is not None

    before = hops.count
    await database_sync_to_async(User.objects.count)()
    assert hops.count == before + 1
    assert not await sync_to_async(_is_open)()


@pytest.mark.django_db(transaction=True)
async def test_a_spawned_task_closes_old_connections_when_it_ends() -> None:
    spawned: list[asyncio.Task[None]] = []

    class Spawns(AsyncWebsocketConsumer):
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            spawned.append(self.spawn(self.work()))

        async def work(self) -> None:
            await User.objects.acount()
            assert await sync_to_async(_is_open)()

    async with WebsocketCommunicator(Spawns.as_asgi(), "/") as client:
        await client.send_to(text_data="x")
        async with asyncio.timeout(20):
            while not spawned:
                await asyncio.sleep(0.001)
            await spawned[0]
        # The connection is open still, and no other handler has run.
        assert not await sync_to_async(_is_open)()


@pytest.mark.django_db(transaction=True)
async def test_the_end_closes_old_connections() -> None:
    class Counts(AsyncWebsocketConsumer):
        async def disconnect(self, code: int) -> None:
            await User.objects.acount()
            assert await sync_to_async(_is_open)()

    async with WebsocketCommunicator(Counts.as_asgi(), "/"):
        pass
    assert not await sync_to_async(_is_open)()

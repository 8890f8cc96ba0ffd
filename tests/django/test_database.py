"""Database work of consumers on SQLite and a real PostgreSQL: how many connections there are, and when they end."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.test import override_settings
from django.urls import path
from pytest_django import DjangoDbBlocker
from websockets.asyncio.client import connect

from sealane.consumers import AsyncWebsocketConsumer, WebsocketConsumer, threads
from sealane.db import aclose_old_connections, database_sync_to_async
from sealane.routing import URLRouter
from sealane.testing import LiveServer, WebsocketCommunicator
from tests.django.articles.models import Article
from tests.docs.snippets import DOCS, blocks_of
from tests.hops import Hops

#: Seconds that an answer may take on a busy machine.
LIMIT = 30.0

#: How many sockets there are.
SOCKETS = 200

#: How many handlers of synchronous consumers run at once: more than a pool has connections.
THREADS = 12
POOL = 4


class Database:
    """A database under an alias of its own, so that no thread has a connection to it from another test."""

    _numbers = iter(range(1000))

    def __init__(self, kind: str, settings: dict[str, Any]) -> None:
        self.kind = kind
        self.alias = f"tried_{next(self._numbers)}"
        self.opened: list[BaseDatabaseWrapper] = []
        self.times_opened = 0
        options = settings.get("OPTIONS", {})
        self.server_counts = kind != "sqlite"
        if self.server_counts:
            options = {**options, "application_name": self.alias}
        known = connections.configure_settings({"default": {}, self.alias: {**settings, "OPTIONS": options}})
        connections.settings[self.alias] = known[self.alias]
        connection_created.connect(self._note)

    def _note(self, *, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
        if connection.alias == self.alias:
            self.times_opened += 1
            if connection not in self.opened:
                self.opened.append(connection)

    @property
    def articles(self) -> Any:
        return Article.objects.using(self.alias)

    def in_use(self) -> int:
        """How many connections Django has open, in any thread; with a pool, how many are taken from it."""
        return sum(connection.connection is not None for connection in self.opened)

    def missing_in_the_pool(self) -> int:
        """How many connections of the pool do not wait in it."""
        stats = self.pool.get_stats()
        return int(stats["pool_size"] - stats["pool_available"])

    def at_the_server(self) -> int:
        """How many connections the server has, those that wait in a pool among them; SQLite has no server."""
        if not self.server_counts:
            return self.in_use()
        settings = connections.settings[self.alias]
        with psycopg.connect(host=settings["HOST"], user=settings["USER"], dbname=settings["NAME"]) as asking:
            [count] = asking.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [self.alias]
            ).fetchone() or [-1]
        return int(count)

    def cut(self) -> None:
        """Let the server end all connections, as it does when it restarts."""
        settings = connections.settings[self.alias]
        with psycopg.connect(host=settings["HOST"], user=settings["USER"], dbname=settings["NAME"]) as asking:
            asking.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s", [self.alias]
            )

    @property
    def pool(self) -> Any:
        """psycopg's pool, where there is one."""
        return connections[self.alias].pool  # type: ignore[attr-defined]

    def make_table(self) -> None:
        with connections[self.alias].schema_editor() as editor:
            editor.create_model(Article)
        connections[self.alias].close()

    def close(self) -> None:
        """Forget it, with its table and the connections that threads keep."""
        for connection in self.opened:
            connection.inc_thread_sharing()
            connection.close()
            connection.dec_thread_sharing()
        with connections[self.alias].schema_editor() as editor:
            editor.delete_model(Article)
        connections[self.alias].close()
        if self.server_counts:
            connections[self.alias].close_pool()  # type: ignore[attr-defined]
        connection_created.disconnect(self._note)
        del connections.settings[self.alias]


NewDatabase = Callable[..., Database]


@pytest.fixture
async def new_database(
    request: pytest.FixtureRequest, tmp_path: Path, django_db_blocker: DjangoDbBlocker
) -> AsyncIterator[NewDatabase]:
    """Call it with a name of KINDS and options of Django's. The threads of synchronous consumers begin anew."""
    made: list[Database] = []

    def make(kind: str, **settings: Any) -> Database:
        if kind == "sqlite":
            init = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
            options = {"init_command": init, "timeout": LIMIT, "transaction_mode": "IMMEDIATE"}
            base = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "db.sqlite3", "OPTIONS": options}
        else:
            base = dict(request.getfixturevalue("postgresql").settings)
            if kind == "pool":
                base["OPTIONS"] = {"pool": {"min_size": 1, "max_size": POOL, "timeout": LIMIT}}
        database = Database(kind, {**base, **settings})
        made.append(database)
        return database

    with django_db_blocker.unblock(), override_settings(SEALANE_THREADS=THREADS):
        threads._forget()
        try:
            yield make
        finally:
            threads._forget()
            for database in made:
                await asyncio.to_thread(database.close)


@pytest.fixture(params=["sqlite", "postgresql", "pool"])
async def database(request: pytest.FixtureRequest, new_database: NewDatabase) -> Database:
    database = new_database(request.param)
    await asyncio.to_thread(database.make_table)
    return database


class AsyncWorker(AsyncWebsocketConsumer):
    """Work through the asynchronous ORM and through database_sync_to_async, and tell how many connections there are."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data != "no database":
            await self.database.articles.acreate(title=text_data or "")
            text_data = str(await self.look())
        await self.send(text_data=text_data)

    @database_sync_to_async
    def look(self) -> int:
        self.database.articles.count()
        return self.database.in_use()


class SyncWorker(WebsocketConsumer):
    """The same in threads."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.database.articles.create(title=text_data or "")
        self.send(text_data=str(self.database.in_use()))


@pytest.mark.untraced
async def test_many_sockets_stay_within_the_pool_and_leave_no_connection(database: Database) -> None:
    async def visit(number: int) -> list[int]:
        path = ("async", "sync")[number % 2]
        async with connect(f"{server.ws_url}/{path}", proxy=None, open_timeout=LIMIT) as client:
            await client.send(str(number))
            seen = [int(await client.recv())]
            if number % 20 < 2:
                seen.append(await asyncio.to_thread(database.at_the_server))
            here.append(number)
            if len(here) == SOCKETS:
                all_here.set()
            await may_leave.wait()
        return seen

    consumers: list[Any] = [AsyncWorker.as_asgi(database=database), SyncWorker.as_asgi(database=database)]
    router = URLRouter([path(name, consumer) for name, consumer in zip(("async", "sync"), consumers, strict=True)])
    here: list[int] = []
    all_here, may_leave = asyncio.Event(), asyncio.Event()
    async with LiveServer(router) as server, asyncio.TaskGroup() as visits:
        tasks = [visits.create_task(visit(number)) for number in range(SOCKETS)]
        await all_here.wait()
        # All sockets are open, and have done their work. The last ones clean up after their answer.
        await none_left(database.in_use)
        may_leave.set()
    # One thread for the asynchronous ORM, and those of synchronous consumers.
    pooled = database.kind == "pool"
    peak = max(max(task.result()) for task in tasks)
    assert 1 < peak <= (POOL if pooled else THREADS + 1)
    assert await sync_to_async(database.articles.count)() == SOCKETS
    await aclose_old_connections()
    assert database.in_use() == 0
    if pooled:
        # What waits in the pool is the pool's: it stays for the next one.
        assert await asyncio.to_thread(database.at_the_server) <= POOL
        # One that a thread of the pool is still making counts already, and is not available yet.
        await none_left(database.missing_in_the_pool)
        stats = database.pool.get_stats()
        assert stats.get("requests_errors", 0) == 0
        await asyncio.to_thread(connections[database.alias].close_pool)  # type: ignore[attr-defined]
    # The server may take a moment to notice.
    await none_left(database.at_the_server)


async def none_left(count: Callable[[], int]) -> None:
    """Wait until a count is zero."""
    async with asyncio.timeout(LIMIT):
        while await asyncio.to_thread(count):
            await asyncio.sleep(0.01)


async def test_a_message_without_database_work_hops_to_no_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with WebsocketCommunicator(AsyncWorker.as_asgi(database=database), "/") as client:
        await client.send_to(text_data="work")
        await client.receive_from(timeout=LIMIT)
        await client.send_to(text_data="no database")
        await client.receive_from(timeout=LIMIT)
        hops = Hops(monkeypatch)
        for _ in range(10):
            await client.send_to(text_data="no database")
            assert await client.receive_from(timeout=LIMIT) == "no database"
        assert hops.count == 0
        await client.send_to(text_data="work")
        await client.receive_from(timeout=LIMIT)
        assert hops.count > 0


class AsyncAsks(AsyncWebsocketConsumer):
    """Ask the database something; before, on demand, let the connection of its thread be as old as it may get."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.database.articles.aexists()
        if text_data == "age":
            await sync_to_async(self.age)()
        await self.send(text_data=str(self.database.times_opened))

    def age(self) -> None:
        connections[self.database.alias].close_at = 0


class SyncAsks(WebsocketConsumer):
    def __init__(self, database: Database) -> None:
        self.database = database

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.database.articles.exists()
        if text_data == "age":
            connections[self.database.alias].close_at = 0
        self.send(text_data=str(self.database.times_opened))


@pytest.fixture
def one_thread(new_database: NewDatabase) -> Iterator[None]:
    """Synchronous consumers have one thread, and so one connection."""
    with override_settings(SEALANE_THREADS=1):
        yield


async def ask(client: WebsocketCommunicator, question: str) -> int:
    """Ask, and return how many connections have been made so far."""
    await client.send_to(text_data=question)
    return int(await client.receive_from(timeout=LIMIT))


both = pytest.mark.parametrize("consumer", [AsyncAsks, SyncAsks], ids=["async", "sync"])


@both
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_connection_is_kept_for_its_maximal_age(
    consumer: Any, kind: str, new_database: NewDatabase, one_thread: None
) -> None:
    database = new_database(kind, CONN_MAX_AGE=600)
    await asyncio.to_thread(database.make_table)
    before = database.times_opened
    async with WebsocketCommunicator(consumer.as_asgi(database=database), "/") as client:
        assert [await ask(client, "what?") - before for _ in range(3)] == [1, 1, 1]
        assert await ask(client, "age") - before == 1
        assert [await ask(client, "what?") - before for _ in range(2)] == [2, 2]
    # It is not the socket's, but its thread's: the next one uses it.
    async with WebsocketCommunicator(consumer.as_asgi(database=database), "/") as client:
        assert await ask(client, "what?") - before == 2
    assert database.in_use() == database.at_the_server() == 1


@both
async def test_a_connection_that_broke_is_noticed_by_its_health_check(
    consumer: Any, new_database: NewDatabase, one_thread: None
) -> None:
    database = new_database("postgresql", CONN_MAX_AGE=600, CONN_HEALTH_CHECKS=True)
    await asyncio.to_thread(database.make_table)
    before = database.times_opened
    async with WebsocketCommunicator(consumer.as_asgi(database=database), "/") as client:
        assert await ask(client, "what?") - before == 1
        await asyncio.to_thread(database.cut)
        assert await ask(client, "what?") - before == 2


class LeavesItsThreadBusy(AsyncWebsocketConsumer):
    """Ask the database something in the end, and have the thread of it busy when its connections are to be closed."""

    def __init__(self, database: Database, released: threading.Event) -> None:
        self.database = database
        self.released = released

    async def disconnect(self, code: int) -> None:
        await self.database.articles.aexists()
        self.busy = asyncio.create_task(sync_to_async(self.released.wait)(LIMIT))
        await asyncio.sleep(0)
        # For the step after this one.
        self.end_timeout = 0.2


async def test_connections_have_the_time_of_any_step_to_be_closed(
    new_database: NewDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    database = new_database("sqlite")
    await asyncio.to_thread(database.make_table)
    released = threading.Event()
    consumer = LeavesItsThreadBusy.as_asgi(database=database, released=released)
    try:
        client = WebsocketCommunicator(consumer, "/")
        # Cancelled before the step is over, the consumer would not say that it was too long.
        client.exit_timeout = LIMIT
        async with client:
            pass
    finally:
        released.set()
    [line] = caplog.messages
    assert re.fullmatch(r"Closing the database connections of .* did not end within 0\.2 seconds", line)


async def test_the_settings_of_the_page_make_a_pool(new_database: NewDatabase) -> None:
    [block] = [block for block in blocks_of(DOCS / "reference" / "database.md") if "DATABASES" in block.text]
    names: dict[str, Any] = {}
    exec(compile(block.text, block.where, "exec"), names)
    shown = names["DATABASES"]["default"]
    database = new_database("postgresql", OPTIONS=shown["OPTIONS"])
    assert connections.settings[database.alias]["ENGINE"] == shown["ENGINE"]
    await asyncio.to_thread(database.make_table)
    async with WebsocketCommunicator(SyncAsks.as_asgi(database=database), "/") as client:
        await ask(client, "what?")
    assert (database.pool.min_size, database.pool.max_size) == (2, 10)
    assert database.in_use() == 0

"""LiveServerTestCase: a Django project on a real server, with the database of the test."""

import asyncio
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.backends.sqlite3.base import DatabaseWrapper
from django.test import override_settings
from websockets import ConnectionClosedError
from websockets.asyncio.client import connect as aconnect
from websockets.sync.client import connect

from sealane.exceptions import LiveServerError
from sealane.testing import LiveServerTestCase, WebsocketCommunicator
from sealane.types import Receive, Scope, Send
from tests.testing.project import application, make_application

STATIC = Path(__file__).parent / "static"
ROOT = Path(__file__).parents[2]


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as response:
        body: bytes = response.read()
        return body.decode()


@override_settings(ROOT_URLCONF="tests.testing.project", STATICFILES_DIRS=[STATIC])
class LiveTests(LiveServerTestCase):
    application = application

    def test_views_and_static_files(self) -> None:
        self.assertEqual(get(f"{self.live_server_url}/create/ann/"), "1")
        self.assertEqual(get(f"{self.live_server_url}/static/sealane-hello.txt"), "a static file\n")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{self.live_server_url}/static/nothing.txt")

    def test_test_and_server_share_the_database(self) -> None:
        User.objects.create(username="of the test")
        for kind in ("sync", "async"):  # the async one adds another user in its disconnect()
            with self.subTest(kind), connect(f"{self.live_server_ws_url}/{kind}/") as ws:
                before = User.objects.count()
                ws.send(f"of the {kind} consumer")
                self.assertEqual(ws.recv(timeout=20), str(before + 1))
                self.assertTrue(User.objects.filter(username=f"of the {kind} consumer").exists())

    async def test_asynchronous_methods(self) -> None:
        await User.objects.acreate(username="of the test")
        async with aconnect(f"{self.live_server_ws_url}/async/") as ws:
            await ws.send("of the consumer")
            self.assertEqual(await ws.recv(), "2")
        self.assertEqual(await User.objects.filter(username="of the consumer").acount(), 1)

    def test_a_view_reaches_a_websocket(self) -> None:
        with connect(f"{self.live_server_ws_url}/async/") as ws:
            get(f"{self.live_server_url}/broadcast/hello/")
            self.assertEqual(ws.recv(timeout=20), "hello")

    async def test_a_cookie_of_login_is_good_for_the_real_server(self) -> None:
        user = await User.objects.acreate(username="ann")
        communicator = await WebsocketCommunicator(application, "/who/").login(user)
        cookies = [("Cookie", value.decode()) for name, value in communicator.headers if name == b"cookie"]
        async with aconnect(f"{self.live_server_ws_url}/who/", additional_headers=cookies) as ws:
            self.assertEqual(await ws.recv(), "ann")

    def test_the_server_can_be_restarted(self) -> None:
        url = self.live_server_url
        with connect(f"{self.live_server_ws_url}/async/"):
            self.server.restart()
        self.assertEqual(self.live_server_url, url)
        # disconnect() ran before the server was down.
        self.assertEqual(User.objects.get().username, "disconnected 1012")
        with connect(f"{self.live_server_ws_url}/async/") as ws:
            get(f"{url}/broadcast/hello/")
            self.assertEqual(ws.recv(timeout=20), "hello")

    def test_connections_can_be_closed(self) -> None:
        with connect(f"{self.live_server_ws_url}/async/") as ws:
            ws.send("a")
            ws.recv(timeout=20)
            self.server.close_connections()
            self.assertTrue(User.objects.filter(username="disconnected 1012").exists())
            with pytest.raises(ConnectionClosedError, match="1012"):
                ws.recv(timeout=20)

    def test_a_test_may_stop_the_server(self) -> None:
        self.server.stop()

    def test_where_it_is(self) -> None:
        self.assertEqual(self.live_server_url, f"http://localhost:{self.server.port}")
        self.assertEqual(self.live_server_ws_url, f"ws://localhost:{self.server.port}")
        self.assertEqual(LiveTests.live_server_url, self.live_server_url)


class OfTheSettings(LiveServerTestCase):
    """No application of its own, no static files, another host."""

    host = "127.0.0.1"
    serve_static = False

    def test_asgi_application_is_served(self) -> None:
        self.assertEqual(get(f"{self.live_server_url}/"), "Django: /")
        self.assertTrue(self.live_server_url.startswith("http://127.0.0.1:"))

    def test_static_files_are_not(self) -> None:
        with override_settings(STATICFILES_DIRS=[STATIC]), pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{self.live_server_url}/static/sealane-hello.txt")


def start(**attributes: Any) -> type[LiveServerTestCase]:
    """Set a LiveServerTestCase up, as unittest does it: with its clean-ups where it fails."""
    case: type[LiveServerTestCase] = type("Case", (LiveServerTestCase,), {"application": application, **attributes})
    try:
        case.setUpClass()
    except BaseException:
        case.doClassCleanups()
        raise
    return case


def stop(case: type[LiveServerTestCase]) -> None:
    case.tearDownClass()
    case.doClassCleanups()
    assert case.tearDown_exceptions == []  # type: ignore[attr-defined]


@pytest.mark.django_db(transaction=True)
class TestTheLifeOfTheClass:
    def test_what_it_changes_it_puts_back(self) -> None:
        hosts = list(settings.ALLOWED_HOSTS)
        create_cursor = DatabaseWrapper.create_cursor
        case = start(host="127.0.0.2")
        assert [*hosts, "127.0.0.2"] == settings.ALLOWED_HOSTS
        assert get(f"{case.live_server_url}/") == "Django: /"
        stop(case)
        assert hosts == settings.ALLOWED_HOSTS
        assert DatabaseWrapper.create_cursor is create_cursor
        assert not case.server.running

    def test_connections_of_the_servers_threads_are_closed(self) -> None:
        opened: dict[int, BaseDatabaseWrapper] = {}

        def note(*, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
            opened[id(connection)] = connection

        case = start(application=leaves_connections_open)
        connection_created.connect(note)
        try:
            assert get(case.live_server_url) == "0"
        finally:
            connection_created.disconnect(note)
        (connection,) = opened.values()
        assert connection.connection is not None
        stop(case)
        assert connection.connection is None

    def test_the_real_error_of_the_start(self) -> None:
        case = start()
        with pytest.raises(OSError, match="in use"):
            start(port=case.server.port)
        stop(case)
        with (
            override_settings(ASGI_APPLICATION="tests.nowhere.application"),
            pytest.raises(ImproperlyConfigured, match=r"there is no module 'tests\.nowhere'$"),
        ):
            start(application=None)

    def test_a_failing_hook_of_the_start(self) -> None:
        def fail() -> None:
            raise ZeroDivisionError("no broker")

        hosts = list(settings.ALLOWED_HOSTS)
        with pytest.raises((ZeroDivisionError, LiveServerError), match="no broker"):
            start(application=make_application(on_startup=[fail]), host="127.0.0.2")
        assert hosts == settings.ALLOWED_HOSTS


async def leaves_connections_open(scope: Scope, receive: Receive, send: Send) -> None:
    """Count the users in a thread of its own that nobody looks after."""
    if scope["type"] != "http":
        raise ValueError("only http")
    count = await asyncio.to_thread(User.objects.count)
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": str(count).encode()})


IN_MEMORY_SETTINGS = """
from tests.settings import *
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROOT_URLCONF = "tests.testing.project"
"""

IN_MEMORY_TESTS = """
import asyncio
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import TransactionTestCase
from websockets.sync.client import connect
from websockets import ConnectionClosedError
from websockets.asyncio.client import connect as aconnect

from sealane.testing import LiveServerTestCase
from sealane.types import Receive, Scope, Send
from tests.testing.project import application as project


class A_Live(LiveServerTestCase):
    application = project

    def test_threads_write_and_read_at_once(self):
        def view(number):
            url = f"{self.live_server_url}/create/view{number}/"
            with urllib.request.urlopen(url, timeout=10) as response:
                return int(response.read())

        def socket(kind):
            with connect(f"{self.live_server_ws_url}/{kind}/") as ws:
                for number in range(25):
                    ws.send(f"{kind} {number}")
                    ws.recv(timeout=10)

        with ThreadPoolExecutor(6) as pool:
            sockets = [pool.submit(socket, kind) for kind in ("async", "sync")]
            views = [pool.submit(view, number) for number in range(50)]
            while not all(future.done() for future in (*sockets, *views)):
                with transaction.atomic():
                    User.objects.create(username="of the test")
                    User.objects.filter(username="of the test").delete()
            for future in (*sockets, *views):
                future.result()
        assert User.objects.exclude(username__startswith="disconnected").count() == 100

    def test_every_thread_has_the_database_of_the_test(self):
        assert connection.is_in_memory_db()
        User.objects.create(username="of the test")
        expected = 1
        for kind in ("async", "sync"):
            with connect(f"{self.live_server_ws_url}/{kind}/") as ws:
                for number in range(20):
                    ws.send(f"{kind} {number}")
                    expected += 1
                    assert ws.recv(timeout=20) == str(expected)
                    assert User.objects.count() == expected
            self.server.close_connections()  # a disconnect() adds a user
            expected = User.objects.count()
        with urllib.request.urlopen(f"{self.live_server_url}/create/viewer/", timeout=20) as response:
            assert User.objects.filter(username="viewer").exists()

    def test_threads_of_the_test_have_it_too(self):
        User.objects.create(username="of the test")
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda _: User.objects.count(), range(8))) == [1] * 8

    async def test_it_is_emptied_between_tests(self):
        async with aconnect(f"{self.live_server_ws_url}/async/") as ws:
            await ws.send("a")
            assert await ws.recv() == "1"


class B_Afterwards(TransactionTestCase):
    def test_threads_have_connections_of_their_own_again(self):
        from sealane.db import database_sync_to_async

        def look():
            try:
                return id(connection.connection), User.objects.count()
            finally:
                BaseDatabaseWrapper.close(connection)  # Django's close() leaves one to a database in memory open

        in_thread, count = asyncio.run(database_sync_to_async(look)())
        assert in_thread != id(connection.connection)
        assert count == 0
"""


def test_an_in_memory_database_is_shared_with_the_threads(tmp_path: Path) -> None:
    (tmp_path / "memory_settings.py").write_text(IN_MEMORY_SETTINGS)
    (tmp_path / "test_memory.py").write_text(IN_MEMORY_TESTS)
    result = subprocess.run(
        # Every warning is an error, and asyncio in debug mode.
        [sys.executable, "-X", "dev", "-W", "error", "-m", "django", "test", "test_memory", "--verbosity", "2"],
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "memory_settings",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "src"), *sys.path]),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert "Ran 5 tests" in output, output
    assert "Exception ignored" not in output, output
    assert "Traceback" not in output, output

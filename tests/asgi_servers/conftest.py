"""The four servers, each started once, with the example project on it."""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.asgi_servers.asgi_server import KINDS, LIMIT, ROOT, AsgiServer
from tests.asgi_servers.manual import claims
from tests.asgi_servers.visitor import Visitor


@pytest.fixture(scope="package")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example project's database as `migrate` leaves it."""
    path = tmp_path_factory.mktemp("database") / "chat.sqlite3"
    changes = {"PYTHONPATH": str(ROOT / "src"), "CHAT_DATABASE": str(path), "DJANGO_SETTINGS_MODULE": "demo.settings"}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity=0"],
        cwd=ROOT / "example_project",
        env={**os.environ, **changes},
        check=True,
    )
    return path


@pytest.fixture(scope="package", params=KINDS, ids=lambda kind: kind.name)
def shared_server(request: pytest.FixtureRequest, database: Path) -> Iterator[AsgiServer]:
    server = AsgiServer(request.param, database)
    try:
        yield server
    finally:
        server.stop()
    assert server.complaints() == [], server.log()


@pytest.fixture
def server(shared_server: AsgiServer) -> AsgiServer:
    """A server that runs; others have talked to it before. A test may end it: the next one starts it again."""
    shared_server.start()
    return shared_server


@pytest.fixture
def claim(shared_server: AsgiServer) -> Callable[[str], str]:
    """What the documentation says of the server in a row of its table."""
    return claims()[shared_server.kind.name].__getitem__


@pytest.fixture
def token() -> str:
    """A word by which this test finds its notes."""
    return uuid.uuid4().hex


@pytest.fixture
def visitor(server: AsgiServer) -> Iterator[Visitor]:
    """Somebody with a browser that speaks HTTP/1.1."""
    with httpx.Client(base_url=server.url, timeout=LIMIT) as client:
        yield Visitor(client)


@pytest.fixture
def room(visitor: Visitor) -> str:
    """The slug of a room of this test's own."""
    return visitor.open_room(f"Room {uuid.uuid4().hex[:12]}")

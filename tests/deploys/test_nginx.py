"""The nginx of the guides: it reads its files, and WebSockets and event streams go through it."""

import asyncio
import json
import os
import re
import shlex
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect as websockets_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

import sealane
from tests.deploys.front import front
from tests.deploys.site import DEPLOY, LIMIT, file_of
from tests.servers import Certificates, Nginx
from tests.servers.keeper import forget, new_directory, spawn
from tests.servers.waiting import wait_until

pytestmark = [pytest.mark.untraced, pytest.mark.usefixtures("need_nginx")]

PROGRAM = """
import asyncio, json, os
from django.conf import settings
settings.configure(SECRET_KEY="for this test", ALLOWED_HOSTS=["example.com"], LOGGING_CONFIG=None)
import django
django.setup()
from django.urls import path
from sealane.consumers import AsyncEventStreamConsumer, AsyncWebsocketConsumer
from sealane.routing import AllowedHostsOriginValidator, Drain, ProtocolTypeRouter, URLRouter

def note(text):
    with open(os.environ["NOTES"], "a") as notes:
        print(text, file=notes)

class Socket(AsyncWebsocketConsumer):
    async def connect(self):
        await self.accept()
        headers = {name.decode(): value.decode() for name, value in self.scope["headers"]}
        facts = {"scheme": self.scope["scheme"], "client": self.scope["client"][0], "host": headers["host"]}
        await self.send(text_data=json.dumps(facts))

    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data, bytes_data)

    async def disconnect(self, code):
        note(f"socket {code}")

class Events(AsyncEventStreamConsumer):
    async def stream(self):
        await self.send_event("first")
        await asyncio.sleep(3600)

    async def disconnect(self):
        note("events")

async def other(scope, receive, send):
    # A stream that says nothing to proxies.
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": b"data: first\\n\\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    note("other")

application = Drain(
    ProtocolTypeRouter(
        {
            "http": URLRouter([path("events", Events.as_asgi()), path("streams/other", other)]),
            "websocket": AllowedHostsOriginValidator(URLRouter([path("ws", Socket.as_asgi())])),
        }
    ),
    spread=0.2,
    timeout=20,
)
"""


class Fronted:
    """A uvicorn on a Unix socket, started by the command of the guide's unit."""

    def __init__(self) -> None:
        self.directory = new_directory("fronted")
        (self.directory / "fronted.py").write_text(PROGRAM)
        self.path, self.notes_path, self.log_path = (self.directory / name for name in ("web.sock", "notes", "log"))
        self.notes_path.touch()
        [line] = re.findall(r"^ExecStart=(.+)$", file_of(DEPLOY, "deploy/mysite.service"), re.MULTILINE)
        words = shlex.split(line)[1:]
        # Fewer processes: each has to start, on a machine that has two processors.
        for option, value in (("--uds", str(self.path)), ("--workers", "2")):
            words[words.index(option) + 1] = value
        words[words.index("mysite.asgi:application")] = "fronted:application"
        changes = {
            "NOTES": str(self.notes_path),
            "PYTHONASYNCIODEBUG": "",
            "PYTHONPATH": str(Path(sealane.__file__).parents[1]),
        }
        self.process = spawn(
            [sys.executable, *words], directory=self.directory, log=self.log_path, environment={**os.environ, **changes}
        )

    def listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.path))
        return True

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        forget(self.process)

    async def noted(self, text: str) -> None:
        await asyncio.to_thread(wait_until, lambda: text in self.notes(), within=LIMIT, what=f"it notes {text}")

    def notes(self) -> list[str]:
        return self.notes_path.read_text().splitlines()


@pytest.fixture
def fronted() -> Iterator[Fronted]:
    server = Fronted()
    try:
        wait_until(server.listens, within=LIMIT, what="uvicorn listens")
        yield server
    finally:
        server.close()


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.make(tmp_path)


@pytest.fixture
def static(tmp_path: Path) -> Path:
    directory = tmp_path / "static"
    directory.mkdir()
    (directory / "page.css").write_text("body {}")
    return directory


@pytest.fixture
def nginx(fronted: Fronted, certificates: Certificates, static: Path) -> Iterator[Nginx]:
    with front([fronted.path], certificates, static) as nginx:
        yield nginx
    assert "[emerg]" not in nginx.log()
    assert "[alert]" not in nginx.log()


@pytest.fixture
def tls(certificates: Certificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates.ca))


@pytest.mark.parametrize("count", [1, 2])
def test_it_reads_the_files(count: int, certificates: Certificates, static: Path) -> None:
    sockets = [static / f"{number}.sock" for number in range(count)]
    said = front(sockets, certificates, static).check()
    assert "test is successful" in said
    assert "[warn]" not in said


async def test_what_goes_through_it(nginx: Nginx, fronted: Fronted, tls: ssl.SSLContext) -> None:
    url = f"127.0.0.1:{nginx.port}"
    connect = partial(websockets_connect, ssl=tls, proxy=None, open_timeout=LIMIT)
    with pytest.raises(InvalidStatus, match="403"):
        await connect(f"wss://{url}/ws", origin=Origin("https://elsewhere.example"))
    site = Origin("https://example.com")
    # What a client says of itself is not believed.
    lies = {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"}
    async with asyncio.timeout(LIMIT):
        async with connect(f"wss://{url}/ws", origin=site, additional_headers=lies) as page:
            assert json.loads(await page.recv()) == {"scheme": "wss", "client": "127.0.0.1", "host": "127.0.0.1"}
            for frame in ("für alle: 船", b"\x00" * 100_000):
                await page.send(frame)
                assert await page.recv() == frame
            await page.close(4000)
        await fronted.noted("socket 4000")

        client = httpx.AsyncClient(base_url=f"https://{url}", verify=tls, timeout=LIMIT, trust_env=False)
        async with client:
            assert (await client.get("/static/page.css")).text == "body {}"
            # The stream goes on: what has been sent is here before it ends. And its end is the client's.
            for path, note in (("/events", "events"), ("/streams/other", "other")):
                async with client.stream("GET", path) as response:
                    assert response.headers["content-type"].startswith("text/event-stream")
                    lines = response.aiter_lines()
                    while await anext(lines) != "data: first":
                        pass
                await fronted.noted(note)

        # The stop of the server comes through, too. Its first process passes the signal on to the others.
        async with AsyncExitStack() as stack:
            pages = [await stack.enter_async_context(connect(f"wss://{url}/ws", origin=site)) for _ in range(6)]
            for page in pages:
                await page.recv()
            fronted.process.terminate()
            for page in pages:
                with pytest.raises(ConnectionClosed) as closed:
                    await page.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1012
    assert await asyncio.to_thread(fronted.process.wait, LIMIT) == 0
    assert fronted.notes().count("socket 1012") == 6

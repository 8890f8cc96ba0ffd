"""Real Celery workers, over a real server that is their broker too, send to a consumer of this process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from sealane.consumers import AsyncJsonWebsocketConsumer
from sealane.layers import RedisChannelLayer, channel_layers
from sealane.testing import WebsocketCommunicator
from tests.docs.snippets import DOCS, ROOT, blocks_of
from tests.layers.conftest import need
from tests.servers import Server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Celery does not run on Windows")

#: Seconds that anything may take, a worker's start on a busy machine among it.
LIMIT = 40.0

#: How many processes of a pool run tasks.
PROCESSES = {"solo": 1, "prefork": 2}

SETTINGS = """
SECRET_KEY = "for the tests only"
INSTALLED_APPS = ["sealane", "articles"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {database!r}}}}}
CHANNEL_LAYERS = {{
    "default": {{
        "BACKEND": "sealane.layers.RedisChannelLayer",
        "CONFIG": {{"hosts": [{url!r}], "prefix": {prefix!r}}},
    }}
}}
CELERY_BROKER_URL = {url!r}
CELERY_BROKER_TRANSPORT_OPTIONS = {{"global_keyprefix": "{prefix}-celery:"}}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
"""

#: Beside the page's: the parent of the pool uses the layer before it forks, and each process of the pool at its start.
BEFORE_AND_AFTER_THE_FORK = """

from celery.signals import worker_init, worker_process_init

from sealane import broadcast


@worker_init.connect
def _parent(**kwargs):
    broadcast("article.7", {"type": "article.changed", "title": ["parent", os.getpid()]})


@worker_process_init.connect
def _child(**kwargs):
    broadcast("article.7", {"type": "article.changed", "title": ["child", os.getpid()]})
"""

#: Beside the page's: a task that says in which process it is.
ANOTHER_TASK = """

@shared_task
def rename_here(pk, number):
    import os

    rename_article(pk, [number, os.getpid()])
"""


class ArticleConsumer(AsyncJsonWebsocketConsumer):
    groups = ["article.7"]

    async def article_changed(self, message: Any) -> None:
        await self.send_json(message["title"])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    need("valkey")
    with Server() as server:
        yield server


@pytest.fixture
async def prefix(server: Server) -> AsyncIterator[str]:
    """The prefix of the default layer's keys, which is over the server."""
    prefix = f"t{os.urandom(4).hex()}"
    async with RedisChannelLayer([server.url], prefix=prefix) as layer:
        before = channel_layers.set("default", layer)
        yield prefix
        channel_layers.set("default", before)


@pytest.fixture
def project(tmp_path: Path, server: Server, prefix: str) -> Path:
    """The project of the page, with settings."""
    for block in blocks_of(DOCS / "how-to" / "broadcast.md"):
        if block.file is not None:
            block.write(tmp_path)
    settings = SETTINGS.format(url=server.url, prefix=prefix, database=str(tmp_path / "db.sqlite3"))
    (tmp_path / "mysite/settings.py").write_text(settings)
    for file, more in [("mysite/celery.py", BEFORE_AND_AFTER_THE_FORK), ("articles/tasks.py", ANOTHER_TASK)]:
        (tmp_path / file).write_text((tmp_path / file).read_text() + more)
    return tmp_path


@pytest.fixture
def sender(server: Server, prefix: str) -> Iterator[Celery]:
    """What sends tasks."""
    options = {"global_keyprefix": f"{prefix}-celery:"}
    with Celery(broker=server.url, set_as_current=False, broker_transport_options=options) as app:
        yield app


@contextmanager
def worker(project: Path, pool: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker, which is told to stop in the end, and has stopped by itself."""
    log = project / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "mysite", "worker", "--loglevel", "WARNING"]
    command += ["--pool", pool, "--concurrency", str(PROCESSES[pool])]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    environment = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(ROOT / "src")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0, log.read_text()
    except BaseException as error:
        error.add_note(f"The worker's log:\n{log.read_text()}")
        raise
    finally:
        try:
            # With the processes of its pool, which may be left where it has failed.
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.mark.parametrize("pool", PROCESSES)
async def test_a_task_of_a_worker_reaches_a_consumer(pool: str, project: Path, sender: Celery) -> None:
    async with WebsocketCommunicator(ArticleConsumer.as_asgi(), "/") as page:
        with worker(project, pool) as process:
            assert await page.receive_json_from(timeout=LIMIT) == ["parent", process.pid]
            started = [await page.receive_json_from(timeout=LIMIT) for _ in range(PROCESSES[pool])]
            for number in range(20):
                await asyncio.to_thread(sender.send_task, "articles.tasks.rename_here", (7, number))
            told = [await page.receive_json_from(timeout=LIMIT) for _ in range(20)]
            assert await page.receive_nothing()
    # Each once: from one process in order, from several in any.
    assert sorted(number for number, _ in told) == list(range(20))
    assert {who for who, _ in started} == {"child"}
    children = {pid for _, pid in started}
    assert len(children) == PROCESSES[pool]
    assert {pid for _, pid in told} <= children
    assert (process.pid in children) is (pool == "solo")

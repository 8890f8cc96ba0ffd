"""Packages that were written for Channels, in an environment of their own, served by uvicorn."""

import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Server
from tests.servers.keeper import forget, new_directory, spawn
from tests.servers.ports import HOST, free_port
from tests.servers.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(__file__).with_name("site")

#: Made by `make test-third-party`. Both hold what requirements*.txt say, the second one Channels.
ENVIRONMENT = ROOT / ".venv-third-party"
CHANNELS = ENVIRONMENT / "channels"

#: Seconds that anything here may take, a server's start on a busy machine among it.
LIMIT = 60


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the environment where it was not made; the target that makes it demands it."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not (ENVIRONMENT / ".made").exists():
            assert os.environ.get("SEALANE_REQUIRE_THIRD_PARTY") != "1", f"{ENVIRONMENT} was not made"
            item.add_marker(pytest.mark.skip(reason="make test-third-party makes the environment of these tests"))


class Site:
    """The project of `site`, with a database of its own, on uvicorn. It does not outlive the process of the tests."""

    def __init__(self, redis_url: str, *, with_channels: bool) -> None:
        self.with_channels = with_channels
        self.directory = new_directory("site")
        self.log = self.directory / "log"
        self.port = free_port()
        path = [str(SITE), str(ROOT / "src"), *([str(CHANNELS)] if with_channels else [])]
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "DJANGO_SETTINGS_MODULE": "settings",
            "SITE_DIRECTORY": str(self.directory),
            "SITE_HAS_CHANNELS": "1" if with_channels else "0",
            "SITE_REDIS_URL": redis_url,
            "SITE_PREFIX": self.directory.name,
        }
        self.python = str(ENVIRONMENT / "bin" / "python")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{HOST}:{self.port}"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python in the environment of the site."""
        return subprocess.run(
            [self.python, *arguments], cwd=SITE, env=self._environment, capture_output=True, text=True, check=False
        )

    def start(self) -> None:
        migrated = self.run("manage.py", "migrate", "--run-syncdb", "--verbosity", "0")
        assert migrated.returncode == 0, migrated.stderr
        command = [self.python, "-m", "uvicorn", "asgi:application", "--host", HOST, "--port", str(self.port)]
        self._process = spawn(
            [*command, "--log-level", "warning"], directory=self.directory, log=self.log, environment=self._environment
        )
        wait_until(self._answers, within=LIMIT, what=f"the site answers; it said: {self.log.read_text()}")

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            urllib.request.urlopen(self.url, timeout=LIMIT).close()
        except OSError:
            return False
        return True

    def complaints(self) -> list[str]:
        """What it has said, but for what chanx says of each connection."""
        return [line for line in self.log.read_text().splitlines() if not line.endswith("] Disconnecting websocket")]

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(LIMIT)
        finally:
            self._process.kill()
            self._process.wait()
            forget(self._process)


@pytest.fixture(scope="package")
def valkey() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="package", params=[False, True], ids=["without Channels", "with Channels"])
def site(request: pytest.FixtureRequest, valkey: Server) -> Iterator[Site]:
    site = Site(valkey.url, with_channels=request.param)
    site.start()
    yield site
    site.stop()
    assert site.complaints() == []

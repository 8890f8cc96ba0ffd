"""The example project's server, as a user starts it, and two browsers that look at it."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "example_project"

#: Seconds that anything in these tests may take, a server's start on a busy machine among it.
LIMIT = 20

_CHROMIUM_OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-software-rasterizer",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--disable-extensions",
    # No process in advance for a page that never comes, and nothing that asks others about a page.
    "--disable-features=SpareRendererForSitePerProcess,OptimizationHints,Translate,MediaRouter",
    # One process for all pages of a browser: each would cost a third of a second.
    "--renderer-process-limit=1",
    "--disable-site-isolation-trials",
    "--lang=en-GB",
]

# Run in every page before its own scripts: how its sockets ended, which the page itself does not keep.
_RECORD_CLOSE_CODES = """
window.closeCodes = [];
window.WebSocket = class extends WebSocket {
    constructor(...values) {
        super(...values);
        this.addEventListener("close", ({ code }) => closeCodes.push(code));
    }
};
"""


def wait_until(condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
    """Wait for a condition of another process, which nothing but asking again can tell."""
    end = time.monotonic() + limit
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {limit} s: {what}")
        time.sleep(0.05)


class ChatServer:
    """A copy of the example project, migrated, and its `manage.py runserver`.

    With the URL of a Redis server, several of them may share the database of the first and talk to one another.
    Without, the server has the worker inside.
    """

    def __init__(self, directory: Path, *, database: Path | None = None, redis_url: str = "") -> None:
        self.project = directory / "project"
        shutil.copytree(EXAMPLE, self.project, ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3*"))
        self.database = database or directory / "chat.sqlite3"
        self.redis_url = redis_url
        self.media = directory / "media"
        self.log = directory / "server.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        if database is None:
            self.manage("migrate", "--verbosity=0")

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
        changes = {
            "PYTHONPATH": path,
            "PYTHONUNBUFFERED": "1",
            "CHAT_DATABASE": str(self.database),
            "CHAT_MEDIA": str(self.media),
            "CHAT_REDIS_URL": self.redis_url,
            "DJANGO_SETTINGS_MODULE": "demo.settings",
        }
        return {**os.environ, **changes}

    def manage(self, *arguments: str) -> None:
        """Run a management command to its end."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=self.project, env=self.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"

    def start(self, *, reloading: bool = False) -> None:
        """Start the server, and wait until it answers.

        The autoreloader only where a test is about it: it would also restart the server for a module of Sealane
        that somebody saves meanwhile.
        """
        options = [] if reloading else ["--noreload"]
        if not self.redis_url:
            options += ["--worker", "pictures"]
        with self.log.open("ab") as log:
            # A session of its own: the autoreloader has a child, and both get the signals.
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "runserver", f"127.0.0.1:{self.port}", *options],
                cwd=self.project,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self.answers, f"the server answers; it said:\n{self.log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server, and wait until it has gone. Does nothing where it does not run."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, how)
            self._process.wait(LIMIT)
            wait_until(lambda: not self.listens(), "the port is free")
        finally:
            self._process = None

    def listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"the server ended by itself:\n{self.log.read_text()}")
        try:
            with urllib.request.urlopen(self.url, timeout=LIMIT) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def reload(self) -> None:
        """Touch a module, for which the autoreloader starts the server again. Returns at once."""
        (self.project / "chat" / "views.py").touch()

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run an SQL statement in the server's database, whether it runs or not."""
        connection = sqlite3.connect(self.database, timeout=LIMIT)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def store(self, slug: str, name: str, text: str, *, key: str) -> None:
        """Put a message into a room behind the server's back."""
        self.execute(
            "INSERT INTO chat_message (room_id, name, text, at, key)"
            " SELECT id, ?, ?, datetime('now'), ? FROM chat_room WHERE slug = ?",
            name,
            text,
            key,
            slug,
        )

    def close_room(self, slug: str) -> None:
        """Remove a room, and what was said there."""
        self.execute("DELETE FROM chat_message WHERE room_id IN (SELECT id FROM chat_room WHERE slug = ?)", slug)
        self.execute("DELETE FROM chat_room WHERE slug = ?", slug)

    def open_room(self, name: str) -> str:
        """Make a room, and return its slug."""
        slug = name.lower().replace(" ", "-")
        self.execute("INSERT INTO chat_room (name, slug) VALUES (?, ?)", name, slug)
        return slug


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatServer]:
    """The server that every test of this package talks to. A test that stops it starts it again."""
    chat = ChatServer(tmp_path_factory.mktemp("chat"))
    chat.start()
    yield chat
    chat.stop()
    complaints = [line for line in chat.log.read_text().splitlines() if "Traceback" in line or "ERROR" in line]
    assert not complaints, chat.log.read_text()


def start_chromium(profile: Path) -> webdriver.Chrome:
    """Start a browser with a profile of its own. Nothing is fetched: both programs are on the PATH."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    assert chromium, "the browser mark skips this test where there is no chromium"
    assert driver, "the browser mark skips this test where there is no chromedriver"
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in [*_CHROMIUM_OPTIONS, f"--user-data-dir={profile}"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _RECORD_CLOSE_CODES})
    return browser


@pytest.fixture(scope="package")
def browsers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[webdriver.Chrome, webdriver.Chrome]]:
    """Two browsers, as two people would have."""
    started: list[webdriver.Chrome] = []
    try:
        for name in ("one", "two"):
            started.append(start_chromium(tmp_path_factory.mktemp(f"chromium-{name}")))  # noqa: PERF401
        yield started[0], started[1]
    finally:
        for browser in started:
            browser.quit()

"""The pictures of the example project in a real browser: progress while a worker works, and when it is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from selenium import webdriver

from tests.example.conftest import LIMIT, ChatServer, wait_until
from tests.example.window import Window, take_picture
from tests.servers import Server

pytestmark = [pytest.mark.browser, pytest.mark.untraced]


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody might send: with colours, and large enough for every size."""
    picture = Image.new("RGB", (2400, 1600))
    pencil = ImageDraw.Draw(picture)
    for y in range(1600):
        pencil.line([(0, y), (2400, y)], fill=(20 + y // 16, 90 + y // 20, 160))
    pencil.ellipse([1500, 200, 1900, 600], fill=(250, 220, 130))
    pencil.polygon([(0, 1200), (900, 700), (1700, 1250), (2400, 1000), (2400, 1600), (0, 1600)], fill=(30, 60, 80))
    path = tmp_path_factory.mktemp("pictures") / "The harbour in the morning.jpg"
    picture.save(path, quality=90)
    return path


class PictureWindow(Window):
    """A window that looks at its visitor's pictures."""

    def open_pictures(self) -> None:
        self.open("/pictures/")
        self.wait_online()

    def send(self, path: Path) -> None:
        self.find("input[type=file]").send_keys(str(path))
        self.find("#upload button").click()

    def item(self) -> str:
        """What the newest picture says, in text."""
        return self.find(".picture").text

    def percent(self) -> int:
        found = self.driver.execute_script("return document.querySelector('.picture progress')?.value ?? -1")
        return int(found)

    def note_percents(self) -> None:
        """Note in the page, from now on, each state of the bar."""
        self.driver.execute_script(
            "window.noted = [];"
            "const note = () => noted.push(document.querySelector('.picture progress')?.value ?? 0);"
            "new MutationObserver(note).observe("
            "  document.querySelector('#pictures'), {subtree: true, childList: true, attributes: true})"
        )

    def noted_percents(self) -> list[int]:
        found: list[int] = self.driver.execute_script("return noted")
        return found

    def wait_done(self) -> None:
        self.wait(
            lambda: self.driver.execute_script(
                "const image = document.querySelector('.picture[data-state=done] img');"
                "return Boolean(image?.complete && image.naturalWidth)"
            ),
            "the result is shown",
        )


@pytest.fixture
def opened(
    browsers: tuple[webdriver.Chrome, webdriver.Chrome], request: pytest.FixtureRequest
) -> Iterator[tuple[PictureWindow, PictureWindow]]:
    """Two visitors of the server that the test is about, without cookies. Neither may have logged an error."""
    server: ChatServer = request.getfixturevalue(request.param)
    pair = PictureWindow(browsers[0], server), PictureWindow(browsers[1], server)
    for window in pair:
        window.leave()
        window.driver.delete_all_cookies()
        window.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        window.errors()
    yield pair
    errors = [error for window in pair for error in window.errors()]
    for window in pair:
        window.leave()
        window.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert errors == []


def on(server: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("opened", [server], indirect=True)


@on("server")
def test_a_picture_is_resized_inside_the_development_server(
    opened: tuple[PictureWindow, PictureWindow], photograph: Path
) -> None:
    ada, grace = opened
    ada.open_pictures()
    grace.open_pictures()
    ada.note_percents()
    ada.send(photograph)

    ada.wait_done()
    assert len(set(ada.noted_percents()) - {0, 100}) > 1, "the bar moves"
    assert "The harbour in the morning.jpg" in ada.item()
    # It is there when the page is loaded again, for its owner; nobody else sees it.
    ada.driver.refresh()
    ada.wait_online()  # until then the script may put another element in the place of each picture
    ada.wait_done()
    address = str(ada.find(".picture img").get_attribute("src") or ada.find(".shown").get_attribute("href"))
    grace.driver.refresh()
    grace.wait_online()
    assert "harbour" not in grace.text()
    status = "return fetch(arguments[0]).then((answer) => answer.status)"
    assert ada.driver.execute_script(status, address) == 200
    assert grace.driver.execute_script(status, address) == 404
    assert all("404" in error for error in grace.errors())

    for scheme in ("light", "dark"):
        for device, width, height in [("desktop", 1280, 900), ("mobile", 360, 740)]:
            ada.emulate(scheme=scheme, width=width, height=height)
            ada.wait_for_tick()
            take_picture(ada, f"pictures-{scheme}-{device}", width, height)


@on("server")
def test_what_is_no_picture_is_refused_with_a_reason(
    opened: tuple[PictureWindow, PictureWindow], tmp_path: Path
) -> None:
    ada, _ = opened
    ada.open_pictures()
    text = tmp_path / "letter.jpg"
    text.write_text("Dear Grace")
    ada.send(text)
    ada.wait(lambda: ada.find("#answer").text, "an answer")
    assert ada.find("#answer").text == "This is not a picture that can be read here. Send a JPEG, PNG, WebP or GIF."
    # The choice stays, and the button works again.
    assert ada.find("#upload button").is_enabled()
    assert ada.driver.execute_script("return document.querySelectorAll('.picture').length") == 0
    assert all("400" in error for error in ada.errors())


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def redis_chat(tmp_path_factory: pytest.TempPathFactory, valkey: Server) -> Iterator[ChatServer]:
    """A server over Valkey, whose jobs wait for workers of their own."""
    chat = ChatServer(tmp_path_factory.mktemp("chat-valkey"), redis_url=valkey.url)
    chat.start()
    yield chat
    chat.stop()
    assert "Traceback" not in chat.log.read_text()


class PictureWorker:
    """A `manage.py runworker pictures --ack` beside a server. With a pause, in seconds, it can be caught at work."""

    def __init__(self, chat: ChatServer, *, pause: float = 0) -> None:
        self.log = chat.project.parent / f"worker-{os.urandom(2).hex()}.log"
        options = ["--ack", "--visibility-timeout=2", "--noreload"]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "runworker", "pictures", *options],
                cwd=chat.project,
                env={**chat.environment(), "CHAT_PICTURES_PAUSE": str(pause)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: "CONTROL-C" in self.log.read_text(), "the worker works")

    def end(self, how: signal.Signals) -> int:
        if self._process.poll() is None:
            self._process.send_signal(how)
        return self._process.wait(LIMIT)


@on("redis_chat")
def test_a_killed_worker_is_survived(
    opened: tuple[PictureWindow, PictureWindow], redis_chat: ChatServer, photograph: Path
) -> None:
    ada, _ = opened
    ada.open_pictures()
    ada.send(photograph)
    ada.wait(lambda: "Waiting for a worker" in ada.item(), "it waits, since there is none")

    first = PictureWorker(redis_chat, pause=1)
    try:
        ada.wait(lambda: 30 < ada.percent() < 80, "the first worker is in the midst of it")
    finally:
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    ada.emulate(scheme="light", width=1280, height=600)
    take_picture(ada, "pictures-killed", 1280, 600)
    (made,) = redis_chat.media.glob("pictures/*/1600.webp")
    made_at = made.stat().st_mtime_ns
    assert not list(redis_chat.media.glob("pictures/*/200.webp"))

    second = PictureWorker(redis_chat)
    try:
        ada.wait_done()
    finally:
        assert second.end(signal.SIGTERM) == 0
    # It went on where the first one was.
    assert made.stat().st_mtime_ns == made_at
    assert len(list(redis_chat.media.glob("pictures/*/*.webp"))) == 4
    assert "Traceback" not in second.log.read_text()

"""The multiplexer for pages: two streams over one socket, ends of either, and a server that goes and comes back."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.example.conftest import LIMIT, start_chromium
from tests.servers.keeper import forget, new_directory, spawn
from tests.servers.ports import free_port
from tests.servers.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.untraced]

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "src/sealane/static/sealane/multiplexer.js"


class Site:
    """The site in a process of its own, always on the same port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.directory = new_directory("site")
        self.log = self.directory / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = spawn(
            [sys.executable, "-m", "uvicorn", "tests.browser.site:application", "--port", str(self.port)],
            directory=self.directory,
            log=self.log,
            environment={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        )
        wait_until(self.answers, within=LIMIT, what=f"{self.url} answers; its log is {self.log}")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        with urllib.request.urlopen(self.url, timeout=LIMIT) as response:
            return bool(response.status == 200)

    def stop(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(LIMIT)
            forget(self.process)
            self.process = None


class Page:
    """The page, and what its streams have told it."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def do(self, script: str) -> Any:
        return self.browser.execute_script(script)

    def got(self) -> list[list[Any]]:
        told: list[list[Any]] = self.do("return got")
        return told

    def wait_for(self, *expected: list[Any]) -> None:
        """Wait until the page was told these, in any order among others, and forget what it was told."""

        def told() -> bool:
            got = self.got()
            return all(each in got for each in expected)

        try:
            wait_until(told, within=LIMIT, what=f"{expected}")
        except TimeoutError as error:
            raise AssertionError(f"the page was told {json.dumps(self.got())}") from error
        self.do("got.length = 0")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    site.start()
    yield site
    site.stop(signal.SIGKILL)
    complaints = [line for line in site.log.read_text().splitlines() if "Traceback" in line or "ERROR" in line]
    assert not complaints, site.log.read_text()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    browser = start_chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.quit()


def opened(stream: str, again: bool = False) -> list[Any]:
    return [stream, "open", {"again": again}]


def ended(who: str, code: int, final: bool, reason: str = "") -> list[Any]:
    return [who, "close", {"code": code, "reason": reason, "final": final}]


@pytest.fixture
def page(browser: webdriver.Chrome, site: Site) -> Page:
    """The page anew, with both streams open."""
    browser.get(site.url)
    page = Page(browser)
    page.wait_for(opened("chat"), opened("terminal"))
    return page


def converse(page: Page) -> None:
    """Say something in both streams, and hear it."""
    assert page.do("return socket.stream('chat').send('hello')")
    assert page.do("return socket.stream('terminal').post({ text: 'ls' })")
    page.wait_for(["chat", "message", {"said": "hello"}], ["terminal", "message", "ls"])


def test_two_streams_over_one_socket(page: Page) -> None:
    page.do(
        "window.sockets = 0;"
        "window.WebSocket = class extends WebSocket { constructor(...values) { super(...values); sockets++ } };"
    )
    converse(page)
    page.do("socket.stream('terminal').post({ bytes: btoa('\\0\\xff') })")
    page.wait_for(["terminal", "message", "AP8="])
    page.do("socket.stream('nowhere').onclose = (event) => got.push(['nowhere', 'close', event])")
    page.wait_for(ended("nowhere", 4404, True, "There is no stream 'nowhere'"))
    assert page.do("return sockets") == 0, "all went over the socket that there was"


def test_a_stream_that_ends_leaves_the_other(page: Page) -> None:
    page.do("socket.stream('chat').send({ close: 4321 })")
    page.wait_for(ended("chat", 4321, True, "as you wish"))
    assert page.do("return socket.stream('chat').send('nobody')") is False
    page.do("socket.stream('terminal').post({ text: 'still there' })")
    page.wait_for(["terminal", "message", "still there"])

    page.do("socket.stream('chat').open()")
    page.wait_for(opened("chat", again=True))
    converse(page)

    page.do("socket.stream('chat').close(4000, 'enough'); socket.stream('chat').open()")
    page.wait_for(ended("chat", 4000, False, "enough"), opened("chat", again=True))
    page.do("socket.stream('chat').close()")
    page.wait_for(ended("chat", 1000, True))
    page.do("socket.stream('chat').post({ payload: 1 })")
    page.wait_for(["chat", "error", {"code": 4409, "reason": "The stream 'chat' is not open"}])


@pytest.mark.parametrize(
    ("how", "codes"), [(signal.SIGKILL, {1006}), (signal.SIGTERM, {1012})], ids=["killed", "stopped"]
)
def test_both_streams_go_on_when_the_server_is_back(
    how: signal.Signals, codes: set[int], page: Page, site: Site
) -> None:
    page.do("socket.stream('terminal').close()")
    page.wait_for(ended("terminal", 1000, True))
    page.do("socket.stream('terminal').open()")
    page.wait_for(opened("terminal", again=True))
    site.stop(how)
    [code] = codes
    page.wait_for(ended("chat", code, False), ended("terminal", code, False), ended("socket", code, False))
    assert page.do("return socket.stream('chat').send('nobody')") is False
    site.start()
    page.wait_for(opened("chat", again=True), opened("terminal", again=True))
    converse(page)


def test_a_refusal_is_final_until_the_page_opens_it(page: Page) -> None:
    page.do("socket.stream('chat').send({ end: 4401 })")
    page.wait_for(ended("chat", 4401, True), ended("terminal", 4401, True), ended("socket", 4401, True))
    assert page.do("return socket.timer === undefined"), "nothing is tried"
    page.do("socket.open()")
    page.wait_for(opened("chat", again=True), opened("terminal", again=True))
    converse(page)


def test_a_server_that_is_too_busy_is_left_alone_for_longer(page: Page) -> None:
    page.do(
        "window.waits = []; const before = setTimeout;"
        "window.setTimeout = (call, wait) => { waits.push(wait); return before(call, 0) }"
    )
    for code, least, most in ((1013, 4000, 30000), (1012, 250, 8000)):
        page.do(f"waits.length = 0; socket.stream('chat').send({{ end: {code} }})")
        page.wait_for(ended("socket", code, False), opened("chat", again=True), opened("terminal", again=True))
        [wait] = page.do("return waits")
        assert least <= wait <= most


def test_close_is_the_end(page: Page) -> None:
    page.do("socket.close(4000)")
    page.wait_for(ended("chat", 4000, True), ended("socket", 4000, True))
    assert page.do("return socket.timer === undefined")


def test_the_page_of_the_guide(browser: webdriver.Chrome, site: Site) -> None:
    browser.get(f"{site.url}guide/")

    def lines() -> list[str]:
        return [item.text for item in browser.find_elements(By.CSS_SELECTOR, "li")]

    wait_until(lambda: lines() == ["open"], within=LIMIT, what="the stream is open")
    browser.find_element(By.NAME, "text").send_keys("hello", Keys.ENTER)
    wait_until(lambda: lines() == ["open", "hello"], within=LIMIT, what="the message is back")


def test_it_is_a_static_file_of_at_most_60_lines() -> None:
    assert finders.find("sealane/multiplexer.js") == str(CLIENT)
    lines = CLIENT.read_text().splitlines()
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 120

"""The example project in a real browser: two people talk, and their server does not always stay."""

import json
import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.example.conftest import LIMIT, ROOT, ChatServer

pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "build" / "screenshots"

#: What Chromium itself writes while there is no server. Anything else is an error of the page.
_NO_SERVER = ("net::ERR_", "WebSocket connection to", "Failed to load resource")

_MESSAGES = """
return [...document.querySelectorAll(".message:not(.pending)")].map(
    (item) => [item.dataset.name, item.querySelector("p").textContent]);
"""
_TOO_WIDE = """
return [...document.querySelectorAll("main, form, .rooms, #log, .site")]
    .filter((item) => item.scrollWidth > item.clientWidth).map((item) => item.outerHTML);
"""
_LINES = 'return [...document.querySelectorAll(".line")].map((item) => item.textContent);'


class Window:
    """One person's browser window."""

    def __init__(self, driver: webdriver.Chrome, server: ChatServer) -> None:
        self.driver = driver
        self.server = server

    def open(self, path: str) -> None:
        self.driver.get(self.server.url + path)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition under a limit. A failure shows the room as it is."""
        try:
            WebDriverWait(self.driver, LIMIT, poll_frequency=0.05).until(lambda _: condition())
        except Exception as error:
            raise AssertionError(f"not within {LIMIT} s: {what}. The page:\n{self.text()}") from error

    def text(self) -> str:
        return self.find("body").text

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def chord(self, held: str, key: str) -> None:
        """Press a key while another one is held."""
        webdriver.ActionChains(self.driver).key_down(held).send_keys(key).key_up(held).perform()

    @property
    def focused(self) -> str:
        """The id of the element that has the focus, or its text where it has none."""
        element = self.driver.switch_to.active_element
        return element.get_attribute("id") or element.text

    @property
    def state(self) -> str | None:
        return self.find("main").get_attribute("data-state")

    def enter(self, room: str, name: str) -> None:
        self.open(f"/rooms/{room}/")
        self.wait(lambda: self.find("#name").is_displayed(), "the page asks for a name")
        self.find("#name").clear()
        self.find("#name").send_keys(name + Keys.ENTER)
        self.wait_online()

    def wait_online(self) -> None:
        self.wait(lambda: self.state == "online", "the page is connected")

    def wait_offline(self) -> None:
        self.wait(lambda: self.state != "online", "the page notices that the connection is lost")

    def close_codes(self) -> list[int]:
        """The codes with which the page's sockets were closed so far."""
        codes: list[int] = self.driver.execute_script("return closeCodes")
        return codes

    def say(self, text: str) -> None:
        self.find("#text").send_keys(text + Keys.ENTER)

    def messages(self) -> list[tuple[str, str]]:
        """Who said what, as far as the server has confirmed it."""
        return [(name, text) for name, text in self.driver.execute_script(_MESSAGES)]

    def lines(self) -> list[str]:
        """Everything else in the log: who came and left, notices, errors."""
        found: list[str] = self.driver.execute_script(_LINES)
        return found

    def wait_for_count(self, count: int) -> list[tuple[str, str]]:
        self.wait(lambda: len(self.messages()) >= count, f"there are {count} messages")
        return self.messages()

    def wait_for_messages(self, expected: list[tuple[str, str]]) -> None:
        assert self.wait_for_count(len(expected)) == expected

    def wait_for_line(self, expected: str) -> None:
        self.wait(lambda: any(expected in line for line in self.lines()), f"there is a line {expected!r}")

    def errors(self) -> list[str]:
        """What the browser has logged as an error since the last call."""
        log: list[dict[str, Any]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]

    def leave(self) -> None:
        """Go where no socket is, and forget the name."""
        self.driver.execute_script("if (location.host) { sessionStorage.clear(); localStorage.clear(); }")
        self.driver.get("about:blank")

    def emulate(self, *, scheme: str, width: int, height: int) -> None:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


@pytest.fixture
def windows(browsers: tuple[webdriver.Chrome, webdriver.Chrome], server: ChatServer) -> Iterator[tuple[Window, Window]]:
    """Two windows that are nowhere yet. After the test neither may have logged an error."""
    pair = Window(browsers[0], server), Window(browsers[1], server)
    for window in pair:
        window.leave()
        window.errors()
    yield pair
    errors = [error for window in pair for error in window.errors()]
    for window in pair:
        window.leave()
        window.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert errors == []


@pytest.fixture
def ada(windows: tuple[Window, Window]) -> Window:
    return windows[0]


@pytest.fixture
def grace(windows: tuple[Window, Window]) -> Window:
    return windows[1]


@pytest.fixture
def room(server: ChatServer) -> Iterator[str]:
    """An empty room of this test's own."""
    yield server.open_room("Harbour")
    server.close_room("harbour")


def test_a_message_appears_in_both_windows(ada: Window, grace: Window, room: str) -> None:
    ada.enter(room, "Ada")
    grace.enter(room, "Grace")
    ada.wait_for_line("Grace joined")
    assert ada.find("#people").text == "2 here"

    ada.say("Is the harbour open?")
    grace.wait_for_messages([("Ada", "Is the harbour open?")])
    grace.say("<img src=x onerror=alert(1)> & <b>yes</b>")

    # As text: markup that somebody types is shown and not run.
    expected = [("Ada", "Is the harbour open?"), ("Grace", "<img src=x onerror=alert(1)> & <b>yes</b>")]
    for window in (ada, grace):
        window.wait_for_messages(expected)
        assert window.driver.execute_script("return document.querySelectorAll('#log img, #log b').length") == 0
    assert "mine" in str(ada.find(".message").get_attribute("class")).split()


def test_history_is_there_after_a_reload(ada: Window, room: str) -> None:
    ada.enter(room, "Ada")
    ada.say("I was here")
    ada.wait_for_messages([("Ada", "I was here")])

    ada.driver.refresh()

    # The window keeps its name, and comes in by itself.
    ada.wait_online()
    ada.wait_for_messages([("Ada", "I was here")])


def test_a_window_that_looks_elsewhere_has_left(ada: Window, grace: Window, room: str) -> None:
    """Browsers keep a page that was left, its socket included, for the Back button."""
    ada.enter(room, "Ada")
    grace.enter(room, "Grace")
    ada.wait_for_line("Grace joined")

    grace.open("/")
    ada.wait_for_line("Grace left")
    ada.say("You are away")
    ada.wait_for_messages([("Ada", "You are away")])

    grace.driver.back()
    grace.wait_online()
    grace.wait_for_messages([("Ada", "You are away")])
    ada.wait(lambda: ada.find("#people").text == "2 here", "both are there again")


def test_the_room_hears_who_left(ada: Window, grace: Window, room: str) -> None:
    ada.enter(room, "Ada")
    other = grace.driver.current_window_handle
    grace.driver.switch_to.new_window("window")
    grace.enter(room, "Grace")
    ada.wait_for_line("Grace joined")

    grace.driver.close()
    grace.driver.switch_to.window(other)

    ada.wait_for_line("Grace left")
    assert ada.find("#people").text == "1 here"


def test_a_notice_from_the_view_appears_in_every_room(
    ada: Window, grace: Window, room: str, server: ChatServer
) -> None:
    ada.enter(room, "Ada")
    grace.enter("lobby", "Grace")

    # By the page's script, from inside a room.
    ada.find("[popovertarget]").click()
    ada.find("#id_text").send_keys("The crane stops at noon" + Keys.ENTER)
    for window in (ada, grace):
        window.wait_for_line("The crane stops at noon")
    ada.wait(lambda: not ada.find("#notice-card").is_displayed(), "the form closes")

    # By the form alone, which posts itself and follows the redirect.
    grace.driver.switch_to.new_window("tab")
    grace.open("/notices/")
    grace.find("#id_text").send_keys("It works again" + Keys.ENTER)
    grace.wait(lambda: "Everybody who is in a room" in grace.text(), "the page says that it was sent")
    grace.driver.close()
    grace.driver.switch_to.window(grace.driver.window_handles[0])
    for window in (ada, grace):
        window.wait_for_line("It works again")
        assert sum("The crane stops" in line for line in window.lines()) == 1


def test_the_ticker_ticks(ada: Window) -> None:
    ada.open("/")
    ada.wait(lambda: "online" in ada.find("#ticker").text, "the first tick")
    first = ada.find("#ticker").text
    ada.wait(lambda: ada.find("#ticker").text not in ("", first), "the next tick")


def test_bad_input_is_answered(ada: Window, room: str) -> None:
    ada.open(f"/rooms/{room}/")
    # What the page's own fields would not let through.
    ada.driver.execute_script("document.getElementById('name').removeAttribute('maxlength')")
    ada.find("#name").clear()
    ada.find("#name").send_keys("A" * 25 + Keys.ENTER)
    ada.wait_for_line("name: Ensure this value has at most 24 characters")
    assert ada.find("#name").is_displayed()
    ada.find("#name").clear()
    ada.find("#name").send_keys("Ada" + Keys.ENTER)
    ada.wait_online()

    ada.driver.execute_script("document.getElementById('text').value = 'a'.repeat(1001)")
    ada.driver.execute_script("document.getElementById('text').removeAttribute('maxlength')")
    ada.find("#text").send_keys(Keys.ENTER)

    ada.wait_for_line("text: Ensure this value has at most 1000 characters")
    assert ada.find("#text").get_property("value") == "a" * 1001  # to be made shorter
    ada.find("#text").clear()
    ada.say("Short")
    ada.wait_for_messages([("Ada", "Short")])


def test_a_killed_server_is_survived(ada: Window, grace: Window, room: str, server: ChatServer) -> None:
    ada.enter(room, "Ada")
    grace.enter(room, "Grace")
    ada.say("Before")
    grace.wait_for_messages([("Ada", "Before")])

    server.stop(signal.SIGKILL)
    try:
        for window in (ada, grace):
            window.wait_offline()
        ada.wait(lambda: "Retrying in" in ada.find("#state").text, "the page says so")
        ada.say("While it was down")
        grace.say("Is it back?")
        for window in (ada, grace):
            assert "sending" in window.find(".pending").text
        # What somebody said on a server that these windows could not reach.
        server.store(room, "Alan", "You missed this", key=uuid.uuid4().hex)
        # What the server took before it was killed, too late to say so: the page cannot know, and sends it again.
        key = str(grace.find(".pending").get_attribute("id")).removeprefix("pending-")
        server.store(room, "Grace", "Is it back?", key=key)
    finally:
        server.start()

    for window in (ada, grace):
        window.wait_online()
        window.wait_for_messages(
            [
                ("Ada", "Before"),
                ("Alan", "You missed this"),
                ("Grace", "Is it back?"),
                ("Ada", "While it was down"),
            ]
        )
        assert window.driver.find_elements(By.CSS_SELECTOR, ".pending") == []
    assert server.execute("SELECT count(*) FROM chat_message") == [(4,)]
    expect_errors_of_a_missing_server(ada, grace)


def test_a_reload_of_the_server_is_survived(ada: Window, grace: Window, room: str, server: ChatServer) -> None:
    server.stop()
    server.start(reloading=True)
    try:
        ada.enter(room, "Ada")
        grace.enter(room, "Grace")

        server.reload()

        for window in (ada, grace):
            window.wait(window.close_codes, "the socket is closed")
            window.wait_online()
            # "Service restart": the server said good-bye. Further tries may have met nobody.
            assert window.close_codes()[0] == 1012
        ada.say("Still here")
        for window in (ada, grace):
            window.wait_for_messages([("Ada", "Still here")])
    finally:
        server.stop()
        server.start()
    for window in (ada, grace):
        window.wait_online()
    expect_errors_of_a_missing_server(ada, grace)


def expect_errors_of_a_missing_server(*windows: Window) -> None:
    """Take from the browsers' logs what cannot be avoided while a server is away, and nothing else."""
    for window in windows:
        assert [error for error in window.errors() if not any(known in error for known in _NO_SERVER)] == []


def test_the_keyboard_is_enough(ada: Window, room: str) -> None:
    ada.open(f"/rooms/{room}/")
    ada.wait(lambda: ada.focused == "name", "the name has the focus")
    ada.keys("Ada", Keys.ENTER)
    ada.wait_online()
    assert ada.focused == "text"

    ada.keys("One line")
    ada.chord(Keys.SHIFT, Keys.ENTER)
    ada.keys("and another", Keys.ENTER)
    ada.wait_for_messages([("Ada", "One line\nand another")])
    assert ada.focused == "text"

    # Backwards from the message: the log, which scrolls by the arrow keys, then the notice.
    ada.chord(Keys.SHIFT, Keys.TAB)
    assert ada.focused == "scroller"
    ada.chord(Keys.SHIFT, Keys.TAB)
    assert ada.focused == "Notice to all"
    ada.keys(Keys.ENTER)
    ada.wait(lambda: ada.focused == "id_text", "the notice's field has the focus")
    ada.keys(Keys.ESCAPE)
    ada.wait(lambda: ada.focused == "Notice to all", "the focus goes back")
    ada.keys(Keys.ENTER)
    ada.wait(lambda: ada.focused == "id_text", "the notice's field has the focus again")
    ada.keys("By hand", Keys.ENTER)
    ada.wait_for_line("By hand")

    # The first stop on a page leads past its head.
    ada.open("/")
    ada.keys(Keys.TAB)
    assert ada.focused == "Skip to the content"


def test_screenshots(ada: Window, grace: Window, room: str) -> None:
    """Keep pictures of the room for people to look at, and check that nothing sticks out of a narrow window."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    ada.enter(room, "Ada")
    grace.enter(room, "Grace")
    conversation = [
        (ada, "Is the harbour open yet?"),
        (grace, "Since this morning. Three boats came in, one with a name so long that it needs a line of its own."),
        (grace, "https://example.com/" + "a-path-without-an-end/" * 6),
        (ada, "Good. I bring the tea."),
    ]
    for number, (window, text) in enumerate(conversation, 1):
        window.say(text)
        grace.wait_for_count(number)
    grace.find("[popovertarget]").click()
    grace.find("#id_text").send_keys("The crane stops at noon" + Keys.ENTER)
    ada.wait_for_line("The crane stops at noon")
    ada.wait(lambda: ada.find("#ticker").text, "the ticker ticks")

    for scheme in ("light", "dark"):
        for device, width, height in [("desktop", 1280, 800), ("mobile", 360, 740)]:
            ada.emulate(scheme=scheme, width=width, height=height)
            take_picture(ada, f"room-{scheme}-{device}", width, height)
    ada.emulate(scheme="light", width=360, height=740)
    for name, path in [("home", "/"), ("notices", "/notices/")]:
        ada.open(path)
        ada.wait(lambda: ada.find("#ticker").text, "the ticker ticks")
        take_picture(ada, f"{name}-light-mobile", 360, 740)


def take_picture(window: Window, name: str, width: int, height: int) -> None:
    """Keep a picture, which must be one, of a page in which nothing is wider than its place."""
    picture = SCREENSHOTS / f"{name}.png"
    assert window.driver.save_screenshot(str(picture))
    header = picture.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (width, height)
    assert window.driver.execute_script("return document.documentElement.scrollWidth") <= width, name
    assert window.driver.execute_script(_TOO_WIDE) == [], name


def test_nothing_comes_from_elsewhere(ada: Window, room: str, server: ChatServer) -> None:
    ada.enter(room, "Ada")
    entries = json.loads(
        ada.driver.execute_script("return JSON.stringify(performance.getEntriesByType('resource').map(e => e.name))")
    )
    assert entries
    assert [name for name in entries if not name.startswith(server.url)] == []

"""One person's browser window with the example project in it, and pictures of it."""

from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.example.conftest import LIMIT, ROOT, ChatServer

__all__ = ["Window", "expect_errors_of_a_missing_server", "take_picture"]

SCREENSHOTS = ROOT / "build" / "screenshots"

#: What Chromium itself writes while there is no server. Anything else is an error of the page.
_NO_SERVER = ("net::ERR_", "WebSocket connection to", "Failed to load resource")

_MESSAGES = """
return [...document.querySelectorAll(".message:not(.pending)")].map(
    (item) => [item.dataset.name, item.querySelector("p").textContent]);
"""
_TOO_WIDE = """
return [...document.querySelectorAll("main, form, .rooms, #log, .site, .pictures, .picture")]
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
        # The page may go between the look for an element and the look at it.
        waiting = WebDriverWait(
            self.driver, LIMIT, poll_frequency=0.1, ignored_exceptions=[StaleElementReferenceException]
        )
        try:
            waiting.until(lambda _: condition())
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
        # As the page has it: Selenium's own way asks by a program that takes a hundredth of a second.
        return self.find("main").get_dom_attribute("data-state")

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

    def wait_for_people(self, count: int) -> None:
        self.wait(lambda: self.find("#people").text == f"{count} here", f"{count} are counted")

    def wait_for_tick(self) -> None:
        self.wait(lambda: self.find("#ticker").text, "the ticker ticks")

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


def expect_errors_of_a_missing_server(*windows: Window) -> None:
    """Take from the browsers' logs what cannot be avoided while a server is away, and nothing else."""
    for window in windows:
        assert [error for error in window.errors() if not any(known in error for known in _NO_SERVER)] == []


def take_picture(window: Window, name: str, width: int, height: int) -> None:
    """Keep a picture, which must be one, of a page in which nothing is wider than its place."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    picture = SCREENSHOTS / f"{name}.png"
    assert window.driver.save_screenshot(str(picture))
    header = picture.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (width, height)
    assert window.driver.execute_script("return document.documentElement.scrollWidth") <= width, name
    assert window.driver.execute_script(_TOO_WIDE) == [], name

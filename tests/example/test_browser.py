"""The example project in a real browser: two people talk, and their server does not always stay."""

import json
import signal
import uuid
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.example.conftest import ChatServer
from tests.example.window import Window, expect_errors_of_a_missing_server, take_picture

pytestmark = [pytest.mark.browser, pytest.mark.untraced]


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
    ada.wait_for_people(2)


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
    try:
        grace.open("/notices/")
        grace.find("#id_text").send_keys("It works again" + Keys.ENTER)
        grace.wait(lambda: "Everybody who is in a room" in grace.text(), "the page says that it was sent")
    finally:
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
    ada.wait_for_tick()

    for scheme in ("light", "dark"):
        for device, width, height in [("desktop", 1280, 800), ("mobile", 360, 740)]:
            ada.emulate(scheme=scheme, width=width, height=height)
            take_picture(ada, f"room-{scheme}-{device}", width, height)
    ada.emulate(scheme="light", width=360, height=740)
    for name, path in [("home", "/"), ("notices", "/notices/")]:
        ada.open(path)
        ada.wait_for_tick()
        take_picture(ada, f"{name}-light-mobile", 360, 740)


def test_nothing_comes_from_elsewhere(ada: Window, room: str, server: ChatServer) -> None:
    ada.enter(room, "Ada")
    entries = json.loads(
        ada.driver.execute_script("return JSON.stringify(performance.getEntriesByType('resource').map(e => e.name))")
    )
    assert entries
    assert [name for name in entries if not name.startswith(server.url)] == []

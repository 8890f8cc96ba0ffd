"""The example project on two servers with Valkey between them, in a real browser: one window on each server."""

import signal
import uuid
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.keys import Keys

from tests.example.conftest import ChatServer
from tests.example.window import Window, expect_errors_of_a_missing_server, take_picture
from tests.servers import Server

pytestmark = [pytest.mark.browser, pytest.mark.untraced]


@pytest.fixture(scope="module")
def valkey() -> Iterator[Server]:
    """What the two servers talk through. It keeps nothing on disk: after a restart it is empty."""
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, valkey: Server) -> Iterator[tuple[ChatServer, ChatServer]]:
    one = ChatServer(tmp_path_factory.mktemp("one"), redis_url=valkey.url)
    two = ChatServer(tmp_path_factory.mktemp("two"), redis_url=valkey.url, database=one.database)
    for server in (one, two):
        server.start()
    yield one, two
    for server in (one, two):
        server.stop()
    logs = [server.log.read_text() for server in (one, two)]
    assert [log for log in logs if "Traceback" in log or "ERROR" in log] == []


@pytest.fixture
def windows(
    browsers: tuple[webdriver.Chrome, webdriver.Chrome], servers: tuple[ChatServer, ChatServer]
) -> Iterator[tuple[Window, Window]]:
    """Ada's window on the first server, and Grace's on the second one."""
    pair = Window(browsers[0], servers[0]), Window(browsers[1], servers[1])
    for window in pair:
        window.leave()
        window.errors()
    room = servers[0].open_room("Harbour")
    for window, name in zip(pair, ("Ada", "Grace"), strict=True):
        window.enter(room, name)
    yield pair
    errors = [error for window in pair for error in window.errors()]
    for window in pair:
        window.leave()
        window.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    servers[0].close_room(room)
    assert errors == []


@pytest.fixture
def ada(windows: tuple[Window, Window]) -> Window:
    return windows[0]


@pytest.fixture
def grace(windows: tuple[Window, Window]) -> Window:
    return windows[1]


def test_the_chat_crosses_between_the_servers(ada: Window, grace: Window) -> None:
    assert ada.server.port != grace.server.port
    ada.wait_for_line("Grace joined")
    for window in (ada, grace):
        window.wait_for_people(2)

    conversation = []
    for number, (window, name) in enumerate([(ada, "Ada"), (grace, "Grace"), (ada, "Ada")]):
        window.say(f"Line {number}")
        conversation.append((name, f"Line {number}"))
        for other in (ada, grace):
            other.wait_for_messages(conversation)

    grace.leave()
    ada.wait_for_line("Grace left")
    ada.wait_for_people(1)


def test_a_notice_of_one_server_appears_on_both(ada: Window, grace: Window) -> None:
    """The view is synchronous, and sends by `layer.sync`."""
    grace.find("[popovertarget]").click()
    grace.find("#id_text").send_keys("The crane stops at noon" + Keys.ENTER)
    for window in (ada, grace):
        window.wait_for_line("The crane stops at noon")
    ada.say("Seen")
    grace.say("Seen as well")
    for window in (ada, grace):
        window.wait_for_count(2)
        assert sum("The crane stops" in line for line in window.lines()) == 1


def test_pictures_of_both_windows(ada: Window, grace: Window) -> None:
    conversation = [
        (ada, "Good morning from the first server."),
        (grace, "And from the second one. Is the harbour open?"),
        (ada, "Since six. Three boats came in."),
    ]
    for number, (window, text) in enumerate(conversation, 1):
        window.say(text)
        for other in (ada, grace):
            other.wait_for_count(number)
    grace.find("[popovertarget]").click()
    grace.find("#id_text").send_keys("The crane stops at noon" + Keys.ENTER)
    for window, name in ((ada, "one"), (grace, "two")):
        window.wait_for_line("The crane stops at noon")
        window.wait_for_tick()
        window.emulate(scheme="light", width=800, height=600)
        take_picture(window, f"room-redis-{name}", 800, 600)


def test_a_killed_server_comes_back(ada: Window, grace: Window, servers: tuple[ChatServer, ChatServer]) -> None:
    ada.say("Before")
    grace.wait_for_messages([("Ada", "Before")])

    servers[1].stop(signal.SIGKILL)
    try:
        grace.wait_offline()
        ada.say("You cannot see this")
        ada.wait_for_count(2)
        grace.say("Is it back?")
    finally:
        servers[1].start()

    grace.wait_online()
    expected = [("Ada", "Before"), ("Ada", "You cannot see this"), ("Grace", "Is it back?")]
    for window in (ada, grace):
        window.wait_for_messages(expected)
    ada.say("And on it goes")
    grace.wait_for_messages([*expected, ("Ada", "And on it goes")])
    # The other server was never disturbed.
    assert ada.close_codes() == []
    expect_errors_of_a_missing_server(grace)


def test_valkey_comes_back_empty(ada: Window, grace: Window, valkey: Server) -> None:
    ada.say("Before")
    grace.wait_for_messages([("Ada", "Before")])

    valkey.kill()
    # It is stored, and told when there is somebody again who carries it.
    ada.say("Into the dark")
    ada.wait(lambda: ada.server.execute("SELECT count(*) FROM chat_message") == [(2,)], "it is stored")
    # Somebody's words that no layer will ever carry: the pages find them in the database.
    ada.server.store("harbour", "Alan", "From nowhere", key=uuid.uuid4().hex)
    valkey.start()

    for window in (ada, grace):
        window.wait_for_count(3)
        assert sorted(window.messages()[1:]) == [("Ada", "Into the dark"), ("Alan", "From nowhere")]
    grace.say("And on it goes")
    for window in (ada, grace):
        assert window.wait_for_count(4)[3] == ("Grace", "And on it goes")
        # Nobody had to connect anew.
        assert window.close_codes() == []

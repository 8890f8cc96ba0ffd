"""The tutorial, followed to the letter from an empty directory, with a real server and real clients at each step."""

import http.cookiejar
import json
import re
import sqlite3
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.remote.webelement import WebElement
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.docs.conftest import PAGES, after
from tests.docs.project import LIMIT, Project, wait_until
from tests.example.conftest import start_chromium

pytestmark = pytest.mark.untraced


def enter(project: Project, room: str, *, origin: str | None = None) -> ClientConnection:
    """Open the WebSocket that the page of a room opens."""
    headers = {"Origin": origin or f"http://{project.address}"}
    return connect(f"ws://{project.address}/ws/chat/{room}/", additional_headers=headers, open_timeout=LIMIT)


def say(socket: ClientConnection, name: str, text: str) -> None:
    socket.send(json.dumps({"name": name, "text": text}))


def hear(socket: ClientConnection) -> Any:
    return json.loads(socket.recv(timeout=LIMIT))


def get(project: Project, path: str) -> str:
    with urllib.request.urlopen(f"http://{project.address}{path}", timeout=LIMIT) as response:
        body: bytes = response.read()
    return body.decode()


def post_notice(project: Project, text: str) -> None:
    """Fill in the form of /notice/ as a browser does, cookie and token included."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    url = f"http://{project.address}/notice/"
    with opener.open(url, timeout=LIMIT) as response:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', response.read().decode())
    assert token is not None
    data = urllib.parse.urlencode({"csrfmiddlewaretoken": token[1], "text": text}).encode()
    with opener.open(url, data, timeout=LIMIT) as response:
        assert response.status == 200


def test_there_is_a_fixture_for_each_page() -> None:
    assert [page.name[0] for page in PAGES] == ["1", "2", "3", "4", "5"]


def test_step_1_is_djangos_rocket(step_1: Project) -> None:
    assert "The install worked successfully" in get(step_1, "/")


def test_step_2_shows_a_page(step_2: Project) -> None:
    page = get(step_2, "/chat/lobby/")
    assert '<body data-room="lobby">' in page
    assert "new WebSocket(" in page


def test_step_2_lets_two_browsers_talk(step_2: Project) -> None:
    with enter(step_2, "lobby") as ada, enter(step_2, "lobby") as grace, enter(step_2, "kitchen") as alan:
        say(ada, "Ada", "Hello")
        assert hear(ada) == hear(grace) == {"name": "Ada", "text": "Hello"}
        say(alan, "Alan", "Is nobody here?")
        assert hear(alan) == {"name": "Alan", "text": "Is nobody here?"}
        say(grace, "Grace", "Hello, Ada")
        # Nothing of the kitchen stands between the two.
        assert hear(ada) == hear(grace) == {"name": "Grace", "text": "Hello, Ada"}


def test_step_2_logs_the_line_that_the_page_shows(step_2: Project) -> None:
    shown = "WebSocket CONNECT /ws/chat/lobby/ [127.0.0.1:"
    assert shown in PAGES[1].read_text()
    with enter(step_2, "lobby"):
        wait_until(lambda: shown in step_2.log.read_text(), lambda: shown)


def test_step_2_refuses_a_page_of_another_site(step_2: Project) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        enter(step_2, "lobby", origin="http://elsewhere.example")


def test_step_2_has_nothing_at_another_path(step_2: Project) -> None:
    with pytest.raises(InvalidStatus, match="404"):
        enter(step_2, "lobby/more")


def test_step_3_tells_every_room(step_3: Project) -> None:
    with enter(step_3, "lobby") as ada, enter(step_3, "kitchen") as alan:
        post_notice(step_3, "Tea is ready")
        assert hear(ada) == hear(alan) == {"name": "Notice", "text": "Tea is ready"}
        say(ada, "Ada", "Coming")
        assert hear(ada) == {"name": "Ada", "text": "Coming"}


def test_step_3_reaches_its_own_process_only(step_3: Project) -> None:
    send = (
        "from sealane.layers import get_channel_layer; "
        "get_channel_layer().sync.group_send('everyone', {'type': 'chat.notice', 'text': 'from the shell'})"
    )
    with enter(step_3, "lobby") as ada:
        step_3.execute("manage.py", "shell", "--command", send)
        post_notice(step_3, "from the server")
        assert hear(ada)["text"] == "from the server"


def test_step_4_keeps_what_was_said(step_4: Project) -> None:
    with enter(step_4, "attic") as ada:
        for text in ("one", "two"):
            say(ada, "Ada", text)
            assert hear(ada) == {"name": "Ada", "text": text}
    with enter(step_4, "attic") as grace:
        assert [hear(grace)["text"], hear(grace)["text"]] == ["one", "two"]
        say(grace, "Grace", "three")
        assert hear(grace) == {"name": "Grace", "text": "three"}
    step_4.stop()
    step_4.serve()
    with enter(step_4, "attic") as ada:
        assert [hear(ada)["text"] for _ in range(3)] == ["one", "two", "three"]
    database = sqlite3.connect(step_4.directory / "db.sqlite3")
    try:
        assert database.execute("SELECT name, text FROM chat_message WHERE room = 'attic'").fetchall() == [
            ("Ada", "one"),
            ("Ada", "two"),
            ("Grace", "three"),
        ]
    finally:
        database.close()


def test_step_4_tells_every_room_still(step_4: Project) -> None:
    with enter(step_4, "cellar") as ada:
        post_notice(step_4, "Tea is ready")
        assert hear(ada) == {"name": "Notice", "text": "Tea is ready"}


def test_step_5_is_a_test_that_passes(step_4: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    project = Project(after(5, step_4, tmp_path_factory))
    project.follow(PAGES[4])


def test_step_5_notices_a_chat_that_does_not_work(step_4: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    project = Project(after(5, step_4, tmp_path_factory))
    consumers = project.directory / "chat" / "consumers.py"
    source = consumers.read_text()
    assert 'order_by("-id")' in source
    consumers.write_text(source.replace('order_by("-id")', "none()"))
    with pytest.raises(AssertionError, match="ERROR: test_what_was_said_is_there_for_who_comes_later"):
        project.follow(PAGES[4])


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    browser = start_chromium(tmp_path)
    yield browser
    browser.quit()


@pytest.mark.browser
def test_two_windows_of_a_browser_talk_and_come_back(step_4: Project, chromium: webdriver.Chrome) -> None:
    def field(name: str) -> WebElement:
        return chromium.find_element("id", name)

    def lines() -> list[str]:
        return field("log").text.splitlines()

    def shows(*expected: str) -> None:
        wait_until(lambda: lines() == list(expected), lambda: f"the page shows {expected}; it shows {lines()}")

    def say_it(text: str) -> None:
        field("text").send_keys(f"{text}\n")

    windows = []
    for name in ("Ada", "Grace"):
        chromium.switch_to.new_window("window")
        chromium.get(f"http://{step_4.address}/chat/porch/")
        field("name").send_keys(name)
        windows.append(chromium.current_window_handle)
    # Grace's window is open, so is its socket when it says something that it hears itself.
    wait_until(lambda: chromium.execute_script("return socket.readyState") == 1, lambda: "the socket is open")
    say_it("Hello")
    shows("Grace: Hello")
    chromium.switch_to.window(windows[0])
    shows("Grace: Hello")
    post_notice(step_4, "Tea is ready")
    shows("Grace: Hello", "Notice: Tea is ready")
    step_4.stop()
    step_4.serve()
    # The page has come back by itself, and has what was kept.
    shows("Grace: Hello")
    say_it("<b>Still here</b>")
    shows("Grace: Hello", "Ada: <b>Still here</b>")

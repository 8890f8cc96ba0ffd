"""A rolling restart under load: two server processes are restarted one after the other, and nobody misses anything.

What runs is the project of the guides on deploys, and the clients of the guide, on real servers.
"""

import asyncio
import logging
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.deploys.balancer import Balancer
from tests.deploys.front import front_without_tls
from tests.deploys.site import LIMIT, Gunicorn, Process, Site
from tests.deploys.visitors import Follower, load_follow, speak
from tests.example.conftest import start_chromium
from tests.servers import PostgreSQL, Server

logger = logging.getLogger(__name__)

pytestmark = [pytest.mark.untraced, pytest.mark.timeout(240)]

#: Seconds within which everybody is to be back, also on a busy machine.
BACK = 15.0


@pytest.fixture
def new_site(valkey: Server) -> Iterator[Callable[..., Site]]:
    """Call it with the settings of a database, or without, for one in a file."""
    with ExitStack() as stack:

        def make(database: dict[str, Any] | None = None) -> Site:
            site = Site(valkey.url, database)
            stack.callback(site.close)
            return site

        yield make


async def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait for a condition that other processes bring about."""
    try:
        async with asyncio.timeout(LIMIT):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(what()) from None


async def start(*processes: Process) -> None:
    for process in processes:
        process.start()
    for process in processes:
        await asyncio.to_thread(process.wait_until_ready)


async def restart(process: Process) -> None:
    process.terminate()
    await asyncio.to_thread(process.wait_end)
    await start(process)


class Load:
    """Those who follow a room and those who speak in it, while something happens."""

    def __init__(self, followers: int, *, reset: list[str] | None = None) -> None:
        self.followers = [Follower() for _ in range(followers)]
        self._reset = reset
        #: What the speakers were told to be committed.
        self.said: list[str] = []

    @asynccontextmanager
    async def on(self, site: Site, port: int) -> AsyncIterator[None]:
        """Begin, and after the body, wait until all have been told everything."""
        # With it, the clients take more of the machine than the servers that they try.
        asyncio.get_running_loop().set_debug(False)
        follow, enough = load_follow(site.directory), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            socket, url = f"ws://127.0.0.1:{port}/ws/chat/lobby/", f"http://127.0.0.1:{port}"
            following = [tasks.create_task(follower.follow(follow, socket)) for follower in self.followers]
            speaking = [tasks.create_task(speak(url, name, enough, reset=self._reset)) for name in ("Ada", "Grace")]
            await until(lambda: all(follower.is_here for follower in self.followers), lambda: self.followers)
            yield
            enough.set()
            for speaker in speaking:
                self.said += await speaker
            last, _ = site.committed()[-1]
            await until(
                lambda: all(follower.is_here and follower.numbers[-1] >= last for follower in self.followers),
                lambda: (last, self.followers),
            )
            for task in following:
                task.cancel()

    @property
    def closes(self) -> Counter[int]:
        """The codes with which connections were closed, and how often."""
        return sum((follower.codes for follower in self.followers), Counter[int]())

    def check(self, site: Site, within: float = BACK) -> None:
        """Raise where a client was closed without a word, stayed away, or has not seen all, each once, in order."""
        assert set(self.closes) == {1012}
        absences = [seconds for follower in self.followers for seconds in follower.absences]
        assert len(absences) == self.closes.total()
        # For the guide, which has the figures: --log-cli-level=info shows them.
        logger.info(
            "%d returns: median %.2f s, worst %.2f s", len(absences), statistics.median(absences), max(absences)
        )
        assert max(absences) < within

        committed = site.committed()
        numbers, texts = [number for number, _ in committed], [text for _, text in committed]
        assert numbers == [*range(1, len(committed) + 1)]
        assert set(self.said) <= set(texts)
        for follower in self.followers:
            assert follower.numbers == numbers
            assert follower.texts == texts


async def test_nobody_misses_a_message(new_site: Callable[..., Site], postgresql: PostgreSQL, valkey: Server) -> None:
    site = new_site(postgresql.settings)
    processes = [site.new_process() for _ in range(2)]
    await start(*processes)
    ports = [process.port for process in processes]
    load = Load(48)
    async with Balancer(ports) as balancer:
        for port in ports:
            await balancer.until_ready(port)
        async with load.on(site, balancer.port):
            for process in processes:
                before = load.closes.total()
                await restart(process)
                await balancer.until_ready(process.port)
                # Half of them were there; in the second round nearly all, since nobody goes back by himself.
                assert load.closes.total() - before >= len(load.followers) // 3
    load.check(site)
    # The balancer knew which server to ask: no request has failed.
    assert Counter(load.said) == Counter(text for _, text in site.committed())

    # One disconnect() for each connection: those that the servers closed, and the last ones, which were cancelled. (The
    # library of the clients has a code for that, and had another one.)
    await until(lambda: len(site.notes()) >= load.closes.total() + len(load.followers), site.notes)
    ends = Counter(site.notes())
    assert (ends.pop("1012"), ends.total()) == (load.closes.total(), len(load.followers))
    assert set(ends) <= {"1000", "1011"}
    for process in processes:
        process.terminate()
        await asyncio.to_thread(process.wait_end)
    assert site.complaints() == []
    # Their layers were closed: no mailbox is left to its lease, and no group has members. A sender's last number stays
    # for minutes.
    keys: list[bytes] = valkey.command("KEYS", "*")
    assert [key for key in keys if b":s:" not in key] == []


async def test_gunicorn_changes_its_workers(new_site: Callable[..., Site]) -> None:
    """On SIGHUP, as by ``systemctl reload``: the port stays open, and workers that drain refuse some who come back."""
    site = new_site()
    process = site.new_process(Gunicorn)
    await start(process)
    reset: list[str] = []
    load = Load(12, reset=reset)
    async with load.on(site, process.port):
        process.reload()
        ended = Gunicorn.WORKERS
        await until(
            lambda: process.log.read_text().count("Application shutdown complete.") == ended, process.log.read_text
        )
    # The new ones have to start first, and how long that takes is the machine's business.
    load.check(site, within=LIMIT)
    assert load.closes.total() == len(load.followers)
    # Nothing twice, and nothing but what was said, or met a worker that closed the port.
    unanswered = Counter(text for _, text in site.committed()) - Counter(load.said)
    assert unanswered <= Counter(reset)
    assert site.notes().count("1012") == len(load.followers)
    process.terminate()
    await asyncio.to_thread(process.wait_end)
    assert site.complaints() == []


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    browser = start_chromium(tmp_path / "chromium")
    yield browser
    browser.quit()


def lines(browser: webdriver.Chrome) -> list[str]:
    found: list[str] = browser.execute_script(
        "return [...document.querySelectorAll('#log li')].map((item) => item.textContent);"
    )
    return found


@pytest.mark.browser
@pytest.mark.usefixtures("need_nginx")
async def test_a_page_behind_nginx(new_site: Callable[..., Site], browser: webdriver.Chrome) -> None:
    """nginx asks no server whether it is ready: it tries, and goes to the next one."""
    site = new_site()
    processes = [site.new_process(unix=True) for _ in range(2)]
    nginx = front_without_tls([process.path for process in processes])
    site.origins.append(f"http://127.0.0.1:{nginx.port}")
    await start(*processes)
    load = Load(8)
    with nginx:
        await asyncio.to_thread(browser.get, f"http://127.0.0.1:{nginx.port}/chat/lobby/")
        async with load.on(site, nginx.port):
            for process in processes:
                await restart(process)
            # Somebody says something by the form of the page.
            await asyncio.to_thread(browser.find_element(By.NAME, "name").send_keys, "Alan")
            await asyncio.to_thread(browser.find_element(By.NAME, "text").send_keys, "Is it over?" + Keys.ENTER)
            await until(lambda: "Alan: Is it over?" in lines(browser), lambda: lines(browser))
        load.check(site)
        said = [text for _, text in site.committed()]
        await until(lambda: len(lines(browser)) >= len(said), lambda: lines(browser))
        assert [line.partition(": ")[2] for line in lines(browser)] == said
        codes = browser.execute_script("return window.closeCodes;")
        assert codes
        assert set(codes) == {1012}
        assert site.notes().count("1012") == load.closes.total() + len(codes)
    assert site.complaints() == []

"""A rolling restart under load: two server processes are restarted one after the other, and nobody misses anything.

What runs is the project of the guides on deploys, and the client of the guide, on real servers.
"""

import asyncio
import logging
import statistics
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.deploys.balancer import Balancer
from tests.deploys.site import LIMIT, Process, Site
from tests.deploys.visitors import Follower, load_follow, speak
from tests.servers import PostgreSQL, Server

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.untraced

FOLLOWERS = 48

#: Seconds within which everybody is to be back.
BACK = 5.0

#: Seconds between two messages of a speaker.
PAUSE = 0.04


@pytest.fixture
def site(valkey: Server, postgresql: PostgreSQL) -> Iterator[Site]:
    site = Site(valkey.url, postgresql.settings)
    try:
        yield site
    finally:
        site.close()


async def until(condition: Callable[[], bool], what: Callable[[], object]) -> None:
    """Wait for a condition that other processes bring about."""
    try:
        async with asyncio.timeout(LIMIT):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(what()) from None


async def test_a_rolling_restart(site: Site) -> None:
    one, two = site.new_process(), site.new_process()
    assert isinstance(one.place, int)
    assert isinstance(two.place, int)
    for process in (one, two):
        process.start()
    for process in (one, two):
        await asyncio.to_thread(process.wait_until_ready)

    followers = [Follower() for _ in range(FOLLOWERS)]
    async with Balancer([one.place, two.place]) as balancer, asyncio.TaskGroup() as tasks:
        await balancer.until_ready(one.place)
        await balancer.until_ready(two.place)
        follow, enough = load_follow(site.directory), asyncio.Event()
        socket_url, url = f"ws://127.0.0.1:{balancer.port}/ws/chat/lobby/", f"http://127.0.0.1:{balancer.port}"
        following = [tasks.create_task(follower.follow(follow, socket_url)) for follower in followers]
        speaking = [tasks.create_task(speak(url, name, PAUSE, enough)) for name in ("Ada", "Grace")]
        await until(lambda: all(follower.is_here for follower in followers), lambda: followers)

        for process in (one, two):
            before = sum(follower.codes.total() for follower in followers)
            await restart(process, balancer)
            closed = sum(follower.codes.total() for follower in followers) - before
            # Half of them were there; in the second round nearly all, since nobody goes back by himself.
            assert closed >= FOLLOWERS // 3
        enough.set()
        said = [text for speaker in speaking for text in await speaker]
        await until(
            lambda: all(len(follower.numbers) >= len(said) and follower.is_here for follower in followers),
            lambda: (len(said), followers),
        )
        for task in following:
            task.cancel()

    closes = sum((follower.codes for follower in followers), Counter[int]())
    assert set(closes) == {1012}
    absences = [seconds for follower in followers for seconds in follower.absences]
    assert len(absences) == closes.total()
    # For the guide, which has the figures: --log-cli-level=info shows them.
    logger.info("%d returns: median %.2f s, worst %.2f s", len(absences), statistics.median(absences), max(absences))
    assert max(absences) < BACK

    for follower in followers:
        assert follower.numbers == [*range(1, len(said) + 1)]
        assert Counter(follower.texts) == Counter(said)

    # One disconnect() for each connection: those that the servers closed, and the last ones, which were cancelled.
    await until(lambda: len(site.notes()) >= closes.total() + FOLLOWERS, site.notes)
    assert Counter(site.notes()) == {"1012": closes.total(), "1011": FOLLOWERS}
    for process in (one, two):
        process.terminate()
        await asyncio.to_thread(process.wait_end)
    assert site.complaints() == []


async def restart(process: Process, balancer: Balancer) -> None:
    """Restart a process as the guide does, and return when it gets new clients again."""
    assert isinstance(process.place, int)
    process.terminate()
    await asyncio.to_thread(process.wait_end)
    process.start()
    await asyncio.to_thread(process.wait_until_ready)
    await balancer.until_ready(process.place)

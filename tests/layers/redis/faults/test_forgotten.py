"""A server that somebody else has emptied: whoever waits for or owns a plain channel is known again."""

import asyncio
from collections.abc import Callable

import pytest

from sealane.layers import Inbox
from sealane.layers.redis.layer import RedisLayer
from tests.layers.redis.faults.conftest import NewLayer
from tests.servers import Server

pytestmark = pytest.mark.untraced

#: Seconds. It only bounds a hang.
PATIENCE = 30.0


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("early", [False, True], ids=["before", "after"])
async def test_those_who_receive_are_known_again_although_another_process_is(
    new_server: Callable[..., Server], new_layer: NewLayer, kind: type[RedisLayer], early: bool
) -> None:
    """One process enters again before the other has looked, be it by a call of its own; so the channel is known."""
    server = new_server()
    here, there = new_layer([server.url], kind, lease=1.5), new_layer([server.url], kind, lease=0.6)
    waiting = [asyncio.create_task(layer.receive("jobs")) for layer in (here, here, there)]

    def waiters() -> int:
        return sum(server.command("LLEN", key) for key in server.keys("*:w:jobs"))

    await _until(lambda: waiters() == 3)
    await asyncio.to_thread(server.command, "FLUSHALL")
    if early:
        # One more of the first process.
        waiting.append(asyncio.create_task(here.receive("jobs")))
    await _until(lambda: waiters() == len(waiting))
    for number in range(len(waiting)):
        await there.send("jobs", {"type": "job", "number": number})
    async with asyncio.timeout(PATIENCE):
        messages = await asyncio.gather(*waiting)
    assert sorted(message["number"] for message in messages) == list(range(len(waiting)))


async def test_an_owner_is_known_again_although_another_process_waits(
    new_server: Callable[..., Server], new_layer: NewLayer, kind: type[RedisLayer]
) -> None:
    server = new_server()
    here, there = new_layer([server.url], kind, lease=1.5), new_layer([server.url], kind, lease=0.6)
    inbox = here.attach("jobs", lambda: None)
    assert isinstance(inbox, Inbox)
    waiting = asyncio.create_task(there.receive("jobs"))
    await _until(lambda: server.keys("*:w:jobs") and server.keys("*:o:jobs"))
    await asyncio.to_thread(server.command, "FLUSHALL")
    await _until(lambda: server.keys("*:w:jobs") and server.keys("*:o:jobs"))
    for number in range(2):
        await there.send("jobs", {"type": "job", "number": number})
    async with asyncio.timeout(PATIENCE):
        first = (await waiting)["number"]
        while (message := inbox.take()) is None:
            await asyncio.sleep(0.01)
    assert {first, message["number"]} == {0, 1}

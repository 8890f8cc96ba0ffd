"""An idle connection has one task: the second one ends where it has had nothing to do, and comes again with work."""

import asyncio
import gc
import random
from typing import Any

import pytest

from sealane.consumers import AsyncWebsocketConsumer
from sealane.consumers.second_tasks import BATCH, SecondTasks, second_tasks_of
from sealane.layers import InMemoryChannelLayer
from sealane.types import Message
from tests.consumers.conftest import Run, until
from tests.consumers.test_pushed import READY, Connection, Member, idle, turns


def helpers() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == "sealane-dispatch"]


def looked_after() -> SecondTasks:
    return second_tasks_of(asyncio.get_running_loop())


async def look() -> None:
    """Let the time pass in which a task has to do something to stay: two looks."""
    for _ in range(2):
        looked_after().look()
        await turns()


class Waits(Member):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "wait":
            await asyncio.sleep(0)
        await self.send(text_data=text_data)


def tasks() -> int:
    """How many there are, those that have ended and are still held among them."""
    gc.collect()
    # By its type: a lazy object of another test's, asked by isinstance() for its class, looks for what has gone.
    return sum(issubclass(type(thing), asyncio.Task) for thing in gc.get_objects())


async def test_a_task_that_a_broadcast_made_ends_when_the_room_is_quiet(layer: InMemoryChannelLayer) -> None:
    members = [Connection(Member) for _ in range(2 * BATCH + 1)]
    await idle(layer, *members)
    before = tasks()
    assert len(helpers()) == len(looked_after()) == len(members)
    await look()
    assert helpers() == []
    assert len(looked_after()) == 0
    assert tasks() == before - len(members)
    await layer.group_send("room", READY)
    await until(lambda: all(READY in member.sent for member in members))
    assert len(helpers()) == len(members)
    assert [await member.end() for member in members] == [None] * len(members)
    assert len(looked_after()) == 0


async def test_a_task_that_a_handler_made_which_waited_ends_after_the_next_message(layer: InMemoryChannelLayer) -> None:
    member = Connection(Waits)
    member.text("wait")
    await turns()
    assert len(helpers()) == 1
    # It waits for the client. To cancel that could lose a message.
    await look()
    assert len(helpers()) == 1
    member.text("go on")
    await turns()
    await look()
    assert helpers() == []
    for text in "a", "wait", "b", "c":
        member.text(text)
    await until(lambda: len(member.sent) == 7)
    assert [event["text"] for event in member.sent[1:]] == ["wait", "go on", "a", "wait", "b", "c"]
    assert await member.end() is None


@pytest.mark.parametrize("way", ["fails", "is cancelled"])
async def test_a_client_that_is_lost_after_a_handler_waited_ends_the_run(layer: InMemoryChannelLayer, way: str) -> None:
    lost: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

    class Loses(Connection):
        async def receive(self) -> Message:
            return await (lost if self.arriving.empty() else self.arriving.get())

    member = Loses(Waits)
    member.text("wait")
    await until(lambda: len(member.sent) == 2)
    await turns()
    if way == "fails":
        lost.set_exception(ZeroDivisionError())
    else:
        lost.cancel()
    async with asyncio.timeout(5):
        with pytest.raises(ZeroDivisionError if way == "fails" else asyncio.CancelledError):
            await member.task


async def test_a_task_that_is_of_use_stays(layer: InMemoryChannelLayer) -> None:
    member = Connection(Member)
    await idle(layer, member)
    (helper,) = helpers()
    for _ in range(5):
        looked_after().look()
        await layer.group_send("room", READY)
        await turns()
    assert helpers() == [helper]
    assert await member.end() is None


async def test_what_comes_when_a_task_was_told_to_end_is_handled(layer: InMemoryChannelLayer) -> None:
    got: list[str] = []

    class Pushed(Waits):
        async def said(self, message: Message) -> None:
            if message["text"] == "waits":
                await asyncio.sleep(0)
            got.append(message["text"])

    for text in "at once", "waits":
        member = Connection(Pushed)
        await idle(layer, member)
        dispatcher = member.consumer._dispatcher
        assert dispatcher.dismiss()
        # The task runs in the next turn of the loop, and this comes before it.
        await layer.group_send("room", {"type": "said", "text": text})
        member.text("wait")
        await until(lambda member=member: len(member.sent) == 2)  # type: ignore[misc]
        await turns()
        assert got == [text]
        await layer.group_send("room", {"type": "said", "text": "again"})
        await turns()
        assert got == [text, "again"]
        got.clear()
        assert await member.end() is None


async def test_a_connection_may_end_while_its_task_does(layer: InMemoryChannelLayer) -> None:
    for way in "end", "cancel":
        member = Connection(Member)
        await idle(layer, member)
        looked_after().look()
        looked_after().look()
        await getattr(member, way)()
        assert helpers() == []
        assert len(looked_after()) == 0


def test_the_timer_runs_only_where_there_is_something_to_look_after(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        layer = InMemoryChannelLayer()
        made = second_tasks_of(loop)
        assert made is second_tasks_of(loop)
        assert repr(made) == "<SecondTasks of 0 dispatchers>"
        assert made._timer is None
        made.look()
        assert made._timer is None
        assert layer.stats()["channels"] == 0

    run(main())


class Busy(AsyncWebsocketConsumer):
    """Handles all that comes, and waits now and then."""

    groups = ["room"]

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.texts: list[int] = []
        self.pushed: list[int] = []
        self.handling = False

    async def handle(self, number: int, log: list[int]) -> None:
        assert not self.handling, "two handlers at a time"
        self.handling = True
        log.append(number)
        for _ in range(self.chance.choice((0, 0, 0, 1, 3))):
            await asyncio.sleep(0)
        self.handling = False

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        assert text_data is not None
        await self.handle(int(text_data), self.texts)

    async def said(self, message: Message) -> None:
        await self.handle(message["number"], self.pushed)

    async def quiet(self, message: Message) -> None:
        pass


@pytest.mark.parametrize("seed", range(20))
async def test_nothing_is_lost_whenever_tasks_come_and_go(layer: InMemoryChannelLayer, seed: int) -> None:
    chance = random.Random(seed)
    consumers = [type("Member", (Busy,), {"__init__": lambda self: Busy.__init__(self, chance)}) for _ in range(3)]
    members = [Connection(consumer) for consumer in consumers]
    await idle(layer, *members)
    ended, sent, texts = 0, 0, [0] * len(members)
    for _ in range(600):
        step = chance.random()
        if step < 0.2:
            sent += 1
            await layer.group_send("room", {"type": "said", "number": sent})
        elif step < 0.4:
            number = chance.randrange(len(members))
            texts[number] += 1
            members[number].text(str(texts[number]))
        elif step < 0.6:
            looked_after().look()
        else:
            await turns(chance.choice((1, 1, 2, 5)))
        ended += sum(member.consumer._dispatcher._helper is None for member in members)
    await until(lambda: all(len(member.consumer.pushed) == sent for member in members))  # type: ignore[attr-defined]
    await turns(50)
    for member, count in zip(members, texts, strict=True):
        consumer: Any = member.consumer
        assert consumer.pushed == list(range(1, sent + 1))
        assert consumer.texts == list(range(1, count + 1))
    assert ended, "no task has ended"
    assert [await member.end() for member in members] == [None] * len(members)
    assert helpers() == []

"""The messages that reach idle connections: dispatched together, each in the name of its own connection's task."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sealane.consumers.dispatch import Dispatcher
from sealane.consumers.turn import BATCH, DispatchTurn, turn_of
from sealane.layers import InMemoryChannelLayer
from sealane.types import Message
from tests.consumers.conftest import Run, until

who = contextvars.ContextVar[str]("who", default="nobody")


class Stop(Exception):
    pass


class Member:
    """A connection in the group "room" whose client is quiet. It does as the room's handlers say."""

    def __init__(self, room: "Room", name: str) -> None:
        self.room, self.name = room, name
        self.log: list[Any] = []
        self.task = asyncio.ensure_future(self.connect())

    async def connect(self) -> None:
        who.set(self.name)
        layer = self.room.layer
        self.channel = await layer.new_channel()
        self.dispatcher = Dispatcher(
            self.receive,
            self.dispatch,
            self.dispatch,
            failed=self.failed,
            read_ahead=lambda message: False,
            overflowed=self.overflowed,
        )
        inbox = layer.attach(self.channel, self.dispatcher.wake)
        self.dispatcher.own(inbox)
        await layer.group_add("room", self.channel)
        try:
            await self.dispatcher.run()
        finally:
            await layer.close_channel(self.channel)

    async def receive(self) -> Message:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def dispatch(self, message: Message) -> None:
        self.log.append(message["type"])
        handler = self.room.handlers.get(message["type"])
        if handler is not None:
            await handler(self, message)

    async def failed(self, error: Exception, message: Message) -> None:
        if isinstance(error, Stop):
            raise error
        self.log.append(error)

    async def overflowed(self) -> None:
        raise Stop


class Room:
    """Members, their layer, and what they do with a message."""

    def __init__(self, size: int, **options: Any) -> None:
        self.layer = InMemoryChannelLayer(**options)
        self.handlers: dict[str, Callable[[Member, Message], Awaitable[None]]] = {}
        self.members = [Member(self, f"member {n}") for n in range(size)]

    async def broadcast(self, kind: str, **fields: Any) -> None:
        await self.layer.group_send("room", {"type": kind, **fields})

    async def end(self) -> None:
        self.handlers["end"] = end
        await self.broadcast("end")
        assert [type(error) for error in await self.ended()] == [Stop] * len(self.members)
        assert self.layer.stats()["channels"] == 0

    async def ended(self) -> list[Any]:
        return await asyncio.gather(*(member.task for member in self.members), return_exceptions=True)


async def end(member: Member, message: Message) -> None:
    raise Stop


async def opened(size: int, **options: Any) -> Room:
    """Return a room whose members have got their first message: from then on each has an idle task."""
    room = Room(size, **options)
    await until(lambda: len(getattr(room.layer._exchange.board.groups.get("room"), "members", ())) == size)
    await room.broadcast("hello")
    await until(lambda: all(member.log == ["hello"] for member in room.members))
    await until(lambda: all(member.dispatcher.standby is not None for member in room.members))
    return room


class Ticks:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.count = 0
        self.loop = asyncio.get_running_loop()
        self.handle = self.loop.call_soon(self.tick)

    def tick(self) -> None:
        self.count += 1
        self.handle = self.loop.call_soon(self.tick)


def test_handlers_run_after_the_sender_and_all_in_one_turn(run: Run) -> None:
    async def main() -> None:
        room = await opened(BATCH)
        ticks = Ticks()
        seen: list[int] = []

        async def note(member: Member, message: Message) -> None:
            seen.append(ticks.count)

        room.handlers["note"] = note
        await room.broadcast("note")
        assert seen == [], "a handler ran inside group_send()"
        await until(lambda: len(seen) == BATCH)
        assert len(set(seen)) == 1
        ticks.handle.cancel()
        await room.end()

    run(main())


def test_the_rest_of_the_loop_gets_a_turn_after_each_batch(run: Run) -> None:
    async def main() -> None:
        room = await opened(2 * BATCH + 1)
        ticks = Ticks()
        seen: list[int] = []

        async def note(member: Member, message: Message) -> None:
            seen.append(ticks.count)

        room.handlers["note"] = note
        await room.broadcast("note")
        await until(lambda: len(seen) == 2 * BATCH + 1)
        assert sorted(seen.count(turn) for turn in set(seen)) == [1, BATCH, BATCH]
        ticks.handle.cancel()
        await room.end()

    run(main())


def test_a_handler_runs_in_its_own_task_and_context_before_and_after_it_waits(run: Run) -> None:
    async def main() -> None:
        room = await opened(3)
        tasks: dict[str, list[Any]] = {}

        async def look(member: Member, message: Message) -> None:
            tasks[member.name] = [asyncio.current_task()]
            assert who.get() == member.name
            await asyncio.sleep(0)
            tasks[member.name].append(asyncio.current_task())
            assert who.get() == member.name
            who.set(member.name + " was here")

        async def look_again(member: Member, message: Message) -> None:
            assert who.get() == member.name + " was here"

        room.handlers.update(look=look, again=look_again)
        here = asyncio.current_task()
        await room.broadcast("look")
        assert asyncio.current_task() is here
        await until(lambda: all(len(tasks.get(member.name, ())) == 2 for member in room.members))
        assert all(before is after for before, after in tasks.values())
        assert len({id(before) for before, _ in tasks.values()} | {id(here)}) == 4
        assert who.get() == "nobody"
        await room.broadcast("again")
        await room.end()
        assert all(member.log == ["hello", "look", "again", "end"] for member in room.members)

    run(main())


def test_timeouts_and_task_groups_work_in_a_handler(run: Run) -> None:
    async def main() -> None:
        room = await opened(2)

        async def too_slow(member: Member, message: Message) -> None:
            async with asyncio.timeout(0):
                await asyncio.get_running_loop().create_future()

        async def fails() -> None:
            raise ZeroDivisionError

        async def group(member: Member, message: Message) -> None:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(fails())
                    await asyncio.get_running_loop().create_future()
            except* ZeroDivisionError:
                member.log.append("caught")

        room.handlers.update(slow=too_slow, group=group)
        await room.broadcast("slow")
        await room.broadcast("group")
        await room.broadcast("after")
        await until(lambda: all("after" in member.log for member in room.members))
        for member in room.members:
            assert isinstance(member.log.pop(2), TimeoutError)
            assert member.log == ["hello", "slow", "group", "caught", "after"]
        await room.end()

    run(main())


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_cancelled_connection_cancels_the_handler_that_waits(run: Run, turns: int) -> None:
    async def main() -> None:
        room = await opened(1)
        (member,) = room.members

        async def wait(member: Member, message: Message) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                await asyncio.sleep(0)
                member.log.append("cleaned up")

        room.handlers["wait"] = wait
        await room.broadcast("wait")
        await until(lambda: "wait" in member.log)
        for _ in range(turns):
            await asyncio.sleep(0)
        member.task.cancel()
        assert isinstance((await room.ended())[0], asyncio.CancelledError)
        assert member.log == ["hello", "wait", "cleaned up"]

    run(main())


def test_a_handler_that_cancels_its_own_task_ends_its_connection(run: Run) -> None:
    async def main() -> None:
        room = await opened(2)

        async def cancel_itself(member: Member, message: Message) -> None:
            if member is room.members[0]:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    member.log.append("cancelled")

        room.handlers["cancel"] = cancel_itself
        await room.broadcast("cancel")
        assert isinstance((await asyncio.gather(room.members[0].task, return_exceptions=True))[0], BaseException)
        assert room.members[0].log == ["hello", "cancel", "cancelled"]
        await room.broadcast("after")
        await until(lambda: room.members[1].log == ["hello", "cancel", "after"])
        del room.members[0]
        await room.end()

    run(main())


def test_an_error_concerns_its_own_connection_and_the_next_message_comes(run: Run) -> None:
    async def main() -> None:
        room = await opened(3)

        async def fail(member: Member, message: Message) -> None:
            if member is room.members[1]:
                raise ZeroDivisionError

        room.handlers["fail"] = fail
        await room.broadcast("fail")
        await room.broadcast("after")
        await until(lambda: all(member.log[-1] == "after" for member in room.members))
        assert [len(member.log) for member in room.members] == [3, 4, 3]
        assert isinstance(room.members[1].log[2], ZeroDivisionError)
        await room.end()

    run(main())


def test_messages_keep_their_order_whether_handlers_wait_or_not(run: Run) -> None:
    async def main() -> None:
        room = await opened(5)

        async def sometimes(member: Member, message: Message) -> None:
            member.log.append(message["n"])
            for _ in range((message["n"] * 7 + room.members.index(member)) % 4):
                await asyncio.sleep(0)
            member.log.append(-message["n"])

        room.handlers["n"] = sometimes
        for n in range(1, 41):
            await room.broadcast("n", n=n)
            if n % 3 == 0:
                await asyncio.sleep(0)
        await until(lambda: all(member.log[-1] == -40 for member in room.members))
        for member in room.members:
            assert [entry for entry in member.log if entry not in ("hello", "n")] == [
                signed for n in range(1, 41) for signed in (n, -n)
            ]
        await room.end()

    run(main())


def test_a_handler_may_broadcast_to_its_own_group(run: Run) -> None:
    async def main() -> None:
        room = await opened(3)

        async def echo(member: Member, message: Message) -> None:
            if message["left"] and member is room.members[message["left"] % 3]:
                await room.broadcast("echo", left=message["left"] - 1)

        room.handlers["echo"] = echo
        await room.broadcast("echo", left=500)
        await until(lambda: all(member.log.count("echo") == 501 for member in room.members))
        await room.end()

    run(main())


def test_a_channel_that_an_earlier_handler_closed_gets_what_was_taken_for_it(run: Run) -> None:
    async def main() -> None:
        room = await opened(3)

        async def close_others(member: Member, message: Message) -> None:
            for other in room.members:
                if other is not member:
                    await room.layer.close_channel(other.channel)

        room.handlers["close"] = close_others
        await room.broadcast("close")
        await until(lambda: all(member.log == ["hello", "close"] for member in room.members))
        stats = room.layer.stats()
        assert (stats["delivered"], stats["dropped_closed"], stats["channels"]) == (6, 0, 0)
        for member in room.members:
            member.task.cancel()
        await room.ended()

    run(main())


def test_stop_from_a_handler_ends_the_run(run: Run) -> None:
    async def main() -> None:
        room = await opened(2)

        async def leave(member: Member, message: Message) -> None:
            assert member.dispatcher.stop(Stop())

        room.handlers["leave"] = leave
        await room.broadcast("leave")
        assert [type(error) for error in await room.ended()] == [Stop, Stop]

    run(main())


def test_an_overflow_is_told(run: Run) -> None:
    async def main() -> None:
        room = await opened(2, capacity=2, overflow="close")
        for n in range(4):
            await room.broadcast(f"message {n}")
        assert [type(error) for error in await room.ended()] == [Stop, Stop]

    run(main())


def test_inboxes_of_several_layers_are_served_in_one_turn(run: Run) -> None:
    async def main() -> None:
        rooms = [await opened(2), await opened(2)]
        for kind in "one", "two":
            for room in rooms:
                await room.broadcast(kind)
        await until(lambda: all(member.log == ["hello", "one", "two"] for room in rooms for member in room.members))
        for room in rooms:
            await room.end()

    run(main())


def test_a_thread_can_broadcast(run: Run) -> None:
    async def main() -> None:
        room = await opened(3)

        def send() -> None:
            for n in range(50):
                room.layer.sync.group_send("room", {"type": f"message {n}"})

        await asyncio.to_thread(send)
        expected = ["hello", *(f"message {n}" for n in range(50))]
        await until(lambda: all(member.log == expected for member in room.members))
        await room.end()

    run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_was_closed_with_a_broadcast_under_way_is_forgotten() -> None:
    loop = asyncio.new_event_loop()
    room = loop.run_until_complete(opened(3))
    left = asyncio.all_tasks(loop)
    for task in left:
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # this test means to destroy them
    loop.close()
    sender = threading.Thread(target=room.layer.sync.group_send, args=("room", {"type": "late"}))
    sender.start()
    sender.join()
    stats = room.layer.stats()
    assert (stats["channels"], stats["groups"], stats["waiting"]) == (0, 0, 0)
    turn = turn_of(loop, room.layer._exchange)
    assert turn.due == []
    assert not turn.scheduled
    del room, left, task
    gc.collect()  # what was left of the connections is this test's own


def test_a_loop_has_one_turn_which_goes_with_it() -> None:
    async def main() -> "weakref.ref[DispatchTurn]":
        loop = asyncio.get_running_loop()
        exchange = InMemoryChannelLayer()._exchange
        turn = turn_of(loop, exchange)
        assert turn_of(loop, exchange) is turn
        assert turn_of(loop, InMemoryChannelLayer()._exchange) is not turn
        assert turn.loop is loop
        return weakref.ref(turn)

    forgotten = asyncio.run(main())
    gc.collect()
    assert forgotten() is None

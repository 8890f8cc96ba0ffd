"""await_many_dispatch(): order, fairness, nothing lost, nothing left behind."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from sealane.consumers import await_many_dispatch
from sealane.types import Message, Receive
from tests.consumers.conftest import Run, until


def numbered(name: str, count: int) -> list[Message]:
    return [{"type": "number", "source": name, "n": n} for n in range(count)]


def source(messages: list[Message], end: Callable[[], Any] | None = None) -> Receive:
    """A source that always has its next message at once, and then ends in one way or another."""
    remaining = iter(messages)

    async def receive() -> Message:
        for message in remaining:
            return message
        if end is None:
            await asyncio.get_running_loop().create_future()
        raise end()  # type: ignore[misc]

    return receive


class Recorder:
    """A dispatch function that notes what it gets, and that it never runs twice at once."""

    def __init__(self, *, suspend: bool = False) -> None:
        self.messages: list[Message] = []
        self.running = False
        self.suspend = suspend

    async def __call__(self, message: Message) -> None:
        assert not self.running, "two messages are dispatched at once"
        self.running = True
        if self.suspend:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self.messages.append(message)
        self.running = False

    def of(self, name: str) -> list[int]:
        return [message["n"] for message in self.messages if message["source"] == name]


@pytest.mark.parametrize("suspend", [False, True], ids=["handlers that never wait", "handlers that wait"])
def test_each_source_is_dispatched_in_its_order(run: Run, suspend: bool) -> None:
    record = Recorder(suspend=suspend)
    sources = [source(numbered(name, 50), StopAsyncIteration) for name in "abc"]

    run(await_many_dispatch(sources, record))

    assert {name: record.of(name) for name in "abc"} == {name: list(range(50)) for name in "abc"}


@pytest.mark.parametrize("suspend", [False, True], ids=["handlers that never wait", "handlers that wait"])
def test_two_busy_sources_take_turns(run: Run, suspend: bool) -> None:
    record = Recorder(suspend=suspend)

    run(await_many_dispatch([source(numbered(name, 200), StopAsyncIteration) for name in "ab"], record))

    counts = {"a": 0, "b": 0}
    for message in record.messages:
        counts[message["source"]] += 1
        if min(counts.values()) < 200 - 5:
            assert abs(counts["a"] - counts["b"]) <= 5, "one source keeps the other waiting"


def test_the_call_returns_when_every_source_has_ended(run: Run) -> None:
    record = Recorder()
    run(await_many_dispatch([source(numbered("a", 3), StopAsyncIteration)], record))
    assert record.of("a") == [0, 1, 2]
    run(await_many_dispatch([], record))


@pytest.mark.parametrize("ended", [0, 1], ids=["the first", "another"])
def test_the_others_go_on_when_one_source_has_ended(run: Run, ended: int) -> None:
    record = Recorder()
    sources = [source(numbered("long", 40), StopAsyncIteration)]
    sources.insert(ended, source(numbered("short", 2), StopAsyncIteration))

    run(await_many_dispatch(sources, record))

    assert record.of("short") == [0, 1]
    assert record.of("long") == list(range(40))


class Broken(Exception):
    pass


@pytest.mark.parametrize("failing", [0, 1], ids=["the first", "another"])
@pytest.mark.parametrize("error", [Broken, asyncio.CancelledError], ids=["raises", "is cancelled"])
def test_what_was_handed_out_is_dispatched_before_a_source_ends_the_call(
    run: Run, failing: int, error: type[BaseException]
) -> None:
    """Three sources hand out a message while a handler runs; then one of them fails, and the handler goes on."""
    dispatched: list[str] = []

    async def main() -> None:
        running = asyncio.Event()
        go_on = asyncio.Event()
        handed_out: set[str] = set()

        def talker(name: str) -> Receive:
            messages = iter([name])

            async def receive() -> Message:
                for text in messages:
                    await running.wait()
                    handed_out.add(text)
                    return {"type": "text", "text": text}
                await asyncio.get_running_loop().create_future()
                raise AssertionError

            return receive

        first = iter(["first"])

        async def fails() -> Message:
            for text in first:
                return {"type": "text", "text": text}
            raise error

        async def dispatch(message: Message) -> None:
            if message["text"] == "first":
                running.set()
                await go_on.wait()
            dispatched.append(message["text"])

        sources = [talker("b"), talker("c")]
        sources.insert(failing, fails)
        call = asyncio.ensure_future(await_many_dispatch(sources, dispatch))
        await until(lambda: len(handed_out) == 2)
        go_on.set()
        with pytest.raises(error):
            await call

    run(main())
    assert dispatched[0] == "first"
    assert sorted(dispatched) == ["b", "c", "first"]


def test_the_cancellation_of_one_source_ends_the_call_with_it(run: Run) -> None:
    async def main() -> None:
        record = Recorder()
        never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()

        async def waits() -> Message:
            return await never

        call = asyncio.ensure_future(await_many_dispatch([source(numbered("a", 3)), waits], record))
        await until(lambda: len(record.messages) == 3)
        never.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    run(main())


@pytest.mark.parametrize("raising", [0, 1], ids=["the first source's", "another source's"])
def test_an_exception_of_dispatch_is_raised_at_once_and_leaves_no_task(run: Run, raising: int) -> None:
    async def dispatch(message: Message) -> None:
        raise Broken(message["source"])

    sources = [source([])]
    sources.insert(raising, source(numbered("x", 1)))
    with pytest.raises(Broken, match="x"):
        run(await_many_dispatch(sources, dispatch))


def test_a_cancelled_call_cancels_the_handler_and_leaves_no_task(run: Run) -> None:
    cancelled: list[bool] = []

    async def dispatch(message: Message) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        call = asyncio.ensure_future(await_many_dispatch([source([]), source(numbered("b", 1)), source([])], dispatch))
        for _ in range(10):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    run(main())
    assert cancelled == [True]


def test_what_waited_when_dispatch_raised_is_reported(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        handed_out: set[str] = set()

        def talker(name: str) -> Receive:
            async def receive() -> Message:
                handed_out.add(name)
                return {"type": name}

            return receive

        async def dispatch(message: Message) -> None:
            await until(lambda: len(handed_out) == 2)
            raise Broken

        with pytest.raises(Broken):
            await await_many_dispatch([talker("a"), talker("b")], dispatch)

    with caplog.at_level(logging.WARNING, logger="sealane.consumers"):
        run(main())
    assert [record.getMessage() for record in caplog.records if record.name == "sealane.consumers"] == [
        "await_many_dispatch() ended with 1 messages that were received and not dispatched"
    ]


def test_a_source_is_not_called_again_before_its_message_was_dispatched(run: Run) -> None:
    calls = {"a": 0, "b": 0}
    dispatched = {"a": 0, "b": 0}

    def counting(name: str) -> Receive:
        async def receive() -> Message:
            assert calls[name] == dispatched[name], f"{name} was read ahead"
            if calls[name] == 20:
                raise StopAsyncIteration
            calls[name] += 1
            return {"type": "x", "source": name}

        return receive

    async def dispatch(message: Message) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        dispatched[message["source"]] += 1

    run(await_many_dispatch([counting("a"), counting("b")], dispatch))
    assert dispatched == {"a": 20, "b": 20}


def test_no_task_is_started_per_message(run: Run) -> None:
    async def main() -> None:
        started = 0
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()

        def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Future[Any]:
            nonlocal started
            started += 1
            return asyncio.Task(coroutine, loop=loop, **kwargs)

        loop.set_task_factory(factory)
        try:
            sources = [source(numbered(name, 500), StopAsyncIteration) for name in "ab"]
            await await_many_dispatch(sources, Recorder())
        finally:
            loop.set_task_factory(before)
        assert started == 1

    run(main())

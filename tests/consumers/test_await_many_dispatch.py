"""await_many_dispatch(): order, fairness, nothing lost, nothing left behind."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sealane.consumers import await_many_dispatch, pull
from sealane.types import Message, Receive
from tests.consumers.conftest import Run, until


def numbered(name: str, count: int) -> list[Message]:
    return [{"type": "number", "source": name, "n": n} for n in range(count)]


def source(messages: list[Any], end: Callable[[], Any] | None = None) -> Callable[[], Awaitable[Any]]:
    """A source that always has its next message at once, and then ends in one way or another."""
    remaining = iter(messages)

    async def receive() -> Any:
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


class Plain:
    """An object that is nothing but itself."""


@pytest.mark.parametrize("suspend", [False, True], ids=["handlers that never wait", "handlers that wait"])
@pytest.mark.parametrize("others", [0, 1, 2], ids=["one source", "two sources", "three sources"])
@pytest.mark.parametrize(
    "make",
    [str, lambda n: Plain(), lambda n: None, lambda n: n or 0, lambda n: (n, b"x"), lambda n: {}],
    ids=["strings", "objects", "None", "numbers", "tuples", "empty dicts"],
)
def test_a_message_may_be_any_object(run: Run, make: Callable[[int], Any], others: int, suspend: bool) -> None:
    handed_out: list[list[Any]] = [[make(n) for n in range(20)] for _ in range(1 + others)]
    dispatched: list[Any] = []

    async def dispatch(message: Any) -> None:
        if suspend:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        dispatched.append(message)

    run(await_many_dispatch([source(messages, StopAsyncIteration) for messages in handed_out], dispatch))

    assert sorted(map(id, dispatched)) == sorted(id(message) for messages in handed_out for message in messages)


def test_a_message_that_waited_for_its_turn_may_be_any_object(run: Run) -> None:
    """The first source hands out its message while a handler for the other one runs, so that it is put aside."""
    dispatched: list[Any] = []

    async def main() -> None:
        running, go_on = asyncio.Event(), asyncio.Event()
        texts, frames = iter(["text", "more"]), iter([b"bytes"])

        async def first() -> str:
            await running.wait()
            for text in texts:
                go_on.set()
                return text
            raise StopAsyncIteration

        async def other() -> bytes:
            for frame in frames:
                return frame
            raise StopAsyncIteration

        async def dispatch(message: str | bytes) -> None:
            if message == b"bytes":
                running.set()
                await go_on.wait()
            dispatched.append(message)

        await await_many_dispatch([first, other], dispatch)

    run(main())
    assert dispatched == [b"bytes", "text", "more"]


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


def test_a_source_that_answers_its_cancellation_with_a_message_ends_all_the_same(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody waits: the source ends by itself, or the deadline of its end is told.
    monkeypatch.setattr(pull, "SOURCE_TIMEOUT", 0.05)
    answers: list[str] = []

    async def answers_its_cancellation() -> Message:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            answers.append("late")
        return {"type": "late"}

    async def main() -> None:
        record = Recorder()
        sources = [source(numbered("a", 1)), answers_its_cancellation]
        call = asyncio.ensure_future(await_many_dispatch(sources, record))
        await until(lambda: record.messages)
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    with caplog.at_level(logging.WARNING, logger="sealane.consumers"):
        run(main())
    assert answers == ["late"]
    assert [record.getMessage() for record in caplog.records if record.name == "sealane.consumers"] == [
        "await_many_dispatch() ended with 1 messages that were received and not dispatched"
    ]


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

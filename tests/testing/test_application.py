"""ApplicationCommunicator: events in and out, errors at once, and a certain end."""

import asyncio
import contextvars
import gc
import pickle
import re
import time
import traceback
import warnings
from typing import Any

import pytest

from sealane.exceptions import ApplicationEnded, ApplicationTimeout
from sealane.testing import ApplicationCommunicator
from sealane.types import Message, Receive, Scope, Send

SCOPE: Scope = {"type": "test", "path": "/"}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer each event with itself, until it is told to end."""
    while (event := await receive())["type"] not in ("end", "http.disconnect", "websocket.disconnect"):
        await send(event)


class Broken(Exception):
    """What an application raises here."""


async def broken_handler(event: Message) -> None:
    raise Broken(event["type"])


async def breaks_on_input(scope: Scope, receive: Receive, send: Send) -> None:
    await broken_handler(await receive())


def forget(holder: list[Any]) -> None:
    holder.clear()
    gc.collect()


def others() -> set[Any]:
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def test_events_go_in_and_come_out_in_order() -> None:
    async with ApplicationCommunicator(echo, SCOPE) as communicator:
        for number in range(3):
            await communicator.send_input({"type": "number", "number": number})
        assert [(await communicator.receive_output())["number"] for _ in range(3)] == [0, 1, 2]


async def test_the_application_gets_the_scope_as_the_test_changed_it() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": scope["user"]})

    async with ApplicationCommunicator(application, dict(SCOPE)) as communicator:
        communicator.scope["user"] = "ann"
        assert await communicator.receive_output() == {"type": "ann"}


async def test_nothing_starts_before_it_is_needed() -> None:
    async with ApplicationCommunicator(echo, SCOPE) as communicator:
        assert others() == set()
        assert repr(communicator) == "<ApplicationCommunicator test '/' not started: 0 events sent, 0 not taken>"
        communicator.stop()
    assert others() == set()


async def test_asgirefs_attributes_are_there() -> None:
    async with ApplicationCommunicator(echo, SCOPE) as communicator:
        await communicator.send_input({"type": "a"})
        assert communicator.input_queue.qsize() == 1
        assert isinstance(communicator.future, asyncio.Task)
        assert await communicator.output_queue.get() == {"type": "a"}
        assert communicator.application is echo


async def test_a_double_callable_application_of_asgi_2_runs() -> None:
    class Application:
        def __init__(self, scope: Scope) -> None:
            self.scope = scope

        async def __call__(self, receive: Receive, send: Send) -> None:
            await send({"type": self.scope["path"]})

    async with ApplicationCommunicator(Application, SCOPE) as communicator:  # type: ignore[arg-type]
        assert await communicator.receive_output() == {"type": "/"}


async def test_the_application_runs_in_an_empty_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="empty")

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": variable.get()})

    variable.set("of the test")
    async with ApplicationCommunicator(application, SCOPE) as communicator:
        assert await communicator.receive_output() == {"type": "empty"}


class TestAReceiveThatTimesOut:
    async def test_leaves_the_application_running_and_loses_nothing(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            with pytest.raises(TimeoutError):
                await communicator.receive_output(timeout=0.01)
            await communicator.send_input({"type": "late"})
            assert await communicator.receive_output() == {"type": "late"}

    async def test_tells_what_it_waited_for_and_what_the_application_did(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            message = "Waited 0.01 s for an event in vain: the application is running and has sent {}"
            with pytest.raises(ApplicationTimeout, match=f"^{re.escape(message.format('nothing'))}$"):
                await communicator.receive_output(timeout=0.01)
            await communicator.send_input({"type": "a"})
            await communicator.receive_output()
            with pytest.raises(ApplicationTimeout, match=f"^{re.escape(message.format('1 event: a'))}$"):
                await communicator.receive_output(timeout=0.01)
            for number in range(11):
                await communicator.send_input({"type": f"n{number}"})
                await communicator.receive_output()
            last = ", ".join(f"n{number}" for number in range(1, 11))
            with pytest.raises(ApplicationTimeout, match=f"has sent 12 events, at last {last}$") as caught:
                await communicator.receive_output(timeout=0.01)
            assert caught.value.count == 12

    async def test_does_not_lose_an_event_that_comes_in_the_same_moment(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            taken: list[int] = []
            number = 0
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline:
                await communicator.send_input({"type": "n", "n": number})
                number += 1
                try:
                    # The timer and the event are ready in the same turn of the loop.
                    event = await communicator.receive_output(timeout=0)
                except TimeoutError:
                    event = await communicator.receive_output()
                taken.append(event["n"])
            assert taken == list(range(number))

    async def test_does_not_lose_an_event_when_it_is_cancelled_instead(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            for number in range(100):
                receiving = asyncio.create_task(communicator.receive_output())
                await asyncio.sleep(0)
                await communicator.send_input({"type": "n", "n": number})
                for _ in range(number % 5):
                    await asyncio.sleep(0)
                receiving.cancel()
                try:
                    event = await receiving
                except asyncio.CancelledError:
                    event = await communicator.receive_output()
                assert event["n"] == number

    async def test_looks_once_where_the_timeout_is_zero(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            with pytest.raises(ApplicationTimeout, match="Waited 0 s"):
                await communicator.receive_output(timeout=0)
            assert not await communicator.receive_nothing()
            assert await communicator.receive_output(timeout=0) == {"type": "a"}

    async def test_may_wait_for_ever(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            receiving = asyncio.create_task(communicator.receive_output(timeout=None))
            await asyncio.sleep(0.01)
            await communicator.send_input({"type": "a"})
            assert await receiving == {"type": "a"}


async def test_two_receivers_get_one_event_each() -> None:
    async with ApplicationCommunicator(echo, SCOPE) as communicator:
        receivers = [asyncio.create_task(communicator.receive_output()) for _ in range(2)]
        await asyncio.sleep(0)
        await communicator.send_input({"type": "a"})
        await communicator.send_input({"type": "b"})
        assert sorted([(await receiver)["type"] for receiver in receivers]) == ["a", "b"]


async def takes_its_time(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, and end, after some turns of the loop each."""
    event = await receive()
    for _ in range(10):
        await asyncio.sleep(0)
    await send(event)
    for _ in range(10):
        await asyncio.sleep(0)


class TestALoopThatStandsStill:
    """As it does where the machine has something else to do: the time does not count."""

    async def test_is_no_timeout_of_a_receive(self) -> None:
        async with ApplicationCommunicator(takes_its_time, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            asyncio.get_running_loop().call_soon(time.sleep, 1.5)
            assert await communicator.receive_output(timeout=1) == {"type": "a"}

    async def test_is_no_timeout_of_the_end(self) -> None:
        async with ApplicationCommunicator(takes_its_time, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            assert await communicator.receive_output() == {"type": "a"}
            asyncio.get_running_loop().call_soon(time.sleep, 1.5)
            await communicator.wait(timeout=1)


class TestReceiveNothing:
    async def test_is_true_after_the_timeout_and_the_application_goes_on(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            assert await communicator.receive_nothing(timeout=0.02)
            await communicator.send_input({"type": "a"})
            assert await communicator.receive_output() == {"type": "a"}

    async def test_is_false_at_once_and_leaves_the_event(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            async with asyncio.timeout(20):
                assert not await communicator.receive_nothing(timeout=60)
            assert await communicator.receive_output() == {"type": "a"}

    async def test_waits_for_the_interval_at_least(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            started = time.monotonic()
            assert await communicator.receive_nothing(timeout=0.001, interval=0.05)
            assert time.monotonic() - started >= 0.049

    async def test_looks_once_where_the_timeout_is_zero(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            assert await communicator.receive_nothing(timeout=0, interval=60)

    async def test_is_true_at_once_where_the_application_has_ended(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            await communicator.send_input({"type": "end"})
            async with asyncio.timeout(20):
                assert await communicator.receive_nothing(timeout=60)

    async def test_raises_what_the_application_raises(self) -> None:
        async with ApplicationCommunicator(breaks_on_input, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            async with asyncio.timeout(20):
                with pytest.raises(Broken, match=r"^a$"):
                    await communicator.receive_nothing(timeout=60)


class TestAnApplicationThatRaises:
    async def test_wakes_a_receive_at_once_with_its_own_traceback(self) -> None:
        async with ApplicationCommunicator(breaks_on_input, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            async with asyncio.timeout(20):
                with pytest.raises(Broken, match=r"^a$") as caught:
                    await communicator.receive_output(timeout=60)
        assert "broken_handler" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]

    async def test_is_told_by_every_call(self) -> None:
        async with ApplicationCommunicator(breaks_on_input, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            with pytest.raises(Broken):
                await communicator.wait()
            with pytest.raises(Broken):
                await communicator.send_input({"type": "b"})
            with pytest.raises(Broken):
                await communicator.receive_output()
            with pytest.raises(Broken):
                communicator.stop()
            communicator.stop(exceptions=False)
            assert "failed: 0 events sent" in repr(communicator)

    async def test_gives_first_what_it_sent_before(self) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "last words"})
            raise Broken

        async with ApplicationCommunicator(application, SCOPE) as communicator:
            assert await communicator.receive_output() == {"type": "last words"}
            with pytest.raises(Broken):
                await communicator.receive_output()

    async def test_is_told_when_the_block_is_left_unless_the_test_has_seen_it(self) -> None:
        with pytest.raises(Broken, match=r"^a$"):
            async with ApplicationCommunicator(breaks_on_input, SCOPE) as communicator:
                await communicator.send_input({"type": "a"})
                await asyncio.wait({communicator.future})

    async def test_does_not_mask_the_error_of_the_block(self) -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            async with ApplicationCommunicator(breaks_on_input, SCOPE) as communicator:
                await communicator.send_input({"type": "a"})
                await asyncio.wait({communicator.future})
                _ = 1 / 0
        assert caught.value.__notes__ == ["The application failed, too: Broken: a"]

    async def test_has_no_note_about_itself(self) -> None:
        with pytest.raises(Broken) as caught:
            async with ApplicationCommunicator(breaks_on_input, SCOPE) as communicator:
                await communicator.send_input({"type": "a"})
                await communicator.receive_output()
        assert not hasattr(caught.value, "__notes__")


class TestAnApplicationThatEnds:
    async def test_is_told_by_a_receive_at_once(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            await communicator.send_input({"type": "end"})
            assert await communicator.receive_output() == {"type": "a"}
            async with asyncio.timeout(20):
                with pytest.raises(
                    ApplicationEnded, match=r"^Waited for an event, but the application has ended; it sent 1 event: a$"
                ):
                    await communicator.receive_output(timeout=60)

    async def test_is_a_timeout_error_as_with_asgiref(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            await communicator.send_input({"type": "end"})
            with pytest.raises(TimeoutError):
                await communicator.receive_output(timeout=0.1)

    async def test_still_gives_what_it_sent(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            await communicator.send_input({"type": "a"})
            await communicator.send_input({"type": "end"})
            await communicator.wait()
            assert await communicator.receive_output() == {"type": "a"}

    async def test_takes_further_input_in_silence(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            await communicator.send_input({"type": "end"})
            await communicator.wait()
            await communicator.send_input({"type": "late"})
            await communicator.wait()


class TestWait:
    async def test_cancels_an_application_that_does_not_end(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            with pytest.raises(ApplicationTimeout, match=r"^Waited 0\.01 s for the application's end in vain"):
                await communicator.wait(timeout=0.01)
            assert communicator.future.cancelled()
            with pytest.raises(ApplicationEnded, match="the application was cancelled; it sent nothing"):
                await communicator.receive_output()
            await communicator.wait()

    async def test_cancels_it_too_when_it_is_cancelled_itself(self) -> None:
        communicator = ApplicationCommunicator(echo, SCOPE)
        waiting = asyncio.create_task(communicator.wait(timeout=60))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert communicator.future.cancelled()

    async def test_tells_what_the_application_raised_when_it_was_cancelled(self) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await receive()
            finally:
                raise Broken("in its clean-up")

        communicator = ApplicationCommunicator(application, SCOPE)
        with pytest.raises(ApplicationTimeout) as caught:
            await communicator.wait(timeout=0.01)
        assert isinstance(caught.value.__cause__, Broken)


async def test_stop_cancels_and_doing_it_twice_is_harmless() -> None:
    communicator = ApplicationCommunicator(echo, SCOPE)
    await communicator.send_input({"type": "a"})
    communicator.stop()
    await communicator.wait()
    communicator.stop()
    assert communicator.future.cancelled()
    assert "cancelled: 0 events sent" in repr(communicator)


class TestLeavingTheBlock:
    @pytest.mark.parametrize(
        ("kind", "farewell"),
        [
            ("http", {"type": "http.disconnect"}),
            ("websocket", {"type": "websocket.disconnect", "code": 1000}),
            ("lifespan", {"type": "lifespan.shutdown"}),
        ],
    )
    async def test_tells_the_application_that_its_client_has_left(self, kind: str, farewell: Message) -> None:
        got: list[Message] = []

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            while not got or got[-1] == {"type": "hello"}:
                got.append(await receive())

        async with ApplicationCommunicator(application, {"type": kind}) as communicator:
            await communicator.send_input({"type": "hello"})
        assert got == [{"type": "hello"}, farewell]
        assert communicator.future.done()
        assert not communicator.future.cancelled()

    async def test_cancels_an_application_that_does_not_listen(self) -> None:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.Event().wait()

        before = others()
        async with ApplicationCommunicator(application, {"type": "http"}) as communicator:
            communicator.exit_timeout = 0.01
            await communicator.send_input({"type": "http.request"})
        assert communicator.future.cancelled()
        assert others() == before

    async def test_cancels_at_once_where_no_farewell_is_known(self) -> None:
        async with ApplicationCommunicator(echo, SCOPE) as communicator:
            communicator.exit_timeout = 60
            await communicator.send_input({"type": "a"})
            await communicator.receive_output()
        assert communicator.future.cancelled()

    async def test_ends_the_application_when_the_test_is_cancelled(self) -> None:
        communicator = ApplicationCommunicator(echo, {"type": "http"})

        async def test() -> None:
            async with communicator:
                await communicator.receive_output(timeout=None)

        testing = asyncio.create_task(test())
        await asyncio.sleep(0.01)
        testing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await testing
        assert communicator.future.done()

    async def test_tells_of_an_application_that_ignores_its_cancellation(self) -> None:
        release = asyncio.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    pass

        with pytest.raises(ApplicationTimeout, match="for the application's end after its cancellation in vain"):
            async with ApplicationCommunicator(application, {"type": "http"}) as communicator:
                communicator.exit_timeout = 0.01
                await communicator.receive_nothing(timeout=0.01)
        release.set()
        await communicator.wait()


async def test_a_forgotten_application_is_cancelled_with_a_warning() -> None:
    communicator = ApplicationCommunicator(echo, SCOPE)
    task = communicator.future
    await communicator.receive_nothing(timeout=0.01)
    await asyncio.sleep(0)  # until then the loop itself, in Python 3.13, holds the frames of the cancelled wait
    holder = [communicator]
    del communicator
    with pytest.warns(ResourceWarning, match=r"running: 0 events sent, 0 not taken> was not ended: use 'async with'"):
        forget(holder)
    await asyncio.wait({task})
    assert task.cancelled()


def test_a_communicator_that_outlives_its_loop_is_quiet() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.get_running_loop().create_future()

    communicator = ApplicationCommunicator(application, SCOPE)
    loop = asyncio.new_event_loop()

    async def start() -> asyncio.Task[None]:
        task = communicator.future
        await asyncio.sleep(0)
        return task

    task = loop.run_until_complete(start())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        communicator.__del__()
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error",
    [ApplicationTimeout("an event", 1, ("a", "b"), 2), ApplicationEnded("an event", ("a",), 1, cancelled=True)],
)
def test_the_errors_cross_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)

"""The dispatcher: two tasks, one handler at a time, a client that is read while a handler runs."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sealane.consumers.dispatch import READ_AHEAD, Dispatcher
from sealane.layers import Gap
from sealane.types import Message
from tests.consumers.conftest import Run, until


class Stop(Exception):
    pass


class Inbox:
    """A source that pushes."""

    overflowed = False
    gap: Gap | None = None

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()

    def __len__(self) -> int:
        return len(self.messages)

    def take(self) -> Message | None:
        return self.messages.popleft() if self.messages else None


class Client:
    """A dispatcher with a client and an inbox that a test fills by hand, and handlers by message type."""

    def __init__(self, *, ahead: bool = True, **options: Any) -> None:
        self.arriving: asyncio.Queue[Message] = asyncio.Queue()
        self.log: list[str] = []
        self.handlers: dict[str, Callable[[Message], Awaitable[None]]] = {}
        self.noticed: list[str] = []
        self.reads = 0
        self.dispatcher = Dispatcher(
            self.receive,
            self.dispatch,
            self.dispatch,
            failed=self.failed,
            read_ahead=self.read_ahead if ahead else None,
            **options,
        )
        self.dispatcher.inbox = self.inbox = Inbox()

    async def receive(self) -> Message:
        self.reads += 1
        return await self.arriving.get()

    async def dispatch(self, message: Message) -> None:
        self.log.append(f"{message['type']} begins")
        handler = self.handlers.get(message["type"])
        if handler is not None:
            await handler(message)
        self.log.append(f"{message['type']} ends")

    async def failed(self, error: Exception, message: Message) -> None:
        raise error

    def read_ahead(self, message: Message) -> bool:
        self.noticed.append(message["type"])
        return bool(message["type"] == "leave")

    def arrive(self, *types: str) -> None:
        for kind in types:
            self.arriving.put_nowait({"type": kind})

    def push(self, *types: str) -> None:
        for kind in types:
            self.inbox.messages.append({"type": kind})
        self.dispatcher.wake()


async def stop(message: Message) -> None:
    raise Stop


def connected(run: Run, script: Callable[[Client], Awaitable[None]], **options: Any) -> Client:
    """Run a script beside a dispatcher, which a message of type "stop" ends."""

    async def main() -> Client:
        made: asyncio.Future[Client] = asyncio.get_running_loop().create_future()

        async def connection() -> None:
            client = Client(**options)
            client.handlers["stop"] = stop
            made.set_result(client)
            await client.dispatcher.run()

        task = asyncio.ensure_future(connection())
        client = await made
        await script(client)
        client.arrive("stop")
        with pytest.raises(Stop):
            await task
        return client

    client: Client = run(main())
    return client


def gate(client: Client, kind: str) -> asyncio.Event:
    """Make messages of a type wait until the returned event is set."""
    opened = asyncio.Event()

    async def handler(message: Message) -> None:
        await opened.wait()

    client.handlers[kind] = handler
    return opened


def test_a_client_is_read_while_a_handler_runs_and_its_messages_keep_their_order(run: Run) -> None:
    async def script(client: Client) -> None:
        opened = gate(client, "slow")
        client.arrive("slow", "b", "c", "d")
        await until(lambda: client.noticed == ["b", "c", "d"])
        assert client.log == ["slow begins"]
        opened.set()
        await until(lambda: "d ends" in client.log)

    client = connected(run, script)
    assert client.log[:8] == [
        "slow begins",
        "slow ends",
        "b begins",
        "b ends",
        "c begins",
        "c ends",
        "d begins",
        "d ends",
    ]


def test_many_slow_messages_stay_in_order_and_take_two_tasks(run: Run) -> None:
    tasks: set[asyncio.Task[Any] | None] = set()

    async def script(client: Client) -> None:
        async def handler(message: Message) -> None:
            tasks.add(asyncio.current_task())
            for _ in range(3):
                await asyncio.sleep(0)

        for n in range(60):
            client.handlers[f"m{n}"] = handler
        for n in range(60):
            client.arrive(f"m{n}")
            if n % 7 == 0:
                await asyncio.sleep(0)
            if n % 10 == 0:
                client.push(f"p{n}")
        await until(lambda: "m59 ends" in client.log and "p50 ends" in client.log)

    client = connected(run, script)
    begun = [line.removesuffix(" begins") for line in client.log if line.endswith("begins")]
    assert [name for name in begun if name.startswith("m")] == [f"m{n}" for n in range(60)]
    assert [name for name in begun if name.startswith("p")] == [f"p{n}" for n in range(0, 60, 10)]
    assert all(
        a.removesuffix(" begins") == b.removesuffix(" ends")
        for a, b in zip(client.log[::2], client.log[1::2], strict=False)
    )
    assert len(tasks) <= 2


def test_what_a_layer_pushes_is_dispatched_while_the_client_is_quiet(run: Run) -> None:
    async def script(client: Client) -> None:
        await until(lambda: client.reads == 1)
        client.push("x", "y")
        await until(lambda: "y ends" in client.log)
        client.push("z")
        await until(lambda: "z ends" in client.log)
        assert client.reads == 1, "the read in progress must not be cancelled"

    connected(run, script)


def test_what_is_pushed_during_a_handler_comes_after_it(run: Run) -> None:
    async def script(client: Client) -> None:
        opened = gate(client, "slow")
        client.arrive("slow")
        await until(lambda: client.log)
        client.push("x")
        await asyncio.sleep(0)
        assert client.log == ["slow begins"]
        opened.set()
        await until(lambda: "x ends" in client.log)

    connected(run, script)


def test_a_client_is_heard_while_the_inbox_never_empties(run: Run) -> None:
    async def script(client: Client) -> None:
        async def again(message: Message) -> None:
            client.push("again")

        client.handlers["again"] = again
        client.push("again")
        client.arrive("hello")
        await until(lambda: "hello ends" in client.log)

    connected(run, script)


def test_a_client_that_never_pauses_does_not_keep_the_inbox_waiting(run: Run) -> None:
    async def script(client: Client) -> None:
        async def again(message: Message) -> None:
            client.arrive("again")

        client.handlers["again"] = again
        client.arrive("again")
        await asyncio.sleep(0)
        client.push("x")
        await until(lambda: "x ends" in client.log)

    connected(run, script)


def test_the_last_message_is_noticed_during_a_handler_and_nothing_is_read_after_it(run: Run) -> None:
    async def script(client: Client) -> None:
        opened = gate(client, "slow")
        client.arrive("slow", "leave")
        await until(lambda: client.noticed == ["leave"])
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.reads == 2
        client.handlers["leave"] = stop
        opened.set()

    client = connected(run, script)
    assert client.log == ["slow begins", "slow ends", "leave begins"]


def test_what_is_read_ahead_is_bounded_in_messages(run: Run) -> None:
    async def script(client: Client) -> None:
        opened = gate(client, "slow")
        client.arrive("slow", *(["m"] * (READ_AHEAD + 20)))
        await until(lambda: len(client.noticed) == READ_AHEAD)
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.reads == 1 + READ_AHEAD
        opened.set()
        await until(lambda: client.log.count("m ends") == READ_AHEAD + 20)

    connected(run, script)


def test_what_is_read_ahead_is_bounded_in_bytes(run: Run) -> None:
    async def script(client: Client) -> None:
        opened = gate(client, "slow")
        client.arrive("slow")
        for _ in range(4):
            client.arriving.put_nowait({"type": "big", "text": "x" * 200_000})
        await until(lambda: len(client.noticed) == 2)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(client.noticed) == 2
        opened.set()
        await until(lambda: client.log.count("big ends") == 4)

    connected(run, script)


def test_without_read_ahead_a_client_waits_for_its_handler(run: Run) -> None:
    async def script(client: Client) -> None:
        opened = gate(client, "slow")
        client.arrive("slow", "b")
        for _ in range(10):
            await asyncio.sleep(0)
        assert client.reads == 1
        opened.set()
        await until(lambda: "b ends" in client.log)

    connected(run, script, ahead=False)


def test_handlers_share_one_context_whichever_task_they_run_in(run: Run) -> None:
    variable: contextvars.ContextVar[list[str]] = contextvars.ContextVar("variable")
    seen: list[str] = []

    async def script(client: Client) -> None:
        async def first(message: Message) -> None:
            variable.set(["set by the client's handler"])

        async def pushed(message: Message) -> None:
            seen.extend(variable.get())
            variable.set(["set by the layer's handler"])

        async def last(message: Message) -> None:
            seen.extend(variable.get())

        client.handlers |= {"first": first, "pushed": pushed, "last": last}
        client.arrive("first")
        await until(lambda: "first ends" in client.log)
        client.push("pushed")
        await until(lambda: "pushed ends" in client.log)
        client.arrive("last")
        await until(lambda: "last ends" in client.log)

    connected(run, script)
    assert seen == ["set by the client's handler", "set by the layer's handler"]


def test_a_pushed_message_that_fails_ends_a_run_that_waits_for_the_client(run: Run) -> None:
    async def main() -> None:
        client = Client()
        client.handlers["stop"] = stop
        asyncio.get_running_loop().call_later(0, client.push, "stop")
        with pytest.raises(Stop):
            await client.dispatcher.run()
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0, "the run's own cancellation must not reach its caller"
        await asyncio.sleep(0)

    run(main())


@pytest.mark.parametrize("where", ["the client's handler", "a pushed handler", "receive"])
def test_a_cancellation_reaches_what_runs_and_leaves_no_task(run: Run, where: str) -> None:
    cancelled: list[str] = []

    async def main() -> None:
        started = asyncio.Event()

        async def waits(message: Message) -> None:
            started.set()
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.append(message["type"])
                raise

        async def connection() -> None:
            client = Client()
            client.handlers["wait"] = waits
            if where == "the client's handler":
                client.arrive("wait")
            elif where == "a pushed handler":
                client.push("wait")
            else:
                started.set()
            await client.dispatcher.run()

        task = asyncio.ensure_future(connection())
        await started.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert cancelled == ([] if where == "receive" else ["wait"])


def test_a_cancellation_that_comes_with_the_end_is_not_lost(run: Run) -> None:
    """The helper ends the run and, in the same turn of the loop, somebody cancels the connection's task."""

    async def main() -> None:
        client: Client | None = None

        async def connection() -> None:
            nonlocal client
            client = Client()
            client.handlers["stop"] = cancel_too
            await client.dispatcher.run()

        async def cancel_too(message: Message) -> None:
            task.cancel()
            raise Stop

        task = asyncio.ensure_future(connection())
        await until(lambda: client is not None and client.reads)
        assert client is not None
        client.push("stop")
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


def test_a_source_that_raises_does_so_after_what_it_gave_before(run: Run) -> None:
    class Gone(Exception):
        pass

    async def main() -> None:
        client = Client()
        opened = gate(client, "slow")
        original = client.dispatcher._receive

        async def receive() -> Message:
            if client.arriving.empty():
                raise Gone
            return await original()

        client.dispatcher._receive = receive
        client.arrive("slow", "b")
        asyncio.get_running_loop().call_later(0.01, opened.set)
        with pytest.raises(Gone):
            await client.dispatcher.run()
        assert client.log == ["slow begins", "slow ends", "b begins", "b ends"]

    run(main())


def test_stop_ends_the_run_after_the_handler_that_runs(run: Run) -> None:
    async def main() -> None:
        client = Client()
        opened = gate(client, "slow")
        client.arrive("slow")

        async def script() -> None:
            await until(lambda: client.log)
            client.dispatcher.stop(Stop())
            opened.set()

        other = asyncio.ensure_future(script())
        with pytest.raises(Stop):
            await client.dispatcher.run()
        await other
        assert client.log == ["slow begins", "slow ends"]

    run(main())


def test_stop_ends_a_run_that_waits(run: Run) -> None:
    async def main() -> None:
        client = Client()
        asyncio.get_running_loop().call_later(0, client.dispatcher.stop, Stop())
        with pytest.raises(Stop):
            await client.dispatcher.run()

    run(main())


def test_a_client_is_read_ahead_where_nothing_pushes(run: Run) -> None:
    async def script(client: Client) -> None:
        client.dispatcher.inbox = None
        opened = gate(client, "slow")
        client.arrive("slow", "b", "c")
        await until(lambda: client.noticed == ["b", "c"])
        opened.set()
        await until(lambda: "c ends" in client.log)

    client = connected(run, script)
    assert [entry for entry in client.log if entry.endswith("ends")] == ["slow ends", "b ends", "c ends"]


def test_housekeeping_runs_after_a_message_that_needs_it(run: Run) -> None:
    due: list[bool] = []
    done: list[str] = []

    async def clean() -> None:
        due.clear()
        done.append("cleaned")

    async def script(client: Client) -> None:
        async def dirty(message: Message) -> None:
            due.append(True)
            await asyncio.sleep(0)  # database work is done by a thread, which is waited for

        client.handlers["dirty"] = dirty
        client.arrive("clean", "dirty", "clean")
        await until(lambda: client.log.count("clean ends") == 2)

    connected(run, script, housekeeping=(lambda: bool(due), clean))
    assert done == ["cleaned"]


def test_an_overflowed_inbox_is_told(run: Run) -> None:
    async def main() -> None:
        async def overflowed() -> None:
            raise Stop

        client = Client(overflowed=overflowed)
        client.inbox.overflowed = True
        asyncio.get_running_loop().call_later(0, client.push)
        with pytest.raises(Stop):
            await client.dispatcher.run()

    run(main())


def test_a_dispatcher_runs_in_the_task_that_made_it_only(run: Run) -> None:
    async def main() -> None:
        client = Client()
        with pytest.raises(RuntimeError, match="runs in the asyncio task that made it"):
            await asyncio.ensure_future(client.dispatcher.run())

    run(main())


def test_its_repr_says_what_it_does(run: Run) -> None:
    async def script(client: Client) -> None:
        assert repr(client.dispatcher) == "<Dispatcher reading, 0 read ahead>"
        opened = gate(client, "slow")
        client.arrive("slow", "b")
        await until(lambda: client.noticed == ["b"])
        assert repr(client.dispatcher) == "<Dispatcher dispatching reading, 1 read ahead>"
        opened.set()

    connected(run, script)

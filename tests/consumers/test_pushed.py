"""What the channel layer pushes to idle consumers: defects that were found once, each with the shortest way to it."""

import asyncio
import contextvars
import functools
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sealane.consumers import AsyncConsumer, AsyncWebsocketConsumer, await_many_dispatch
from sealane.exceptions import StopConsumer
from sealane.layers import InMemoryChannelLayer
from sealane.types import Message
from tests.consumers.conftest import until

READY = {"type": "websocket.send", "text": "ready"}

who = contextvars.ContextVar[str]("who", default="nobody")


class Member(AsyncWebsocketConsumer):
    groups = ["room"]

    async def quiet(self, message: Message) -> None:
        pass


class Connection:
    """A consumer, its client, and what it sent."""

    def __init__(
        self,
        consumer: type[AsyncConsumer],
        *,
        scope: Message | None = None,
        send: Callable[[Message], Awaitable[None]] | None = None,
    ) -> None:
        self.arriving: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.consumer = consumer()
        scope = scope or {"type": "websocket", "path": "/"}
        if scope["type"] == "websocket":
            self.arriving.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(self.consumer(scope, self.receive, send or self.send))

    async def receive(self) -> Message:
        return await self.arriving.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def text(self, text: str) -> None:
        self.arriving.put_nowait({"type": "websocket.receive", "text": text})

    async def end(self) -> Any:
        self.arriving.put_nowait({"type": "websocket.disconnect", "code": 1001})
        async with asyncio.timeout(20):
            return (await asyncio.gather(self.task, return_exceptions=True))[0]

    async def cancel(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def idle(layer: InMemoryChannelLayer, *connections: Connection) -> None:
    """Wait until connections have got a first message, after which each has an idle task."""
    await until(lambda: all("channel_name" in vars(connection.consumer) for connection in connections))
    await turns()
    for connection in connections:
        await layer.send(connection.consumer.channel_name, {"type": "quiet"})
    await until(lambda: all(connection.consumer._dispatcher.standby is not None for connection in connections))


async def test_handlers_may_wait_for_the_same_future(layer: InMemoryChannelLayer) -> None:
    shared: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    got: list[int] = []

    class Waits(Member):
        async def load(self, message: Message) -> None:
            got.append(await shared)

    async def another() -> int:
        return await shared

    members = [Connection(Waits) for _ in range(3)]
    await idle(layer, *members)
    await layer.group_send("room", {"type": "load"})
    other = asyncio.ensure_future(another())
    await turns()
    shared.set_result(1)
    assert await other == 1
    await until(lambda: got == [1, 1, 1])
    assert [await member.end() for member in members] == [None, None, None]


@pytest.mark.parametrize("closed_by", ["handler", "thread"])
async def test_a_channel_closed_in_the_midst_of_a_batch_leaves_its_connection_alive(
    layer: InMemoryChannelLayer, closed_by: str
) -> None:
    got: list[Any] = []

    class Closes(Member):
        async def chat(self, message: Message) -> None:
            if self is members[0].consumer:
                channel = members[1].consumer.channel_name
                if closed_by == "handler":
                    await layer.close_channel(channel)
                else:
                    thread = threading.Thread(target=layer.sync.close_channel, args=(channel,))
                    thread.start()
                    thread.join()

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            got.append(text_data)

        async def disconnect(self, code: int) -> None:
            got.append(code)

    members = [Connection(Closes) for _ in range(2)]
    await idle(layer, *members)
    await layer.group_send("room", {"type": "chat"})
    await turns()
    members[1].text("still here")
    await until(lambda: got == ["still here"])
    assert await members[1].end() is None
    assert got == ["still here", 1001]
    assert await members[0].end() is None


@pytest.mark.parametrize(("count", "size"), [(1, 300_000), (40, 1)], ids=["big", "many"])
async def test_a_client_as_far_ahead_as_it_may_be_does_not_cost_a_wakeup(
    layer: InMemoryChannelLayer, count: int, size: int
) -> None:
    got: list[str] = []
    gate = asyncio.Event()

    class Slow(Member):
        async def chat(self, message: Message) -> None:
            await gate.wait()
            got.append("chat")

        async def after(self, message: Message) -> None:
            got.append("after")

        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            got.append("text")

    member = Connection(Slow)
    await idle(layer, member)
    # In one turn of the loop: a broadcast, then what the client sent.
    await layer.group_send("room", {"type": "chat"})
    for _ in range(count):
        member.text("x" * size)
    await turns()
    gate.set()
    await until(lambda: got == ["chat", *["text"] * count])
    await layer.group_send("room", {"type": "after"})
    await until(lambda: got[-1] == "after")
    assert await member.end() is None


async def test_a_worker_that_stands_by_twice_does_not_miss_a_wakeup(layer: InMemoryChannelLayer) -> None:
    got: list[str] = []
    gate = asyncio.Event()

    class Works(AsyncConsumer):
        async def quiet(self, message: Message) -> None:
            pass

        async def chat(self, message: Message) -> None:
            await gate.wait()
            got.append("chat")

        async def job(self, message: Message) -> None:
            got.append("job")

    worker = Connection(Works, scope={"type": "channel", "channel": "jobs"})
    await idle(layer, worker)
    await layer.send(worker.consumer.channel_name, {"type": "chat"})
    worker.arriving.put_nowait({"type": "job"})
    await turns()
    gate.set()
    await until(lambda: got == ["chat", "job"])
    await layer.send(worker.consumer.channel_name, {"type": "chat"})
    await until(lambda: got == ["chat", "job", "chat"])
    await worker.cancel()


async def test_a_client_lost_while_a_frame_is_held_back_is_nobodys_error(layer: InMemoryChannelLayer) -> None:
    errors: list[Exception] = []
    held: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    class Tells(Member):
        async def on_error(self, error: Exception, message: Message | None) -> None:
            errors.append(error)

    async def send(message: Message) -> None:
        if message["type"] == "websocket.send":
            await held

    member = Connection(Tells, send=send)
    await idle(layer, member)
    await layer.group_send("room", READY)
    await turns()
    member.arriving.put_nowait({"type": "websocket.disconnect", "code": 1006})
    await turns()
    held.set_exception(BrokenPipeError())
    assert await member.end() is None
    assert errors == []


async def test_an_error_comes_out_whatever_a_source_makes_of_its_cancellation() -> None:
    given: list[int] = []

    async def swallows() -> Message:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            pass
        return {"n": "late"}

    async def gives() -> Message:
        if given:
            await asyncio.get_running_loop().create_future()
        given.append(1)
        return {"n": 1}

    async def dispatch(message: Message) -> None:
        await asyncio.sleep(0)
        raise ValueError(message["n"])

    async with asyncio.timeout(20):
        with pytest.raises(ValueError, match="1"):
            await await_many_dispatch([swallows, gives], dispatch)


async def test_a_consumer_whose_server_swallows_a_cancellation_closes_with_1011(layer: InMemoryChannelLayer) -> None:
    class Fails(Member):
        async def chat(self, message: Message) -> None:
            raise ValueError("boom")

    class Swallows(Connection):
        async def receive(self) -> Message:
            try:
                return await self.arriving.get()
            except asyncio.CancelledError:
                return {"type": "websocket.receive", "text": "late"}

    member = Swallows(Fails)
    await idle(layer, member)
    await layer.group_send("room", {"type": "chat"})
    async with asyncio.timeout(20):
        with pytest.raises(ValueError, match="boom"):
            await member.task
    assert member.sent[-1] == {"type": "websocket.close", "code": 1011}


async def test_an_idle_connection_holds_nothing_that_a_handler_waited_for(layer: InMemoryChannelLayer) -> None:
    class Large:
        pass

    held: list[weakref.ref[Large]] = []

    class Loads(Member):
        async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Large] = loop.create_future()
            large = Large()
            held.append(weakref.ref(large))
            loop.call_soon(future.set_result, large)
            del large
            await future

    member = Connection(Loads)
    await idle(layer, member)
    member.text("x")
    await until(lambda: held)
    await turns()
    gc.collect()
    assert held[0]() is None
    assert await member.end() is None


async def test_a_consumer_may_change_its_handler_as_it_goes(layer: InMemoryChannelLayer) -> None:
    got: list[str] = []

    class Login(AsyncConsumer):
        async def websocket_connect(self, message: Message) -> None:
            await self.send({"type": "websocket.accept"})

        async def websocket_receive(self, message: Message) -> None:
            got.append("stranger")
            if message["text"] == "password":
                self.websocket_receive = self.known  # type: ignore[method-assign]

        async def known(self, message: Message) -> None:
            got.append("known")

        async def websocket_disconnect(self, message: Message) -> None:
            raise StopConsumer

    client = Connection(Login)
    for text in "hello", "password", "hello", "hello":
        client.text(text)
    assert await client.end() is None
    assert got == ["stranger", "stranger", "known", "known"]


def logged(function: Any, log: list[str]) -> Any:
    @functools.wraps(function)
    async def wrapper(self: AsyncConsumer, message: Message) -> None:
        log.append(message["type"])
        await function(self, message)

    return wrapper


@pytest.mark.parametrize("name", ["websocket_send", "dispatch"])
async def test_a_decorated_method_of_the_framework_is_the_users_own(layer: InMemoryChannelLayer, name: str) -> None:
    log: list[str] = []
    decorated = type("Decorated", (Member,), {name: logged(getattr(AsyncWebsocketConsumer, name), log)})
    member = Connection(decorated)
    await idle(layer, member)
    await layer.group_send("room", READY)
    await until(lambda: READY in member.sent)
    assert await member.end() is None
    assert log.count("websocket.send") == 1


async def test_the_plain_part_of_a_decorated_handler_runs_in_its_own_context(layer: InMemoryChannelLayer) -> None:
    got: list[str] = []

    def noting(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(self: AsyncConsumer, message: Message) -> Any:
            got.append(who.get())
            return function(self, message)

        return wrapper

    class Decorated(Member):
        async def connect(self) -> None:
            who.set("the member")
            await self.accept()

        @noting
        async def chat(self, message: Message) -> None:
            pass

    member = Connection(Decorated)
    await idle(layer, member)
    who.set("the sender")
    for _ in range(3):
        await layer.group_send("room", {"type": "chat"})
        await turns()
    assert await member.end() is None
    assert got == ["the member"] * 3


async def test_members_of_several_classes_each_use_their_own_handler(layer: InMemoryChannelLayer) -> None:
    got: list[str] = []

    class Named(Member):
        async def said(self, message: Message) -> None:
            got.append(f"{type(self).__name__} {message['text']}")

    class Other(Named):
        async def said(self, message: Message) -> None:
            got.append(f"{type(self).__name__} otherwise {message['text']}")

    class Without(Member):
        async def on_error(self, error: Exception, message: Message | None) -> None:
            got.append(f"{type(self).__name__} {type(error).__name__}")

    class Overriding(Named):
        async def dispatch(self, message: Message) -> None:
            got.append(f"{type(self).__name__} through dispatch()")
            await super().dispatch(message)

    members = [Connection(kind) for kind in (Named, Other, Without, Named, Overriding, Named, Other)]
    await idle(layer, *members)
    got.clear()
    for text in "first", "second":
        await layer.group_send("room", {"type": "said", "text": text})
        await until(lambda: len(got) == 8)
        assert sorted(got) == sorted(
            [
                *[f"Named {text}"] * 3,
                *[f"Other otherwise {text}"] * 2,
                "Without UnhandledMessage",
                "Overriding through dispatch()",
                f"Overriding {text}",
            ]
        )
        got.clear()
    assert [await member.end() for member in members] == [None] * len(members)


async def test_a_group_of_all_kinds_of_members(layer: InMemoryChannelLayer) -> None:
    """Consumers of two event loops, an owner of its own kind, a receiver, and a channel that nobody reads."""
    got: list[str] = []
    ready, leave = threading.Event(), threading.Event()

    class Named(Member):
        async def said(self, message: Message) -> None:
            got.append(f"{self.scope['path']} {message['text']}")

    async def serve() -> Any:
        member = Connection(Named, scope={"type": "websocket", "path": "elsewhere"})
        await idle(layer, member)
        ready.set()
        await until(leave.is_set)
        return await member.end()

    def take() -> None:
        while (message := inbox.take()) is not None:
            got.append(f"owner {message['text']}")

    async def send(text: str, *expected: str) -> None:
        await layer.group_send("room", {"type": "said", "text": text})
        await until(lambda: len(got) >= len(expected))
        await turns()
        assert sorted(got) == sorted(f"{name} {text}" for name in expected)
        got.clear()

    here = [Connection(Named, scope={"type": "websocket", "path": f"here {number}"}) for number in range(2)]
    await idle(layer, *here)
    await send("to consumers of one loop", "here 0", "here 1")
    elsewhere = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(serve())))
    try:
        await until(lambda: ready.is_set() or elsewhere.done())
        await send("to those of two", "elsewhere", "here 0", "here 1")
        inbox = layer.attach("owned", take)
        for channel in "owned", "received", "unread":
            await layer.group_add("room", channel)
        receiving = asyncio.create_task(layer.receive("received"))
        await turns()
        await send("to all", "elsewhere", "here 0", "here 1", "owner")
        assert (await receiving)["text"] == "to all"
        here.append(Connection(Named, scope={"type": "websocket", "path": "here 2"}))
        await idle(layer, *here)
        await send("to one more", "elsewhere", "here 0", "here 1", "here 2", "owner")
        assert (await layer.receive("received"))["text"] == "to one more"
    finally:
        leave.set()
    assert await elsewhere is None
    assert [await member.end() for member in here] == [None] * 3
    assert layer.stats()["waiting"] == 2  # of the channel that nobody reads
    for channel in "owned", "received", "unread":
        await layer.close_channel(channel)


async def test_an_owner_that_joins_a_turn_is_served_by_it_in_the_groups_it_was_in(layer: InMemoryChannelLayer) -> None:
    class Silent(Member):
        async def said(self, message: Message) -> None:
            pass

    members = [Connection(Silent), Connection(Silent)]
    await idle(layer, *members)
    got: list[str] = []

    class Worker(AsyncConsumer):
        async def quiet(self, message: Message) -> None:
            pass

        async def said(self, message: Message) -> None:
            got.append(message["text"])

    await layer.group_add("room", "plain")
    await layer.group_add("plain", "plain")
    inbox = layer.attach("plain", lambda: None)
    worker = Connection(Worker, scope={"type": "channel"})
    await idle(layer, worker)
    inbox.join_turn(worker.consumer._dispatcher.inbox.turn, worker.consumer._dispatcher)  # type: ignore[union-attr]
    worker.consumer._dispatcher.inbox = inbox
    for group in "plain", "room":
        await layer.group_send(group, {"type": "said", "text": group})
        await until(lambda: got)
        await turns()
        assert got == [group]
        got.clear()
    await layer.close_channel("plain")
    await worker.cancel()
    assert [await member.end() for member in members] == [None, None]

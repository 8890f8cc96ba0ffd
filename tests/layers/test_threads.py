"""The in-memory layer under threads, event loops, signals, finalizers and forks, all at once."""

import asyncio
import gc
import itertools
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

from sealane.exceptions import ChannelClosed, ChannelFull
from sealane.layers import InMemoryChannelLayer
from sealane.layers.receiver import ThreadReceiver
from sealane.types import Message

LIMIT = 30.0


def numbered(sender: int, number: int) -> Message:
    return {"type": "x", "sender": sender, "n": number}


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Let the interpreter switch threads as often as it can, so that a race shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run_all(*functions: Callable[[], None]) -> None:
    """Run functions in a thread each, and raise what one of them raised."""
    errors: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=guarded, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    if errors:
        raise errors[0]
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


class Owner:
    """Takes a channel's messages as a consumer does: only after it was woken, until none is left."""

    def __init__(self, layer: InMemoryChannelLayer, channel: str) -> None:
        self.received: list[Message] = []
        self.event = asyncio.Event()
        self.thread = threading.get_ident()
        self.inbox = layer.attach(channel, self.wake)

    def wake(self) -> None:
        assert threading.get_ident() == self.thread
        self.event.set()

    async def take(self, count: int) -> None:
        while len(self.received) < count:
            await self.event.wait()
            self.event.clear()
            while (message := self.inbox.take()) is not None:
                self.received.append(message)


def in_order(messages: list[Message]) -> bool:
    """Tell whether each sender's numbers go up by one."""
    numbers: dict[int, list[int]] = {}
    for message in messages:
        numbers.setdefault(message["sender"], []).append(message["n"])
    return all(found == list(range(len(found))) for found in numbers.values())


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.usefixtures("eager_switches")
def test_every_thread_and_loop_reaches_every_owner(make_loop: Any) -> None:
    loops, threads, each = 2, 2, 100
    senders = loops + threads
    layer = InMemoryChannelLayer(capacity=senders * each)
    ready = threading.Barrier(senders)
    owners: list[Owner] = []

    def in_loop(sender: int) -> None:
        async def main() -> None:
            mine = [Owner(layer, f"channel.{sender}.{number}") for number in range(3)]
            owners.extend(mine)
            for owner in mine:
                await layer.group_add("group", owner.inbox.name)
            await asyncio.to_thread(ready.wait, LIMIT)
            async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
                for owner in mine:
                    tasks.create_task(owner.take(senders * each))
                for number in range(each):
                    await layer.group_send("group", numbered(sender, number))
                    if number % 10 == 0:
                        await asyncio.sleep(0)

        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(main())

    def in_thread(sender: int) -> None:
        ready.wait(LIMIT)
        for number in range(each):
            layer.sync.group_send("group", numbered(sender, number))

    run_all(
        *(lambda sender=sender: in_loop(sender) for sender in range(loops)),
        *(lambda sender=sender: in_thread(sender) for sender in range(loops, senders)),
    )
    assert len(owners) == 3 * loops
    for owner in owners:
        assert len(owner.received) == senders * each
        assert in_order(owner.received)
        # One order for all members of the group.
        assert owner.received == owners[0].received
    assert layer.stats()["waiting"] == 0


@pytest.mark.usefixtures("eager_switches")
def test_competing_receivers_in_threads_and_loops_share_all_messages() -> None:
    layer = InMemoryChannelLayer(capacity=10_000)
    total = 600
    received: list[int] = []

    def receive_in_thread() -> None:
        while True:
            try:
                received.append(layer.sync.receive("jobs", timeout=0.001)["n"])
            except TimeoutError:
                continue
            except ChannelClosed:
                return

    def receive_in_loop() -> None:
        async def worker() -> None:
            while True:
                try:
                    async with asyncio.timeout(0.001):
                        message = await layer.receive("jobs")
                    received.append(message["n"])
                except TimeoutError:
                    continue
                except ChannelClosed:
                    return

        async def main() -> None:
            await asyncio.gather(*(worker() for _ in range(3)))

        asyncio.run(main())

    def send() -> None:
        for number in range(total):
            layer.sync.send("jobs", numbered(0, number))
        for _ in range(10_000):
            if len(received) == total:
                break
            threading.Event().wait(0.001)
        # Each receiver either waits now, and is told, or comes back to a channel that nobody closed for good.
        stop.set()

    stop = threading.Event()

    def close() -> None:
        stop.wait(LIMIT)
        while any(thread.is_alive() for thread in threads):
            layer.sync.close_channel("jobs")

    threads = [threading.Thread(target=target, daemon=True) for target in (receive_in_thread, receive_in_loop)]
    for thread in threads:
        thread.start()
    run_all(send, close)
    assert sorted(received) == list(range(total))
    assert layer.stats()["delivered"] == total


@pytest.mark.usefixtures("eager_switches")
def test_channels_that_come_and_go_under_a_broadcast_leave_nothing_behind() -> None:
    layer = InMemoryChannelLayer(capacity=5)
    stop = threading.Event()

    def come_and_go() -> None:
        async def main() -> None:
            for _ in range(150):
                channel = await layer.new_channel()
                inbox = layer.attach(channel, lambda: None)
                await layer.group_add("group", channel)
                await asyncio.sleep(0)
                inbox.take()
                await layer.close_channel(channel)
                assert inbox.take() is None

        asyncio.run(main())

    def broadcast(sender: int) -> None:
        number = 0
        while not stop.is_set():
            layer.sync.group_send("group", numbered(sender, number))
            try:
                layer.sync.send("plain", numbered(sender, number))
            except ChannelFull:
                layer.sync.receive("plain", timeout=0)
            number += 1

    def until_the_others_are_done() -> None:
        try:
            run_all(come_and_go, come_and_go)
        finally:
            stop.set()

    run_all(until_the_others_are_done, lambda: broadcast(1), lambda: broadcast(2))
    stats = layer.stats()
    assert stats["groups"] == 0
    assert list(layer._exchange.board.channels) in ([], ["plain"])
    layer.sync.close_channel("plain")
    assert layer.stats()["waiting"] == 0


async def test_one_call_wakes_another_loop_once() -> None:
    layer = InMemoryChannelLayer()
    loop = asyncio.get_running_loop()
    for number in range(50):
        layer.attach(f"channel.{number}", lambda: None)
        await layer.group_add("group", f"channel.{number}")
    calls: list[Any] = []
    original = loop.call_soon_threadsafe

    def counted(callback: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        if callback.__module__.startswith("sealane"):
            calls.append(callback)
        return original(callback, *args, **kwargs)

    loop.call_soon_threadsafe = counted  # type: ignore[method-assign,assignment]
    try:
        await asyncio.to_thread(layer.sync.group_send, "group", numbered(0, 0))
        assert len(calls) == 1
        await asyncio.to_thread(layer.sync.group_send, "group", numbered(0, 1))
        # The owners have been told already.
        assert len(calls) == 1
        await layer.group_send("group", numbered(0, 2))
        assert len(calls) == 1
    finally:
        del loop.call_soon_threadsafe


async def test_an_owner_that_was_faster_than_the_other_thread_is_not_woken() -> None:
    layer = InMemoryChannelLayer()
    wakes: list[None] = []
    inbox = layer.attach("channel", lambda: wakes.append(None))
    thread = threading.Thread(target=layer.sync.send, args=("channel", numbered(0, 0)))
    thread.start()
    thread.join()  # keeps this loop from running what the thread asked it to
    assert inbox.take() == numbered(0, 0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert wakes == []


@pytest.mark.parametrize("end", ["close_channel", "close"])
async def test_an_owner_that_is_gone_is_not_told_that_it_overflowed(end: str) -> None:
    layer = InMemoryChannelLayer(capacity=1, overflow="close")
    wakes: list[None] = []
    inbox = layer.attach("own!1", lambda: wakes.append(None))
    await layer.send("own!1", numbered(0, 0))
    thread = threading.Thread(target=layer.sync.send, args=("own!1", numbered(0, 1)))
    thread.start()
    thread.join()
    assert inbox.overflowed
    if end == "close":
        await layer.close()
    else:
        await layer.close_channel("own!1")
    for _ in range(5):
        await asyncio.sleep(0)
    assert wakes == [None]


async def test_a_closed_channel_keeps_nothing_of_its_owner() -> None:
    class Consumer:
        def wake(self) -> None:
            """Stand for a consumer's bound method."""

    layer = InMemoryChannelLayer()
    consumer = Consumer()
    inbox = layer.attach("own!1", consumer.wake)
    gone = weakref.ref(consumer)
    await layer.close_channel("own!1")
    del consumer
    assert gone() is None
    assert inbox.closed


async def test_an_owner_that_closes_another_while_it_is_woken() -> None:
    layer = InMemoryChannelLayer()
    order: list[str] = []

    def first() -> None:
        order.append("first")
        layer._exchange.close_channel("own!2")

    layer.attach("own!1", first)
    second = layer.attach("own!2", lambda: order.append("second"))
    for channel in ("own!1", "own!2"):
        await layer.group_add("group", channel)
    await layer.group_send("group", numbered(0, 0))
    assert order == ["first"]
    assert second.take() is None


async def test_an_owner_that_closes_its_own_channel_and_fails_is_reported() -> None:
    layer = InMemoryChannelLayer()
    errors: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))

    def wake() -> None:
        layer._exchange.close_channel("own!1")
        raise ValueError("wake failed")

    layer.attach("own!1", wake)
    await layer.send("own!1", numbered(0, 0))
    assert [(context["message"], str(context["exception"])) for context in errors] == [
        ("wake() of channel 'own!1' raised", "wake failed")
    ]


async def test_an_owner_may_send_while_it_is_woken() -> None:
    layer = InMemoryChannelLayer()
    order: list[Any] = []

    def first() -> None:
        order.append(inbox.take())
        layer._exchange.send("b", layer.pack(numbered(0, 1)))

    inbox = layer.attach("a", first)
    layer.attach("b", lambda: order.append("b"))
    await layer.send("a", numbered(0, 0))
    assert order == [numbered(0, 0), "b"]


# Code that interrupts a call of the layer, in its own thread


class Interrupting:
    """A clock at which other code runs in the midst of a call, as a finalizer or a signal handler can."""

    def __init__(self) -> None:
        self.action: Callable[[], object] | None = None

    def __call__(self) -> float:
        action, self.action = self.action, None
        if action is not None:
            action()
        return 1000.0


async def test_calls_from_inside_a_call_are_made_right_after_it() -> None:
    clock = Interrupting()
    layer = InMemoryChannelLayer(clock=clock)
    wakes: list[None] = []
    inbox = layer.attach("a", lambda: wakes.append(None))
    data = layer.pack(numbered(0, 2))

    await layer.send("a", numbered(0, 0))

    def interrupt() -> None:
        assert inbox.take() is None
        layer._exchange.send("a", data)
        layer._exchange.group_add("group", "b")
        layer._exchange.group_send("group", data)
        assert len(inbox) == 1
        with pytest.raises(RuntimeError, match=r"receive\(\) was called from a signal handler or a finalizer"):
            layer._exchange.receive("c", ThreadReceiver, None)
        with pytest.raises(RuntimeError, match=r"attach\(\) was called from a signal handler"):
            layer.attach("c", lambda: None)
        assert layer.stats()["channels"] == 1

    clock.action = interrupt
    await layer.send("a", numbered(0, 1))
    assert [inbox.take() for _ in range(4)] == [numbered(0, 0), numbered(0, 1), numbered(0, 2), None]
    assert await layer.receive("b") == numbered(0, 2)
    assert wakes == [None]


@pytest.mark.parametrize("call", ["take", "receive", "attach", "full"])
async def test_no_call_forgets_what_interrupted_it(call: str) -> None:
    clock = Interrupting()
    layer = InMemoryChannelLayer(capacity=1, clock=clock)
    inbox = layer.attach("a", lambda: None)
    await layer.send("a", numbered(0, 1))
    await layer.send("b", numbered(0, 1))
    data = layer.pack(numbered(0, 2))

    def interrupt() -> None:
        layer._exchange.send("other", data)
        assert "other" not in layer._exchange.board.channels

    clock.action = interrupt
    if call == "take":
        inbox.take()
    elif call == "receive":
        await layer.receive("b")
    elif call == "full":
        with pytest.raises(ChannelFull):
            await layer.send("b", numbered(0, 2))
    else:
        capacity = layer._exchange.board._capacity
        layer._exchange.board._capacity = lambda channel: (clock(), capacity(channel))[1]
        layer.attach("c", lambda: None)
    assert layer.stats()["waiting"] == {"take": 2, "receive": 2, "attach": 3, "full": 3}[call]
    assert await layer.receive("other") == numbered(0, 2)


async def test_a_deferred_call_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    clock = Interrupting()
    layer = InMemoryChannelLayer(capacity=1, clock=clock)
    await layer.send("full", numbered(0, 1))
    data = layer.pack(numbered(0, 2))

    def interrupt() -> None:
        layer._exchange.send("full", data)
        layer._exchange._act(lambda: 1 / 0)  # type: ignore[arg-type,return-value]

    clock.action = interrupt
    await layer.send("other", numbered(0, 1))
    assert [record.getMessage() for record in caplog.records] == ["A deferred call of a channel layer failed"]
    assert layer.stats()["dropped_full"] == 1


async def test_a_forgotten_coroutine_that_closes_its_channel_does_not_hang_the_collector() -> None:
    """The collector runs wherever something is allocated, which is inside the layer's calls too."""
    layer = InMemoryChannelLayer(capacity=10_000)

    async def consumer(channel: str) -> None:
        inbox = layer.attach(channel, lambda: None)
        await layer.group_add("group", channel)
        try:
            while True:
                await layer.receive(f"never.{channel}")
        finally:
            inbox.take()
            await layer.close_channel(channel)

    thresholds = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for number in range(300):
            coroutine = consumer(f"own!{number}")
            coroutine.send(None)
            cycle: list[Any] = [coroutine]
            cycle.append(cycle)
            del coroutine, cycle
            await layer.group_send("group", numbered(0, number))
            await layer.send("plain", numbered(0, number))
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    await layer.send("plain", numbered(0, 0))
    assert list(layer._exchange.board.channels) == ["plain"]
    assert layer.stats()["groups"] == 0


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the platform has no interval timers")
def test_a_signal_handler_may_send() -> None:
    layer = InMemoryChannelLayer(capacity=1_000_000)
    numbers = itertools.count()
    sent: list[int] = []

    def handler(*_: object) -> None:
        # The next signal may interrupt this handler, so there is no order among its messages.
        number = next(numbers)
        layer.sync.group_send("group", numbered(1, number))
        sent.append(number)

    layer.sync.group_add("group", "channel")
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        number = 0
        while len(sent) < 100:
            layer.sync.group_send("group", numbered(0, number))
            number += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    received = [layer.sync.receive("channel", timeout=0) for _ in range(number + len(sent))]
    assert [message["n"] for message in received if message["sender"] == 0] == list(range(number))
    assert sorted(message["n"] for message in received if message["sender"] == 1) == sorted(sent)
    assert layer.stats()["waiting"] == 0


# fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_begins_with_an_empty_layer_that_works() -> None:
    layer = InMemoryChannelLayer()
    layer.sync.group_add("group", "channel")
    layer.sync.send("channel", numbered(0, 0))
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with layer._exchange._lock:
            holding.set()
            done.wait(LIMIT)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(LIMIT)
    try:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                empty = repr(layer) == "<InMemoryChannelLayer channels=0 groups=0 waiting=0 dropped=0>"
                layer.sync.group_add("group", "child")
                layer.sync.group_send("group", numbered(0, 1))
                status = 0 if empty and layer.sync.receive("child", timeout=0) == numbered(0, 1) else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        thread.join()
    assert layer.sync.receive("channel", timeout=0) == numbered(0, 0)


def test_layers_are_not_kept_alive_for_a_fork() -> None:
    from sealane.layers import exchange

    gc.collect()
    before = len(exchange._exchanges)
    for _ in range(5):
        InMemoryChannelLayer()
    gc.collect()
    assert len(exchange._exchanges) == before


# Synchronous receivers


def test_a_thread_that_is_interrupted_while_it_waits_gives_its_message_back(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = InMemoryChannelLayer()

    def interrupted(receiver: ThreadReceiver, timeout: float | None) -> bool:
        layer.sync.send("channel", numbered(0, 0))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ThreadReceiver, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            layer.sync.receive("channel")
    assert layer.sync.receive("channel", timeout=0) == numbered(0, 0)
    assert layer.stats()["channels"] == 0


def test_a_message_that_comes_as_the_time_is_up_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = InMemoryChannelLayer()

    def too_late(receiver: ThreadReceiver, timeout: float | None) -> bool:
        layer.sync.send("channel", numbered(0, 0))
        return False

    with monkeypatch.context() as patch:
        patch.setattr(ThreadReceiver, "wait", too_late)
        with pytest.raises(TimeoutError, match="No message came on channel 'channel' within 1 seconds"):
            layer.sync.receive("channel", timeout=1)
    assert layer.sync.receive("channel", timeout=0) == numbered(0, 0)


def test_closing_a_channel_ends_a_thread_that_waits() -> None:
    layer = InMemoryChannelLayer()
    outcome: list[BaseException] = []

    def wait() -> None:
        try:
            layer.sync.receive("own!1")
        except ChannelClosed as exc:
            outcome.append(exc)

    def close() -> None:
        while not layer._exchange.board.channels:
            threading.Event().wait(0.001)
        layer.sync.close_channel("own!1")

    run_all(wait, close)
    assert [str(exc) for exc in outcome] == ["Channel 'own!1' was closed"]

"""What the parts of the contract suite share: how to make a layer, how to wait, and an owner that counts."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sealane.exceptions import ChannelFull
from sealane.layers import BaseChannelLayer, Inbox
from sealane.types import Message

#: Seconds in which anything that a layer owes must have happened.
LIMIT = 20.0


@pytest.mark.asyncio
class Harness:
    """What a subclass of the suite defines, or may override."""

    #: How many messages make a test of order or loss.
    MANY = 50

    #: The ``expiry`` of layers in tests that let it pass, in seconds.
    EXPIRY: float = 0.5

    @property
    def _short_expiry(self) -> float:
        """An ``expiry`` for tests in which nothing has to arrive before it is over, however busy the machine is."""
        return self.EXPIRY / 2

    def make_layer(self, **options: Any) -> BaseChannelLayer:
        """Return a new, empty layer with these options of BaseChannelLayer. Each test closes those that it makes."""
        raise NotImplementedError("define make_layer(self, **options) in your subclass of ChannelLayerContract")

    async def advance(self, layer: BaseChannelLayer, seconds: float) -> None:
        """Let time pass for the layer. Override it where the layer's clock can be set."""
        await asyncio.sleep(seconds)

    async def nothing_waits(self, layer: BaseChannelLayer, *channels: str) -> None:
        """Fail where a message waits in a channel: one that is sent now must be the first to come."""
        for channel in channels:
            receiving = asyncio.create_task(next_message(layer, channel))
            assert await self.sent_until_done(layer, channel, {"type": "last"}, receiving) == {"type": "last"}

    async def sent_until_done(
        self, layer: BaseChannelLayer, channel: str, message: Message, receiving: "asyncio.Task[Any]"
    ) -> Any:
        """Send a message to whoever waits for it, and return what that one returns.

        Where a busy machine takes longer to enter it than a message of a short life lives, another one is sent.
        """
        await turns()
        while not receiving.done():
            with contextlib.suppress(ChannelFull):
                await layer.send(channel, message)
            await asyncio.wait([receiving], timeout=2)
        return receiving.result()


class Owner:
    """The owner of a channel, which counts how often it is woken."""

    def __init__(self, layer: BaseChannelLayer, channel: str, *, fail: bool = False) -> None:
        self.channel = channel
        self.wakes = 0
        self.event = asyncio.Event()
        self.thread: threading.Thread | None = None
        self.fail = fail
        self.then: Callable[[], None] = lambda: None
        inbox = layer.attach(channel, self._wake)
        if inbox is None:
            pytest.skip(f"{type(layer).__name__} has no push: attach() returns None")
        self.inbox: Inbox = inbox

    def _wake(self) -> None:
        self.wakes += 1
        self.thread = threading.current_thread()
        self.event.set()
        self.then()
        if self.fail:
            raise ValueError("wake failed")

    async def woken(self, times: int) -> None:
        """Wait until it was woken so often."""
        await until(lambda: self.wakes >= times)
        assert self.wakes == times

    async def holds(self, count: int) -> None:
        """Wait until so many messages are in the inbox."""
        await until(lambda: len(self.inbox) >= count)


def message_with(value: Any) -> Message:
    return {"type": "x", "value": value}


async def within(awaitable: Awaitable[Any]) -> Any:
    async with asyncio.timeout(LIMIT):
        return await awaitable


async def next_message(layer: BaseChannelLayer, channel: str) -> Message:
    async with asyncio.timeout(LIMIT):
        return await layer.receive(channel)


async def turns(count: int = 5) -> None:
    """Let the other tasks run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cancel(task: "asyncio.Task[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await within(asyncio.to_thread(function, *args))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - a layer tells nobody when its counters change
            await asyncio.sleep(0.001)


async def reaches(layer: BaseChannelLayer, **expected: int) -> None:
    """Wait until the layer's counters have these values."""
    try:
        await until(lambda: all(layer.stats().get(name) == count for name, count in expected.items()))
    except TimeoutError:
        assert {name: layer.stats().get(name) for name in expected} == expected

"""Numbered messages, who sends them and who gets them, and what must be true of them after a fault."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise

from sealane.exceptions import ChannelLayerUnavailable, UndecodableMessage
from sealane.layers import BaseChannelLayer, Gap
from sealane.types import Message

__all__ = ["Listener", "Sender", "ThreadSender", "check", "sending", "sending_in_thread"]

#: Seconds between two messages of one sender: little enough to have some under way at any moment.
PACE = 0.001

#: Seconds after which a test gives up.
PATIENCE = 20.0

#: Seconds after which another message is sent to who may have missed the last.
AGAIN = 0.5


class _Outcomes:
    """How each call of a sender ended, by its number."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: The number of the last call that was begun.
        self.number = 0
        #: Calls that returned.
        self.returned: list[int] = []
        #: Calls that raised, and said that nothing was sent.
        self.unsent: list[int] = []
        #: Calls that raised, and said that it may have been sent.
        self.doubtful: list[int] = []
        self.errors: list[ChannelLayerUnavailable] = []

    def _next(self) -> Message:
        self.number += 1
        return {"type": "numbered", "sender": self.name, "number": self.number}

    def _failed(self, number: int, error: ChannelLayerUnavailable) -> None:
        (self.doubtful if error.sent else self.unsent).append(number)
        self.errors.append(error)


class Sender(_Outcomes):
    """Makes numbered calls of an event loop."""

    def __init__(self, name: str, call: Callable[[Message], Awaitable[None]]) -> None:
        """Take what sends a message, such as ``partial(layer.group_send, "news")``."""
        super().__init__(name)
        self._call = call
        self._stop = False
        self._changed = asyncio.Event()

    async def step(self) -> bool:
        """Send the next number; return whether the call returned. The calls of concurrent steps are made in order."""
        message = self._next()
        number = self.number
        try:
            await self._call(message)
        except ChannelLayerUnavailable as exc:
            self._failed(number, exc)
            return False
        else:
            self.returned.append(number)
            return True
        finally:
            self._changed.set()

    async def run(self) -> None:
        """Send until told to stop."""
        self._stop = False
        while not self._stop:
            await self.step()
            await asyncio.sleep(PACE)

    def stop(self) -> None:
        self._stop = True

    async def more(self, count: int) -> None:
        """Wait until so many more calls have returned."""
        goal = len(self.returned) + count
        async with asyncio.timeout(PATIENCE):
            while len(self.returned) < goal:
                self._changed.clear()
                await self._changed.wait()

    async def finish(self) -> int:
        """Send until a call returns; return its number. All that was sent before arrives before it, or never."""
        async with asyncio.timeout(PATIENCE):
            while not await self.step():
                pass
        return self.number


@asynccontextmanager
async def sending(*senders: Sender, width: int = 1) -> AsyncIterator[None]:
    """Let senders send during the block, each with so many calls under way."""
    async with asyncio.TaskGroup() as group:
        for sender in senders:
            for _ in range(width):
                group.create_task(sender.run())
        try:
            yield
        finally:
            for sender in senders:
                sender.stop()


class ThreadSender(_Outcomes):
    """Makes numbered blocking calls in a thread of its own."""

    def __init__(self, name: str, call: Callable[[Message], None]) -> None:
        super().__init__(name)
        self._call = call
        self._changed = threading.Condition()
        self._ending = threading.Event()

    def step(self) -> bool:
        message = self._next()
        try:
            self._call(message)
        except ChannelLayerUnavailable as exc:
            self._failed(self.number, exc)
            return False
        else:
            self.returned.append(self.number)
            return True
        finally:
            with self._changed:
                self._changed.notify_all()

    def run(self) -> None:
        while not self._ending.wait(PACE):
            self.step()

    def stop(self) -> None:
        self._ending.set()

    async def more(self, count: int) -> None:
        """Wait until so many more calls have returned."""
        goal = len(self.returned) + count

        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: len(self.returned) >= goal, PATIENCE)

        assert await asyncio.to_thread(wait), f"{self.name}: {self.errors[-1:]}"

    async def finish(self) -> int:
        """Send until a call returns; return its number."""
        while not await asyncio.to_thread(self.step):
            pass
        return self.number


@contextmanager
def sending_in_thread(sender: ThreadSender) -> Iterator[None]:
    """Let a sender send during the block. At its end the last call is waited for."""
    thread = threading.Thread(target=sender.run, name=sender.name)
    thread.start()
    try:
        yield
    finally:
        sender.stop()
        thread.join()


class Listener:
    """The owner of a channel, who takes every message at once and keeps it, with the gaps that it was told of."""

    def __init__(self, layer: BaseChannelLayer, channel: str) -> None:
        self.channel = channel
        self.messages: list[Message] = []
        self.gaps: list[Gap] = []
        #: How many messages could not be decoded.
        self.unreadable = 0
        self._changed = asyncio.Event()
        inbox = layer.attach(channel, self._wake)
        assert inbox is not None
        self._inbox = inbox

    @classmethod
    async def of(cls, layer: BaseChannelLayer, *groups: str) -> "Listener":
        """Make one with a new channel that is in groups."""
        listener = cls(layer, await layer.new_channel())
        for group in groups:
            await layer.group_add(group, listener.channel)
        return listener

    def _wake(self) -> None:
        gap, self._inbox.gap = self._inbox.gap, None
        if gap is not None:
            self.gaps.append(gap)
        while True:
            try:
                message = self._inbox.take()
            except UndecodableMessage:
                self.unreadable += 1
                continue
            if message is None:
                break
            self.messages.append(message)
        self._changed.set()

    def numbers(self, sender: str) -> list[int]:
        """Return the numbers that came from a sender, in the order in which they came."""
        return [message["number"] for message in self.messages if message.get("sender") == sender]

    async def until(self, condition: Callable[[], object], what: str = "the condition") -> None:
        """Wait until something holds that messages or gaps bring about."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what} did not come; got {len(self.messages)} messages, {self.gaps}") from None

    async def more(self, sender: str, count: int) -> None:
        """Wait until so many more messages of a sender have come."""
        goal = len(self.numbers(sender)) + count
        await self.until(lambda: len(self.numbers(sender)) >= goal, f"{count} messages more of {sender!r}")

    async def has(self, sender: str, number: int) -> None:
        """Wait for one message."""
        await self.until(lambda: number in self.numbers(sender), f"number {number} of {sender!r}")


async def check(sender: Sender | ThreadSender, *listeners: Listener, lossless: bool = True) -> list[int]:
    """Send one message more, wait for it, and look at all that was sent; return the numbers of lost messages.

    Every listener has every message whose call returned, exactly once and in order, and none whose call said that it
    was not sent. lossless=False: some may be missing, provided that the listener was told of a gap.
    """
    last = await _arrive(sender, listeners, lossless=lossless)
    missing: set[int] = set()
    for listener in listeners:
        got = listener.numbers(sender.name)
        assert got == sorted(set(got)), f"{sender.name}: twice, or out of order: {_disorder(got)}"
        assert not set(got) & set(sender.unsent), f"{sender.name}: calls raised with sent=False, and yet it came"
        assert set(got) <= {*sender.returned, *sender.doubtful}
        lost = set(sender.returned) - set(got)
        missing |= lost
        if lost:
            assert not lossless, f"{sender.name}: lost {sorted(lost)} of {last}; gaps: {listener.gaps}"
            assert listener.gaps, f"{sender.name}: lost {sorted(lost)} of {last}, and nobody was told"
    return sorted(missing)


async def _arrive(sender: Sender | ThreadSender, listeners: Sequence[Listener], *, lossless: bool) -> int:
    """Send one message more, and wait until every listener has it; return its number.

    Where messages may be lost, a listener that is not back yet misses this one too: then another one is sent.
    """
    until = time.monotonic() + PATIENCE
    while True:
        last = await sender.finish()
        try:
            async with asyncio.timeout(None if lossless else AGAIN):
                for listener in listeners:
                    await listener.has(sender.name, last)
        except TimeoutError:
            if time.monotonic() > until:
                raise AssertionError(f"no message of {sender.name!r} comes any more") from None
        else:
            return last


def _disorder(numbers: list[int]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in pairwise(numbers) if b <= a][:5]

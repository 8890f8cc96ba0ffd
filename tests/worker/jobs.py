"""Consumers for the tests, and waiting for what they do."""

import asyncio
from collections.abc import Callable
from typing import Any

from sealane.consumers import AsyncConsumer
from sealane.layers import InMemoryChannelLayer
from sealane.types import Message

#: Seconds for anything that a test waits for. Nothing waits that long where all is well.
LIMIT = 20.0


async def eventually(condition: Callable[[], object], what: str = "the condition") -> None:
    """Wait for a condition of the same event loop."""
    try:
        async with asyncio.timeout(LIMIT):
            while not condition():
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"{what} did not come true in {LIMIT:g} s") from None


class Recorder(AsyncConsumer):
    """Notes what it handles, and who does. Each test makes a subclass of its own."""

    seen: list[Any]
    instances: list["Recorder"]
    fails: Callable[[Message], bool] = staticmethod(lambda message: False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.seen = []
        cls.instances = []

    def __init__(self) -> None:
        self.instances.append(self)

    async def job_do(self, message: Message) -> None:
        self.seen.append(message["n"])
        if type(self).fails(message):
            raise ValueError(f"job {message['n']} is bad")


class Gated(Recorder):
    """Holds each job until the test lets it go."""

    gate: asyncio.Event
    done: list[Any]
    cancelled: list[Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.gate = asyncio.Event()
        cls.done = []
        cls.cancelled = []

    async def job_do(self, message: Message) -> None:
        self.seen.append(message["n"])
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(message["n"])
            raise
        self.done.append(message["n"])


async def send_jobs(layer: InMemoryChannelLayer | Any, count: int, channel: str = "jobs") -> None:
    for n in range(1, count + 1):
        await layer.send(channel, {"type": "job.do", "n": n})


async def waiting(layer: Any, channel: str = "jobs") -> list[Any]:
    """Take what waits in a channel of an in-memory layer."""
    found = []
    while True:
        try:
            async with asyncio.timeout(0.05):
                found.append((await layer.receive(channel))["n"])
        except TimeoutError:
            return found

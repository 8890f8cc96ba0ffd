"""Those who wait for one message of a channel: a coroutine in ``receive()``, or a thread in ``sync.receive()``."""

import asyncio
import threading
from abc import ABC, abstractmethod

from sealane.layers.parcel import Parcel

__all__ = ["AsyncReceiver", "Receiver", "ThreadReceiver"]


class Receiver(ABC):
    """Somebody who waits. The exchange changes ``parcel`` and ``closed`` under its lock, then calls ``notify()``.

    The parcel lies here, not in what wakes the receiver: one that is cancelled after it was woken still has it, and
    gives it back.
    """

    __slots__ = ("channel", "closed", "loop", "parcel")

    channel: str
    loop: asyncio.AbstractEventLoop | None
    parcel: Parcel | None
    closed: bool

    @abstractmethod
    def notify(self) -> None:
        """Let it run, now that it has a parcel or is closed. Called without the lock, in the thread of its loop."""


class AsyncReceiver(Receiver):
    """A coroutine that waits."""

    __slots__ = ("future",)

    def __init__(self, channel: str, loop: asyncio.AbstractEventLoop) -> None:
        self.channel = channel
        self.loop = loop
        self.parcel = None
        self.closed = False
        self.future: asyncio.Future[None] = loop.create_future()

    def notify(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class ThreadReceiver(Receiver):
    """A thread that waits."""

    __slots__ = ("_event",)

    def __init__(self, channel: str, loop: None = None) -> None:
        self.channel = channel
        self.loop = loop
        self.parcel = None
        self.closed = False
        self._event = threading.Event()

    def notify(self) -> None:
        self._event.set()

    def wait(self, timeout: float | None) -> bool:
        """Block until it is notified; return False where ``timeout`` seconds passed before."""
        return self._event.wait(timeout)

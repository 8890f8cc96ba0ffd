"""One running instance of an ASGI application for the scope type ``channel``: it handles a message at a time."""

import asyncio
import logging
from typing import NamedTuple

from sealane.consumers.ending import finish
from sealane.consumers.handling import HANDLING, Handling
from sealane.exceptions import IllegalEvent
from sealane.types import ASGIApplication, Message, Scope

__all__ = ["Instance", "Outcome"]

logger = logging.getLogger("sealane.worker")


class Outcome(NamedTuple):
    """How the handling of a message ended."""

    #: Whether the application has taken the message; one that ended before that has not seen it.
    taken: bool
    #: Whether the application has ended.
    over: bool
    #: What the application ended with, None where it goes on or just returned.
    error: BaseException | None


class Instance:
    """Run an application, and hand it messages one by one.

    A message counts as handled when the application asks for the next one, or ends. So an application that reads ahead
    of its work says too early that it is done; Sealane's consumers do not.
    """

    def __init__(self, application: ASGIApplication, channel: str) -> None:
        self.channel = channel
        self._message: Message | None = None  # given, and not handled yet
        self._taken = False
        self._handling = Handling()
        self._ending = False
        self._cancelled_again = False
        self._arrived = asyncio.Event()
        self._handled: asyncio.Future[Outcome] | None = None
        scope = {"type": "channel", "channel": channel}
        self._task = asyncio.get_running_loop().create_task(
            self._run(application, scope), name=f"sealane-worker-{channel}"
        )
        self._task.add_done_callback(self._ended)

    def __repr__(self) -> str:
        state = "ended" if self.over else "busy" if self.busy else "idle"
        return f"<Instance for {self.channel!r}: {state}>"

    @property
    def over(self) -> bool:
        """Whether the application has ended, or is about to."""
        return self._ending or self._task.done()

    @property
    def busy(self) -> bool:
        """Whether it has a message."""
        return self._message is not None

    async def handle(self, message: Message) -> Outcome:
        """Hand a message over, and wait until it is handled. One at a time.

        Cancelled, the application still has the message, or ``outcome`` tells what became of it.
        """
        self._message = message
        self._taken = False
        self._handling.reset()
        self._handled = asyncio.get_running_loop().create_future()
        if self._task.done():
            self._ended(self._task)
        self._arrived.set()
        # Shielded: a cancellation of the caller must leave room for the outcome.
        return await asyncio.shield(self._handled)

    async def end(self, timeout: float) -> None:
        """Cancel the application and wait until it has ended, and its threads, for at most ``timeout`` seconds.

        One whose handler kept the cancellation to itself is cancelled once more when it asks for its next message.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        self._ending = True
        self._task.cancel()
        await finish(self._task, timeout, f"The application for channel {self.channel!r}")
        if self._handling.threads:
            await asyncio.wait(set(self._handling.threads), timeout=max(0, deadline - loop.time()))

    @property
    def running(self) -> bool:
        """Whether the application, or a thread with a handler of it, goes on."""
        return not self._task.done() or bool(self._handling.threads)

    @property
    def outcome(self) -> Outcome | None:
        """How the handling of the last message ended; None while it goes on."""
        return self._handled.result() if self._handled is not None and self._handled.done() else None

    @property
    def taken(self) -> bool:
        """Whether the application has taken the message that it was last given; a consumer, whether it began it."""
        return self._taken and (self._handling.begun or not self._handling.reported)

    @property
    def returned(self) -> bool:
        """Whether a handler has returned from that message, as far as the application says so."""
        return self._handling.returned

    async def _run(self, application: ASGIApplication, scope: Scope) -> None:
        HANDLING.set(self._handling)
        await application(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self._taken and self._message is not None:
            self._settle(Outcome(taken=True, over=False, error=None))
        if self._ending and not self._cancelled_again:
            # No second time: one that swallows each would never let the loop have a moment of peace.
            self._cancelled_again = True
            self._task.cancel()
        # Cancelled here, as by a timeout of the application's own, it has not taken the message; the next call gets it.
        while self._message is None or self._taken:
            self._arrived.clear()
            await self._arrived.wait()
        self._taken = True
        return self._message

    async def _send(self, message: Message) -> None:
        kind = message.get("type") if isinstance(message, dict) else None
        raise IllegalEvent(str(kind), "a channel of a worker, behind which there is no client", [])

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = _error_of(task)
        given = self._message is not None
        if given:
            self._settle(Outcome(taken=self.taken, over=True, error=None if self.returned else error))
        if error is not None and not self._ending and (self.returned or not given):
            # As by a message of a group, or by a spawned task.
            logger.error("The application for channel %r failed between two messages", self.channel, exc_info=error)

    def _settle(self, outcome: Outcome) -> None:
        self._message = None
        if self._handled is not None and not self._handled.done():
            self._handled.set_result(outcome)


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()

"""Run an ASGI application inside a test, and talk to it event by event."""

import asyncio
import contextvars
import warnings
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, cast

from asgiref.compatibility import guarantee_single_callable

from sealane.exceptions import ApplicationEnded, ApplicationTimeout
from sealane.testing.outbox import Outbox
from sealane.testing.patience import ended_within
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["ApplicationCommunicator"]


class ApplicationCommunicator:
    """Be the server of one connection to ``application``: give it events, and take the events that it sends.

    The application starts with the first call that needs it, as a task of the test's event loop, in an empty
    context (``contextvars``), as it would have under a server. It gets ``scope`` itself, so what a test puts
    into ``communicator.scope`` before that is there.

    Taking an event destroys nothing: where nothing comes in time, the application goes on and a later call
    gets the event. Events come in the order in which they were sent. Once the application has raised, its
    exception, with its own traceback, comes out of the next call, without a wait.

    ``async with`` makes the end certain, however the block is left: see ``__aexit__``. Without it, end the
    application with ``wait()``, or ``stop()``; one that is forgotten is cancelled, with a ResourceWarning.

    Every timeout is in seconds; None waits for ever. One event loop's thread only.
    """

    #: How long leaving ``async with`` waits for the application to end by itself, and after that for its
    #: cancellation. ``wait()`` and ``disconnect()`` give a cancelled application the same time.
    exit_timeout: float = 1.0

    _task: asyncio.Task[None] | None = None

    def __init__(self, application: ASGIApplication, scope: Scope) -> None:
        self.application: Callable[[Scope, Receive, Send], Awaitable[None]] = cast(
            ASGIApplication,
            guarantee_single_callable(application),  # type: ignore[no-untyped-call]
        )
        self.scope = scope
        #: What the application has not received yet.
        self.input_queue: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox = Outbox()
        # An exception that a call has raised into the test is not raised again when the block is left.
        self._told: BaseException | None = None

    @property
    def output_queue(self) -> asyncio.Queue[Message]:
        """What the application has sent and nobody has taken yet."""
        return self._outbox.queue

    @property
    def future(self) -> asyncio.Task[None]:
        """The application's task. Asking for it starts the application."""
        if self._task is None:
            self._task = asyncio.create_task(
                _run(self.application, self.scope, self.input_queue.get, self._outbox.send),
                name=f"{type(self).__name__}: {self.application!r}",
                context=contextvars.Context(),
            )
            self._task.add_done_callback(self._outbox.wake)
        return self._task

    async def send_input(self, message: Message) -> None:
        """Give the application an event. It does not wait until the application has received it.

        Raises the application's exception where it has one. For an application that has ended by itself the
        event is lost, as it is with a server.
        """
        self.future  # noqa: B018  # starts it
        self._raise_failure()
        self.input_queue.put_nowait(message)

    async def receive_output(self, timeout: float | None = 1) -> Message:
        """Return the next event that the application sends.

        Raises ApplicationTimeout, a TimeoutError, where none comes in time: nothing is lost by it, nor by a
        cancellation. Raises the application's own exception as soon as it has one; in the same moment an
        event that was sent before it comes first. Raises ApplicationEnded as soon as the application has
        ended without one.
        """
        return await self._receive("an event", timeout)

    async def receive_nothing(self, timeout: float = 0.1, interval: float = 0.01) -> bool:
        """Tell whether the application sends nothing for ``timeout`` seconds. An event that it sends stays.

        False comes as soon as there is an event, and True as soon as the application has ended: nothing can
        follow. Raises the application's exception as soon as it has one. ``interval``, from the days of
        polling, is a lower bound of the time, unless ``timeout`` is 0: that looks once, without a wait.
        """
        task = self.future
        self._raise_failure()
        try:
            await self._outbox.wait_until_filled_or_done(task, max(timeout, interval) if timeout > 0 else 0)
        except TimeoutError:
            return True
        if not self.output_queue.empty():
            return False
        self._raise_failure()
        return True

    async def wait(self, timeout: float | None = 1) -> None:
        """Wait until the application ends by itself, and raise its exception where it has one.

        After it the application has ended in any case: where it did not in time, it is cancelled, and the
        call raises ApplicationTimeout, a TimeoutError. The same holds where the call is cancelled. What the
        application has sent can still be taken.
        """
        task = self.future
        if await self._end(task, timeout):
            self._raise_failure()
            return
        raise self._timeout("the application's end", timeout or 0) from self._failure()

    def stop(self, exceptions: bool = True) -> None:
        """Cancel the application, without waiting until it has ended. Doing it twice is harmless.

        Where it has ended already, raise its exception, unless ``exceptions`` is false.
        """
        if self._task is None:
            return
        if not self._task.done():
            self._task.cancel()
        elif exceptions:
            self._raise_failure()

    async def __aenter__(self) -> Self:
        """Start nothing: the application starts with the first call that needs it."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the application: tell it that its client has left, wait ``exit_timeout`` seconds, then cancel it.

        A scope of another type than http, websocket and lifespan has no such event: its application is
        cancelled at once.

        Raises what the application has raised and no call has told yet; where the block itself fails, that
        stays the error, and the application's is a note on it. An application that outlives even its
        cancellation by ``exit_timeout`` seconds is an ApplicationTimeout.
        """
        task = self._task
        if task is None:
            return
        patience = 0.0
        if not task.done() and (farewell := self._farewell()) is not None:
            self.input_queue.put_nowait(farewell)
            patience = self.exit_timeout
        await self._end(task, patience)
        problem: BaseException | None
        if task.done():
            problem = self._failure()
        else:
            problem = self._timeout("the application's end after its cancellation", self.exit_timeout)
        if problem is None or problem is exc or problem is self._told:
            return
        self._told = problem
        if exc is None:
            raise problem
        exc.add_note(f"The application failed, too: {type(problem).__name__}: {problem}")

    def __del__(self) -> None:
        task = self._task
        if task is None or task.done() or task.get_loop().is_closed():
            return
        warnings.warn(
            f"{self!r} was not ended: use 'async with', or await its wait() or disconnect()",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        # The garbage collector may run in any thread.
        task.get_loop().call_soon_threadsafe(task.cancel)

    def __repr__(self) -> str:
        task = self._task
        if task is None:
            state = "not started"
        elif not task.done():
            state = "running"
        else:
            state = "cancelled" if task.cancelled() else "failed" if task.exception() else "ended"
        return (
            f"<{type(self).__name__} {self.scope.get('type')} {self.scope.get('path', '')!r} {state}: "
            f"{self._outbox.count} events sent, {self.output_queue.qsize()} not taken>"
        )

    def _farewell(self) -> Message | None:
        """Make the event that tells the application of its connection's end, where there is one to give."""
        match self.scope.get("type"):
            case "http":
                return {"type": "http.disconnect"}
            case "websocket":
                return {"type": "websocket.disconnect", "code": 1000}
            case "lifespan":
                return {"type": "lifespan.shutdown"}
            case _:
                return None

    async def _receive(self, awaited: str, timeout: float | None) -> Message:
        task = self.future
        self._raise_failure()
        try:
            await self._outbox.wait_until_filled_or_done(task, timeout)
        except TimeoutError:
            raise self._timeout(awaited, timeout or 0) from None
        if not self.output_queue.empty():
            return self.output_queue.get_nowait()
        self._raise_failure()
        raise ApplicationEnded(awaited, tuple(self._outbox.types), self._outbox.count, task.cancelled())

    async def _end(self, task: asyncio.Task[None], timeout: float | None) -> bool:
        """Wait for the task; cancel it where it takes longer, or where the wait is cancelled. Tell whether it ended."""
        ended = False
        try:
            await ended_within(task, timeout)
        finally:
            ended = task.done()
            if not ended:
                task.cancel()
                await ended_within(task, self.exit_timeout)
        return ended

    def _failure(self) -> BaseException | None:
        """Return what the application has raised. Its being cancelled is no failure."""
        task = self._task
        return task.exception() if task is not None and task.done() and not task.cancelled() else None

    def _raise_failure(self) -> None:
        failure = self._failure()
        if failure is not None:
            self._told = failure
            raise failure

    def _timeout(self, awaited: str, seconds: float) -> ApplicationTimeout:
        return ApplicationTimeout(awaited, seconds, tuple(self._outbox.types), self._outbox.count)


async def _run(application: Callable[..., Awaitable[Any]], scope: Scope, receive: Receive, send: Send) -> None:
    """Run the application. A coroutine of ours, since an application may return any awaitable."""
    await application(scope, receive, send)

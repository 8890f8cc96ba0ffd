"""SyncConsumer: the same dispatch, with handlers that are plain functions and run in threads."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from django.core.exceptions import SynchronousOnlyOperation

from sealane.consumers.base import AsyncConsumer
from sealane.consumers.delivered import DeliveredMessage
from sealane.consumers.ending import Step
from sealane.consumers.handlers import HandlerTable
from sealane.consumers.threads import run_in_own_thread, run_in_thread
from sealane.layers import Gap
from sealane.types import Message, Send

__all__ = ["SyncConsumer"]


class SyncConsumer(AsyncConsumer):
    """Handle one connection with plain functions: ``def chat_message(self, message)``.

    A handler runs in a thread of a bounded pool (the setting SEALANE_THREADS), one at a time for each connection, so
    that a handler that blocks holds up its own connection only. ``send()`` waits until the server took the event.
    The context variables are the connection's own; a thread belongs to it only while a handler runs.
    A running handler cannot be stopped: at the end of the connection it is waited for, within ``end_timeout``.
    """

    _sync = True
    _loop: asyncio.AbstractEventLoop
    _in_threads: set[asyncio.Task[Any]] | None = None

    def _wrap_send(self, send: Send) -> Callable[[Message], Any]:
        self._loop = asyncio.get_running_loop()
        return functools.partial(self._wait_for, send)

    def _wait_for(self, call: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Await a call in the connection's event loop, from the thread of a handler."""
        self._require_thread()
        return asyncio.run_coroutine_threadsafe(_awaited(call, args), self._loop).result()

    def _require_thread(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise SynchronousOnlyOperation(
            f"{type(self).__name__} is synchronous: to wait here would block an event loop. "
            "Send from a handler, or use an async consumer."
        )

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        # A task of its own, in the connection's context, because a cancellation must not part us from the thread.
        task = asyncio.Task(
            run_in_thread(functools.partial(function, *args)), loop=self._loop, context=self._dispatcher.context
        )
        if self._in_threads is None:
            self._in_threads = set()
        self._in_threads.add(task)
        task.add_done_callback(self._in_threads.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(functools.partial(self._finished_late, args))
            if self._job_handling is not None and not task.done():
                self._job_handling.threads.add(task)
                task.add_done_callback(self._job_handling.threads.discard)
            raise

    def _finished_late(self, args: tuple[Any, ...], task: asyncio.Task[Any]) -> None:
        """Report how a handler ended that its cancelled dispatch does not wait for any more."""
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._stop(error)
        elif (handling := self._job_handling) is not None:
            # on_error() has the message too: then there is an error in it.
            handling.returned |= any(isinstance(arg, DeliveredMessage) and not arg.error for arg in args)

    def _handle(self, table: HandlerTable, message: Message) -> Awaitable[None]:
        return self._in_thread(getattr(self, self._method_for(table, message)), message)

    def dispatch(self, message: Message) -> None:  # type: ignore[override]
        """Hand a message to its handler, in the thread; see :meth:`AsyncConsumer.dispatch`."""
        getattr(self, self._table_of(message).resolve(message))(message)

    async def _report(self, error: Exception, message: Message | None) -> None:
        await self._in_thread(self.on_error, error, message)

    def on_error(self, error: Exception, message: Message | None) -> None:  # type: ignore[override]
        """Decide what follows an error, as :meth:`AsyncConsumer.on_error` does; it runs in a thread."""
        if self._tolerates(error):
            return
        raise error

    async def _missed(self, gap: Gap) -> None:
        await self._in_thread(self.on_gap, gap)

    def on_gap(self, gap: Gap) -> None:  # type: ignore[override]
        """Handle that messages may have been missed, as :meth:`AsyncConsumer.on_gap` does; it runs in a thread."""

    def send(self, message: Message) -> None:  # type: ignore[override]
        """Send an event to the client and wait until the server took it."""
        self.base_send(message)

    def spawn(  # type: ignore[override]
        self, function: Callable[..., Any], *args: Any, name: str | None = None
    ) -> None:
        """Run a function in a thread of its own, beside the handlers. An error goes to :meth:`on_error`.

        Nothing can stop a thread: a long function should look at what it works for and return by itself.
        """
        coroutine = run_in_own_thread(functools.partial(function, *args))
        self._loop.call_soon_threadsafe(functools.partial(super().spawn, coroutine, name=name))

    def _protocol_steps(self, error: BaseException | None) -> Iterator[Step]:
        # The handler that was cancelled may still run in its thread; disconnect() comes after it.
        if self._in_threads:
            yield Step(f"A handler of {self._name()}", self.end_timeout, self._wait_for_threads)
        yield from super()._protocol_steps(error)

    async def _wait_for_threads(self) -> None:
        while self._in_threads:
            await asyncio.wait(self._in_threads)


async def _awaited(call: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> Any:
    return await call(*args)

"""The thread in which a live server lives: its event loop, uvicorn, and an end in stages."""

import asyncio
import socket
import threading
from collections.abc import Collection, Mapping
from types import ModuleType
from typing import Any

from sealane.exceptions import LiveServerError
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["ServerThread"]


class ServerThread(threading.Thread):
    """Serve ``application`` on the bound socket ``listener`` until ``finish()``. The socket belongs to the thread."""

    #: How often the thread looks whether uvicorn, which tells nobody, has started; in seconds.
    LOOK = 0.005
    #: How long ``finish()`` waits beyond the stages of the shutdown, for a busy machine; in seconds.
    SLACK = 5.0

    def __init__(
        self,
        uvicorn: ModuleType,
        application: ASGIApplication,
        listener: socket.socket,
        options: Mapping[str, Any],
        *,
        grace: float,
        stop_timeout: float,
    ) -> None:
        super().__init__(name=f"sealane live server on port {listener.getsockname()[1]}", daemon=True)
        self._lifespan = _Lifespan(application)
        defaults = {
            # Logging belongs to the test process.
            "log_config": None,
            "access_log": False,
            # uvicorn's own choice is, in some versions, an implementation that websockets has deprecated.
            "ws": "websockets-sansio",
        }
        self._server = uvicorn.Server(uvicorn.Config(self._lifespan, interface="asgi3", **{**defaults, **options}))
        self._listener = listener
        self._grace = grace
        self._stop_timeout = stop_timeout
        self._stopping = asyncio.Event()
        #: Set when the server answers, or has failed to.
        self.ready = threading.Event()
        #: Why the server could not start, or broke down.
        self.error: BaseException | None = None
        # Made here, so that request_stop() always has it.
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            self.error = self._lifespan.failure() if isinstance(error, SystemExit) else error
        finally:
            self._listener.close()
            self.ready.set()

    def request_stop(self) -> None:
        """Ask the server to stop, from any thread, without waiting."""
        try:
            self._loop.call_soon_threadsafe(self._stopping.set)
        except RuntimeError:
            pass  # the loop is closed: the server has ended

    def close_connections(self) -> None:
        """Close every connection that is open now, and wait until its application has ended."""
        closing = asyncio.run_coroutine_threadsafe(self._close_connections(), self._loop)
        closing.result(self._limit)

    @property
    def _limit(self) -> float:
        """How long all stages may take, in seconds."""
        return self._grace + 2 * self._stop_timeout + self.SLACK

    def finish(self) -> None:
        """Stop the server, and wait for the thread. LiveServerError where it does not end within its limits."""
        self.request_stop()
        limit = self._limit
        self.join(limit)
        if self.is_alive():
            raise LiveServerError(
                f"The live server did not stop within {limit:g} s: an application ignores its cancellation, or blocks "
                f"the event loop. Unfinished: {self._unfinished()}"
            )

    def _unfinished(self) -> str:
        names = sorted(repr(task.get_coro()) for task in tuple(self._server.server_state.tasks) if not task.done())
        return ", ".join(names) or "no connection's task"

    async def _serve(self) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]), name="uvicorn")
        stopping = asyncio.create_task(self._stopping.wait(), name="stop requested")
        try:
            while not (self._server.started or serving.done() or stopping.done()):  # noqa: ASYNC110
                await asyncio.sleep(self.LOOK)
            if self._server.started:
                self.ready.set()
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await self._shut_down(serving)
        finally:
            stopping.cancel()
            if serving.done() and not serving.cancelled():
                serving.exception()  # asyncio would log one that nobody asked for
        if not serving.cancelled():
            serving.result()
            if not (self._server.started or self._stopping.is_set()):
                raise self._lifespan.failure()  # some versions of uvicorn only return

    async def _shut_down(self, serving: asyncio.Task[None]) -> None:
        """End uvicorn. The lifespan's shutdown comes after the end of all connections.

        uvicorn has one limit for all of it, and cancels an application without telling it first that its
        client is gone, and without waiting until it has ended.
        """
        state = self._server.server_state
        if self._server.started:
            self._server.should_exit = True
            if await self._end({serving}, state.connections, state.tasks):
                return
        serving.cancel()
        await _ended({serving}, self.SLACK)

    async def _close_connections(self) -> None:
        state = self._server.server_state
        connections, tasks = tuple(state.connections), set(state.tasks)
        for connection in connections:
            connection.shutdown()
        if not await self._end(tasks, connections, tasks):
            raise LiveServerError(f"Connections were not closed: {self._unfinished()} ignores its cancellation")

    async def _end(
        self, awaited: set[asyncio.Task[None]], connections: Collection[Any], tasks: Collection[asyncio.Task[None]]
    ) -> bool:
        """Wait for ``awaited`` in stages, each of which touches only what the one before has left."""
        if await _ended(awaited, self._grace):
            return True
        for connection in tuple(connections):
            connection.transport.abort()
        if await _ended(awaited, self._stop_timeout):
            return True
        for task in tuple(tasks):
            task.cancel()
        return await _ended(awaited, self._stop_timeout)


async def _ended(tasks: set[asyncio.Task[None]], seconds: float) -> bool:
    if not tasks:
        return True
    _, running = await asyncio.wait(tasks, timeout=seconds)
    return not running


class _Lifespan:
    """Pass everything to ``application``, and remember how its lifespan start-up failed: uvicorn does not tell."""

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application
        self._message: str = ""
        self._error: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._application(scope, receive, send)
            return

        async def watch(event: Message) -> None:
            if event["type"] == "lifespan.startup.failed":
                self._message = event.get("message") or ""
            await send(event)

        try:
            await self._application(scope, receive, watch)
        except BaseException as error:
            self._error = error
            raise

    def failure(self) -> BaseException:
        """Return what the application raised, or else a LiveServerError with what it said."""
        if self._error is not None:
            return self._error
        said = f": {self._message}" if self._message else ", and the application does not say why"
        return LiveServerError(f"The application's lifespan start-up failed{said}")

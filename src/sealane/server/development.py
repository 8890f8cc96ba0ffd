"""uvicorn as Django's development server: run in any thread, stopped from another in a known time."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
import uvicorn.config
from django.core.management.color import Style, color_style

from sealane.exceptions import StartupFailed
from sealane.routing.closing import Closing
from sealane.server.access import AccessLog, server_logger
from sealane.server.deadlines import Deadlines
from sealane.types import ASGIApplication
from sealane.worker import Worker

__all__ = [
    "CANCEL_AFTER",
    "HANG_UP_AFTER",
    "STOP_TIMEOUT",
    "WS_MAX_SIZE",
    "DevelopmentServer",
    "bind",
    "websocket_protocol",
]

#: The largest message that a WebSocket client may send, in bytes: uvicorn's own default.
WS_MAX_SIZE = 16 * 1024 * 1024

#: Seconds from the beginning of the stop until a response that still runs loses its connection, and so does a client
#: that has not answered the close of its WebSocket. An event stream never ends by itself, and its client comes back.
HANG_UP_AFTER = 0.5

#: Seconds from then on until what still runs is cancelled. uvicorn wants a whole number.
CANCEL_AFTER = 2

#: Seconds that a stop may take in all, the lifespan's shutdown included.
STOP_TIMEOUT = 3.0


class DevelopmentServer:
    """Serve an ASGI application on uvicorn, as Django's ``runserver`` uses its WSGIServer.

    The constructor binds and listens, so a port that is taken raises OSError there, and clients that come
    before ``serve_forever()`` wait in the backlog. ``ws_max_size`` is in bytes, the two timeouts are in
    seconds (see sealane.server.deadlines); ``style`` colours the log's lines. ``on_shutdown()`` is called in
    the server's thread when its shutdown begins. ``worker`` works in the server's event loop, from its start to
    its stop; its ``shutdown_timeout`` and ``cancel_timeout`` must fit into STOP_TIMEOUT. uvicorn logs nothing
    below a warning, unless the project gives its loggers a level.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        ipv6: bool = False,
        style: Style | None = None,
        ws_max_size: int = WS_MAX_SIZE,
        http_timeout: float | None = None,
        handshake_timeout: float | None = None,
        on_shutdown: Callable[[], object] | None = None,
        worker: Worker | None = None,
    ) -> None:
        self.worker = worker
        self.socket = bind(address, ipv6=ipv6)
        self.server_port: int = self.socket.getsockname()[1]
        self._style = color_style() if style is None else style
        self._ws_max_size = ws_max_size
        self._http_timeout = http_timeout
        self._handshake_timeout = handshake_timeout
        self._on_shutdown = on_shutdown
        self._application: ASGIApplication | None = None
        self._server: _Uvicorn | None = None
        self._lock = threading.Lock()
        self._stopping = False
        self._finished = threading.Event()

    def __repr__(self) -> str:
        state = "stopped" if self._finished.is_set() else "stopping" if self._stopping else "serving"
        if self._server is None and not self._finished.is_set():
            state = "bound"
        connections = 0 if self._server is None else len(self._server.server_state.connections)
        return f"<DevelopmentServer on port {self.server_port}: {state}, {connections} connections>"

    def set_app(self, application: ASGIApplication) -> None:
        """Set the application to serve. Call it before ``serve_forever()``."""
        self._application = application

    def serve_forever(self) -> None:
        """Serve until ``stop()`` is called, in an event loop of this thread's own.

        In the main thread, SIGINT and SIGTERM stop it too; their handlers run once it has stopped, so SIGINT
        raises KeyboardInterrupt then. Raises StartupFailed where the application's lifespan startup failed.
        The socket is closed at the end; a server serves once.
        """
        if self._application is None:
            raise RuntimeError("DevelopmentServer has no application: call set_app() before serve_forever()")
        try:
            with self._lock:
                if self._stopping:
                    return
                self._server = self._uvicorn(self._application)
            with _quiet_uvicorn():
                self._server.run(sockets=[self.socket])
            if not self._server.started:
                # Older versions of uvicorn return, newer ones leave.
                raise StartupFailed
        except SystemExit as leaving:
            # With another status it is the handler of a signal that leaves.
            if self._server is None or self._server.started or leaving.code != uvicorn.config.STARTUP_FAILURE:
                raise
            raise StartupFailed from leaving
        finally:
            self.socket.close()
            self._finished.set()

    def stop(self, timeout: float = STOP_TIMEOUT) -> bool:
        """Stop the server, from another thread. Returns whether it has ended within ``timeout`` seconds.

        No new connections are taken. Every WebSocket is closed with 1012 (service restart), and its application
        receives ``websocket.disconnect`` with that code; a handshake that is undecided gets a 500. Clients have
        HANG_UP_AFTER s to answer the close, and requests the same to end. What still runs CANCEL_AFTER s later is
        cancelled, and the lifespan's shutdown follows. Calling it twice, or before ``serve_forever()``, is harmless.
        """
        with self._lock:
            self._stopping = True
            server = self._server
        if server is None:
            self.socket.close()
            return True
        server.should_exit = True
        return self._finished.wait(timeout)

    def _uvicorn(self, application: ASGIApplication) -> "_Uvicorn":
        limited = Deadlines(application, http=self._http_timeout, handshake=self._handshake_timeout)
        closing = Closing(limited)
        config = uvicorn.Config(
            AccessLog(closing, logger=server_logger(self._style)),
            interface="asgi3",
            lifespan="auto",
            ws=websocket_protocol(),
            ws_max_size=self._ws_max_size,
            proxy_headers=False,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=CANCEL_AFTER,
        )
        return _Uvicorn(config, closing, self._on_shutdown, self.worker)


class _Uvicorn(uvicorn.Server):
    """uvicorn with another shutdown: WebSockets get the time for their goodbye, endless responses get none."""

    def __init__(
        self,
        config: uvicorn.Config,
        closing: Closing,
        on_shutdown: Callable[[], object] | None,
        worker: Worker | None,
    ) -> None:
        super().__init__(config)
        self._closing = closing
        self._on_shutdown = on_shutdown
        self._worker = worker
        self._working: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._worker is not None and self.started:
            self._working = asyncio.create_task(self._worker.handle(), name="sealane-worker")
            await asyncio.sleep(0)  # its first step: from then on it can be stopped

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._on_shutdown is not None:
            self._on_shutdown()
        timer = asyncio.get_running_loop().call_later(HANG_UP_AFTER, self._hang_up)
        try:
            for server in self.servers:
                server.close()
            if self._worker is not None:
                self._worker.stop()
            await self._say_goodbye()
            if self._working is not None:
                # Before the lifespan's shutdown, which closes the channel layers.
                await asyncio.wait([self._working])
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    async def _say_goodbye(self) -> None:
        """Close the WebSockets, and wait for the answers of their clients; the hang-up ends the wait."""
        try:
            async with asyncio.timeout(HANG_UP_AFTER):
                await self._closing.close_all()
                # uvicorn tells nobody of the end of a connection.
                while self._has_websockets():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pass

    def _has_websockets(self) -> bool:
        protocol = self.config.ws_protocol_class
        return protocol is not None and any(isinstance(item, protocol) for item in self.server_state.connections)

    def _hang_up(self) -> None:
        # The application sees a client that has left.
        for connection in list(self.server_state.connections):
            connection.transport.close()


def bind(address: tuple[str, int], *, ipv6: bool = False) -> socket.socket:
    """Return a listening socket on ``(host, port)``. Raises OSError where that is not possible."""
    listener = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            # The connections of the process before a reload still hold the port for a while.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def websocket_protocol() -> Any:
    """Name the WebSocket implementation for uvicorn: the newer one, without I/O, where there is a choice."""
    sansio = "websockets-sansio"
    if sansio in uvicorn.config.WS_PROTOCOLS and importlib.util.find_spec("websockets") is not None:
        return sansio
    return "auto"


@contextlib.contextmanager
def _quiet_uvicorn() -> Iterator[None]:
    """Keep uvicorn's own lines about connections out of the log: a project that wants them sets a level."""
    own = logging.getLogger("uvicorn.error")
    if own.level != logging.NOTSET or logging.getLogger("uvicorn").level != logging.NOTSET:
        yield
        return

    def important(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING

    own.addFilter(important)
    try:
        yield
    finally:
        own.removeFilter(important)

"""Serve an ASGI application on a real port, from a thread of the test's own process."""

import asyncio
import os
import socket
import warnings
from types import ModuleType, TracebackType
from typing import Any, Self

from sealane.exceptions import LiveServerError
from sealane.testing.server_thread import ServerThread
from sealane.types import ASGIApplication

__all__ = ["LiveServer"]


class LiveServer:
    """Run ``application`` on uvicorn, in a thread, on ``host`` and a free port: ``with LiveServer(app) as server:``.

    Nothing is pickled and no process is started, so any application will do, also one that a test has just
    made. The server has an event loop of its own.

    ``stop()`` is clean. The listening socket is closed, WebSockets are closed with 1012, requests in flight
    may end. After ``grace`` seconds what is left loses its connection, so that its application sees a
    disconnect; what still runs ``stop_timeout`` seconds later is cancelled. Then come the lifespan's
    shutdown, and the end of the loop and of the thread.

    ``start_timeout``, ``grace`` and ``stop_timeout`` are seconds. Further options go to ``uvicorn.Config``,
    such as ``ws_max_size``. Use it from one thread. Its calls block; ``async with`` waits without blocking
    the test's loop.
    """

    _thread: ServerThread | None = None

    def __init__(
        self,
        application: ASGIApplication,
        *,
        host: str = "localhost",
        port: int = 0,
        start_timeout: float = 10,
        grace: float = 1,
        stop_timeout: float = 5,
        **options: Any,
    ) -> None:
        self.application = application
        self.host = host
        self.start_timeout = start_timeout
        self.grace = grace
        self.stop_timeout = stop_timeout
        self.options = options
        self._port = port

    @property
    def port(self) -> int:
        """The port. Where the system chooses it, it is known from the first start on, and then stays."""
        if not self._port:
            raise LiveServerError(f"{self!r} has no port before it is started: use it in a 'with' statement")
        return self._port

    @property
    def url(self) -> str:
        """The server's root, without a slash at the end: ``http://localhost:40123``."""
        return f"http://{self._netloc}"

    @property
    def ws_url(self) -> str:
        """The root for WebSockets, without a slash at the end: ``ws://localhost:40123``."""
        return f"ws://{self._netloc}"

    @property
    def running(self) -> bool:
        """Tell whether the server's thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the server, and return when the application's lifespan start-up is complete and the port answers.

        Raises the very error that prevents it: an OSError where the address is taken, what the application's
        lifespan start-up raised, an ImportError where uvicorn is missing. LiveServerError where the server
        was started already, where a failed start-up has no exception of its own, and where it takes longer
        than ``start_timeout``. After an error nothing is left open.
        """
        if self._thread is not None:
            raise LiveServerError(f"{self!r} was started already: stop() it first, or restart() it")
        uvicorn = _import_uvicorn()
        listener = _bind(self.host, self._port)
        try:
            thread = ServerThread(
                uvicorn,
                self.application,
                listener,
                self.options,
                grace=self.grace,
                stop_timeout=self.stop_timeout,
            )
        except BaseException:
            listener.close()
            raise
        port: int = listener.getsockname()[1]
        thread.start()
        if not thread.ready.wait(self.start_timeout):
            thread.finish()
            raise LiveServerError(
                f"The lifespan start-up of {self.application!r} did not complete within {self.start_timeout:g} s"
            )
        if thread.error is not None:
            thread.join()
            raise thread.error
        self._thread = thread
        self._port = port

    def stop(self) -> None:
        """Stop the server, and return when its thread has ended. Doing it twice is harmless.

        Raises LiveServerError where the thread does not end, which takes an application that ignores its
        cancellation, and, where the server broke down while it ran, the error that did it.
        """
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.finish()
            if thread.error is not None:
                raise thread.error

    def restart(self) -> None:
        """Stop, and start again on the same port. Clients see what they see in a deploy."""
        self.stop()
        self.start()

    def close_connections(self) -> None:
        """Close what clients have open now, in the stages of ``stop()``, and go on serving.

        It returns when the applications of these connections have ended: every ``disconnect()`` has run. A
        client may have connected again by then. Does nothing where the server does not run.
        """
        if self._thread is not None and self._thread.is_alive():
            self._thread.close_connections()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def __del__(self) -> None:
        if self._thread is not None:
            warnings.warn(
                f"{self!r} was not stopped: use 'with', or call stop()",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self._thread.request_stop()

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        where = f"{self.host}:{self._port}" if self._port else self.host
        return f"<{type(self).__name__} {where} {'running' if self.running else 'stopped'}>"

    @property
    def _netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _bind(host: str, port: int) -> socket.socket:
    """Bind a socket here, in the caller's thread, so that a failure is the caller's and the port is known."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # "localhost" may be both; browsers and clients that try ::1 first go on to 127.0.0.1.
        family, kind, protocol, _, address = min(addresses, key=lambda found: found[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                # Connections of the server before, in TIME_WAIT, must not hinder a restart on their port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        error.add_note(f"while a live server was starting on {host}, port {port or 'chosen by the system'}")
        raise
    return listener


def _import_uvicorn() -> ModuleType:
    try:
        import uvicorn
        import websockets  # noqa: F401  # uvicorn would miss it only when it serves
    except ImportError as error:
        raise ImportError(
            f'A live server needs uvicorn and websockets ({error}). Install them: pip install "sealane[server]"',
            name=error.name,
        ) from error
    return uvicorn

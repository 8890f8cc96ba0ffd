"""A deploy that nobody notices: on SIGTERM, connections are closed one after the other before the server stops."""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from sealane.routing.closing import Closing
from sealane.routing.middleware import BaseMiddleware
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["DRAIN", "Drain"]

logger = logging.getLogger("sealane.routing")

#: The key of a scope under which health checks find the Drain around them.
DRAIN = "sealane.drain"

_REFUSAL = b"The server is stopping. Try again.\n"

#: A signal handler as Python calls it.
_Handler = Callable[[int, Any], Any]


class Drain(BaseMiddleware):
    """Wrap the outermost application: on SIGTERM, hold the server's own shutdown until its connections are closed.

    ::

        application = Drain(ProtocolTypeRouter({...}), spread=10, timeout=20)

    From the signal on,

    1. new WebSockets are refused with 503, :data:`sealane.routing.health.ready` answers 503, and other requests are
       served as before: the balancer in front still sends some;
    2. the WebSockets that are open are closed with 1012 (service restart), and event streams are ended, one after the
       other over ``spread`` seconds, at moments of chance, so that not all clients come back in the same second;
    3. every consumer has its end: spawned tasks are cancelled, groups are left, ``disconnect()`` runs;
    4. when all have ended, or ``timeout`` seconds after the signal, the server gets the signal. What it does then is
       its own: uvicorn takes no new connections, waits for requests that still run, and runs the lifespan's shutdown,
       which closes the channel layers.

    A second SIGTERM meanwhile changes nothing. SIGINT, as of Ctrl-C, is the server's at once.

    It holds the signal of servers that handle it by :func:`signal.signal` in the main thread, as uvicorn does, alone,
    with ``--workers`` and under gunicorn. It holds Daphne's too, which cannot send 1012: there each ``disconnect()``
    runs, and the clients see a cut connection at the end of it all. Under others, such as Hypercorn and Granian, it
    does nothing, and says so in a warning; in another thread than the main one, where tests and ``runserver`` have
    their servers, it does nothing.

    Raises ValueError unless 0 <= ``spread`` < ``timeout``.
    """

    def __init__(self, inner: ASGIApplication, *, spread: float = 10.0, timeout: float = 20.0) -> None:
        super().__init__(inner)
        if not 0 <= spread < timeout:
            raise ValueError(
                f"spread is {spread!r} and timeout is {timeout!r}; expected seconds, 0 <= spread < timeout"
            )
        self._spread = spread
        self._timeout = timeout
        self._closing = Closing(inner)
        self._looked = False
        self._server_handler: _Handler | None = None
        self._draining: asyncio.Task[None] | None = None

    @property
    def draining(self) -> bool:
        """Whether the signal has come."""
        return self._draining is not None

    def __repr__(self) -> str:
        state = "draining" if self.draining else "serving"
        return f"<Drain {state}, {self._closing.open} open, {self._closing.running} running>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._looked:
            self._looked = True
            self._take_signal()
        if scope["type"] == "websocket" and self.draining:
            await _refuse(scope, receive, send)
            return
        if scope["type"] == "http":
            scope = {**scope, DRAIN: self}
        await self._closing(scope, receive, send)

    def _take_signal(self) -> None:
        """Put our handler in front of the server's, which is there by the first call."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGTERM)
        if not callable(handler) or _is_of_event_loop(handler):
            logger.warning(
                "Drain does nothing here: it holds a SIGTERM that the server handles by signal.signal(), as uvicorn "
                "does, and this one does otherwise. Connections end as the server ends them"
            )
            return
        self._server_handler = handler
        loop = asyncio.get_running_loop()
        signal.signal(signal.SIGTERM, lambda number, frame: loop.call_soon_threadsafe(self.begin))

    def begin(self) -> None:
        """Begin to drain, as SIGTERM does. Call it in the event loop; a second time does nothing."""
        if self._draining is None:
            self._draining = asyncio.get_running_loop().create_task(self._drain(), name="sealane-drain")

    async def _drain(self) -> None:
        logger.info("Draining: %d connections are closed over %g seconds", self._closing.open, self._spread)
        try:
            async with asyncio.timeout(self._timeout):
                await self._closing.close_all(self._spread)
                await self._closing.wait_until_none_runs()
        except TimeoutError:
            logger.warning(
                "Draining: %d connections had not ended within %g seconds", self._closing.running, self._timeout
            )
        finally:
            if self._server_handler is not None:
                self._server_handler(signal.SIGTERM, None)


def _is_of_event_loop(handler: _Handler) -> bool:
    """Tell a handler of ``loop.add_signal_handler()``.

    Those run whatever stands in its place: Python wakes the loop by another way. asyncio has a function that does
    nothing there, uvloop a method of the loop.
    """
    return getattr(handler, "__module__", None) == "asyncio.unix_events" or isinstance(
        getattr(handler, "__self__", None), asyncio.AbstractEventLoop
    )


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    # Servers wait for an answer only to a connect that was received.
    if (await receive())["type"] != "websocket.connect":
        return
    answer: list[Message] = [{"type": "websocket.close"}]
    if "websocket.http.response" in (scope.get("extensions") or ()):
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(_REFUSAL)).encode()),
            (b"retry-after", b"1"),
        ]
        answer = [
            {"type": "websocket.http.response.start", "status": 503, "headers": headers},
            {"type": "websocket.http.response.body", "body": _REFUSAL},
        ]
    for message in answer:
        try:
            await send(message)
        except OSError:
            # ASGI's way to say that the client has left.
            return

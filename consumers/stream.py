"""One stream of a multiplexed WebSocket, as its application sees it: an ASGI ``receive`` and ``send``."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from sealane.consumers.connection import ConnectionState, next_state
from sealane.consumers.envelope import build_close, build_frame, build_open, quote, refusal_code
from sealane.consumers.outbox import QUEUED, Outbox
from sealane.types import Message

__all__ = ["Line", "Stream"]

_CONNECTING, _OPEN, _REFUSING, _CLOSED = ConnectionState

#: Bytes of a refusal's body that become the reason of a close: as much as a close frame has room for.
_LONGEST_REASON: Final = 123


class Line(Protocol):
    """What a stream needs of the WebSocket that it shares."""

    def send_frame(self, text: str, /) -> Awaitable[None]:
        """Send an envelope with a frame; raise OSError where the WebSocket has ended."""

    def send_event(self, text: str, /) -> Awaitable[None]:
        """Send an envelope that must not be dropped; do nothing where the WebSocket has ended."""

    def stream_closed(self, stream: "Stream", /) -> None:
        """Note that a stream has closed itself. Called in the thread of the event loop."""


class Stream:
    """Stand between one application and the WebSocket that it shares with others, in the place of a server.

    ``receive()`` gives ``websocket.connect``, the client's frames in their order once the application has accepted,
    and ``websocket.disconnect`` in the end, again each time it is asked. A call that is cancelled loses nothing.
    ``send()`` takes what a server takes. What the state of the stream does not allow is
    :exc:`~sealane.exceptions.IllegalEvent`, and anything but a close after the end is an OSError, as of a server.

    Frames that the application has not received wait, up to ``limit`` bytes as an :class:`Outbox` counts them.
    """

    __slots__ = (
        "_as_json",
        "_asked",
        "_body",
        "_disconnect",
        "_frames",
        "_line",
        "_loop",
        "_quoted",
        "_send_frame",
        "_status",
        "_waiters",
        "accepted",
        "code",
        "name",
        "started",
        "state",
        "task",
    )

    def __init__(self, name: str, line: Line, *, limit: int, as_json: bool) -> None:
        self.name = name
        self.state = _CONNECTING
        #: The code that it was closed with.
        self.code: int | None = None
        #: Whether the application has accepted it, also where it has ended since.
        self.accepted = False
        #: The task that runs the application, and whether it has come to that.
        self.task: asyncio.Task[None] | None = None
        self.started = False
        self._line = line
        self._send_frame = line.send_frame
        self._quoted = quote(name)
        self._as_json = as_json
        self._frames = Outbox(limit, "close")
        self._loop = asyncio.get_running_loop()
        self._asked = False
        self._disconnect: Message | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._status = 0
        self._body = b""

    def __repr__(self) -> str:
        return f"<Stream {self.name!r} {self.state.value}, {len(self._frames)} frames wait>"

    # The client's side

    def put(self, event: Message) -> bool:
        """Add a frame of the client. Returns False where it does not fit."""
        if self._frames.put(event) is not QUEUED:
            return False
        if self._waiters:
            self._wake()
        return True

    def leave(self, code: int, reason: str = "") -> None:
        """Close it for the client, or for the end of the WebSocket: what the client has sent is received before."""
        if self.state is not _CLOSED:
            self.state = _CLOSED
            self.code = code
            self._disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._wake()

    def drop(self, code: int, reason: str = "") -> None:
        """Close it from this side: what waits is dropped."""
        self._frames.clear()
        self.leave(code, reason)

    async def end(self, code: int, reason: str) -> None:
        """Close it from this side where it is not closed, and tell the client."""
        if self.state is not _CLOSED:
            self.drop(code, reason)
            self._line.stream_closed(self)
            await self._line.send_event(build_close(self.name, code, reason))

    # The application's side

    async def receive(self) -> Message:
        """Return the next event; see the class."""
        while True:
            # A server holds back what a client sends before it has an answer.
            event = self._frames.take() if self.accepted else None
            if event is not None or (event := self._next()) is not None:
                return event
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise

    def _next(self) -> Message | None:
        """Return what comes before the frames, or after them."""
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        return self._disconnect

    def _wake(self) -> None:
        # All of them: one that is cancelled in this moment would keep the others waiting.
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def send(self, event: Message) -> None:
        """Take an event of the application; see the class."""
        kind = event["type"]
        if self.state is _OPEN and kind == "websocket.send":
            return await self._send_frame(build_frame(self._quoted, event, as_json=self._as_json))
        if self.state is _CLOSED and kind != "websocket.close":
            raise ConnectionResetError(f"{kind!r} was not sent: the stream {self.name!r} is closed")
        following = next_state(self.state, event, self.code)
        if following is None:
            return
        answer = _ANSWERS.get(kind)
        if answer is not None:
            await answer(self, event)

    async def _accept(self, event: Message) -> None:
        self.state = _OPEN
        await self._line.send_event(build_open(self.name, event.get("subprotocol")))
        self.accepted = True
        self._wake()

    async def _close(self, event: Message) -> None:
        code: int | None = event.get("code")
        if self.state is _CONNECTING:
            code = refusal_code(code)
        await self.end(1000 if code is None else code, event.get("reason") or "")

    async def _start_refusal(self, event: Message) -> None:
        self.state = _REFUSING
        self._status = event["status"]

    async def _refuse(self, event: Message) -> None:
        self._body += event.get("body", b"")[: _LONGEST_REASON - len(self._body)]
        if not event.get("more_body"):
            await self.end(4000 + self._status, self._body.decode(errors="ignore"))


_ANSWERS: Final[dict[str, Callable[[Stream, Message], Awaitable[None]]]] = {
    "websocket.accept": Stream._accept,
    "websocket.close": Stream._close,
    "websocket.http.response.start": Stream._start_refusal,
    "websocket.http.response.body": Stream._refuse,
}

"""The streams of one WebSocket: which are open, which are ending, and the tasks of their applications."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from sealane.consumers.admission import FORBIDDEN, UNAUTHENTICATED, is_logged_in
from sealane.consumers.connection import ConnectionState
from sealane.consumers.envelope import Close, Frame, Open, build_close
from sealane.consumers.json import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from sealane.consumers.limit_counters import LimitName
from sealane.consumers.stream import Stream
from sealane.exceptions import HandlerCancelled, StreamConflict, UnknownStream
from sealane.types import ASGIApplication, Scope

__all__ = ["StreamTable", "speaks_json"]

logger = logging.getLogger("sealane.consumers")

#: The extension by which an application can refuse a stream with a status.
_DENIAL: Final = "websocket.http.response"

#: What the names of the tasks begin with; the stream's name follows.
_TASK: Final = "sealane-stream-"

TOO_MANY: Final = 4429
OVERLOADED: Final = 1013
ERROR: Final = 1011
NORMAL: Final = 1000

CLOSED = ConnectionState.CLOSED

#: Counts what a limit did, and writes a line about it.
Note = Callable[[LimitName, int, str], None]


def speaks_json(application: Any) -> bool:
    """Tell whether an application is a JSON consumer of ours, through the middleware around it."""
    while not hasattr(application, "consumer_class") and hasattr(application, "inner"):
        application = application.inner
    consumer = getattr(application, "consumer_class", None)
    return consumer is not None and issubclass(consumer, AsyncJsonWebsocketConsumer | JsonWebsocketConsumer)


class StreamTable:
    """The streams of one WebSocket, by name; a :class:`~sealane.consumers.stream.Line` to each of them.

    Each stream has a task, in which its application runs as under a server: what it raises is logged, and ends that
    stream alone. Of one name there is one application at a time: a stream that is opened again begins when the one
    before has ended, its ``disconnect()`` included. All calls are made in the thread of the event loop.
    """

    def __init__(
        self,
        who: str,
        *,
        find: Callable[[str], ASGIApplication | None],
        scope: Scope,
        send_frame: Callable[[str], Awaitable[None]],
        send_event: Callable[[str], Awaitable[None]],
        note: Note,
        max_streams: int | None,
        max_queue: int,
    ) -> None:
        """Prepare, with nothing open.

        who: names the WebSocket, for the log.
        find: returns the application of a stream, None where there is no such stream.
        send_frame: sends an envelope with a frame, and raises OSError where the WebSocket has ended.
        send_event: sends an envelope that must not be dropped, and does nothing where the WebSocket has ended.
        max_streams: how many applications may run at once. One that is ending counts, but not for its own name.
        max_queue: bytes that may wait for an application.
        """
        self.send_frame = send_frame
        self.send_event = send_event
        self._who = who
        self._find = find
        self._scope = scope
        self._note = note
        self._max_streams = max_streams
        self._max_queue = max_queue
        self._open: dict[str, Stream] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._login_ended = False
        #: A stream was closed because its user has lost a right, so that the scope's user may be out of date.
        self.doubts_user = False

    def __len__(self) -> int:
        """How many applications run, those that are ending included."""
        return len(self._tasks)

    def __repr__(self) -> str:
        return f"<StreamTable of {self._who}: {list(self._open.values())}, {len(self._ending)} ending>"

    # What the client says

    def get(self, name: str) -> Stream | None:
        """Return the stream of a name, where it is open, or about to be."""
        return self._open.get(name)

    async def bring(self, frame: Frame) -> None:
        """Give a frame to its stream, or close the stream, where too much waits for it.

        Raises UnknownStream, or StreamConflict where the stream is not open.
        """
        name, event = frame
        stream = self._require(name)
        if stream.put(event):
            return
        # Many frames may come in one turn of the event loop, in which the application had none.
        await asyncio.sleep(0)
        if self._require(name) is stream and not stream.put(event):
            self._note("closed_streams", 1, f"the stream {name!r} is too slow for what its client sends, and is closed")
            await stream.end(OVERLOADED, "Too many messages are waiting")

    def _require(self, name: str) -> Stream:
        stream = self._open.get(name)
        if stream is None:
            raise UnknownStream(name) if self._find(name) is None else StreamConflict(name, "not open")
        return stream

    async def open(self, wanted: Open) -> None:
        """Start the application of a stream, or tell the client why not.

        Raises StreamConflict where the stream is open already.
        """
        name = wanted.stream
        if name in self._open:
            raise StreamConflict(name, "open already")
        application = self._find(name)
        if application is None:
            error = UnknownStream(name)
            self._note("refused_envelope", 1, str(error))
            await self.send_event(build_close(name, error.code, str(error)))
        elif self._login_ended:
            await self.send_event(build_close(name, UNAUTHENTICATED.code, UNAUTHENTICATED.reason))
        elif (
            self._max_streams is not None and (others := len(self._tasks) - (name in self._ending)) >= self._max_streams
        ):
            self._note("refused_streams", 1, f"there are {others} streams at once, as many as there may be")
            await self.send_event(build_close(name, TOO_MANY, "Too many streams"))
        else:
            self._start(application, wanted)

    def _start(self, application: ASGIApplication, wanted: Open) -> None:
        name = wanted.stream
        stream = Stream(name, self, limit=self._max_queue, as_json=speaks_json(application))
        extensions = {**(self._scope.get("extensions") or {}), _DENIAL: {}}
        scope = {**self._scope, "stream": name, "subprotocols": list(wanted.subprotocols), "extensions": extensions}
        self._open[name] = stream
        # Not create_task(): an eager task factory would run it here, inside the step of a handler.
        stream.task = task = asyncio.Task(
            self._run(stream, application, scope, self._ending.get(name)),
            loop=asyncio.get_running_loop(),
            name=_TASK + name,
        )
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self, unwanted: Close) -> None:
        """Close a stream for the client, and say so; nothing where it is closed. It raises UnknownStream."""
        name, code, reason = unwanted
        stream = self._open.get(name)
        if stream is None:
            if self._find(name) is None:
                raise UnknownStream(name)
            return
        self._leave(stream, code, reason)
        await self.send_event(build_close(name, code, reason))

    def _leave(self, stream: Stream, code: int, reason: str = "") -> None:
        stream.leave(code, reason)
        self.stream_closed(stream)
        if not stream.started and stream.task is not None:
            stream.task.cancel()  # it waits for the one before

    # What the streams say

    def stream_closed(self, stream: Stream) -> None:
        """Note that a stream is closed: its name may be opened again."""
        if self._open.get(stream.name) is stream:
            del self._open[stream.name]
        if stream.started and stream.task is not None and not stream.task.done():
            self._ending[stream.name] = stream.task
        if stream.accepted and is_logged_in(self._scope.get("user")):
            # The scope, of which every new stream gets a copy, has the user of before.
            if stream.code == UNAUTHENTICATED.code:
                self._login_ended = True
            elif stream.code == FORBIDDEN.code:
                self.doubts_user = True

    async def _run(
        self, stream: Stream, application: ASGIApplication, scope: Scope, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        stream.started = True
        error: BaseException | None = None
        try:
            await application(scope, stream.receive, stream.send)
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            error = HandlerCancelled()
            error.__cause__ = cancelled
        except Exception as raised:
            error = raised
        await self._say_end(stream, error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        name = task.get_name().removeprefix(_TASK)
        if self._ending.get(name) is task:
            del self._ending[name]

    async def _say_end(self, stream: Stream, error: BaseException | None) -> None:
        if isinstance(error, OSError) and stream.state is CLOSED:
            # What we raised to say that nobody is there; an application may let it pass.
            logger.debug("%s: the stream %r: %s", self._who, stream.name, error)
        elif error is not None:
            logger.error("%s: the stream %r failed", self._who, stream.name, exc_info=error)
        elif stream.state in (ConnectionState.CONNECTING, ConnectionState.REFUSING):
            logger.error("%s: the stream %r ended without an answer", self._who, stream.name)
            await stream.end(ERROR, "No answer")
        await stream.end(NORMAL if error is None else ERROR, "")

    # The end

    async def end(self, code: int, seconds: float) -> None:
        """End every stream with the code of the WebSocket, and wait for it.

        Their applications are told, and those that run after ``seconds`` are cancelled, and waited for without limit.
        """
        for stream in list(self._open.values()):
            self._leave(stream, code)
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        if late:
            logger.warning("%s: %d streams did not end within %g seconds", self._who, len(late), seconds)
            for task in late:
                task.cancel()
            await asyncio.wait(late)

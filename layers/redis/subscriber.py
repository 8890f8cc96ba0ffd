"""The connection over which published messages come: subscriptions that are kept, and made again when it is lost."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.redis.access import scrub
from sealane.layers.redis.link import Reachable
from sealane.layers.redis.opening import ERROR_REPLIES
from sealane.layers.redis.pipeline import Verdict, pack, verdict_of
from sealane.layers.redis.reader import Reader

__all__ = ["Subscriber"]

logger = logging.getLogger("sealane.layers.redis")

#: Topics in one command.
_CHUNK: Final = 1000

#: How long a closed connection's writer may take to notice, in seconds.
_ENDING: Final = 1.0

#: After how many seconds it is looked again whether nothing has come, before that counts.
_AGAIN: Final = 0.1

_SUBSCRIBE, _UNSUBSCRIBE, _PING = range(3)


class _Topic:
    """A topic that is subscribed to, or is to be."""

    __slots__ = ("confirmed", "future", "timer")

    def __init__(self) -> None:
        #: Whether the server has said so, over the present connection.
        self.confirmed = False
        #: Resolved when it has; made only where somebody waits.
        self.future: asyncio.Future[None] | None = None
        #: Fails the future.
        self.timer: asyncio.TimerHandle | None = None

    def settle(self, error: Exception | None = None) -> None:
        """Resolve the future, or have it raise."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        future, self.future = self.future, None
        if error is None:
            _resolve(future)
        # A loop that was closed cannot call back; nobody waits there any more.
        elif future is not None and not future.done() and not future.get_loop().is_closed():
            future.set_exception(error)
            # Looked at, so that asyncio does not report a call that nobody waits for.
            future.exception()


class _Command:
    """Something that is asked of the server over the present connection. Of topics, each has a reply of its own."""

    __slots__ = ("future", "kind", "left", "topics", "written")

    def __init__(self, kind: int, topics: "list[tuple[bytes, _Topic]]") -> None:
        self.kind = kind
        self.topics = topics
        #: Resolved with the last answer; made only where somebody waits.
        self.future: asyncio.Future[None] | None = None
        #: How many answers are missing.
        self.left = max(1, len(topics))
        self.written = 0.0


class Subscriber(Reader):
    """Subscriptions to topics of one server, over a connection of their own.

    What is asked for in one turn of the loop leaves in one write, and takes effect in the order in which it was asked
    for: of a topic the last call counts. A connection over which nothing comes is tested by a PING, and is given up
    where that has no answer within ``timeout`` seconds. After a loss everything is subscribed to again, in one write;
    what was published meanwhile is gone.

    Messages are handed over in batches: all that had come by the time when the loop gets to it.

    Everything here belongs to one event loop.
    """

    def __init__(
        self,
        place: Reachable,
        accept: Callable[[list[list[bytes]]], None],
        rest: Callable[[], Awaitable[None]],
        on_ready: Callable[[float | None], None],
        *,
        sharded: bool,
        batch: int,
        timeout: float,
        name: str,
    ) -> None:
        """Take what to do with messages, and what to do when everything is subscribed to over a new connection.

        ``accept()`` gets replies, each a list whose second item is the topic and whose third is the data, at most
        ``batch`` at a time; ``rest()`` is awaited before the next. ``on_ready()`` gets the number of seconds for which
        messages may have been missed: None at the first time. ``sharded``: whether to use the commands of a Cluster;
        all topics are in one slot there.
        """
        super().__init__(place, timeout=timeout, name=name)
        self._accept = accept
        self._rest = rest
        self._limit = batch
        self._on_ready = on_ready
        self._subscribe = b"SSUBSCRIBE" if sharded else b"SUBSCRIBE"
        self._unsubscribe = b"SUNSUBSCRIBE" if sharded else b"UNSUBSCRIBE"
        self._message = b"smessage" if sharded else b"message"
        self._replies = {
            self._subscribe.lower(): _SUBSCRIBE,
            self._unsubscribe.lower(): _UNSUBSCRIBE,
            b"pong": _PING,
        }
        self._topics: dict[bytes, _Topic] = {}
        # What is to be written, and what was written and is not answered, in order.
        self._waiting: deque[_Command] = deque()
        self._flying: deque[_Command] = deque()
        # Whether there is a connection over which to ask.
        self._asking = False
        # What is answered when all that was subscribed to before is subscribed to over the new connection.
        self._opening: _Command | None = None
        self._batch: list[list[bytes]] = []
        # Whether something was handed over since the last rest.
        self._handed = False
        self._wake: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: When something came last, by ``time.monotonic()``.
        self.heard = 0.0
        # Since when messages may have been missed; None: nothing was.
        self._missing: float | None = None
        self._overdue = False
        # Why the present connection is given up.
        self._problem: str | None = None

    # What is asked for

    def subscribe(self, topic: bytes) -> "asyncio.Future[None] | None":
        """Subscribe to a topic. Return a future of the server's answer; None where it was given already.

        Without a connection the topic is subscribed to when there is one. The future raises ChannelLayerUnavailable
        where that takes more than ``timeout`` seconds; the topic stays among those to subscribe to. Several share it,
        so shield it.
        """
        found = self._topics.get(topic)
        if found is None:
            found = self._topics[topic] = _Topic()
            if self._asking:
                self._ask(_SUBSCRIBE, topic, found)
        if found.confirmed:
            return None
        if found.future is None:
            loop = asyncio.get_running_loop()
            found.future = loop.create_future()
            found.timer = loop.call_later(self.timeout, self._look_again, found)
        return found.future

    def _look_again(self, found: _Topic) -> None:
        # A loop that stood still finds its timers due before it gets to what has come meanwhile.
        found.timer = asyncio.get_running_loop().call_later(_AGAIN, self._expire, found)

    def _expire(self, found: _Topic) -> None:
        problem = f"not subscribed within {self.timeout:g} s"
        found.settle(ChannelLayerUnavailable(self.place.label, problem, self.timeout, self.error))

    def unsubscribe(self, topic: bytes) -> None:
        """Subscribe to a topic no longer. Whoever waits for its subscription waits no longer."""
        found = self._topics.pop(topic, None)
        if found is not None:
            found.settle()
            if self._asking:
                self._ask(_UNSUBSCRIBE, topic, found)

    def fence(self) -> "asyncio.Future[None] | None":
        """Return a future that is done when all has come that was published until now; None where nothing can come.

        It is done too when the connection is lost. Several share it, so shield it.
        """
        if not self._asking:
            return None
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.kind != _PING:
            last = _Command(_PING, [])
            self._push(last)
        if last.future is None:
            last.future = asyncio.get_running_loop().create_future()
        return last.future

    @property
    def topics(self) -> int:
        """How many topics are subscribed to, or are to be."""
        return len(self._topics)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "connected" if self.connected else "not connected"
        error = f", last error: {self.error}" if self.error else ""
        return f"<Subscriber {self.name} of {self.place.label}: {state}, {self.topics} topics{error}>"

    def _ask(self, kind: int, topic: bytes, found: _Topic) -> None:
        last = self._waiting[-1] if self._waiting else None
        if last is not None and last.kind == kind and len(last.topics) < _CHUNK:
            last.topics.append((topic, found))
            last.left += 1
        else:
            self._push(_Command(kind, [(topic, found)]))

    def _push(self, command: _Command) -> None:
        self._waiting.append(command)
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.set_result(None)

    # Connections

    async def read(self, connection: redis.asyncio.Connection) -> None:
        loop = asyncio.get_running_loop()
        self._open()
        writer = loop.create_task(self._write(connection))
        self.heard = time.monotonic()
        self._overdue = False
        self._problem = None
        self._watch()
        read = connection.read_response
        kind = self._message
        try:
            while True:
                try:
                    reply = await read(disconnect_on_error=False)
                except ERROR_REPLIES as exc:
                    self._refuse(exc)
                    continue
                if reply[0] == kind:
                    # What the parser has is taken without a pause: the loop gets to the batch when there is no more.
                    if not self._batch:
                        if self._handed:
                            self._handed = False
                            await self._rest()
                        loop.call_soon(self._hand_over)
                    self._batch.append(reply)
                    if len(self._batch) >= self._limit:
                        self._hand_over()
                else:
                    self._answer(reply)
                    self._check_cancelled()
        except (RedisError, OSError):
            if self._problem is None:
                raise
            raise ConnectionError(self._problem) from None
        finally:
            self._end()
            # Its connection first: then it ends even where redis-py loses the cancellation.
            await connection.disconnect(nowait=True)
            writer.cancel()
            await asyncio.wait([writer], timeout=_ENDING)

    def _open(self) -> None:
        """Ask for all topics at the beginning of a connection."""
        self._asking = True
        topics = list(self._topics.items())
        for start in range(0, len(topics), _CHUNK):
            self._waiting.append(_Command(_SUBSCRIBE, topics[start : start + _CHUNK]))
        self._opening = _Command(_PING, [])
        self._waiting.append(self._opening)

    def _end(self) -> None:
        """Forget what was asked over a connection that is lost."""
        self._hand_over()
        if self._opening is None:
            self._missing = self.heard
        self._asking = False
        self._opening = None
        for command in (*self._flying, *self._waiting):
            _resolve(command.future)
        self._flying.clear()
        self._waiting.clear()
        for topic in self._topics.values():
            topic.confirmed = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        await super().close()
        topics, self._topics = self._topics, {}
        for topic in topics.values():
            topic.settle(ChannelLayerUnavailable(self.place.label, "the layer was closed", error=self.error))

    async def _write(self, connection: redis.asyncio.Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                if not self._waiting:
                    self._wake = loop.create_future()
                    await self._wake
                now = time.monotonic()
                pieces = []
                while self._waiting:
                    command = self._waiting.popleft()
                    command.written = now
                    self._flying.append(command)
                    pieces.append(self._pack(command))
                await connection.send_packed_command(b"".join(pieces), check_health=False)
        except Exception as exc:
            # The reader ends with the connection, and says so.
            logger.debug("Subscriber %s of %s: %s", self.name, self.place.label, scrub(exc))
            await connection.disconnect(nowait=True)
        finally:
            self._wake = None

    def _pack(self, command: _Command) -> bytes:
        if command.kind == _PING:
            return pack("PING")
        word = self._subscribe if command.kind == _SUBSCRIBE else self._unsubscribe
        return pack(word, *(topic for topic, _ in command.topics))

    def _watch(self) -> None:
        """Give up a connection over which nothing comes although something is due, and see to it that something is."""
        now = time.monotonic()
        again = self.timeout / 2
        silent_since = max(self.heard, self._flying[0].written) if self._flying else now
        if now - silent_since < self.timeout:
            self._overdue = False
            if now - self.heard >= again and not self._flying and not self._waiting:
                self._push(_Command(_PING, []))
        elif self._overdue:
            self.give_up(f"no answer within {self.timeout:g} s")
            return
        else:
            # A loop that stood still finds its timers due before it gets to what has come meanwhile.
            self._overdue = True
            again = min(again, _AGAIN)
        self._timer = asyncio.get_running_loop().call_later(again, self._watch)

    def give_up(self, problem: str) -> None:
        """Lose the present connection, for this reason, and make another."""
        self._problem = problem
        self.drop()

    # Answers

    def _hand_over(self) -> None:
        batch, self._batch = self._batch, []
        if batch:
            self._handed = True
            self.heard = time.monotonic()
            self._accept(batch)

    def _answer(self, reply: Any) -> None:
        """Take a reply that is no message."""
        # Where nothing is subscribed to, a PING is answered as over any connection.
        kind = self._replies.get(reply[0]) if isinstance(reply, list) else _PING
        command = self._flying[0] if self._flying else None
        if command is None or command.kind != kind:
            raise _withdrawn(reply)
        if command.topics:
            topic, found = command.topics[-command.left]
            if reply[1] != topic:
                raise _withdrawn(reply)
            if kind == _SUBSCRIBE and self._topics.get(topic) is found:
                found.confirmed = True
                found.settle()
        command.left -= 1
        self.heard = time.monotonic()
        if command.left == 0:
            self._flying.popleft()
            # What has come before it counts as come.
            self._hand_over()
            if command is self._opening:
                self._ready()
            _resolve(command.future)

    def _refuse(self, error: Exception) -> None:
        """Take an error reply."""
        if self._opening is not None or not self._flying or verdict_of(error) > Verdict.FULL:
            raise error
        command = self._flying.popleft()
        _resolve(command.future)
        if command.kind != _SUBSCRIBE:
            raise error
        wanted = [(topic, found) for topic, found in command.topics if self._topics.get(topic) is found]
        for topic, found in wanted:
            if len(command.topics) > 1:
                # One of them is refused: find out which.
                self._push(_Command(_SUBSCRIBE, [(topic, found)]))
            else:
                del self._topics[topic]
                found.settle(ChannelLayerUnavailable(self.place.label, "subscribing was refused", error=scrub(error)))

    def _ready(self) -> None:
        self._opening = None
        self._backoff.reset()
        missing, self._missing = self._missing, None
        self._on_ready(None if missing is None else self.heard - missing)


def _withdrawn(reply: Any) -> ConnectionError:
    """Return the error for a subscription that the server has ended, as it does where a slot goes to another node."""
    what = reply[0].decode("utf-8", "replace") if isinstance(reply, list) and isinstance(reply[0], bytes) else "a reply"
    return ConnectionError(f"{what!r} came unasked")


def _resolve(future: "asyncio.Future[None] | None") -> None:
    if future is not None and not future.done():
        future.set_result(None)

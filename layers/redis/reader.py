"""The reading end of a mailbox stream: one connection that waits for entries, for as long as the mailbox is open."""

import asyncio
import contextvars
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from sealane.exceptions import ServerUnreachable
from sealane.layers.redis.access import scrub
from sealane.layers.redis.backoff import Backoff
from sealane.layers.redis.link import Reachable
from sealane.layers.redis.opening import Opening
from sealane.layers.redis.pipeline import pack

__all__ = ["Entry", "Reader", "StreamReader"]

logger = logging.getLogger("sealane.layers.redis")

#: One entry of a stream as it comes: its id, and a list of field and value.
Entry = list[Any]

#: For how long a read waits at the server, in seconds. After that the connection has proved that it lives.
_BLOCK = 5.0

#: How long a closed connection's task may take to notice, in seconds.
_ENDING = 1.0

#: After how many seconds it is looked again whether nothing has come, before the connection is given up.
_AGAIN = 0.1


class Reader(ABC):
    """A connection that is kept, and made again when it is lost, to read what is posted to a mailbox on one shard.

    It belongs to one event loop, whose end it survives without a word. What it does while it reads is never cancelled:
    its end closes the connection.
    """

    def __init__(self, place: Reachable, *, timeout: float, name: str) -> None:
        self.place = place
        self.timeout = timeout
        self.name = name
        self.connected = False
        #: How many connections were made, the first included.
        self.connects = 0
        #: The text of the last error, or None. It holds no password.
        self.error: str | None = None
        self.closed = False
        self._backoff = Backoff(first=0.02, most=1.0)
        self._connection: redis.asyncio.Connection | None = None
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def read(self, connection: redis.asyncio.Connection) -> None:
        """Read over a new connection until it is lost."""

    def start(self) -> None:
        """Begin to read."""
        if self._task is None:
            loop = asyncio.get_running_loop()
            # A context of its own: it must not keep the first caller's alive.
            self._task = loop.create_task(
                self._run(), name=f"{self.name} of {self.place.label}", context=contextvars.Context()
            )

    async def close(self) -> None:
        """Stop reading. Closing twice is harmless."""
        self.closed = True
        task = self._task
        if task is None or task.done():
            return
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)
        task.cancel()
        await asyncio.wait([task], timeout=_ENDING)

    def drop(self) -> None:
        """Give up the connection, and make another."""
        connection = self._connection
        if connection is not None:
            task = asyncio.get_running_loop().create_task(connection.disconnect(nowait=True))
            _closing.add(task)
            task.add_done_callback(_closing.discard)

    async def _run(self) -> None:
        while not self.closed:
            try:
                connection = await self.place.open(timeout=self.timeout, name=self.name)
            except ServerUnreachable as exc:
                self._lose(exc.problem)
            else:
                self._connection = connection
                self.connected = True
                self.connects += 1
                try:
                    await self.read(connection)
                except (RedisError, OSError) as exc:
                    self._lose(scrub(exc))
                except Exception as exc:
                    logger.exception("Reader %s of %s failed", self.name, self.place.label)
                    self._lose(scrub(exc))
                finally:
                    self.connected = False
                    self._connection = None
                    await connection.disconnect(nowait=True)
            if not self.closed:
                await asyncio.sleep(self._backoff.next())

    def _check_cancelled(self) -> None:
        # redis-py 8.1 may lose a cancellation that comes while it reads.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError

    def _lose(self, problem: str) -> None:
        if self.closed:
            return
        if self.connected or self.error != problem:
            logger.warning("Reader %s of %s: %s; connecting again", self.name, self.place.label, problem)
        self.error = problem


_closing: set["asyncio.Task[None]"] = set()


class StreamReader(Reader):
    """Reads a stream from a position on, which only moves when entries have been accepted."""

    def __init__(
        self,
        place: Reachable,
        key: bytes,
        position: Callable[[], bytes],
        accept: Callable[[list[Entry]], Awaitable[None] | None],
        check: Callable[[Opening], Awaitable[None]],
        *,
        batch: int,
        timeout: float,
        name: str,
    ) -> None:
        """Take where to read and what to do with it.

        ``position()`` is asked before each read. ``accept()`` gets the entries after it, at most ``batch`` at a time;
        what it returns is awaited before the next read. ``check()`` is awaited with each new connection before that.
        """
        super().__init__(place, timeout=timeout, name=name)
        self._position = position
        self._accept = accept
        self._check = check
        block = int(_BLOCK * 1000)
        self._watchdog: asyncio.TimerHandle | None = None
        # The command, but for the position at its end.
        self._command = pack("XREAD", "BLOCK", block, "COUNT", batch, "STREAMS", key, b"")[: -len(b"$0\r\n\r\n")]

    async def read(self, connection: redis.asyncio.Connection) -> None:
        loop = asyncio.get_running_loop()
        limit = _BLOCK + self.timeout
        try:
            async with asyncio.timeout(self.timeout):
                await self._check(Opening(connection))
        except TimeoutError:
            raise OSError(f"not ready within {self.timeout:g} s") from None
        while not self.closed:
            position = self._position()
            command = b"%b$%d\r\n%b\r\n" % (self._command, len(position), position)
            if not connection.is_connected:
                # Sending would connect again, to wherever it was connected before.
                raise OSError("the connection was given up")
            await connection.send_packed_command(command, check_health=False)
            # Not a timeout around the read: it would be cancelled in flight.
            self._watchdog = loop.call_later(limit, self._watch_again)
            try:
                reply = await connection.read_response(disconnect_on_error=False)
            finally:
                self._watchdog.cancel()
            self._check_cancelled()
            self._backoff.reset()
            if reply:
                pause = self._accept(reply[0][1])
                if pause is not None:
                    await pause

    def _watch_again(self) -> None:
        # A loop that stood still finds its timers due before it gets to what has come meanwhile.
        self._watchdog = asyncio.get_running_loop().call_later(_AGAIN, self.drop)

"""One connection to a server, shared by all calls of an event loop."""

import asyncio
import contextlib
import contextvars
import logging
import math
import random as random_module
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

import redis.asyncio
from redis.exceptions import RedisError

from sealane.exceptions import ChannelLayerUnavailable, ServerUnreachable
from sealane.layers.redis.access import scrub
from sealane.layers.redis.backoff import Backoff
from sealane.layers.redis.opening import ERROR_REPLIES, Opening
from sealane.layers.redis.pipeline import Argument, Call, Pipeline, Verdict, pack, pack_arguments
from sealane.layers.redis.script import Script

__all__ = ["Link", "Reachable"]

logger = logging.getLogger("sealane.layers.redis")

#: Bounds of the delay between two tries to connect, in seconds. The first are short: a connection that a proxy or a
#: restart closed is back at once.
_FIRST, _MOST = 0.02, 1.0

#: How long a closed connection's tasks may take to notice, in seconds. They are cancelled at once, so this is for a
#: redis-py that loses a cancellation.
_ENDING = 1.0

#: After how many seconds it is looked again whether something is really due, before it counts as such.
_AGAIN = 0.1


class Reachable(Protocol):
    """What a link needs of a place."""

    @property
    def label(self) -> str: ...

    async def open(self, *, timeout: float, name: str | None = None) -> redis.asyncio.Connection: ...


class Link:
    """The calls of one event loop to one place, pipelined over one connection that is made again when it is lost.

    Calls are carried out in the order in which they are made; those of one turn of the loop leave in one write. None
    is cancelled on its way: a caller that is cancelled only gives up its future. What was not written by then never
    is; what was written is carried out, and its reply dropped.

    A call that has no reply after ``timeout`` seconds, of whatever cause, raises ChannelLayerUnavailable. Until then
    it is sent again, in order, when the connection is lost, or when the server answers that it cannot carry it out
    now: READONLY, LOADING, MOVED, ASK, TRYAGAIN, CLUSTERDOWN, MASTERDOWN, BUSY, NOREPLICAS, MISCONF, NOSCRIPT. A slot
    that is being moved (ASK) is awaited, not followed: scripts have several keys, of which the new node serves none
    before it has all. A server whose memory is full raises ChannelLayerUnavailable at once.

    Scripts are loaded once, and again where they are gone. Over each new connection, before ``on_connect``, the server
    is asked by their hashes which it has, and is given those that it lacks: at a server that has them no connection
    loads anything. Where it refuses to say, as it may to a user without the right, it is given all. What it said is no
    promise: where a script is gone later (NOSCRIPT), all are loaded before what was rejected is sent again. Where that
    does not help, the next times are with growing, random delays.

    A connection over which nothing came for ``timeout`` seconds although something is due is given up. A new one is
    looked for without end, until :meth:`close`, with growing, random delays; also when no call waits for it.

    It belongs to the event loop that makes the first call, and must be used in no other, nor in another thread. Where
    that loop ends without :meth:`close`, which cancels the link's tasks, the link closes itself.
    """

    def __init__(
        self,
        place: Reachable,
        *,
        scripts: Iterable[Script] = (),
        timeout: float = 5.0,
        connect_timeout: float | None = None,
        limit: int = 10_000,
        name: str = "sealane-link",
        sender: str | bytes | None = None,
        on_connect: Callable[[Opening], Awaitable[None]] | None = None,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        """Prepare a link; it connects at its first call.

        ``scripts`` are those that its calls and ``on_connect`` run. ``timeout`` is for a call in all,
        ``connect_timeout`` for one try to connect (default: the same), in seconds. At most ``limit`` calls may be
        under way or waiting. ``name`` is the connection's name at the server. ``sender`` begins the name of the key
        that counts the numbered calls; it needs the hash tag of the place. ``on_connect`` is awaited with each new
        connection before any call is sent over it; when it raises, another connection is tried. ``random`` is where
        the delays get their randomness from.
        """
        self.place = place
        self.name = name
        self.timeout = timeout
        self.connect_timeout = timeout if connect_timeout is None else connect_timeout
        #: The key that counts this link's numbered calls.
        self.sender_key: bytes | None = None
        if sender is not None:
            prefix = sender if isinstance(sender, bytes) else sender.encode()
            # Never used by another link: its counter would go on from there.
            self.sender_key = prefix + secrets.token_hex(8).encode()
        #: Whether calls can be written now.
        self.connected = False
        #: How many connections were made, the first included.
        self.connects = 0
        #: Whether it was closed, by ``close()`` or by the end of its loop.
        self.closed = False

        self._pipeline = Pipeline(
            place.label,
            limit=limit,
            timeout=timeout,
            sender_key=self.sender_key,
            scripts=scripts,
        )
        self._on_connect = on_connect
        self._backoff = Backoff(first=_FIRST, most=_MOST, random=random)
        # What stands before the keys of a script, packed.
        self._heads: dict[tuple[str, int], bytes] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._driver: asyncio.Task[None] | None = None
        # What the writer waits for while there is nothing to write.
        self._wake: asyncio.Future[None] | None = None
        # Set when the connection is to be given up.
        self._down: asyncio.Future[str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        # When something was found due that is to be looked at again.
        self._overdue = -math.inf
        # When the last reply came, or the first of what is under way was written.
        self._heard = 0.0

    # State

    @property
    def reconnects(self) -> int:
        """How many connections were made after the first."""
        return max(0, self.connects - 1)

    @property
    def error(self) -> str | None:
        """The text of the last error of a connection, or None. It holds no password."""
        return self._pipeline.error

    @property
    def in_flight(self) -> int:
        """How many calls were written and are not answered."""
        return len(self._pipeline.flying) + len(self._pipeline.rejected)

    @property
    def queued(self) -> int:
        """How many calls wait to be written."""
        return len(self._pipeline.waiting)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "connected" if self.connected else "not connected"
        error = f", last error: {self.error}" if self.error else ""
        return (
            f"<Link {self.name} to {self.place.label}: {state}, {self.in_flight} in flight, {self.queued} queued, "
            f"{self.reconnects} reconnects{error}>"
        )

    # Calls

    def call(self, *arguments: Argument) -> "asyncio.Future[Any]":
        """Make a call that may be carried out twice, and late; return the future of its reply.

        Raises TypeError for an argument that is neither bytes, str, int nor float, and ChannelLayerUnavailable where
        too many calls are waiting or the link is closed. Nobody has to await the future.
        """
        return self._push(pack(*arguments))

    def call_once(self, *arguments: Argument) -> "asyncio.Future[Any]":
        """Make a call that must not be carried out twice; otherwise as :meth:`call`.

        Where the connection is lost after it was written it raises ChannelLayerUnavailable, with ``sent`` true.
        """
        return self._push(pack(*arguments), once=True)

    def run(
        self, script: Script, keys: Sequence[bytes | str], arguments: Sequence[Argument] = ()
    ) -> "asyncio.Future[Any]":
        """Run a script; return the future of its reply, as :meth:`call`.

        A numbered one is carried out exactly once, in its turn, over all reconnects. Its reply is None where it was
        carried out and the reply got lost. Only a server that loses data on its way (a failover, a restart without
        persistence) can carry out a call again that was under way then, on the data without it.
        """
        numbered = script.numbered
        head = self._heads.get((script.sha1, len(keys)))
        if head is None:
            head = pack_arguments(["EVALSHA", script.sha1, len(keys) + numbered])
            if numbered:
                if self.sender_key is None:
                    raise ValueError(f"Script {script.name!r} is numbered: the link needs a `sender`")
                head += pack_arguments([self.sender_key])
            self._heads[script.sha1, len(keys)] = head
        count = len(keys) + len(arguments) + 3
        if numbered:
            data = b"*%d\r\n%b%b" % (count + 2, head, pack_arguments(keys))
            return self._push(data, tail=pack_arguments(arguments))
        return self._push(b"*%d\r\n%b%b%b" % (count, head, pack_arguments(keys), pack_arguments(arguments)))

    def follow(self, call: "asyncio.Future[Any]", callback: Callable[[Any], object]) -> None:
        """Have a callback called with the reply of a call whose caller was cancelled, if it was carried out.

        It is not called where the call is never written, fails, or its connection is lost.
        """
        followed = self._pipeline.followed
        if call.cancelled():
            followed[call] = callback
        elif call.done():
            followed.pop(call, None)
            if call.exception() is None:
                callback(call.result())
        else:
            # It was shielded.
            followed[call] = callback
            call.add_done_callback(lambda call: self.follow(call, callback))

    async def catch_up(self) -> None:
        """Wait until it is known what became of the calls that are followed, as long as that can be known."""
        if self._pipeline.followed and not self.closed:
            with contextlib.suppress(ChannelLayerUnavailable):
                await self.call("PING")

    def open(self) -> None:
        """Begin to connect, without a call."""
        if self.closed:
            raise ChannelLayerUnavailable(self.place.label, "the link is closed", error=self.error)
        if self._driver is None:
            self._loop = loop = asyncio.get_running_loop()
            # A context of its own: it must not keep the first caller's alive.
            self._driver = loop.create_task(
                self._drive(), name=f"{self.name} to {self.place.label}", context=contextvars.Context()
            )

    def _push(self, data: bytes, *, tail: bytes | None = None, once: bool = False) -> "asyncio.Future[Any]":
        loop = self._loop
        if loop is None or self.closed:
            self.open()
            loop = self._loop
            assert loop is not None
        now = loop.time()
        future: asyncio.Future[Any] = loop.create_future()
        self._pipeline.push(Call(data, future, now, tail=tail, once=once))
        if self._timer is None:
            self._timer = loop.call_at(now + self.timeout, self._tick)
        wake = self._wake
        if wake is not None:
            self._wake = None
            wake.set_result(None)
        return future

    async def close(self) -> None:
        """Close the connection; what is under way or waiting raises ChannelLayerUnavailable at once.

        Closing twice is harmless. A later call raises ChannelLayerUnavailable. From another event loop it only has the
        link's own loop close it, where that still runs.
        """
        driver, loop = self._driver, self._loop
        if driver is None or loop is None or loop.is_closed() or driver.done():
            self.closed = True
            return
        if loop is not asyncio.get_running_loop():
            self.closed = True
            loop.call_soon_threadsafe(driver.cancel)
            return
        self._end()
        driver.cancel()
        if driver is not asyncio.current_task():
            # wait() and not the task itself: its cancellation is not ours.
            await asyncio.wait([driver])

    def _end(self) -> None:
        self.closed = True
        self.connected = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        assert self._loop is not None
        self._pipeline.abandon("the link was closed", self._loop.time())

    # Time limits

    def _tick(self) -> None:
        """Look at the oldest call, and at whether the server says anything at all.

        A loop that stood still finds its timers due before it gets to what has come meanwhile. So what is due is
        looked at again a moment later, and only then fails.
        """
        assert self._loop is not None
        now = self._loop.time()
        overdue, self._overdue = self._overdue, -math.inf
        due = self._pipeline.expire(overdue)
        if self._pipeline.flying and self._down is not None:
            silent = self._heard + self.timeout
            if silent <= overdue:
                self._give_up(f"no reply within {self.timeout:g} s")
            elif due is None or silent < due:
                due = silent
        if due is not None and due <= now:
            self._overdue = now
            due = now + _AGAIN
        self._timer = None if due is None else self._loop.call_at(due, self._tick)

    def _give_up(self, problem: str) -> None:
        if self._down is not None and not self._down.done():
            self._down.set_result(problem)

    # Connections

    async def _drive(self) -> None:
        """Keep a connection, until cancelled."""
        try:
            while True:
                try:
                    connection = await self.place.open(timeout=self.connect_timeout, name=self.name)
                except ServerUnreachable as exc:
                    self._lose(exc.problem)
                else:
                    try:
                        self._lose(await self._use(connection))
                    finally:
                        # A server that is stopped would never let it end in peace.
                        await connection.disconnect(nowait=True)
                await asyncio.sleep(self._backoff.next())
        finally:
            self._end()

    def _lose(self, problem: str) -> None:
        if self.connected or self._pipeline.error != problem:
            logger.warning("Layer connection %s to %s: %s; connecting again", self.name, self.place.label, problem)
        self.connected = False
        assert self._loop is not None
        self._pipeline.lose(problem, self._loop.time())
        if self._pipeline.answered:
            self._pipeline.answered = False
            self._backoff.reset()

    async def _use(self, connection: redis.asyncio.Connection) -> str:
        """Carry out calls over a connection until it is lost; return the reason."""
        try:
            async with asyncio.timeout(self.connect_timeout):
                opening = Opening(connection)
                await opening.load(self._pipeline.scripts)
                if self._on_connect is not None:
                    await self._on_connect(opening)
        except TimeoutError:
            return f"not ready within {self.connect_timeout:g} s"
        except Exception as exc:
            if not isinstance(exc, (RedisError, OSError)):
                logger.exception("Layer connection %s to %s: on_connect failed", self.name, self.place.label)
            return scrub(exc)

        loop = asyncio.get_running_loop()
        self._heard = loop.time()
        self._down = loop.create_future()
        self.connected = True
        self.connects += 1
        tasks = [loop.create_task(self._read(connection)), loop.create_task(self._write(connection))]
        try:
            return await self._down
        finally:
            self._down = None
            self._wake = None
            # Their connection first: then they end even where redis-py loses the cancellation.
            await connection.disconnect(nowait=True)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_ENDING)

    async def _write(self, connection: redis.asyncio.Connection) -> None:
        loop = asyncio.get_running_loop()
        pipeline = self._pipeline
        try:
            while True:
                idle = not pipeline.flying
                now = loop.time()
                data = pipeline.take(now)
                if data:
                    if idle:
                        self._heard = now
                    await connection.send_packed_command(data, check_health=False)
                    if self._timer is None:
                        self._timer = loop.call_at(now + self.timeout, self._tick)
                elif pipeline.settled:
                    verdict = pipeline.resume()
                    if verdict is Verdict.RECONNECT:
                        # Whatever it did answer, such as reads: it is not the one to come back to at once.
                        pipeline.answered = False
                        self._give_up(pipeline.error or "the server refuses calls")
                        return
                    if pipeline.answered:
                        pipeline.answered = False
                        self._backoff.reset()
                    if verdict is Verdict.LATER:
                        await asyncio.sleep(self._backoff.next())
                else:
                    self._wake = loop.create_future()
                    await self._wake
        except (RedisError, OSError) as exc:
            self._give_up(scrub(exc))
        except Exception as exc:
            logger.exception("Layer connection %s to %s failed", self.name, self.place.label)
            self._give_up(scrub(exc))
        finally:
            self._give_up("the writer was cancelled")

    async def _read(self, connection: redis.asyncio.Connection) -> None:
        loop = asyncio.get_running_loop()
        pipeline = self._pipeline
        read = connection.read_response
        try:
            while True:
                try:
                    value = await read(disconnect_on_error=False)
                except ERROR_REPLIES as exc:
                    self._heard = now = loop.time()
                    pipeline.fail(exc, now)
                else:
                    self._heard = loop.time()
                    pipeline.reply(value)
                # Wake the writer where it waits for these replies, not because of new calls.
                if self._wake is not None and (pipeline.waiting or pipeline.settled):
                    wake, self._wake = self._wake, None
                    wake.set_result(None)
        except (RedisError, OSError) as exc:
            self._give_up(scrub(exc))
        except Exception as exc:
            logger.exception("Layer connection %s to %s failed", self.name, self.place.label)
            self._give_up(scrub(exc))
        finally:
            self._give_up("the reader was cancelled")

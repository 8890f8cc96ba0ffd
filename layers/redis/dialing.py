"""Carrying a search out: opening connections, once for asyncio and once for threads."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis
import redis.asyncio
from redis.connection import AbstractConnection
from redis.exceptions import ResponseError

from sealane.layers.redis.access import Access, Address
from sealane.layers.redis.discovery import Ask, Failed, Search, Try

__all__ = ["BlockingPool", "open_blocking_pool", "open_connection"]

#: redis-py refuses further connections past a number, which is 100 by default in later releases.
_UNLIMITED = 2**31 - 1


async def open_connection(label: str, search: Search, *, timeout: float, name: str | None) -> redis.asyncio.Connection:
    """Carry a search out, and return the connection that it ends with; it is the caller's own.

    ``timeout`` is that of the whole search, in seconds. Raises ServerUnreachable. Cancelled, it closes what it opened.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    connection: redis.asyncio.Connection | None = None
    outcome: Any = None
    try:
        while True:
            try:
                step = search.send(outcome)
            except StopIteration:
                assert connection is not None, "a search ends with a connection"
                found, connection = connection, None
                return found
            if connection is not None:
                await _hang_up(connection)
                connection = None
            limit = _limit(step, deadline - loop.time())
            if limit <= 0:
                outcome = Failed(_no_time(timeout))
            elif isinstance(step, Try):
                connection, outcome = await _dial(step.access, step.address, step.command, limit, name)
            else:
                asked, outcome = await _dial(step.endpoint.access, step.endpoint.address, step.command, limit, None)
                if asked is not None:
                    await _hang_up(asked)
    finally:
        if connection is not None:
            await _hang_up(connection)


async def _dial(
    access: Access, address: Address, command: tuple[str, ...], limit: float, name: str | None
) -> tuple[redis.asyncio.Connection | None, Any]:
    """Connect, and send a command if there is one. Returns a connection and the reply, or None and why it failed."""
    try:
        connection = access.connection(address)
    except Exception as exc:
        return None, Failed(access.why(exc))
    reply: Any = None
    done = False
    clock = asyncio.timeout(limit)
    try:
        async with clock:
            await connection.connect()  # type: ignore[no-untyped-call]
            name = access.client_name or name
            if name:
                # A user may lack the right to it. A name is a help in CLIENT LIST, and nothing depends on it.
                await _execute(connection, "CLIENT", "SETNAME", name)
            if command:
                reply = await _execute(connection, *command)
        done = True
    except Exception as exc:
        reply = Failed(_no_answer(limit) if clock.expired() else access.why(exc))
    finally:
        if not done:
            await _hang_up(connection)
    return (connection if done else None), reply


async def _execute(connection: redis.asyncio.Connection, *command: str) -> Any:
    """Send a command and return the reply, also one that is an error."""
    await connection.send_command(*command, check_health=False)
    try:
        return await connection.read_response()
    except ResponseError as exc:
        return exc


async def _hang_up(connection: redis.asyncio.Connection) -> None:
    """Close a connection, without waiting for the other side."""
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=True)


class BlockingPool(redis.ConnectionPool):
    """redis-py's pool, of connections that search for their server each time that they connect.

    Its ``repr()`` names the place only, where redis-py's shows what it was given.
    """

    def __init__(self, label: str, **options: Any) -> None:
        self.label = label
        super().__init__(max_connections=_UNLIMITED, **options)

    def __repr__(self) -> str:
        return f"<BlockingPool {self.label}>"


@dataclass(frozen=True, eq=False)
class _Order:
    """What a connection of a pool needs for its searches."""

    begin: Callable[[], Search]
    access: Access
    timeout: float
    name: str | None


def open_blocking_pool(
    label: str, begin: Callable[[], Search], access: Access, *, unix: bool, timeout: float, name: str | None
) -> redis.ConnectionPool:
    """Return a pool of blocking connections. No I/O happens until one is taken.

    ``begin`` begins a new search. ``timeout`` is in seconds: that of a search, and that of each reply.
    """
    kind: type[_Searching]
    if unix:
        kind = _SearchingUnix
    else:
        kind = _SearchingTLS if access.tls else _SearchingTCP
    return BlockingPool(
        label,
        connection_class=kind,
        order=_Order(begin, access, timeout, name),
        **access.settings(access.blocking_kind(unix=unix)),
    )


class _Searching(AbstractConnection):
    """A connection that searches for its server when it connects, and again when it connects anew."""

    host: str
    port: int
    path: str

    def __init__(self, *, order: _Order, **options: Any) -> None:
        self._order = order
        self._searching = False
        self._found = False
        super().__init__(**options)
        # Set here: the Unix connection of redis-py 5.0 forgets the argument.
        self.socket_timeout = order.timeout

    def connect(self) -> None:
        """Search and connect, unless connected. Raises ServerUnreachable."""
        if self._searching or self._found:
            super().connect()  # type: ignore[no-untyped-call]
            return
        self._searching = True
        try:
            self._search()
            self._found = True
        finally:
            self._searching = False
            if not self._found:
                self.disconnect()

    def connect_check_health(self, *args: Any, **kwargs: Any) -> None:
        """Do what ``connect()`` does. Later releases of redis-py come here to connect anew, earlier ones lack it."""
        if self._searching or self._found:
            super().connect_check_health(*args, **kwargs)
        else:
            self.connect()

    def disconnect(self, *args: Any, **kwargs: Any) -> None:
        """Close the connection; the next ``connect()`` searches."""
        self._found = False
        super().disconnect(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _search(self) -> None:
        deadline = time.monotonic() + self._order.timeout
        search = self._order.begin()
        outcome: Any = None
        while True:
            try:
                step = search.send(outcome)
            except StopIteration:
                return
            self.disconnect()
            limit = _limit(step, deadline - time.monotonic())
            if limit <= 0:
                outcome = Failed(_no_time(self._order.timeout))
            elif isinstance(step, Try):
                outcome = self._try(step, limit)
            else:
                outcome = _ask(step, limit)

    def _try(self, step: Try, limit: float) -> Any:
        if step.address.path:
            self.path = step.address.path
        else:
            self.host, self.port = step.address.host, step.address.port
        self.socket_connect_timeout = limit
        try:
            super().connect()  # type: ignore[no-untyped-call]
            name = step.access.client_name or self._order.name
            if name:
                _execute_blocking(self, "CLIENT", "SETNAME", name)
            return _execute_blocking(self, *step.command) if step.command else None
        except Exception as exc:
            return Failed(step.access.why(exc))


class _SearchingTCP(_Searching, redis.Connection):
    pass


class _SearchingTLS(_Searching, redis.SSLConnection):
    pass


class _SearchingUnix(_Searching, redis.UnixDomainSocketConnection):
    pass


def _ask(step: Ask, limit: float) -> Any:
    access = step.endpoint.access
    try:
        connection: Any = access.blocking_connection(step.endpoint.address, timeout=limit)
    except Exception as exc:
        return Failed(access.why(exc))
    try:
        connection.connect()
        return _execute_blocking(connection, *step.command)
    except Exception as exc:
        return Failed(access.why(exc))
    finally:
        connection.disconnect()


def _execute_blocking(connection: Any, *command: str) -> Any:
    """Send a command and return the reply, also one that is an error."""
    connection.send_command(*command, check_health=False)
    try:
        return connection.read_response()
    except ResponseError as exc:
        return exc


# What both have


def _limit(step: Ask | Try, left: float) -> float:
    """Return how many seconds a step may take."""
    access = step.access if isinstance(step, Try) else step.endpoint.access
    limit = left / step.share
    return limit if access.connect_timeout is None else min(limit, access.connect_timeout)


def _no_time(timeout: float) -> str:
    return f"no time was left of {timeout:g} s"


def _no_answer(limit: float) -> str:
    return f"no answer within {limit:.2g} s"

"""A load balancer as small as one can be: it asks each server whether it is ready, and passes connections on."""

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.servers.ports import HOST

__all__ = ["Balancer"]

#: Seconds between two questions to a server, and for an answer: a busy machine is no server that is not ready.
INTERVAL = 0.1
PATIENCE = 10.0


class Balancer:
    """Spreads connections over the servers that answer ``/ready`` with 200, each in turn. Use it by ``async with``.

    A server that is not ready keeps the connections that it has.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = tuple(ports)
        self._ready: set[int] = set()
        self._turns = itertools.cycle(self._ports)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def __repr__(self) -> str:
        return f"<Balancer {self.port} -> {[*self._ports]}, ready {sorted(self._ready)}>"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self._watching = [asyncio.create_task(self._watch(port)) for port in self._ports]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        tasks = [*self._watching, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def until_ready(self, port: int) -> None:
        """Wait until a server gets new connections."""
        while port not in self._ready:
            await asyncio.sleep(INTERVAL / 2)

    async def until_not_ready(self, port: int) -> None:
        """Wait until a server gets no new connections."""
        while port in self._ready:
            await asyncio.sleep(INTERVAL / 2)

    async def _watch(self, port: int) -> None:
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    is_ready = await _answers_200(port)
            except (OSError, asyncio.IncompleteReadError):
                is_ready = False
            (self._ready.add if is_ready else self._ready.discard)(port)
            await asyncio.sleep(INTERVAL)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            for port in itertools.islice(self._turns, len(self._ports)):
                if port not in self._ready:
                    continue
                try:
                    their_reader, their_writer = await asyncio.open_connection(HOST, port)
                except OSError:
                    continue
                with contextlib.closing(their_writer):
                    await asyncio.gather(_pump(reader, their_writer), _pump(their_reader, writer))
                return


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and then its end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        # One side was cut: so is the other.
        writer.transport.abort()


async def _answers_200(port: int) -> bool:
    reader, writer = await asyncio.open_connection(HOST, port)
    with contextlib.closing(writer):
        writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return (await reader.readuntil(b"\r\n")).split()[1] == b"200"

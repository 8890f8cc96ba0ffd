"""A relay in front of a real server, which holds back or loses what passes, at the moment that a test is about."""

import asyncio
from types import TracebackType
from typing import Self

from tests.servers import Server

__all__ = ["Line", "Relay"]


class Line:
    """One connection through the relay. Each direction passes while its event is set."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client = client
        self._server = server
        self.to_server = asyncio.Event()
        self.to_client = asyncio.Event()
        self.to_server.set()
        self.to_client.set()
        #: Bytes that came from the client, those held back included.
        self.received = 0
        #: The commands that came from the client, as long as they are few.
        self.begun = b""

    def cut(self) -> None:
        """End the client's connection. What is held back for the server can still be let through."""
        self._client.transport.abort()

    async def close(self) -> None:
        for writer in (self._client, self._server):
            writer.transport.abort()


class Relay:
    """Listens on a port of its own and passes everything on. An async context manager."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None
        self._closed = False
        #: How many connections were asked for, those among them that the server does not take.
        self.asked = 0
        #: All connections so far, in order.
        self.lines: list[Line] = []
        #: From what the client sends in these bytes on, the replies of that connection are held back.
        self.trap: bytes | None = None

    def turn_to(self, server: Server) -> None:
        """Pass on to another server what comes over later connections, and end those that there are."""
        self._server = server
        for line in self.lines:
            line.cut()

    @property
    def url(self) -> str:
        assert self._listener is not None
        return f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._closed = True
        self._listener.close()
        for line in self.lines:
            await line.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        opening = asyncio.current_task()
        assert opening is not None
        self._tasks.add(opening)
        opening.add_done_callback(self._tasks.discard)
        try:
            if self._closed:
                raise ConnectionError("the relay is closed")
            server_reader, server_writer = await asyncio.open_connection(self._server.host, self._server.port)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        line = Line(writer, server_writer)
        self.lines.append(line)
        for pump in (self._up(line, reader, server_writer), self._down(line, server_reader, writer)):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _up(self, line: Line, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                line.received += len(data)
                if len(line.begun) < 65536:
                    line.begun += data
                if self.trap is not None and self.trap in data:
                    line.to_client.clear()
                await line.to_server.wait()
                target.write(data)
        except OSError:
            pass

    async def _down(self, line: Line, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await line.to_client.wait()
                target.write(data)
        except OSError:
            pass

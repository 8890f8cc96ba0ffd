"""One WebSocket of the load client: a bare asyncio protocol that costs as little as Python allows."""

import asyncio
from collections.abc import Callable
from typing import cast

from benchmarks.frames import CLOSE, PING, PONG, FrameReader, accept_key, encode_frame, handshake_request
from benchmarks.frames import TEXT as TEXT_FRAME
from benchmarks.workload import TEXT

__all__ = ["ClientSocket", "connect"]

_PAYLOAD = TEXT.encode()
#: The frame of the text that every side sends: what comes in nearly always, and is known at a glance.
_USUAL = bytes((0x80 | TEXT_FRAME, len(_PAYLOAD))) + _PAYLOAD

#: What a socket does with a text that came in.
OnText = Callable[["ClientSocket", bytes], None]


class ClientSocket(asyncio.Protocol):
    """Open one WebSocket, then hand every text to `on_text`. Pings are answered, so that the server keeps it.

    `opened` is done when the server has accepted, and fails where it did not. `closed` is done when the
    connection is gone. `received` counts texts.
    """

    def __init__(self, host: str, path: str, on_text: OnText) -> None:
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.received = 0
        self._on_text = on_text
        self._request, self._key = handshake_request(host, path)
        self._head = b""
        self._reader = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the WebSocket."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read the answer to the handshake, and frames after that."""
        if data == _USUAL and not self._reader.rest:
            self.received += 1
            self._on_text(self, _PAYLOAD)
            return
        if not self.opened.done():
            self._head += data
            head, end, data = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            if not head.startswith(b"HTTP/1.1 101") or accept_key(self._key).encode() not in head:
                self.opened.set_exception(ConnectionError(f"the server did not accept: {head[:200]!r}"))
                self._transport.close()
                return
            self.opened.set_result(None)
        for opcode, payload in self._reader.feed(data):
            if opcode == TEXT_FRAME:
                self.received += 1
                self._on_text(self, payload)
            elif opcode == PING:
                self._transport.write(encode_frame(PONG, payload))
            elif opcode == CLOSE:
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionError("the server closed during the handshake"))
        self.closed.set_result(None)

    def write(self, frame: bytes) -> None:
        """Send a frame that is encoded already."""
        self._transport.write(frame)

    async def close(self) -> None:
        """Say goodbye with code 1000 and wait until the server has closed the connection."""
        if not self.closed.done():
            self._transport.write(encode_frame(CLOSE, (1000).to_bytes(2)))
        await self.closed


async def connect(port: int, path: str, on_text: OnText, *, source: int = 0) -> ClientSocket:
    """Open a WebSocket on this machine and wait until it is accepted. Each `source` is an address, with its ports."""
    loop = asyncio.get_running_loop()
    host = f"127.0.0.1:{port}"
    local = (f"127.0.0.{1 + source}", 0) if source else None
    _, socket = await loop.create_connection(
        lambda: ClientSocket(host, path, on_text), "127.0.0.1", port, local_addr=local
    )
    await socket.opened
    return socket

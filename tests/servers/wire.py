"""The least client of the Redis protocol: blocking, one connection, raw replies.

The management of the servers must not depend on the client library, whose four major versions are themselves tested.
"""

import socket
import ssl
from types import TracebackType
from typing import Any, Self

__all__ = ["Address", "ServerError", "Wire"]

#: Host and port, or the path of a Unix socket.
Address = tuple[str, int] | str


class ServerError(OSError):
    """An error reply. It is an OSError so that waiting goes on over LOADING and its like."""

    @property
    def code(self) -> str:
        """The reply's first word: WRONGPASS, MOVED ..."""
        return str(self).partition(" ")[0]


class Wire:
    """One connection. ``command`` sends and reads; ``read`` only reads, for MONITOR and subscriptions.

    Each call raises TimeoutError after `timeout` seconds, and the connection is of no use then.
    """

    def __init__(
        self,
        address: Address,
        *,
        username: str | None = None,
        password: str | None = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 5.0,
    ) -> None:
        if isinstance(address, str):
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(timeout)
            try:
                self._socket.connect(address)
            except BaseException:
                self._socket.close()
                raise
        else:
            self._socket = socket.create_connection(address, timeout)
        try:
            if tls is not None:
                self._socket = tls.wrap_socket(self._socket, server_hostname="localhost")
            self._file = self._socket.makefile("rb")
            if password is not None:
                self.command("AUTH", *([username] if username is not None else []), password)
        except BaseException:
            self.close()
            raise

    def command(self, *args: str | bytes | int) -> Any:
        """Send one command and return its reply; raise ServerError where that is an error."""
        self._socket.sendall(pack(args))
        reply = self.read()
        if isinstance(reply, ServerError):
            raise reply
        return reply

    def read(self) -> Any:
        """Read one reply: bytes, int, None, a list of these; an error is returned as a ServerError."""
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ServerError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self._read_bulk(int(rest))
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        raise ConnectionError(f"not the Redis protocol: {line!r}")

    def _read_bulk(self, size: int) -> bytes | None:
        if size < 0:
            return None
        data = self._file.read(size + 2)
        if len(data) != size + 2:
            raise ConnectionResetError("the server closed the connection in the middle of a reply")
        return data[:-2]

    def close(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def pack(args: tuple[str | bytes | int, ...]) -> bytes:
    """Return a command as the protocol has it: an array of bulk strings."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = arg if isinstance(arg, bytes) else str(arg).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)

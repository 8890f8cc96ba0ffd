"""The little of RFC 6455 that a load client needs: a handshake, masked frames out, plain frames in.

Pure functions and one reader without I/O. The client must cost less than what it measures, so there is no
validation beyond what would make a figure wrong.
"""

import base64
import hashlib
import os
import struct

__all__ = ["CLOSE", "PING", "PONG", "TEXT", "FrameReader", "accept_key", "encode_frame", "handshake_request"]

# Opcodes: RFC 6455, section 5.2
TEXT = 0x1
CLOSE = 0x8
PING = 0x9
PONG = 0xA

#: RFC 6455, section 1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def handshake_request(host: str, path: str, *, key: str | None = None) -> tuple[bytes, str]:
    """Return the request that opens a WebSocket on `path`, and its key (a random one by default)."""
    key = base64.b64encode(os.urandom(16)).decode() if key is None else key
    lines = (
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )
    return "\r\n".join((*lines, "", "")).encode(), key


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept that answers `key`."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


def encode_frame(opcode: int, payload: bytes, *, mask: bytes | None = None) -> bytes:
    """Return one final frame, masked as a client must (with four random bytes by default)."""
    mask = os.urandom(4) if mask is None else mask
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


class FrameReader:
    """Cut what a server sends into frames. What is not complete yet waits for the next `feed`."""

    def __init__(self) -> None:
        #: The beginning of a frame.
        self.rest = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the opcode and the payload of each frame that `data` completes, in order."""
        if self.rest:
            data = self.rest + data
        frames = []
        position, size = 0, len(data)
        while size - position >= 2:
            length = data[position + 1]
            start = position + 2
            if length == 126:
                start += 2
                length = int.from_bytes(data[position + 2 : start])
            elif length == 127:
                start += 8
                length = int.from_bytes(data[position + 2 : start])
            if start + length > size:
                break
            frames.append((data[position] & 0x0F, data[start : start + length]))
            position = start + length
        self.rest = data[position:]
        return frames

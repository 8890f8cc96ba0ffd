"""Dead letters: a message that could not be done, with what is known about it around it.

The message inside stays as it was sent, serialized and perhaps encrypted: whoever puts it aside, such as a server's
script, need not be able to read it.
"""

from collections.abc import Callable
from typing import Any, Final

from sealane.types import Message

__all__ = [
    "EXPIRED",
    "LETTER",
    "MAX_DELIVERIES_REACHED",
    "OWN_REASONS",
    "UNDECODABLE",
    "UNDECRYPTABLE",
    "open_letter",
    "parts",
    "reword",
    "wrap",
]

#: What a dead letter begins with. No msgpack (which never uses 0xc1), no JSON and no encrypted message does.
LETTER: Final = b"\xc1sealane.dead\xc1"

# Why a layer itself puts a message aside.
MAX_DELIVERIES_REACHED: Final = "max_deliveries"
EXPIRED: Final = "expired"
UNDECODABLE: Final = "undecodable"
UNDECRYPTABLE: Final = "undecryptable"
#: All of them, as they stand in a letter.
OWN_REASONS: Final = frozenset(
    reason.encode() for reason in (MAX_DELIVERIES_REACHED, EXPIRED, UNDECODABLE, UNDECRYPTABLE)
)


def wrap(data: bytes, *, channel: str, reason: str, attempts: int, first_seen: float, id: str) -> bytes:
    """Return a dead letter with a serialized message in it. A script of ``redis.leasing_lua`` makes the same.

    first_seen: seconds since the epoch; 0 where the message was never delivered.
    """
    text = reason.encode("utf-8", "backslashreplace")
    head = f"{attempts} {round(first_seen * 1000)} {id} {channel} {len(text)} ".encode()
    return b"".join((LETTER, head, text, data))


def parts(letter: bytes) -> tuple[bytes, bytes]:
    """Return what stands around the message in a dead letter, and the message. Raises ValueError for anything else."""
    fields = letter[len(LETTER) :].split(b" ", 5)
    if not letter.startswith(LETTER) or len(fields) < 6:
        raise ValueError("it is no dead letter")
    start = len(letter) - len(fields[5]) + int(fields[4])
    return letter[:start], letter[start:]


def reword(head: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return what stands around the message in a dead letter, with another reason: what ``change(reason)`` returns."""
    *fields, _, reason = head.split(b" ", 5)
    reason = change(reason)
    return b" ".join((*fields, b"%d" % len(reason), reason))


def open_letter(letter: bytes, deserialize: Callable[[bytes], Message]) -> Message:
    """Return a dead letter as a message. One whose message cannot be decoded has None in its place, and its bytes.

    Raises ValueError for what is no dead letter.
    """
    head, data = parts(letter)
    attempts, first_seen, identity, channel, _, reason = head[len(LETTER) :].split(b" ", 5)
    opened: dict[str, Any] = {
        "type": "dead.letter",
        "channel": channel.decode(),
        "reason": reason.decode("utf-8", "replace"),
        "attempts": int(attempts),
        "first_seen": int(first_seen) / 1000 or None,
        "id": identity.decode(),
    }
    try:
        # One that was a dead letter before.
        message = open_letter(data, deserialize) if data.startswith(LETTER) else deserialize(data)
    except Exception:
        # That is why it is here, perhaps. Whoever looks for the cause wants to see it.
        return {**opened, "message": None, "data": data}
    return {**opened, "message": message}

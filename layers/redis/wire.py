"""What stands in Redis: the beginnings of keys, the ids of mailboxes, and the addresses of what is posted to them."""

import re
import secrets
from typing import Final

__all__ = [
    "ANSWER",
    "CHANNEL",
    "CLOSE",
    "CLOSED",
    "FLUSHED",
    "GROUP",
    "JOIN",
    "LEASED",
    "LEAVE",
    "OPEN",
    "PLAIN",
    "RETURNED",
    "STAMP",
    "mailbox_id",
    "make_mailbox_id",
    "name_channel",
    "name_held_channel",
]

# The first byte of an address. What follows is a name; of PLAIN, a stamp before it.

#: To a channel of this mailbox.
CHANNEL: Final = ord("c")
#: To this mailbox's members of a group.
GROUP: Final = ord("g")
#: To a plain channel that this mailbox owns, or waits for.
PLAIN: Final = ord("p")
#: To whoever waits here for a delivery under a token: ``<token> <stamp> <lease> <attempt> <first, ms> <lease ends, ms>
#: <channel>``.
LEASED: Final = ord("a")
#: A channel of this mailbox, which is the payload, joins or leaves a group: somebody else asks for it.
JOIN: Final = ord("+")
LEAVE: Final = ord("-")
#: The shard of a group is to be opened: there somebody else lets a channel of this mailbox join.
OPEN: Final = ord("o")
#: A channel is to be closed: somebody else asks for it.
CLOSE: Final = ord("x")
#: What came before was sent before this mailbox closed the plain channel.
CLOSED: Final = ord("X")
#: What came before was sent before this mailbox gave messages of a plain channel back.
RETURNED: Final = ord("r")
#: What came before was sent before a flush.
FLUSHED: Final = ord("f")

#: What was asked of others is done; in the pub/sub layer.
ANSWER: Final = ord("k")

#: Characters of a stamp: the number and the time of a message of a plain channel.
STAMP: Final = 29

_DIGITS: Final = 16
_MAILBOX: Final = re.compile(r"\.([0-9a-f]{16})\Z", re.ASCII)


def make_mailbox_id() -> str:
    """Return an id that no other mailbox has."""
    return secrets.token_hex(_DIGITS // 2)


def mailbox_id(channel: str) -> str | None:
    """Return the id of the mailbox that a channel belongs to; None for a plain channel, which Redis holds.

    Only a name such as ``specific.0123456789abcdef!x`` belongs to a mailbox. Any other is held by Redis, also where it
    has a ``!``.
    """
    mark = channel.find("!")
    if mark <= _DIGITS:
        return None
    found = _MAILBOX.search(channel, 0, mark)
    return None if found is None else found.group(1)


def name_held_channel(prefix: str) -> str:
    """Return the name of a new channel that Redis holds, so that any thread may read it."""
    return f"{prefix}.{secrets.token_hex(_DIGITS // 2 - 2)}!{secrets.token_urlsafe(12)}"


def name_channel(prefix: str, mailbox: str) -> str:
    """Return the name of a new channel of a mailbox. With 96 random bits nobody guesses it."""
    return f"{prefix}.{mailbox}!{secrets.token_urlsafe(12)}"

"""Names of channels and groups: what the contract allows, and how to make a group name from parts."""

import hashlib
import re
from uuid import UUID

from sealane.exceptions import InvalidName

__all__ = [
    "MAX_NAME_LENGTH",
    "group_name",
    "non_local_name",
    "require_valid_channel_name",
    "require_valid_group_name",
]

#: Names are shorter than this, in characters.
MAX_NAME_LENGTH = 100

# re.ASCII and fullmatch: without them \w takes letters of every script, and "$" a newline at the end.
_CHANNEL = re.compile(r"[a-zA-Z0-9\-_.]+(![a-zA-Z0-9\-_.]*)?", re.ASCII)
_GROUP = re.compile(r"[a-zA-Z0-9\-_.]+", re.ASCII)
_GROUP_PART = re.compile(r"[a-zA-Z0-9\-_]+", re.ASCII)
_FOREIGN = re.compile(r"[^a-zA-Z0-9\-_.]", re.ASCII)

_EXPECTED = "ASCII letters, digits, hyphens, underscores and periods"


def require_valid_channel_name(name: object, receive: bool = False, *, max_length: int = MAX_NAME_LENGTH) -> bool:
    """Return True for a channel name that the contract allows; raise InvalidName for any other.

    A name may hold one ``!``: what follows it is known to one process only. With ``receive`` such a name must end at
    the ``!``, as layers demand that read one queue for a whole process.
    """
    if isinstance(name, str) and len(name) < max_length and _CHANNEL.fullmatch(name):
        if receive and "!" in name and not name.endswith("!"):
            raise InvalidName("Channel", name, "a specific channel name in receive() must end at the '!'")
        return True
    raise InvalidName("Channel", name, _problem(name, max_length, f"{_EXPECTED}, and at most one '!'"))


def require_valid_group_name(name: object, *, max_length: int = MAX_NAME_LENGTH) -> bool:
    """Return True for a group name that the contract allows; raise InvalidName for any other."""
    if isinstance(name, str) and len(name) < max_length and _GROUP.fullmatch(name):
        return True
    raise InvalidName(
        "Group", name, f"{_problem(name, max_length, _EXPECTED)}; group_name('room', key) makes a valid one of any key"
    )


def _problem(name: object, max_length: int, expected: str) -> str:
    if not isinstance(name, str):
        return f"it must be a str, not {type(name).__name__}, with length < {max_length}, of {expected}"
    if not name:
        return f"it is empty; it must hold {expected}"
    if len(name) >= max_length:
        return f"it has {len(name)} characters; it must have length < {max_length}"
    stray = _FOREIGN.search(name)
    where = f" (see {stray.group()!r} at position {stray.start()})" if stray else ""
    return f"it must hold only {expected}{where}"


def non_local_name(name: str) -> str:
    """Return a channel name up to and including its ``!``; a name without one, as it is."""
    head, mark, _ = name.partition("!")
    return head + mark


def group_name(*parts: str | int | UUID, max_length: int = MAX_NAME_LENGTH) -> str:
    """Make one valid group name from parts: ``group_name("room", 42)`` is ``"room.42"``.

    Different parts make different names. The result is the parts joined by periods as long as that is valid and says
    unambiguously where each part ends; where a part is too long, empty, or holds anything but ASCII letters, digits,
    hyphens and underscores, the parts are hashed (BLAKE2, 128 bits) and a readable beginning is kept. The same parts
    make the same name in every process and every release.

    Raises InvalidName where there is no part, or a part is neither a str, an int nor a UUID.
    """
    if not parts:
        raise InvalidName("Group", "", "group_name() needs at least one part")
    texts = []
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, (str, int, UUID)):
            raise InvalidName(
                "Group", part, f"a part must be a str, an int or a UUID, not {type(part).__name__}; pass str(part)"
            )
        if isinstance(part, str):
            # A member of an enum and a plain str of the same value name the same group.
            texts.append(str.__str__(part))
        else:
            texts.append(str(int(part)) if isinstance(part, int) else str(part))
    joined = ".".join(texts)
    if len(joined) < max_length and all(_GROUP_PART.fullmatch(text) for text in texts):
        return joined
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        # With each length before its text, ("a", "bc") and ("ab", "c") differ.
        digest.update(f"{len(encoded)}:".encode())
        digest.update(encoded)
    readable = _FOREIGN.sub("_", texts[0].replace(".", "_"))[: max_length - 40]
    # Two periods in a row never stand in a joined name, so that a hashed name equals no readable one.
    return f"{readable}..{digest.hexdigest()}"

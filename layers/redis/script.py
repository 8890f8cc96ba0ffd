"""One Lua script: its name, its source, and the hash by which a server knows it."""

from dataclasses import dataclass, field
from hashlib import sha1

__all__ = ["KEPT", "OUT_OF_TURN", "Script"]

#: How long a server keeps the key that counts a sender's calls, in milliseconds. An idle sender leaves nothing behind
#: for longer.
KEPT = 600_000

#: The error code of a numbered call that came when it was not its turn. Nothing of it was carried out.
OUT_OF_TURN = "OUTOFTURN"

# INCR is the first write: where the server's memory is full, it is what fails, and nothing of the script has run.
_PRELUDE = f"""
if ARGV[1] ~= '' then
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then
    return redis.error_reply('{OUT_OF_TURN} another call is next')
  end
  redis.call('INCR', KEYS[1])
end
"""


# A server whose memory is full lets a script go on that has written something which takes none.
_FREEING = f"""
redis.call('PEXPIRE', KEYS[1], {KEPT})
"""


@dataclass(frozen=True, slots=True)
class Script:
    """A script, as it is loaded.

    A ``numbered`` one is carried out exactly once for each call, and in order, although calls are sent again after a
    lost connection. A prelude sees to that: ``KEYS[1]`` is the key that counts the sender's calls and ``ARGV[1]``
    what it must hold at this call's turn; both are the link's. The script's own keys start at ``KEYS[2]``, its own
    arguments at ``ARGV[2]``. An empty ``ARGV[1]`` runs it without any such check, and leaves ``KEYS[1]`` alone. A
    script that fails after its prelude counts as carried out.

    One that is ``freeing`` too, since it makes room, is carried out also where the server's memory is full.
    """

    name: str
    #: What the server is given, with the prelude.
    source: str = field(repr=False)
    numbered: bool = field(default=False, kw_only=True)
    freeing: bool = field(default=False, kw_only=True)
    #: Hexadecimal.
    sha1: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.numbered:
            prelude = _FREEING + _PRELUDE if self.freeing else _PRELUDE
            object.__setattr__(self, "source", prelude + self.source)
        object.__setattr__(self, "sha1", sha1(self.source.encode(), usedforsecurity=False).hexdigest())

"""What a Redis layer was configured with, as its parts need it."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sealane.exceptions import InvalidChannelLayerError, UndecryptableMessage
from sealane.layers.notices import OverflowPolicy
from sealane.layers.redis.keyring import Keyring, Undecryptable
from sealane.layers.redis.places import Place
from sealane.layers.redis.scripts import Scripts
from sealane.layers.redis.sharding import Shards
from sealane.types import Message

__all__ = ["Options", "check_limits", "check_prefix"]

#: The most that a number may be: servers count milliseconds and entries in 64 bits, their scripts in 53.
_MOST = 1_000_000_000
#: The most that ``timeout`` may be: sockets count milliseconds in 31 bits.
_MOST_SECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The same for all event loops and threads of a process."""

    places: tuple[Place, ...]
    shards: Shards
    scripts: Scripts
    prefix: str
    #: Milliseconds.
    expiry: int
    #: Milliseconds.
    lease: int
    #: Entries that a mailbox stream holds before the oldest are lost.
    maxlen: int
    #: Entries that are read at once.
    batch: int
    #: Seconds that a call may take.
    timeout: float
    overflow: OverflowPolicy
    capacity: Callable[[str], int]
    deserialize: Callable[[bytes], Message]
    keyring: Keyring | None
    undecryptable: Undecryptable
    #: Whether the number of a database stands in the names of what is kept there, as topics belong to none.
    names_database: bool = False

    def base(self, shard: int) -> bytes:
        """Return what the keys of a shard begin with."""
        place = self.places[shard]
        database = f"/{place.access.db}" if self.names_database and place.access.db else ""
        return f"{self.prefix}{database}{place.tag}".encode()

    @property
    def kept(self) -> int:
        """How long a mailbox's stream outlives its last refresh, in milliseconds."""
        return self.expiry + self.lease

    @property
    def remembered(self) -> int:
        """How long a waiter or an owner of a plain channel is remembered without a refresh, in milliseconds."""
        return 10 * self.lease

    def seal(self, data: bytes) -> bytes:
        """Encrypt a serialized message, where there are keys."""
        return data if self.keyring is None else self.keyring.encrypt(data)

    def unseal(self, data: bytes, where: str) -> bytes | None:
        """Decrypt a serialized message; None, counted and logged, where no key fits."""
        if self.keyring is None:
            return data
        try:
            return self.keyring.decrypt(data)
        except UndecryptableMessage:
            self.undecryptable.note(where)
            return None


def check_limits(numbers: Iterable[tuple[str, float]]) -> None:
    """Raise InvalidChannelLayerError for an option whose number is too high."""
    for option, value in numbers:
        most = _MOST_SECONDS if option == "timeout" else _MOST
        if value > most:
            raise InvalidChannelLayerError(f"{option} is {value!r}; expected at most {most:,}")


def check_prefix(prefix: object) -> None:
    """Raise InvalidChannelLayerError for a prefix that cannot be used, or not beside all others."""
    if not isinstance(prefix, str) or not prefix:
        raise InvalidChannelLayerError(f"prefix is {prefix!r}; expected a str that is not empty, such as 'asgi'")
    try:
        prefix.encode()
    except UnicodeEncodeError as exc:
        raise InvalidChannelLayerError(f"prefix is {prefix!r}; expected a str that UTF-8 can encode: {exc}") from None
    if re.search(":[a-z](:|$)", prefix):
        raise InvalidChannelLayerError(
            f"prefix is {prefix!r}; expected one without a single letter after a colon, as the layers' own keys have "
            "it: they could be those of another layer, whose prefix is the part before it"
        )

"""What a Redis layer was configured with, as its parts need it."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

from sealane.exceptions import InvalidChannelLayerError, UndecryptableMessage
from sealane.layers.base import BaseChannelLayer, _number_of
from sealane.layers.dead_letters import LETTER, OWN_REASONS, parts, reword
from sealane.layers.notices import OverflowPolicy
from sealane.layers.redis.hosts import parse_hosts
from sealane.layers.redis.keyring import Keyring, Undecryptable, parse_keys
from sealane.layers.redis.places import Place
from sealane.layers.redis.scripts import Scripts
from sealane.layers.redis.sharding import Shards
from sealane.types import Message

__all__ = ["Options"]

#: What an encrypted reason begins with. No text in UTF-8 has it.
SEALED = b"\xc1"

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
    #: How many seconds a message may wait in a plain channel, where that is not ``expiry``.
    channel_expiry: Callable[[str], float | None]
    deserialize: Callable[[bytes], Message]
    keyring: Keyring | None
    undecryptable: Undecryptable
    #: Whether the number of a database stands in the names of what is kept there, as topics belong to none.
    names_database: bool = False

    @classmethod
    def of(
        cls,
        layer: BaseChannelLayer,
        hosts: Any,
        *,
        prefix: str,
        symmetric_encryption_keys: Iterable[str | bytes] | None,
        cluster: bool,
        shards: int | None,
        lease: float,
        maxlen: int,
        timeout: float,
        scripts: Scripts,
        names_database: bool,
    ) -> Self:
        """Read what ``RedisLayer`` takes, beside what every layer takes, which this one has read.

        Raises InvalidChannelLayerError for a value that cannot be used.
        """
        _number_of("lease", lease, float, "seconds")
        _number_of("maxlen", maxlen, int, "entries")
        _number_of("timeout", timeout, float, "seconds")
        limits: list[tuple[str, float]] = [
            ("expiry", layer.expiry),
            ("capacity", layer.capacity),
            *((f"channel_capacity for {pattern.pattern!r}", capacity) for pattern, capacity in layer.channel_capacity),
            *((f"channel_expiry for {pattern.pattern!r}", expiry) for pattern, expiry in layer.channel_expiry),
            ("lease", lease),
            ("maxlen", maxlen),
            ("timeout", timeout),
        ]
        _check_limits(limits)
        _check_prefix(prefix)
        places = parse_hosts(hosts, cluster=cluster, shards=shards)
        if any(place.tag for place in places) and re.search("[{}]", prefix):
            raise InvalidChannelLayerError(
                f"prefix is {prefix!r}; expected one without braces: in a Cluster the layer puts a hash tag after it"
            )
        return cls(
            places=places,
            shards=Shards([place.identity for place in places]),
            scripts=scripts,
            prefix=prefix,
            expiry=max(1, int(layer.expiry * 1000)),
            lease=max(1, int(lease * 1000)),
            maxlen=maxlen,
            # At most half of what a channel takes, so that its receiver has a turn before it overflows.
            batch=max(1, min(200, layer.capacity // 2)),
            timeout=timeout,
            overflow=layer.overflow,
            capacity=layer.get_capacity,
            channel_expiry=layer.match_expiry,
            deserialize=layer.serializer.deserialize,
            keyring=parse_keys(symmetric_encryption_keys),
            undecryptable=Undecryptable(type(layer).__name__),
            names_database=names_database,
        )

    def base(self, shard: int) -> bytes:
        """Return what the keys of a shard begin with."""
        place = self.places[shard]
        database = f"/{place.access.db}" if self.names_database and place.access.db else ""
        return f"{self.prefix}{database}{place.tag}".encode()

    @property
    def beat(self) -> float:
        """How many seconds after a refresh of the lease the next one follows.

        A server that stands still loses nothing for four fifths of a lease at least: by default 12 seconds.
        """
        return self.lease / 5000

    @property
    def kept(self) -> int:
        """How long a mailbox's stream outlives its last refresh, in milliseconds."""
        return self.expiry + self.lease

    @property
    def remembered(self) -> int:
        """How long a waiter or an owner of a plain channel is remembered without a refresh, in milliseconds."""
        return 10 * self.lease

    def shift(self, channel: str) -> int:
        """Return how many milliseconds longer than ``expiry`` a message may wait in a plain channel."""
        expiry = self.channel_expiry(channel)
        return 0 if expiry is None else max(1, int(expiry * 1000)) - self.expiry

    def limits(self, channel: str) -> str | int:
        """Return capacity and shift of a plain channel, as a group has them of its members."""
        shift = self.shift(channel)
        return f"{self.capacity(channel)} {shift}" if shift else self.capacity(channel)

    def seal(self, data: bytes) -> bytes:
        """Encrypt a serialized message, where there are keys; of a dead letter, the reason and the message in it."""
        if self.keyring is None:
            return data
        if data.startswith(LETTER):
            head, inner = parts(data)
            return reword(head, self.seal_reason) + self.seal(inner)
        return self.keyring.encrypt(data)

    def seal_reason(self, reason: bytes) -> bytes:
        """Encrypt the reason of a dead letter, where there are keys: it may quote the message, unlike a layer's own."""
        if self.keyring is None or reason in OWN_REASONS:
            return reason
        return SEALED + self.keyring.encrypt(reason)

    def _open_reason(self, reason: bytes) -> bytes:
        if self.keyring is None or not reason.startswith(SEALED):
            return reason
        return self.keyring.decrypt(reason[len(SEALED) :])

    def unseal(self, data: bytes, where: str) -> bytes | None:
        """Decrypt a serialized message; None, counted and logged, where no key fits."""
        if self.keyring is None:
            return data
        try:
            return self._open(data)
        except UndecryptableMessage:
            self.undecryptable.note(where)
            return None

    def _open(self, data: bytes) -> bytes:
        if self.keyring is None:
            return data
        if data.startswith(LETTER):
            try:
                head, inner = parts(data)
                head = reword(head, self._open_reason)
            except ValueError:
                raise UndecryptableMessage from None
            return head + self._open(inner)
        return self.keyring.decrypt(data)


def _check_limits(numbers: Iterable[tuple[str, float]]) -> None:
    """Raise InvalidChannelLayerError for an option whose number is too high."""
    for option, value in numbers:
        most = _MOST_SECONDS if option == "timeout" else _MOST
        if value > most:
            raise InvalidChannelLayerError(f"{option} is {value!r}; expected at most {most:,}")


def _check_prefix(prefix: object) -> None:
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

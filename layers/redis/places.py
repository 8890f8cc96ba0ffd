"""Places: where the keys of one shard live, and how to get there."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import redis
import redis.asyncio

from sealane.layers.redis.access import Access, Address, Endpoint, scrub
from sealane.layers.redis.dialing import open_blocking_pool, open_connection
from sealane.layers.redis.discovery import Hint, Search, find_master, find_node, find_server

__all__ = ["ClusterSlot", "Place", "SentinelService", "Server", "scrub"]


class Place(ABC):
    """Where the keys of one shard live: one server, the master of one Sentinel service, or one slot of a Cluster.

    It holds no connection, so it may be used in any thread, event loop and forked process.
    """

    #: How to log in there.
    access: Access

    @property
    @abstractmethod
    def identity(self) -> str:
        """What names are hashed with to find their shard: the same wherever the place is configured alike.

        Passwords have no part in it, nor has the order in which hosts, sentinels or nodes are listed.
        """

    @property
    @abstractmethod
    def label(self) -> str:
        """The place in logs and errors; it holds no password."""

    @property
    def tag(self) -> str:
        """What stands in each key right after the prefix: "{sealane:0.3}" in a Cluster, elsewhere nothing."""
        return ""

    @abstractmethod
    def search(self) -> Search:
        """Begin a search for the server that has the keys now."""

    async def open(self, *, timeout: float, name: str | None = None) -> redis.asyncio.Connection:
        """Return a new connection to the server that has the keys now; it is the caller's own.

        It is logged in and has its database selected, and its name set, to ``client_name`` where that was configured.
        Replies are bytes, in RESP2; it has no time limits, health checks or retries of its own. To close it, await its
        ``disconnect(nowait=True)``. redis-py connects a closed one again when something is sent, to the old address:
        do not let it come to that.

        ``timeout`` is for all of it together, in seconds. Raises ServerUnreachable, and nothing else, for whatever
        keeps it from getting there; the error holds no secret and has no cause or context. Cancelled, it leaves
        nothing open.
        """
        return await open_connection(self.label, self.search(), timeout=timeout, name=name)

    def blocking_pool(self, *, timeout: float, name: str | None = None) -> redis.ConnectionPool:
        """Return a new pool of blocking connections, for ``redis.Redis(connection_pool=...)``. It does no I/O yet.

        Each of its connections searches for the server when it connects, and does so again after it was closed: by an
        error or by the pool's ``disconnect()``. Then it raises ServerUnreachable as ``open()`` does. ``timeout`` is
        that of connecting, and that of each reply, in seconds. The pool may be used in any thread, and after a fork.
        """
        unix = isinstance(self, Server) and bool(self.address.path)
        return open_blocking_pool(self.label, self.search, self.access, unix=unix, timeout=timeout, name=name)

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.label}>"


@dataclass(frozen=True, eq=False, repr=False)
class Server(Place):
    """One server at a fixed address. Its name, if that is what the address has, is looked up at each connecting."""

    address: Address
    access: Access

    @property
    def identity(self) -> str:
        """The address and the database."""
        return f"{self.address}/{self.access.db}"

    @property
    def label(self) -> str:
        """The address and the database."""
        return self.identity

    def search(self) -> Search:
        """Begin a search, which has one step."""
        return find_server(self.label, self.address, self.access)


@dataclass(frozen=True, eq=False, repr=False)
class SentinelService(Place):
    """The master of a service that sentinels watch. They are asked anew at each connecting."""

    service: str
    sentinels: tuple[Endpoint, ...]
    access: Access
    #: Tells services of one name apart, where hosts hold several.
    of: str = ""
    hint: Hint = field(default_factory=Hint)

    @property
    def identity(self) -> str:
        """The service and the database."""
        return f"sentinel:{self.service}/{self.access.db}{self.of}"

    @property
    def label(self) -> str:
        """The service and the database."""
        return f"{self.service}/{self.access.db}{self.of} (Sentinel)"

    def search(self) -> Search:
        """Begin a search that asks the sentinels."""
        return find_master(self.label, self.service, self.sentinels, self.access, self.hint)


@dataclass(frozen=True, eq=False, repr=False)
class ClusterSlot(Place):
    """One hash slot of a Cluster, that of a tag; in turn its master is whichever node serves it.

    All slots of a Cluster share their seeds and what was learned of its nodes.
    """

    hash_tag: str
    seeds: Sequence[Endpoint]
    access: Access
    hint: Hint = field(default_factory=Hint)

    @property
    def identity(self) -> str:
        """The tag."""
        return f"cluster:{self.hash_tag}"

    @property
    def label(self) -> str:
        """The tag."""
        return f"Cluster {self.hash_tag}"

    @property
    def tag(self) -> str:
        """The tag, with its braces."""
        return self.hash_tag

    def search(self) -> Search:
        """Begin a search that asks the nodes."""
        return find_node(self.label, self.hash_tag, self.seeds, self.access, self.hint)

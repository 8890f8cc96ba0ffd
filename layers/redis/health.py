"""How a layer's servers are."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sealane.exceptions import CallRefused, ChannelLayerUnavailable

if TYPE_CHECKING:
    from sealane.layers.redis.branch import Branch

__all__ = ["Health", "ShardHealth", "examine"]


@dataclass(frozen=True, slots=True)
class ShardHealth:
    """One shard as it is seen from one process."""

    #: The server, service or slot.
    place: str
    #: Whether it carried out a command in time.
    reachable: bool
    #: How long that took, in seconds; None where it did not.
    latency: float | None
    #: Entries that wait at the server for this event loop; None where that is not known.
    backlog: int | None
    #: "master" or "slave", as the server calls itself; None where it is not known.
    role: str | None
    #: The last error of a connection to it, or None. It holds no password.
    error: str | None


@dataclass(frozen=True, slots=True)
class Health:
    """All shards of a layer, in the order of its hosts."""

    shards: tuple[ShardHealth, ...]

    @property
    def reachable(self) -> bool:
        """Whether every shard is."""
        return all(shard.reachable for shard in self.shards)

    @property
    def latency(self) -> float | None:
        """That of the slowest shard, in seconds; None where one did not answer."""
        found = [shard.latency for shard in self.shards if shard.latency is not None]
        return max(found) if len(found) == len(self.shards) else None

    @property
    def backlog(self) -> int | None:
        """Entries that wait at all shards for this event loop; None where that of one is not known."""
        found = [shard.backlog for shard in self.shards if shard.backlog is not None]
        return sum(found) if len(found) == len(self.shards) else None


async def examine(branch: "Branch", clock: Callable[[], float]) -> ShardHealth:
    """Ask one shard how it is."""
    link = branch.link
    latency: float | None = None
    role: str | None = None
    backlog: int | None = None
    began = clock()
    try:
        await link.call("PING")
        latency = clock() - began
        # An ACL may refuse either.
        with contextlib.suppress(CallRefused):
            role = (await link.call("ROLE"))[0].decode()
        with contextlib.suppress(CallRefused):
            backlog = await branch.backlog()
    except ChannelLayerUnavailable:
        pass
    return ShardHealth(link.place.label, latency is not None, latency, backlog, role, link.error)

"""Whether a server has all that another one, or the same one earlier, had acknowledged."""

from dataclasses import dataclass
from enum import Enum
from typing import Self

__all__ = ["Lineage", "Succession"]

#: What a server gives for an id that it has not.
_NONE = "0" * 40


class Succession(Enum):
    """What is known of the data of a server that is connected to, beside those of the one before it."""

    #: All is there that was.
    KEPT = "kept"
    #: The server was started again, and has read its log of writes: what it had written there is there.
    RESTARTED = "restarted"
    #: A replica took over, or a snapshot was loaded. Its counters may be as if nothing were missing, and something is.
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Lineage:
    """Which course of writes a server has taken part in, as the script ``register`` tells."""

    #: The id of its writes. A replica has that of its master; a server that becomes a master takes another.
    history: str
    #: That which it had before it became a master, or which its snapshot has. Empty where there is none.
    former: str
    #: The id of its process.
    process: str
    #: The id of its shard of a Cluster, which a replica that takes over has too. Empty where there is none to know.
    shard: str
    #: Whether it writes a log of its writes.
    logs: bool

    @classmethod
    def of(cls, text: bytes) -> Self | None:
        """Read what ``register`` tells; None where the server does not let us know."""
        history, former, process, shard, logs = text.decode().split(",")
        if not history or not process:
            return None
        return cls(history, "" if former == _NONE else former, process, shard, logs == "1")

    def follows(self, earlier: "Lineage", *, in_cluster: bool) -> Succession:
        """Return what is known of the data here, beside those of an earlier connection to the same place.

        in_cluster: a slot may have moved here from a server that has nothing to do with this one. That loses nothing.
        """
        if self.history == earlier.history:
            return Succession.KEPT
        shards_are_known = bool(self.shard and earlier.shard)
        if in_cluster and shards_are_known and self.shard != earlier.shard:
            return Succession.KEPT
        if self.former == earlier.history:
            return Succession.REPLACED
        if self.process == earlier.process:
            # A master takes another id when its first replica comes, and an hour after the last one has gone. It has a
            # former one where it was a replica meanwhile.
            return Succession.REPLACED if self.former else Succession.KEPT
        if in_cluster and not shards_are_known:
            # An older server, where a slot that has moved looks like this.
            return Succession.KEPT
        return Succession.RESTARTED if self.logs and not self.former else Succession.REPLACED

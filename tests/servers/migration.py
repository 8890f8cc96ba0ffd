"""The move of a hash slot from one master to another."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.servers.server import Server
from tests.servers.waiting import wait_until

__all__ = ["Migration", "migrate_atomically"]


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A move key by key, in steps: ``begin``, ``move_keys`` (more than once if wanted), ``finish`` or ``abort``.

    Between begin and finish the source answers ASK for each key that it has not or no longer, and TRYAGAIN for
    several keys of which it has some.
    """

    slot: int
    source: Server
    target: Server
    ids: Mapping[Server, str] = field(repr=False)
    masters: list[Server] = field(repr=False)
    password: str | None = field(repr=False)

    def begin(self) -> None:
        """Mark the slot as importing at the target, and as migrating at the source."""
        self.target.command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self.ids[self.source])
        self.source.command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self.ids[self.target])

    def move_keys(self, *, limit: int | None = None) -> int:
        """Move the slot's keys, at most `limit` of them, and return how many were moved."""
        moved = 0
        with self.source.connect() as wire:
            while limit is None or moved < limit:
                batch = 100 if limit is None else min(100, limit - moved)
                keys = wire.command("CLUSTER", "GETKEYSINSLOT", self.slot, batch)
                if not keys:
                    break
                login = ["AUTH", self.password] if self.password is not None else []
                wire.command("MIGRATE", self.target.host, self.target.port, "", 0, 5000, *login, "KEYS", *keys)
                moved += len(keys)
        return moved

    def finish(self) -> None:
        """Move the keys that are left, and give the slot to the target: there first, so that it always has an owner.

        Nodes hear it from these by themselves within a second; ``Cluster.owner_of`` waits for that.
        """
        self.move_keys()
        others = [node for node in self.masters if node not in (self.target, self.source) and node.running]
        for node in (self.target, self.source, *others):
            node.command("CLUSTER", "SETSLOT", self.slot, "NODE", self.ids[self.target])

    def abort(self) -> None:
        """Leave the slot where it is. Keys that were moved already stay at the target, and are not found there."""
        for node in (self.target, self.source):
            node.command("CLUSTER", "SETSLOT", self.slot, "STABLE")


def migrate_atomically(slot: int, source: Server, target_id: str) -> None:
    """Move a slot by CLUSTER MIGRATESLOTS; return when the source says that it is done."""
    source.command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target_id)

    def over() -> bool:
        newest = source.command("CLUSTER", "GETSLOTMIGRATIONS")[0]
        job = dict(zip(newest[::2], newest[1::2], strict=True))
        if job[b"state"] in (b"failed", b"canceled"):
            raise RuntimeError(f"moving slot {slot} from {source!r}: {job}")
        return bool(job[b"state"] == b"success")

    wait_until(over, within=20, what=f"slot {slot} has left {source!r}")

"""A Cluster of three masters or more, each with replicas if wanted."""

import secrets
from collections.abc import Iterator
from typing import Any

from tests.servers.binaries import Flavour
from tests.servers.migration import Migration, migrate_atomically
from tests.servers.ports import HOST, free_port
from tests.servers.server import PortTaken, Server, fields
from tests.servers.slots import SLOTS
from tests.servers.started import Started
from tests.servers.waiting import wait_until

__all__ = ["Cluster", "Migration"]

#: Seconds for the nodes to agree.
AGREEMENT = 30.0


class Cluster(Started):
    """Masters with an even share of the slots each. start() returns when every node says cluster_state:ok.

    Each node is given the finished map of the Cluster as its nodes.conf. What remains of the start is the two seconds
    for which a node that was just started refuses writes.
    """

    def __init__(
        self,
        flavour: Flavour = "valkey",
        *,
        masters: int = 3,
        replicas: int = 0,
        password: str | None = None,
        node_timeout: float = 1.5,
    ) -> None:
        """Take what the Cluster is to be; nothing is started yet.

        replicas: of each master. node_timeout: seconds without an answer after which a node is held for dead.
        """
        self.flavour = flavour
        self._masters = masters
        self._replicas = replicas
        self._password = password
        self._node_timeout = node_timeout
        self.nodes: list[Server] = []
        #: For each master's share of the slots, the nodes that it belongs to: the first master and its replicas.
        self._homes: list[list[Server]] = []
        self._ids: dict[Server, str] = {}
        self._moved: set[int] = set()

    def __repr__(self) -> str:
        return f"<Cluster {self.flavour} {self.nodes}>"

    @property
    def hosts(self) -> dict[str, Any]:
        """The Cluster as the layer's `hosts`."""
        options: dict[str, Any] = {"cluster": True, "hosts": [node.address for node in self.nodes]}
        if self._password is not None:
            options["password"] = self._password
        return options

    def start(self) -> None:
        if self.nodes:
            raise RuntimeError(f"{self!r} was started before")
        for _ in range(10):
            try:
                self._build()
                self._wait_whole()
            except PortTaken:
                self.stop()
            except BaseException:
                self.stop()
                raise
            else:
                return
        raise PortTaken("ten times in a row a port of a cluster was taken")

    def stop(self) -> None:
        """End all nodes at once, by SIGKILL."""
        for node in self.nodes:
            node.kill()

    def _build(self) -> None:
        count = self._masters * (1 + self._replicas)
        addresses = [(free_port(), free_port()) for _ in range(count)]
        self.nodes = [
            Server(
                self.flavour,
                port=port,
                password=self._password,
                config={
                    "cluster-enabled": "yes",
                    "cluster-port": str(bus),
                    "cluster-node-timeout": str(round(self._node_timeout * 1000)),
                    # A replica whose link was down for longer than this many node-timeouts would not take over.
                    "cluster-replica-validity-factor": "0",
                    "cluster-allow-replica-migration": "no",
                    "repl-ping-replica-period": "1",
                },
            )
            for port, bus in addresses
        ]
        self._ids = {node: secrets.token_hex(20) for node in self.nodes}
        self._homes = [self.nodes[number :: self._masters] for number in range(self._masters)]
        for node in self.nodes:
            (node.directory / "nodes.conf").write_text("\n".join(self._map(node, addresses)) + "\n")
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()

    def _map(self, reader: Server, addresses: list[tuple[int, int]]) -> Iterator[str]:
        """Yield the lines of a node's nodes.conf: the answer of CLUSTER NODES, and the epochs."""
        for number, (node, (port, bus)) in enumerate(zip(self.nodes, addresses, strict=True)):
            share = number % self._masters
            flags = ["myself"] if node is reader else []
            if number < self._masters:
                first, last = (SLOTS * edge // self._masters for edge in (share, share + 1))
                role, leader, slots = "master", "-", f" {first}-{last - 1}"
            else:
                role, leader, slots = "slave", self._ids[self.nodes[share]], ""
            # Without it, Valkey's node knows no shard of its own, and dies of an assertion at its first SPUBLISH. Redis
            # before 7.2 knows no such field.
            shard = f",,shard-id={self._ids[self.nodes[share]]}" if self.flavour == "valkey" else ""
            yield (
                f"{self._ids[node]} {HOST}:{port}@{bus}{shard} {','.join([*flags, role])} {leader} "
                f"0 0 {share + 1} connected{slots}"
            )
        yield f"vars currentEpoch {self._masters} lastVoteEpoch 0"

    # What they say

    @property
    def living(self) -> list[Server]:
        return [node for node in self.nodes if node.running]

    def node_id(self, node: Server) -> str:
        return self._ids[node]

    def masters(self) -> list[Server]:
        """Return the living nodes that hold slots or could, as they say themselves."""
        return [node for node in self.living if node.command("ROLE")[0] == b"master"]

    def replicas(self) -> list[Server]:
        return [node for node in self.living if node.command("ROLE")[0] == b"slave"]

    def owner_of(self, slot: int) -> Server:
        """Return the node that serves the slot, once all that live name the same one."""
        wait_until(lambda: len(self._views(slot)) == 1, within=AGREEMENT, what=f"{self!r} agrees on slot {slot}")
        (address,) = self._views(slot)
        return next(node for node in self.nodes if node.address == address)

    def _views(self, slot: int) -> set[tuple[str, int] | None]:
        """Return the owners of the slot that the living nodes name; None where one names none."""
        return {_named_by(node, slot) for node in self.living}

    def _is_whole(self) -> bool:
        for node in self.nodes:
            with node.connect() as wire:
                info = fields(wire.command("CLUSTER", "INFO"))
                lines = wire.command("CLUSTER", "NODES").decode().splitlines()
                role = wire.command("ROLE")
            if info["cluster_state"] != "ok" or int(info["cluster_known_nodes"]) != len(self.nodes):
                return False
            if any("fail" in line.split()[2] or line.split()[7] != "connected" for line in lines):
                return False
            if role[0] == b"slave" and role[3] != b"connected":
                return False
        return len(self.replicas()) == self._masters * self._replicas

    def _wait_whole(self) -> None:
        wait_until(self._is_whole, within=AGREEMENT, what=f"{self!r} is whole")

    # What befalls them

    @property
    def has_atomic_migration(self) -> bool:
        """Whether the nodes know CLUSTER MIGRATESLOTS: Valkey 9 does."""
        return any(b"MIGRATESLOTS" in line.upper() for line in self.living[0].command("CLUSTER", "HELP"))

    def migration(self, slot: int, target: Server) -> Migration:
        """Return a move of the slot to another master that is carried out step by step."""
        self._moved.add(slot)
        return Migration(
            slot=slot,
            source=self.owner_of(slot),
            target=target,
            ids=self._ids,
            masters=self.masters(),
            password=self._password,
        )

    def migrate_slot(self, slot: int, target: Server, *, atomic: bool = False) -> None:
        """Move a slot and its keys to another master; return when every living node names it.

        atomic: with Valkey 9's CLUSTER MIGRATESLOTS, which needs `has_atomic_migration`; else key by key.
        """
        source = self.owner_of(slot)
        if source is target:
            return
        if atomic:
            self._moved.add(slot)
            migrate_atomically(slot, source, self._ids[target])
        else:
            migration = self.migration(slot, target)
            migration.begin()
            migration.move_keys()
            migration.finish()
        wait_until(
            lambda: self._views(slot) == {target.address},
            within=AGREEMENT,
            what=f"every node of {self!r} names {target!r} for slot {slot}",
        )

    def kill_master(self, slot: int) -> Server:
        """End the slot's owner by SIGKILL. Return the replica that took over, when every living node names it."""
        if not self._replicas:
            raise RuntimeError("no replica can take over: make it as Cluster(replicas=1)")
        self._wait_whole()
        old = self.owner_of(slot)
        old.kill()

        def taken_over() -> bool:
            views = self._views(slot)
            return len(views) == 1 and not views & {None, old.address} and all(map(_is_ok, self.living))

        wait_until(taken_over, within=AGREEMENT, what=f"a replica takes over slot {slot} from {old!r}")
        return self.owner_of(slot)

    def heal(self) -> None:
        """Start and resume what is down, move the moved slots home, and return when every node says that all is well.

        After a failover the roles stay as they are: a slot is home with any node of its first master's group.
        """
        for node in self.nodes:
            node.resume()
            node.start()
        self._wait_whole()
        for slot in sorted(self._moved):
            for master in self.masters():
                master.command("CLUSTER", "SETSLOT", slot, "STABLE")
            home = next(group for share, group in enumerate(self._homes) if slot < SLOTS * (share + 1) // self._masters)
            if self.owner_of(slot) not in home:
                self.migrate_slot(slot, next(node for node in self.masters() if node in home))
        self._moved.clear()


def _named_by(node: Server, slot: int) -> tuple[str, int] | None:
    for first, last, (host, port, *_), *_ in node.command("CLUSTER", "SLOTS"):
        if first <= slot <= last:
            return host.decode(), port
    return None


def _is_ok(node: Server) -> bool:
    return fields(node.command("CLUSTER", "INFO"))["cluster_state"] == "ok"

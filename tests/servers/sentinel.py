"""A master, its replica, and three sentinels that watch them."""

import contextlib
import secrets
from typing import Any

from tests.servers.binaries import Flavour
from tests.servers.ports import HOST, free_port
from tests.servers.server import PortTaken, Server
from tests.servers.started import Started
from tests.servers.waiting import wait_until
from tests.servers.wire import ServerError

__all__ = ["SentinelGroup"]

#: Milliseconds. By default a sentinel asks and tells the others every one, two and ten seconds. A sentinel whose own
#: process stood still for two seconds would hold back for thirty: a busy test machine does that.
#: A sentinel that was not told yet who was promoted turns a promoted replica back after four publish-periods; the
#: leader, which tells the others, sees the promotion after up to one second. Hence no less than this.
PACE = {
    "info-period": 200,
    "ping-period": 200,
    "ask-period": 200,
    "publish-period": 500,
    "tilt-trigger": 10000,
    "tilt-period": 1000,
}

#: Seconds for the group to agree on a new master, or to be whole.
AGREEMENT = 30.0


class SentinelGroup(Started):
    """Five processes. start() returns when the sentinels know one another and the replica is in sync.

    The sentinels are told of one another in their configuration: found out by themselves, it would take seconds.
    """

    def __init__(
        self,
        flavour: Flavour = "valkey",
        *,
        service: str = "sealane",
        password: str | None = None,
        sentinel_password: str | None = None,
        down_after: float = 1.0,
        appendonly: bool = False,
    ) -> None:
        """Take what the group is to be; nothing is started yet.

        password: of the master and the replica. sentinel_password: of the sentinels.
        down_after: seconds without an answer after which a sentinel holds a server for dead.
        """
        self.flavour = flavour
        self.service = service
        self._password = password
        self._sentinel_password = sentinel_password
        self._down_after = down_after
        self._appendonly = appendonly
        self.data_nodes: list[Server] = []
        self.sentinels: list[Server] = []

    def __repr__(self) -> str:
        return f"<SentinelGroup {self.flavour} {self.service!r} {self.data_nodes} {self.sentinels}>"

    @property
    def hosts(self) -> dict[str, Any]:
        """The group as one of the layer's `hosts`."""
        options: dict[str, Any] = {"sentinels": [node.address for node in self.sentinels], "master_name": self.service}
        if self._password is not None:
            options["password"] = self._password
        if self._sentinel_password is not None:
            options["sentinel_kwargs"] = {"password": self._sentinel_password}
        return options

    def start(self) -> None:
        if self.data_nodes:
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
        raise PortTaken("ten times in a row a port of a sentinel group was taken")

    def stop(self) -> None:
        """End all five at once, by SIGKILL."""
        for node in [*self.sentinels, *self.data_nodes]:
            node.kill()

    def _build(self) -> None:
        ports = [free_port() for _ in range(5)]
        master_port, replica_port, *sentinel_ports = ports
        ids = [secrets.token_hex(20) for _ in sentinel_ports]
        replication = {"repl-ping-replica-period": "1"}
        self.data_nodes = [
            Server(
                self.flavour,
                port=port,
                password=self._password,
                appendonly=self._appendonly,
                config=replication | more,
            )
            for port, more in ((master_port, {}), (replica_port, {"replicaof": f"{HOST} {master_port}"}))
        ]
        self.sentinels = []
        for number, port in enumerate(sentinel_ports):
            name = self.service
            lines = [
                f"sentinel myid {ids[number]}",
                f"sentinel monitor {name} {HOST} {master_port} 2",
                f"sentinel down-after-milliseconds {name} {round(self._down_after * 1000)}",
                # A failed election is tried again after twice this time.
                f"sentinel failover-timeout {name} 3000",
                f"sentinel known-replica {name} {HOST} {replica_port}",
            ]
            lines += [
                f"sentinel known-sentinel {name} {HOST} {other_port} {other_id}"
                for other_port, other_id in zip(sentinel_ports, ids, strict=True)
                if other_port != port
            ]
            if self._password is not None:
                lines.append(f"sentinel auth-pass {name} {self._password}")
            if self._sentinel_password is not None:
                lines.append(f"sentinel sentinel-pass {self._sentinel_password}")
            self.sentinels.append(
                Server(self.flavour, port=port, password=self._sentinel_password, lines=lines, sentinel=True)
            )
        for node in [*self.data_nodes, *self.sentinels]:
            node.launch()
        for node in [*self.data_nodes, *self.sentinels]:
            node.wait_ready()
        for sentinel in self.sentinels:
            self._quicken(sentinel)

    def _quicken(self, sentinel: Server) -> None:
        sentinel.command("SENTINEL", "DEBUG", *(part for pair in PACE.items() for part in pair))

    # What they say

    def master_address(self) -> tuple[str, int]:
        """Return the master's address as the first sentinel that runs has it."""
        for sentinel in self.sentinels:
            if sentinel.running:
                return self._named_by(sentinel)
        raise RuntimeError(f"no sentinel runs in {self!r}")

    def _named_by(self, sentinel: Server) -> tuple[str, int]:
        host, port = sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return host.decode(), int(port)

    def master(self) -> Server:
        """Return the server that the sentinels name now."""
        address = self.master_address()
        return next(node for node in self.data_nodes if node.address == address)

    def replica(self) -> Server:
        """Return the other server, whether it runs or not."""
        master = self.master()
        return next(node for node in self.data_nodes if node is not master)

    def _agreed_on(self, master: Server) -> bool:
        """Whether each sentinel that runs names this master, and it says so itself."""
        living = [sentinel for sentinel in self.sentinels if sentinel.running]
        return all(self._named_by(sentinel) == master.address for sentinel in living) and _role(master) == b"master"

    def _is_whole(self) -> bool:
        master = self.master()
        if not self._agreed_on(master) or not _in_sync(self.replica()):
            return False
        return all(self._is_content(sentinel, master) for sentinel in self.sentinels)

    def _is_content(self, sentinel: Server, master: Server) -> bool:
        """Whether this sentinel sees all five, none of them down, and no failover under way."""
        with sentinel.connect() as wire:
            seen = _pairs(wire.command("SENTINEL", "MASTER", self.service))
            replicas = [_pairs(reply) for reply in wire.command("SENTINEL", "REPLICAS", self.service)]
            others = [_pairs(reply) for reply in wire.command("SENTINEL", "SENTINELS", self.service)]
        return (
            seen["flags"] == "master"
            and len(replicas) == 1
            and replicas[0]["flags"] == "slave"
            and replicas[0]["master-link-status"] == "ok"
            and replicas[0]["master-port"] == str(master.port)
            and len(others) == len(self.sentinels) - 1
            # master_down is what that one last said of the master, and stays until it is asked again.
            and not any("s_down" in other["flags"] or "disconnected" in other["flags"] for other in others)
        )

    def _wait_whole(self) -> None:
        wait_until(self._is_whole, within=AGREEMENT, what=f"{self!r} is whole")

    # What befalls them

    def failover(self) -> Server:
        """Let the sentinels make the replica the master. Return it when each sentinel names it and it says so.

        The old master is told two seconds later, as it happens in earnest: until then it takes writes, which are lost
        then. ``heal`` waits for the end of that.
        """
        self._wait_whole()
        old, new = self.master(), self.replica()

        def taken_over() -> bool:
            if self.master() is new:
                return self._agreed_on(new)
            # Refused while the sentinel is busy with the last failover, and while this one is under way.
            with contextlib.suppress(ServerError):
                self.sentinels[0].command("SENTINEL", "FAILOVER", self.service)
            return False

        wait_until(taken_over, within=AGREEMENT, what=f"{new!r} takes over from {old!r}")
        return new

    def kill_master(self) -> Server:
        """End the master by SIGKILL. Return the new one when each sentinel names it; the old one stays down."""
        self._wait_whole()
        old, new = self.master(), self.replica()
        old.kill()
        wait_until(lambda: self._agreed_on(new), within=AGREEMENT, what=f"{new!r} takes over from {old!r}")
        return new

    def heal(self) -> None:
        """Start and resume what is down, and return when the group is whole. The master may be another than before."""
        for node in [*self.data_nodes, *self.sentinels]:
            node.resume()
            if not node.running:
                node.start()
                if node in self.sentinels:
                    self._quicken(node)
        self._wait_whole()


def _role(server: Server) -> bytes:
    role: bytes = server.command("ROLE")[0]
    return role


def _in_sync(server: Server) -> bool:
    role = server.command("ROLE")
    return bool(role[0] == b"slave" and role[3] == b"connected")


def _pairs(reply: list[bytes]) -> dict[str, str]:
    """Read a flat list of names and values."""
    texts = [item.decode() for item in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))

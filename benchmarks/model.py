"""A model on paper, fitted to a run: what a site needs that is far larger than the machine of the run.

`python -m benchmarks.model RESULTS.json` prints it. Every figure is a sum of products of measured costs and of what is
assumed of the site; nothing here was measured at that size.
"""

import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["LAYERS", "SITE", "Costs", "Line", "MissingRow", "Need", "Site", "fit", "needs"]

LAYERS = {"streams": "sealane-streams", "pubsub": "sealane-pubsub"}


class MissingRow(Exception):
    """A run has not measured what the model is fitted to."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """What is assumed. Rates are per second."""

    sockets: int = 1_000_000
    processes: int = 200
    #: Members of a room; each socket is in one, wherever its process is, and has a group of its own.
    room: int = 50
    #: Messages that each room gets.
    room_rate: float = 0.1
    #: How much of a core may be busy before queues form.
    utilization: float = 0.5
    #: Seconds between two refreshes of a lease (a fifth of the option `lease`), and the commands of one.
    refresh: float = 3.0
    refresh_commands: int = 8
    #: Bytes of a process before its first socket.
    base: int = 60 * 1024 * 1024
    #: Connections of a process to each shard.
    connections: int = 2

    @property
    def sockets_each(self) -> float:
        """Sockets of one process."""
        return self.sockets / self.processes

    @property
    def rooms(self) -> float:
        """Rooms altogether."""
        return self.sockets / self.room

    @property
    def sends(self) -> float:
        """Messages to rooms in a second."""
        return self.rooms * self.room_rate

    @property
    def spread(self) -> float:
        """Processes that have a member of one room, on the average, where members are anywhere."""
        return self.processes * (1 - (1 - 1 / self.processes) ** self.room)


SITE = Site()


@dataclasses.dataclass(frozen=True)
class Line:
    """A cost that grows evenly: `at(x)` is `fixed + each * x`."""

    fixed: float
    each: float

    def at(self, count: float) -> float:
        """Return the cost for a count."""
        return self.fixed + self.each * count

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> "Line":
        """Return the line of least squares. A cost cannot fall with what it is for: the slope is at least 0."""
        xs, ys = zip(*points, strict=True)
        mean_x, mean_y = statistics.mean(xs), statistics.mean(ys)
        over = sum((x - mean_x) * (y - mean_y) for x, y in points)
        each = max(0.0, over / sum((x - mean_x) ** 2 for x in xs))
        return cls(mean_y - each * mean_x, each)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Costs:
    """What one run says of one layer. Times are processor time in seconds, sizes are bytes."""

    #: Of a `group_send`, by processes with a member: commands, bytes into Redis and out of it, Redis's time.
    commands: Line
    bytes_in: Line
    bytes_out: Line
    redis: Line
    #: Redis's time for a process that reads a message.
    read: float
    #: Of who sends one message.
    send: float
    #: Of a process that gets one, and for each frame that it makes of it.
    arrival: float
    delivery: float
    #: Of an idle WebSocket of which a handler has waited, its membership in a room, and its own group.
    socket: float
    membership: float
    own_group: float
    #: Of Redis for a group, for each process that has a member.
    group: float


def fit(data: Mapping[str, Any], layer: str) -> Costs:
    """Fit the costs of a layer to the results of a run. Raises MissingRow."""
    side = LAYERS[layer]
    rows = {row["name"]: row["sides"] for row in data["rows"]}

    def figures(row: str) -> list[dict[str, float]]:
        try:
            taken: list[dict[str, float]] = rows[row][side]
        except KeyError:
            raise MissingRow(f"the run has no figures of {side} in the row {row}") from None
        return taken

    def median(row: str) -> float:
        return statistics.median(figure["value"] for figure in figures(row))

    def share(row: str, who: str) -> float:
        return statistics.median(figure[who] for figure in figures(row))

    def spent(row: str, who: str) -> float:
        """Return the processor time of one call, in seconds."""
        return median(row) * share(row, who) * 1e-6

    def growth(name: str, *, of_store: bool = False) -> Line:
        points = []
        for processes in data["sizes"]["processes"]:
            row = f"{name}-{processes}-{layer}"
            if row in rows:
                points.append((processes, spent(row, "store") if of_store else median(row)))
        if len(points) < 2:
            raise MissingRow(f"the run has not two rows {name}-...-{layer}")
        return Line.through(points)

    if "grown" not in data["sizes"]:
        raise MissingRow("the run is of a time when sockets did not grow")
    sockets = max(count for count in data["sizes"]["grown"] if count <= 1_000)
    busy = f"redis-sockets-{sockets}-{layer}"
    delivery = share(busy, "server") / median(busy)
    redis = growth("redis-processes", of_store=True)
    # A call whose receivers stand still, and one whose receiver is in the same process, and reads it.
    one = f"redis-processes-{data['sizes']['processes'][0]}-{layer}"
    both = f"redis-groups-{data['sizes']['groups'][0]}-{layer}"
    return Costs(
        commands=growth("redis-commands"),
        bytes_in=growth("redis-bytes"),
        bytes_out=growth("redis-bytes-out"),
        redis=redis,
        read=max(0.0, spent(both, "store") - spent(one, "store")),
        send=spent(one, "server"),
        arrival=max(0.0, spent(both, "server") - spent(one, "server")),
        delivery=delivery,
        socket=median(f"footprint-idle-{layer}") + max(0.0, median(f"footprint-wait-{layer}")),
        membership=max(0.0, median(f"footprint-groups-{layer}")),
        own_group=max(0.0, median(f"footprint-channel-{layer}")),
        group=max(0.0, median(f"footprint-channel-redis-{layer}")),
    )


@dataclasses.dataclass(frozen=True)
class Need:
    """One line of the model: what is needed, how much, in which unit, and what that rests on."""

    name: str
    value: float
    unit: str
    basis: str


def needs(costs: Costs, site: Site = SITE) -> list[Need]:
    """Return what a site needs with a layer, and where it ends."""
    redis_each = costs.redis.at(site.spread) + costs.read * site.spread
    refreshes = site.processes / site.refresh
    redis_cores = site.sends * redis_each
    shards = max(1, math.ceil(redis_cores / site.utilization))
    arrivals = site.sends * site.spread
    deliveries = site.sends * site.room
    cores = site.sends * costs.send + arrivals * costs.arrival + deliveries * costs.delivery
    process = site.base + site.sockets_each * (costs.socket + costs.membership + costs.own_group)
    groups = site.rooms * site.spread + site.sockets
    everywhere = costs.redis.at(site.processes) + costs.read * site.processes
    to_all = costs.arrival + site.sockets_each * costs.delivery
    return [
        Need("processes with a member of a room", site.spread, "", "members are in any process, independently"),
        Need("messages to rooms", site.sends, "/s", "assumed: rooms times their rate"),
        Need("frames to clients", deliveries, "/s", "messages times members"),
        Need(
            "Redis commands",
            site.sends * costs.commands.at(site.spread) + refreshes * shards * site.refresh_commands,
            "/s",
            "commands by processes, one message at a time: batches make them fewer; and the leases",
        ),
        Need("bytes into Redis", site.sends * costs.bytes_in.at(site.spread), "B/s", "bytes by processes, 64 of text"),
        Need("bytes out of Redis", site.sends * costs.bytes_out.at(site.spread), "B/s", "bytes by processes"),
        Need("cores of Redis", redis_cores, "", "its processor time of a call by processes, and of a reader each"),
        Need("shards of a Cluster", shards, "", f"{site.utilization:.0%} of a core each; rooms spread evenly"),
        Need("connections of a shard", site.processes * site.connections, "", "two of each process"),
        Need("memory of Redis for groups", groups * costs.group, "B", "a group by processes with a member of it"),
        Need("cores of the processes", cores, "", "a send, an arrival in a process, a frame, each as measured"),
        Need("share of a core of each process", cores / site.processes, "", "the same, over all processes"),
        Need(
            "memory of a process",
            process,
            "B",
            f"{site.base // 2**20} MiB; a socket, its membership, a group of its own",
        ),
        Need("memory of all processes", process * site.processes, "B", "the same, times the processes"),
        Need("messages to one group that all are in", 1 / to_all, "/s", "one core of a process, for its own sockets"),
        Need(
            "messages to one group that all processes are in",
            1 / everywhere,
            "/s",
            "one core of the shard of the group: a Cluster does not divide a group",
        ),
        Need("time of a shard for one such message", everywhere, "s", "what every other call on the shard waits"),
    ]


def main(path: str) -> None:
    """Print the model fitted to a results file."""
    data = json.loads(Path(path).read_text())
    for layer in LAYERS:
        costs = fit(data, layer)
        print(f"{layer}: {costs}")
        for need in needs(costs):
            print(f"  {need.name}: {need.value:,.6g} {need.unit} ({need.basis})")


if __name__ == "__main__":
    main(sys.argv[1])

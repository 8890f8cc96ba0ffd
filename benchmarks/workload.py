"""What a sample does, and how much: the names, payload and sizes that every process agrees on."""

import dataclasses
import itertools
import json
from typing import Any

__all__ = ["CAPACITY", "FULL", "GROUP", "QUICK", "SIDES", "TEXT", "WORKLOADS", "Sizes", "Workload", "groups_to_join"]

#: In the order in which they have their first turn: those that bars compare are neighbours.
SIDES = ("channels", "limit", "sealane")

#: The sides of the Redis rows: one limit for both kinds of layer, or one for each, or none.
_REDIS_LAYERS = ("channels-core", "channels-pubsub", "sealane-streams", "sealane-pubsub")
_ONE_LIMIT = ("channels-core", "channels-pubsub", "limit", "sealane-streams", "sealane-pubsub")
#: Without Channels in memory: each of its sockets looks at all others' channels, so that 10,000 take ten minutes.
_NEARLY_ALL = ("limit", "sealane", *_REDIS_LAYERS)
_TWO_LIMITS = (
    "channels-core",
    "channels-pubsub",
    "limit-streams",
    "sealane-streams",
    "limit-pubsub",
    "sealane-pubsub",
)

#: What is echoed and broadcast: 64 bytes of text, the same for every side.
TEXT = "sealane " * 8

#: What is sent to in the Redis rows.
GROUP = "everyone"

#: Messages that may wait on a channel: so many that neither side drops one, whatever the window.
CAPACITY = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How long and how much a sample measures. Times are in seconds."""

    seconds: float
    warm_up: float
    #: Turns of each side in a round, where the processes can have more than one.
    turns: int
    #: Connections of the echo.
    connections: int
    #: Members of the group that is broadcast to, and connections opened to count what they cost.
    sockets: int
    #: Sockets opened before the cost of one is measured, so that what is paid once is paid.
    first_sockets: int
    #: Sockets opened in a turn, to see how fast that is.
    arrivals: int
    #: Broadcasts on their way at once in the variant with a window.
    window: int
    #: Messages sent at once, before any has arrived.
    batch: int
    #: Unrelated group members beside the channel that is received from.
    members: tuple[int, ...]
    #: The same two for the Redis rows, whose samples are more and shorter.
    redis_seconds: float
    redis_warm_up: float
    #: Tasks that send at the same time.
    senders: int
    #: Processes with a member of the group that is sent to.
    processes: tuple[int, ...]
    #: Groups that are not sent to.
    groups: tuple[int, ...]
    #: Calls whose commands and bytes are counted.
    counted: int
    #: Connections whose memory is measured, and groups that each of them joins beside others.
    many: int
    memberships: int
    #: Sockets of one group in one process.
    grown: tuple[int, ...]
    #: Sockets that get a message of the latency rows, the loads in percent of the capacity, and for how long.
    listeners: int
    loads: tuple[int, ...]
    load_seconds: float
    #: Messages on their way while the capacity is measured.
    load_window: int

    def dump(self) -> str:
        """Return the sizes as JSON, for a process that is started with them."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def load(cls, text: str) -> "Sizes":
        """Read what `dump` wrote."""
        fields: dict[str, Any] = json.loads(text)
        for name, value in fields.items():
            if isinstance(value, list):
                fields[name] = tuple(value)
        return cls(**fields)


FULL = Sizes(
    seconds=0.3,
    warm_up=0.5,
    turns=8,
    connections=50,
    sockets=1_000,
    first_sockets=100,
    arrivals=250,
    window=10,
    batch=10,
    members=(0, 100, 5_000, 100_000),
    redis_seconds=0.3,
    redis_warm_up=0.3,
    senders=50,
    processes=(1, 2, 4, 8, 16),
    groups=(0, 100, 10_000, 100_000),
    counted=50,
    many=10_000,
    memberships=1,
    grown=(100, 1_000, 10_000),
    listeners=20,
    loads=(25, 50, 75, 90),
    load_seconds=2.5,
    load_window=100,
)

#: For a smoke run: it shows that every row measures, and its figures mean nothing.
QUICK = Sizes(
    seconds=0.05,
    warm_up=0.02,
    turns=2,
    connections=5,
    sockets=20,
    first_sockets=5,
    arrivals=5,
    window=10,
    batch=10,
    members=(0, 100, 200, 500),
    redis_seconds=0.05,
    redis_warm_up=0.02,
    senders=5,
    processes=(1, 2),
    groups=(0, 10, 100),
    counted=5,
    many=20,
    memberships=1,
    grown=(5, 20),
    listeners=5,
    loads=(25, 50, 75, 90),
    load_seconds=0.05,
    load_window=10,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """One thing to measure, in fresh processes for each round.

    `served` tells whether it needs a server and a load client, or one process that does it all. `layer` tells
    whether the consumers have a channel layer, `redis` whether that goes through Redis. `turned` tells whether the
    processes of a round have several turns. `most_rounds` is for what takes long and counts more than it times.
    `sender` tells whether another process sends.
    """

    name: str
    served: bool
    layer: bool
    redis: bool = False
    sides: tuple[str, ...] = SIDES
    turned: bool = True
    most_rounds: int | None = None
    sender: bool = False

    def stored(self, side: str) -> bool:
        """Tell whether a side has a Redis server. The limit of a broadcast and of a fan-out has none between."""
        return self.redis and "-" in side


_made = itertools.count()


def groups_to_join(command: str | None) -> list[str]:
    """Return the groups that a consumer of the footprint joins: some that others are in, or one of its own."""
    if command == "groups":
        return [f"shared-{number}" for number in range(FULL.memberships)]
    return [f"own-{next(_made)}"] if command == "channel" else []


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(name="dispatch", served=False, layer=False),
        Workload(name="ping-pong", served=False, layer=True),
        Workload(name="echo", served=True, layer=False),
        Workload(name="echo-layer", served=True, layer=True),
        Workload(name="broadcast", served=True, layer=True),
        Workload(name="connect", served=True, layer=True),
        Workload(name="receive", served=False, layer=True),
        Workload(name="redis-broadcast", served=True, layer=True, redis=True, sides=_ONE_LIMIT),
        Workload(name="redis-fanout", served=False, layer=True, redis=True, sides=_ONE_LIMIT),
        Workload(name="redis-send", served=False, layer=True, redis=True, sides=_TWO_LIMITS),
        Workload(name="redis-trip", served=False, layer=True, redis=True, sides=_TWO_LIMITS),
        Workload(name="redis-sync", served=False, layer=True, redis=True, sides=_TWO_LIMITS),
        Workload(
            name="redis-processes", served=False, layer=True, redis=True, sides=_TWO_LIMITS, turned=False, most_rounds=3
        ),
        Workload(name="redis-groups", served=False, layer=True, redis=True, sides=_REDIS_LAYERS, most_rounds=3),
        Workload(
            name="redis-sockets", served=True, layer=True, redis=True, sides=_ONE_LIMIT, turned=False, most_rounds=3
        ),
        Workload(name="latency", served=True, layer=True, redis=True, sides=_REDIS_LAYERS, turned=False, sender=True),
        Workload(name="footprint", served=True, layer=True, redis=True, sides=_NEARLY_ALL, turned=False, most_rounds=2),
    )
}

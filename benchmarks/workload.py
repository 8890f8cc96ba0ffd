"""What a sample does, and how much: the names, payload and sizes that every process agrees on."""

import dataclasses
import json

__all__ = ["CAPACITY", "FULL", "QUICK", "TEXT", "WORKLOADS", "Sizes", "Workload"]

#: What is echoed and broadcast: 64 bytes of text, the same for every side.
TEXT = "sealane " * 8

#: Messages that may wait on a channel: so many that neither side drops one, whatever the window.
CAPACITY = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How long and how much a sample measures. Times are in seconds."""

    seconds: float
    warm_up: float
    #: Connections of the echo.
    connections: int
    #: Members of the group that is broadcast to, and connections opened to count what they cost.
    sockets: int
    #: Sockets opened before the cost of one is measured, so that what is paid once is paid.
    first_sockets: int
    #: Broadcasts on their way at once in the variant with a window.
    window: int
    #: Unrelated group members beside the channel that is received from.
    members: tuple[int, ...]

    def dump(self) -> str:
        """Return the sizes as JSON, for a process that is started with them."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def load(cls, text: str) -> "Sizes":
        """Read what `dump` wrote."""
        fields = json.loads(text)
        fields["members"] = tuple(fields["members"])
        return cls(**fields)


FULL = Sizes(
    seconds=1.5,
    warm_up=0.5,
    connections=50,
    sockets=1_000,
    first_sockets=100,
    window=10,
    members=(0, 100, 5_000, 100_000),
)

#: For a smoke run: it shows that every row measures, and its figures mean nothing.
QUICK = Sizes(
    seconds=0.05,
    warm_up=0.02,
    connections=5,
    sockets=20,
    first_sockets=5,
    window=10,
    members=(0, 100, 200, 500),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """One thing to measure, in fresh processes for each sample.

    `served` tells whether it needs a server and a load client, or one process that does it all. `layer` tells
    whether the consumers have a channel layer.
    """

    name: str
    served: bool
    layer: bool


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
    )
}

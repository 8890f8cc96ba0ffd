"""One measurement of one side: its figures, and what tells whether they can be trusted."""

import dataclasses
import json

__all__ = ["DISTURBED", "Figure", "Sample"]

#: More of the machine than this, used by others meanwhile, makes a figure doubtful.
DISTURBED = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One value, in the unit of the row that shows it, and who used the processor meanwhile.

    `client`, `server` and `store` (the Redis server) are shares of one core, `others` is a share of the whole
    machine. Where one process does it all, it is the server.
    """

    value: float
    client: float = 0.0
    server: float = 0.0
    store: float = 0.0
    others: float = 0.0


@dataclasses.dataclass(kw_only=True)
class Sample:
    """What one set of fresh processes measured: figures by name.

    `messages` is how many were sent, and have arrived, all of them: a sample that misses one fails instead.
    """

    figures: dict[str, Figure] = dataclasses.field(default_factory=dict)
    messages: int = 0

    def dump(self) -> str:
        """Return the sample as one line of JSON, for the process that asked for it."""
        return json.dumps(dataclasses.asdict(self))

    def disturbance(self) -> float:
        """Return how much of the machine others used, at the worst."""
        return max((figure.others for figure in self.figures.values()), default=0.0)

    @classmethod
    def load(cls, text: str) -> "Sample":
        """Read what `dump` wrote."""
        fields = json.loads(text)
        figures = {name: Figure(**figure) for name, figure in fields["figures"].items()}
        return cls(figures=figures, messages=fields["messages"])

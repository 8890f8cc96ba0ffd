"""When a gap is told, and how often."""

from sealane.layers.gap import Gap
from sealane.layers.redis.losses import Losses

NEVER = float("-inf")


class Branch:
    """What has losses, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 10.0
        self.told: list[Gap] = []
        self.losses = Losses(self.told.append, clock=lambda: self.now)


def test_what_two_calls_find_at_once_is_told_once() -> None:
    branch = Branch()
    losses = branch.losses
    losses.find("rewound", 1.0)
    losses.find("forgotten", 2.0)
    losses.find("rewound", 3.0)
    assert losses.known
    losses.tell(9.0)
    losses.tell(9.0)
    losses.find("rewound", 1.0)
    losses.tell(9.5)
    assert branch.told == [Gap("forgotten", None, 2.0)]
    assert not losses.known


def test_what_a_later_call_finds_is_told_too() -> None:
    branch = Branch()
    for asked in (9.0, 11.0):
        branch.losses.find("rewound", 1.0)
        branch.losses.tell(asked)
    assert len(branch.told) == 2


def test_a_doubt_is_decided_when_all_has_been_read() -> None:
    branch = Branch()
    losses = branch.losses
    losses.doubt(7, 9.0, 1.0)
    assert losses.settle(6, NEVER) is None
    assert losses.in_doubt
    assert losses.settle(7, NEVER) == 9.0
    assert not losses.in_doubt
    losses.tell(9.0)
    assert branch.told == [Gap("rewound", None, 1.0)]


def test_a_flush_explains_what_was_found_before_it() -> None:
    losses = Branch().losses
    losses.doubt(7, 9.0, 1.0)
    assert losses.settle(8, 9.5) is None
    assert not losses.in_doubt
    assert not losses.known


def test_a_gap_that_is_told_covers_what_was_doubtful() -> None:
    branch = Branch()
    losses = branch.losses
    losses.doubt(7, 9.0, 1.0)
    losses.find("rewound", 1.0)
    losses.tell(9.5)
    assert not losses.in_doubt
    assert len(branch.told) == 1

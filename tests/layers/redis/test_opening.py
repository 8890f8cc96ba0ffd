"""Which scripts a server is given over a new connection."""

import pytest

from sealane.layers.redis.opening import missing
from sealane.layers.redis.script import Script

ONE, TWO, THREE = SCRIPTS = [Script(name, f"return '{name}'") for name in ("one", "two", "three")]


@pytest.mark.parametrize(
    ("reply", "lacking"),
    [
        ([1, 1, 1], []),
        ([1, 0, 1], [TWO]),
        ([0, 0, 0], SCRIPTS),
        # Refused, or not what a server answers.
        (None, SCRIPTS),
        ([], SCRIPTS),
        ([1, 1], SCRIPTS),
        ([1, None, b"1"], [TWO, THREE]),
        (1, SCRIPTS),
        (b"OK", SCRIPTS),
    ],
)
def test_a_server_is_given_what_it_does_not_claim_to_have(reply: object, lacking: list[Script]) -> None:
    assert missing(SCRIPTS, reply) == lacking

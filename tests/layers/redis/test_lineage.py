"""What one server's word tells of its data, beside an earlier word."""

from dataclasses import replace

import pytest

from sealane.layers.redis.lineage import Lineage, Succession

BEFORE = Lineage("h1", "", "p1", "", False)


def test_it_is_read() -> None:
    assert Lineage.of(b"h1,h0,p1,s1,1") == Lineage("h1", "h0", "p1", "s1", True)
    assert Lineage.of(b"h1,%b,p1,,0" % (b"0" * 40)) == BEFORE


def test_a_server_that_does_not_say_is_not_known() -> None:
    assert Lineage.of(b",,,,") is None
    assert Lineage.of(b"h1,,,,") is None


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (BEFORE, Succession.KEPT),
        # Its first replica has come.
        (replace(BEFORE, history="h2"), Succession.KEPT),
        # A replica became the master.
        (Lineage("h2", "h1", "p2", "", False), Succession.REPLACED),
        # One did, and then another one, or this one again.
        (Lineage("h3", "h2", "p3", "", True), Succession.REPLACED),
        (Lineage("h3", "h2", "p1", "", False), Succession.REPLACED),
        # It has read its log, a snapshot, a snapshot of a master that had replicas.
        (Lineage("h2", "", "p2", "", True), Succession.RESTARTED),
        (Lineage("h2", "", "p2", "", False), Succession.REPLACED),
        (Lineage("h2", "h1", "p2", "", True), Succession.REPLACED),
    ],
)
def test_what_follows_a_server(after: Lineage, expected: Succession) -> None:
    assert after.follows(BEFORE, in_cluster=False) is expected


@pytest.mark.parametrize(
    ("shards", "after", "expected"),
    [
        (("s1", "s2"), Lineage("h2", "h0", "p2", "", False), Succession.KEPT),
        (("s1", "s1"), Lineage("h2", "h1", "p2", "", False), Succession.REPLACED),
        (("s1", "s1"), Lineage("h3", "h2", "p3", "", False), Succession.REPLACED),
        (("s1", "s1"), Lineage("h2", "", "p2", "", True), Succession.RESTARTED),
        # A server that knows no shards.
        (("", ""), Lineage("h2", "h1", "p2", "", False), Succession.REPLACED),
        (("", ""), Lineage("h2", "h0", "p2", "", False), Succession.KEPT),
        (("", ""), Lineage("h3", "h2", "p1", "", False), Succession.REPLACED),
    ],
)
def test_what_follows_a_node_of_a_cluster(shards: tuple[str, str], after: Lineage, expected: Succession) -> None:
    before, after = replace(BEFORE, shard=shards[0]), replace(after, shard=shards[1])
    assert after.follows(before, in_cluster=True) is expected

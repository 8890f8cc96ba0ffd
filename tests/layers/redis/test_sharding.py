"""Routing names to shards: every call that must meet another does meet it."""

import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sealane.layers.names import require_valid_channel_name
from sealane.layers.redis.hosts import parse_hosts
from sealane.layers.redis.sharding import Shards, mailbox_of

characters = string.ascii_letters + string.digits + "-_."
plain_names = st.text(characters, min_size=1, max_size=60)
mailboxes = st.text(string.ascii_lowercase + string.digits, min_size=12, max_size=12)
#: Hosts as settings list them, all different.
ports = st.lists(st.integers(1, 65_535), min_size=1, max_size=12, unique=True)


def shards_of(hosts: object) -> Shards:
    return Shards([place.identity for place in parse_hosts(hosts)])


@pytest.mark.untraced
@given(ports=ports, name=plain_names, passwords=st.lists(st.text(characters, max_size=5), min_size=2, max_size=2))
def test_sender_and_receiver_meet(ports: list[int], name: str, passwords: list[str]) -> None:
    sender, receiver = (
        shards_of([{"host": "redis", "port": port, "password": password} for port in ports]) for password in passwords
    )
    assert sender.of_channel(name) == receiver.of_channel(name)
    assert sender.of_group(name) == receiver.of_group(name)
    assert 0 <= sender.of_group(name) < len(sender) == len(ports)


@pytest.mark.untraced
@given(ports=ports, name=plain_names, data=st.data())
def test_the_order_of_hosts_does_not_matter(ports: list[int], name: str, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(ports))
    here = shards_of([("redis", port) for port in ports])
    there = shards_of([f"redis://redis:{port}" for port in shuffled])
    assert ports[here.of_group(name)] == shuffled[there.of_group(name)]
    assert ports[here.of_channel(name)] == shuffled[there.of_channel(name)]


@pytest.mark.untraced
@given(ports=ports, prefix=plain_names, mailbox=mailboxes, tail=st.text(characters, max_size=20))
def test_every_channel_of_a_mailbox_is_where_the_mailbox_is(
    ports: list[int], prefix: str, mailbox: str, tail: str
) -> None:
    assume(len(prefix) + len(mailbox) + len(tail) < 98)
    channel = f"{prefix}.{mailbox}!{tail}"
    assert require_valid_channel_name(channel)
    shards = shards_of([("redis", port) for port in ports])
    assert mailbox_of(channel) == mailbox
    assert shards.of_channel(channel) == shards.of_mailbox(mailbox)
    # receive() is also called with the name up to the "!".
    assert shards.of_channel(f"{prefix}.{mailbox}!") == shards.of_mailbox(mailbox)


@pytest.mark.untraced
@given(ports=ports, name=plain_names)
def test_a_host_more_takes_names_over_and_moves_no_other(ports: list[int], name: str) -> None:
    assume(len(ports) > 1)
    before = shards_of([("redis", port) for port in ports[:-1]])
    after = shards_of([("redis", port) for port in ports])
    if after.of_group(name) != len(ports) - 1:
        assert after.of_group(name) == before.of_group(name)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_host_more_takes_over_its_part_of_the_names(count: int) -> None:
    before = Shards([f"redis:{port}/0" for port in range(6379, 6379 + count)])
    after = Shards([f"redis:{port}/0" for port in range(6379, 6380 + count)])
    names = [f"room.{number}" for number in range(4000)]
    moved = sum(before.of_group(name) != after.of_group(name) for name in names)
    # The deviation of the number is below 32; five of them would be a wonder.
    assert abs(moved - 4000 / (count + 1)) < 160


@pytest.mark.parametrize("count", [2, 3, 8])
def test_names_are_spread_evenly(count: int) -> None:
    shards = Shards([f"host{index}:6379/0" for index in range(count)])
    counts = [0] * count
    for number in range(4000):
        counts[shards.of_channel(f"task.{number}")] += 1
    assert max(counts) - min(counts) < 320


def test_where_names_go_is_part_of_the_format() -> None:
    # Processes of two releases run side by side during a deployment: these numbers never change.
    shards = Shards(["a:6379/0", "b:6379/0", "c:6379/0"])
    assert [shards.of_group(f"room.{number}") for number in range(12)] == [0, 1, 1, 1, 0, 1, 1, 1, 2, 1, 1, 2]
    assert shards.of_channel("specific.abc123def456!xyz") == shards.of_mailbox("abc123def456") == 1


def test_one_shard_has_everything() -> None:
    shards = Shards(["a:6379/0"])
    assert {shards.of_group("g"), shards.of_channel("c"), shards.of_channel("p.m!c"), shards.of_mailbox("m")} == {0}


@pytest.mark.parametrize(
    ("channel", "mailbox"),
    [
        ("plain", None),
        ("with.periods", None),
        ("abc!x", "abc"),
        ("specific.abc!", "abc"),
        ("a.b.c!x.y", "c"),
        ("a.!x", ""),
    ],
)
def test_the_mailbox_of_a_channel(channel: str, mailbox: str | None) -> None:
    assert mailbox_of(channel) == mailbox


def test_identities_must_differ() -> None:
    with pytest.raises(ValueError, match="needs identities that differ, not 'a', 'a'"):
        Shards(["a", "a"])
    with pytest.raises(ValueError, match="at least one"):
        Shards([])


def test_repr() -> None:
    assert repr(Shards(["a:1/0", "b:2/0"])) == "<Shards a:1/0, b:2/0>"

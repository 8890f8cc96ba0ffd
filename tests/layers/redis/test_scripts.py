"""The decisions of the Lua scripts, one by one, on real servers of both flavours."""

from collections.abc import Callable
from typing import Any

import pytest

from sealane.layers.redis.script import Script
from sealane.layers.redis.scripts import STREAM_SCRIPTS as SCRIPTS
from sealane.layers.redis.wire import STAMP, mailbox_id, make_mailbox_id, name_channel, name_held_channel
from tests.layers.redis.shard import EXPIRY, KEPT, LEASE, MAXLEN, Shard
from tests.servers import Server, ServerError


@pytest.fixture
def shard(plain_server: Server, key_prefix: str) -> Shard:
    return Shard(plain_server, key_prefix)


# Mailboxes


def test_entries_are_numbered_without_a_gap(shard: Shard) -> None:
    assert shard.register("m1") == (1, 1, 0)
    assert shard.register("m1") == (1, 0, 0)
    assert [shard.run(SCRIPTS.post, MAXLEN, "m1", "cx", str(number)) for number in range(3)] == [2, 3, 4]
    assert shard.posted("m1") == [(2, "cx", "0"), (3, "cx", "1"), (4, "cx", "2")]
    assert shard.register("m1") == (4, 0, 0)
    assert 0 < shard.call("PTTL", "l:m1") <= LEASE
    assert LEASE < shard.call("PTTL", "m:m1") <= KEPT


def test_nothing_is_posted_to_a_mailbox_that_is_not_there(shard: Shard) -> None:
    assert shard.run(SCRIPTS.post, MAXLEN, "m1", "cx", "0") == 0
    assert shard.call("EXISTS", "l:m1") == shard.call("EXISTS", "m:m1") == 0


def test_numbers_go_on_after_a_lost_lease(shard: Shard) -> None:
    shard.register("m1")
    for _ in range(3):
        shard.run(SCRIPTS.post, MAXLEN, "m1", "cx", "")
    shard.call("DEL", "l:m1")
    assert shard.register("m1", 2, "2-1") == (4, 1, 0)
    shard.call("DEL", "l:m1")
    shard.call("DEL", "m:m1")
    assert shard.register("m1", 4, "4-1") == (4, 1, 0)
    assert shard.run(SCRIPTS.post, MAXLEN, "m1", "cx", "") == 5


def test_keys_of_another_kind_are_replaced(shard: Shard) -> None:
    shard.call("LPUSH", "l:m1", "x")
    shard.call("SET", "m:m1", "x")
    assert shard.register("m1") == (1, 1, 0)
    assert shard.run(SCRIPTS.post, MAXLEN, "m1", "cx", "") == 2


def test_a_server_that_is_behind_is_found_out(shard: Shard) -> None:
    shard.register("m1")
    for number in range(2, 6):
        shard.call("XADD", "m:m1", f"{number}-7", "cx", "")
    shard.call("SET", "l:m1", 5, "PX", LEASE)
    assert shard.register("m1", 5, "5-7") == (5, 0, 0)
    assert shard.register("m1", 5, "5-6") == (5, 0, 1)
    assert shard.register("m1", 9, "9-7") == (5, 0, 1)
    # From now on nothing new gets a number that was read.
    assert shard.register("m1", 9, "9-7") == (9, 0, 1)
    # Where nothing older is left, it was trimmed.
    shard.call("XTRIM", "m:m1", "MINID", "6")
    assert shard.register("m1", 9, "9-7") == (9, 0, 0)


def test_a_spoilt_stream_is_made_anew(shard: Shard) -> None:
    shard.register("m1")
    shard.call("XADD", "m:m1", "*", "what", "ever")
    assert shard.run(SCRIPTS.post, MAXLEN, "m1", "cx", "1") == 2
    assert shard.posted("m1") == [(2, "cx", "1")]
    shard.call("DEL", "m:m1")
    shard.call("SET", "m:m1", "")
    assert shard.run(SCRIPTS.post, MAXLEN, "m1", "cx", "2") == 3
    assert shard.posted("m1") == [(3, "cx", "2")]


def test_a_refresh_keeps_what_lives_and_trims_what_was_read(shard: Shard) -> None:
    shard.register("m1")
    for _ in range(4):
        shard.run(SCRIPTS.post, MAXLEN, "m1", "cx", "")
    shard.call("PEXPIRE", "l:m1", 5000)
    shard.call("RPUSH", "w:jobs", "m1")
    position = shard.call("XRANGE", "m:m1", "-", "+")[2][0]
    number, _, expired = shard.run(SCRIPTS.refresh, "m1", LEASE, KEPT, position, EXPIRY, "jobs", "other")
    assert (number, expired) == (5, 0)
    assert shard.call("PTTL", "l:m1") > 5000
    assert shard.call("PTTL", "w:jobs") > LEASE
    assert [number for number, *_ in shard.posted("m1")] == [4, 5]
    assert shard.run(SCRIPTS.refresh, "gone", LEASE, KEPT, "0-0", EXPIRY)[0] == 0
    assert shard.call("EXISTS", "l:gone") == 0


def test_a_refresh_buries_the_dead(shard: Shard) -> None:
    for mailbox in ("m1", "m2"):
        shard.register(mailbox)
        shard.run(SCRIPTS.join, mailbox, *(f"g{number}" for number in range(300)))
    shard.call("DEL", "l:m2")
    shard.call("ZADD", "r", 0, "m1", 0, "m2")
    for _ in range(4):
        shard.run(SCRIPTS.refresh, "m1", LEASE, KEPT, "0-0", EXPIRY)
    assert shard.call("ZRANGE", "r", 0, -1) == [b"m1"]
    assert shard.call("HGETALL", "g:g7") == [b"mm1", b""]
    assert shard.call("EXISTS", "m:m2") == shard.call("EXISTS", "b:m2") == 0


def test_who_takes_leave_gives_back_what_it_has_not_read(shard: Shard) -> None:
    shard.register("m1")
    shard.own("jobs", "m1")
    shard.run(SCRIPTS.join, "m1", "group")
    for number in range(3):
        shard.send("jobs", str(number))
    shard.group_send("group", "lost")
    position = shard.call("XRANGE", "m:m1", "-", "+")[0][0]
    assert shard.run(SCRIPTS.unregister, MAXLEN, EXPIRY, "m1", position) == [0, 2, 1]
    assert shard.stored("jobs") == ["1", "2"]
    assert shard.call("EXISTS", "g:group") == shard.call("EXISTS", "m:m1") == shard.call("ZCARD", "r") == 0


# Groups


def test_a_group_send_posts_to_every_mailbox_that_lives(shard: Shard) -> None:
    for mailbox in ("m1", "m2", "m3"):
        shard.register(mailbox)
        assert shard.run(SCRIPTS.join, mailbox, "group") == 1
    shard.call("DEL", "l:m2")
    assert shard.group_send("group", "hello", own="m3") == 2
    assert shard.posted("m1") == shard.posted("m3") == [(2, "ggroup", "hello")]
    assert sorted(shard.call("HKEYS", "g:group")) == [b"mm1", b"mm3"]
    assert shard.group_send("group", "hello") == 0
    assert shard.group_send("nobody", "hello") == 0
    assert shard.run(SCRIPTS.join, "m2", "group") == 0
    shard.run(SCRIPTS.leave, "m1", 1, "group")
    assert shard.call("HKEYS", "g:group") == [b"mm3"]


def test_a_group_send_serves_plain_channels(shard: Shard) -> None:
    shard.register("m1")
    for channel, kind, capacity in (("a", "c", 1), ("b", "c", 5), ("far", "r", 1), ("x!1", "c", 1)):
        assert shard.run(SCRIPTS.plain_join, "group", channel, kind, capacity) == 1
    shard.close("x!1", remember=1000)
    assert shard.group_send("group", "1") == [0, 2, 0, 0, 0, [], [b"far"]]
    assert shard.group_send("group", "2") == [0, 2, 1, 0, 0, [b"a"], [b"far"]]
    assert (shard.stored("a"), shard.stored("b")) == (["1"], ["1", "2"])
    assert shard.group_send("group", "3", policy="drop_oldest") == [0, 2, 1, 0, 0, [b"a"], [b"far"]]
    assert shard.stored("a") == ["3"]
    # Another configuration may have the channel on another shard: it is a member once.
    shard.run(SCRIPTS.plain_join, "group", "b", "r", 5)
    assert sorted(shard.call("HKEYS", "g:group")) == [b"ca", b"rb", b"rfar"]
    shard.run(SCRIPTS.plain_leave, "group", "b")
    shard.run(SCRIPTS.leave_all, "far", 0)
    assert shard.call("HKEYS", "g:group") == [b"ca"]
    assert shard.call("EXISTS", "j:far") == 0


def test_a_group_send_serves_mailboxes_and_then_plain_channels(shard: Shard) -> None:
    shard.run(SCRIPTS.plain_join, "group", "jobs", "c", 5)
    for mailbox in ("m1", "m2"):
        shard.register(mailbox)
        shard.run(SCRIPTS.join, mailbox, "group")
    shard.own("jobs", "m1")
    shard.call("DEL", "l:m2")
    # The number is that of the group's entry, not of the one for the plain channel.
    assert shard.group_send("group", "hello", own="m1") == [2, 1, 0, 0, 0, [], []]
    (group, plain) = shard.posted("m1")
    assert group == (2, "ggroup", "hello")
    assert (plain[0], plain[1][0], plain[1][-4:], plain[2]) == (3, "p", "jobs", "hello")
    assert sorted(shard.call("HKEYS", "g:group")) == [b"cjobs", b"mm1"]


def test_a_mailbox_that_is_let_in_is_not_taken_out_by_what_it_did_before(shard: Shard) -> None:
    shard.register("m1")
    shard.run(SCRIPTS.join, "m1", "group")
    assert shard.run(SCRIPTS.adopt, MAXLEN, "m1", 0, "group", "p.m1!x") == 2
    # It has not read that entry when it leaves.
    shard.run(SCRIPTS.leave, "m1", 1, "group")
    assert shard.call("HKEYS", "g:group") == [b"mm1"]
    shard.run(SCRIPTS.join, "m1", "group")
    shard.run(SCRIPTS.leave, "m1", 2, "group")
    assert shard.call("EXISTS", "g:group") == 0
    assert shard.posted("m1") == [(2, "+group", "p.m1!x")]


def test_a_mailbox_is_let_in_where_it_is_not_known_yet(shard: Shard) -> None:
    assert shard.run(SCRIPTS.adopt, MAXLEN, "m1", 0, "group", "p.m1!x") == 0
    assert shard.call("EXISTS", "g:group") == shard.call("EXISTS", "l:m1") == 0
    assert shard.run(SCRIPTS.adopt, MAXLEN, "m1", LEASE, "group", "p.m1!x") == 2
    shard.group_send("group", "early")
    assert shard.register("m1") == (3, 0, 0)
    assert shard.posted("m1") == [(2, "+group", "p.m1!x"), (3, "ggroup", "early")]


# Plain channels


def test_a_plain_channel_keeps_order_and_capacity(shard: Shard) -> None:
    shard.register("m1")
    assert [shard.send("jobs", str(number)) for number in range(3)] == [0, 0, 0]
    assert shard.send("jobs", "3") == [2, 1, 0]
    assert shard.send("jobs", "4", policy="drop_oldest") == [1, 1, 0]
    assert [shard.take("jobs", "m1") for _ in range(4)] == [0, 0, 0, 1]
    assert shard.posted("m1") == [(2, "pjobs", "1"), (3, "pjobs", "2"), (4, "pjobs", "4")]
    assert shard.send("jobs", "5") == 0
    assert shard.posted("m1")[3:] == [(5, "pjobs", "5")]
    assert shard.call("EXISTS", "c:jobs") == shard.call("EXISTS", "w:jobs") == 0


def test_waiters_are_served_in_turn_and_the_dead_are_passed_over(shard: Shard) -> None:
    for mailbox in ("m1", "m2", "m3"):
        shard.register(mailbox)
        assert shard.take("jobs", mailbox) == 1
    shard.call("DEL", "l:m2")
    for number in range(3):
        shard.send("jobs", str(number))
    assert (shard.posted("m1"), shard.posted("m3")) == ([(2, "pjobs", "0")], [(2, "pjobs", "1")])
    assert shard.stored("jobs") == ["2"]
    assert shard.take("jobs", "m2") == [3, 0]
    shard.take("other", "m1")
    shard.take("other", "m1")
    assert shard.run(SCRIPTS.unwait, "other", "m1", 1) == 1
    assert shard.call("LRANGE", "w:other", 0, -1) == [b"m1"]
    assert shard.run(SCRIPTS.unwait, "other", "m1", 1) == 1
    assert shard.run(SCRIPTS.unwait, "other", "m1", 1) == 0


def test_owners_get_what_waits_and_then_take_turns(shard: Shard) -> None:
    for mailbox in ("m1", "m2", "m3"):
        shard.register(mailbox)
    shard.send("jobs", "0")
    shard.send("jobs", "1")
    assert shard.own("jobs", "m1") == [0, 0]
    assert shard.own("jobs", "m1") == [0, 0]
    assert shard.own("jobs", "m2") == shard.own("jobs", "m3") == [0, 0]
    shard.call("DEL", "l:m3")
    for number in range(2, 6):
        shard.send("jobs", str(number))
    values = [[payload for *_, payload in shard.posted(mailbox)] for mailbox in ("m1", "m2")]
    assert values == [["0", "1", "2", "4"], ["3", "5"]]
    assert sorted(shard.call("LRANGE", "o:jobs", 0, -1)) == [b"m1", b"m2"]
    assert shard.own("jobs", "m3") == [3, 0]


def test_what_is_given_back_regains_its_place(shard: Shard) -> None:
    shard.register("m1")
    shard.register("m2")
    for number in range(3):
        shard.send("jobs", str(number))
    shard.take("jobs", "m1")
    shard.take("jobs", "m1")
    items: list[Any] = []
    for _, (address, payload) in reversed(shard.call("XRANGE", "m:m1", "-", "+")):
        items += ["jobs", address[1 : 1 + STAMP], payload]
    assert shard.run(SCRIPTS.give_back, MAXLEN, EXPIRY, "m1", *items) == [0, 0, 4]
    assert shard.stored("jobs") == ["0", "1", "2"]
    assert shard.posted("m1")[2:] == [(4, "rjobs", "")]
    # Whoever gives back is not given it again; another who waits is.
    for _ in range(3):
        shard.take("jobs", "m2")
    shard.own("jobs", "m1")
    shard.take("jobs", "m1")
    shard.take("jobs", "m2")
    item = ["jobs", shard.call("XRANGE", "m:m2", "-", "+")[0][1][0][1 : 1 + STAMP], "0"]
    shard.run(SCRIPTS.give_back, MAXLEN, EXPIRY, "m1", *item)
    assert [payload for *_, payload in shard.posted("m2")] == ["0", "1", "2", "0"]
    assert shard.call("EXISTS", "o:jobs") == shard.call("EXISTS", "w:jobs") == 0


def test_what_waits_too_long_is_dropped_and_counted(shard: Shard) -> None:
    shard.register("m1")
    for number in range(3):
        shard.send("jobs", str(number))
    shard.age("jobs", 61)
    assert shard.send("jobs", "new") == [1, 0, 3]
    shard.age("jobs", 61)
    assert shard.take("jobs", "m1") == [1, 1]
    shard.send("jobs", "given")
    shard.send("jobs", "stored")
    shard.age("jobs", 61)
    # Another channel's message sweeps.
    assert shard.send("other", "x") == [1, 0, 1]
    assert shard.call("ZRANGE", "e", 0, -1) == [b"other"]
    shard.age("other", 61)
    assert shard.run(SCRIPTS.refresh, "m1", LEASE, KEPT, "0-0", EXPIRY)[2] == 1
    assert shard.call("EXISTS", "e") == 0
    shard.send("jobs", "young")
    assert shard.call("PTTL", "c:jobs") > EXPIRY
    shard.age("jobs", 30)
    assert shard.run(SCRIPTS.refresh, "m1", LEASE, KEPT, "0-0", EXPIRY)[2] == 0


def test_closing_tells_all_who_wait_and_forgets_the_rest(shard: Shard) -> None:
    for mailbox in ("m1", "m2", "m3"):
        shard.register(mailbox)
    shard.run(SCRIPTS.plain_join, "group", "jobs", "c", 3)
    shard.take("jobs", "m1")
    shard.take("jobs", "m1")
    shard.take("jobs", "m2")
    shard.own("jobs", "m3")
    assert shard.close("jobs", own="m2") == [0, 0, 2]
    assert [shard.posted(mailbox) for mailbox in ("m1", "m2", "m3")] == [
        [(2, "xjobs", "")],
        [(2, "Xjobs", "")],
        [(2, "xjobs", "")],
    ]
    assert not [key for kind in "cwoj" for key in shard.server.keys(f"{shard.prefix}:{kind}:*")]
    assert shard.call("EXISTS", "g:group") == 0
    shard.send("jobs", "again")
    assert shard.close("jobs") == [1, 0, 0]


def test_a_closed_channel_with_a_mark_in_its_name_stays_closed(shard: Shard) -> None:
    shard.register("m1")
    shard.close("x!1", remember=60_000)
    assert shard.send("x!1", "late") == [3, 0, 0]
    assert shard.take("x!1", "m1") == [2, 0]
    assert shard.own("x!1", "m1") == [2, 0]
    assert shard.run(SCRIPTS.plain_join, "group", "x!1", "c", 3) == 0
    assert shard.run(SCRIPTS.give_back, MAXLEN, EXPIRY, "", "x!1", "0" * STAMP, "late") == [1, 0, 0]


def test_a_flush_marks_every_mailbox(shard: Shard) -> None:
    for mailbox in ("m1", "m2"):
        shard.register(mailbox)
    shard.send("jobs", "0")
    shard.send("jobs", "1")
    keys = [f"{shard.prefix}:{name}" for name in ("c:jobs", "e", "g:none")]
    assert shard.run(SCRIPTS.drop, *keys) == 2
    assert shard.run(SCRIPTS.mark_flush, MAXLEN, "m2", "now") == 2
    assert shard.posted("m1") == shard.posted("m2") == [(2, "f", "now")]
    assert shard.run(SCRIPTS.mark_flush, MAXLEN, "", "now") == 0


# All of them


def test_a_full_server_refuses_before_anything_is_done(new_server: Callable[..., Server], key_prefix: str) -> None:
    shard = Shard(new_server(), key_prefix)
    shard.register("m1")
    shard.run(SCRIPTS.join, "m1", "group")
    shard.send("jobs", "0")
    before = sorted(shard.server.keys())
    shard.server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(ServerError, match="OOM"):
        shard.run(SCRIPTS.post, MAXLEN, "m1", "cx", "")
    with pytest.raises(ServerError, match="OOM"):
        shard.send("jobs", "1")
    with pytest.raises(ServerError, match="OOM"):
        shard.group_send("group", "1")
    # Who takes makes room, and who waits takes hardly any.
    assert shard.take("jobs", "m1") == 0
    assert shard.take("jobs", "m1") == 1
    assert shard.run(SCRIPTS.refresh, "m1", LEASE, KEPT, "0-0", EXPIRY)[0] == 2
    shard.server.command("CONFIG", "SET", "maxmemory", "0")
    assert shard.call("HKEYS", "g:group") == [b"mm1"]
    assert set(before) - set(shard.server.keys()) == {f"{key_prefix}:c:jobs".encode()}


@pytest.mark.parametrize("script", SCRIPTS.all(), ids=[script.name for script in SCRIPTS.all()])
def test_a_script_is_known_by_its_hash(plain_server: Server, script: Script) -> None:
    assert plain_server.command("SCRIPT", "LOAD", script.source).decode() == script.sha1


# Names


def test_names_say_whose_channel_it_is() -> None:
    identity = make_mailbox_id()
    assert mailbox_id(name_channel("specific", identity)) == identity
    assert mailbox_id(name_channel("a.b", identity)) == identity
    for name in (
        "jobs",
        "local!x",
        f"{identity}!x",
        f"x.{identity}",
        f"x.{identity.upper()}!x" if not identity.isdigit() else "x!",
        f"x.{identity}0!x",
        name_held_channel("specific"),
        "specific.inmemory!abc",
    ):
        assert mailbox_id(name) is None

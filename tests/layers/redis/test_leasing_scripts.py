"""The decisions of the Lua scripts about leases, one by one."""

from collections.abc import Callable
from typing import Any

import pytest

from sealane.layers.dead_letters import wrap
from sealane.layers.redis.scripts import STREAM_SCRIPTS as SCRIPTS
from sealane.layers.redis.wire import STAMP
from tests.layers.redis.shard import EXPIRY, KEPT, LEASE, MAXLEN, Shard
from tests.servers import Server, ServerError

VISIBILITY = 30_000
#: Two weeks.
STAYS = 14 * 86_400_000

#: The mailbox, in which whoever waits has a token; in what follows, its terms.
MAILBOX = "m1"


class Leases(Shard):
    """The scripts about leases, as one mailbox runs them for the channel ``jobs``."""

    def waiter(self, token: str = "t0", most: int = 2, capacity: int = 5, life: int = STAYS) -> str:
        return f"{MAILBOX} {token} {VISIBILITY} {most} jobs.dead {capacity} {life - EXPIRY}"

    def lease(self, waiter: str | None = None) -> Any:
        *reply, _ = self.run(SCRIPTS.lease, MAXLEN, EXPIRY, "jobs", waiter or self.waiter(), 10 * LEASE, 1)
        return reply

    def lease_many(self, most: int, waiter: str | None = None) -> Any:
        return self.run(SCRIPTS.lease, MAXLEN, EXPIRY, "jobs", waiter or self.waiter(), 10 * LEASE, most)

    def look(self, *waiters: str) -> Any:
        return self.run(SCRIPTS.look, MAXLEN, EXPIRY, "jobs", 10 * LEASE, *waiters)

    def ack(self, at: tuple[str, str]) -> Any:
        return self.run(SCRIPTS.ack, "jobs", *at)

    def retry(self, at: tuple[str, str], delay: int) -> Any:
        return self.run(SCRIPTS.retry, MAXLEN, EXPIRY, "jobs", *at, delay)

    def given(self) -> list[tuple[str, int, str]]:
        """Token, attempt and payload of all that was leased to somebody of the mailbox so far."""
        return [(token, attempt, payload) for token, attempt, payload, _ in self._given()]

    def last(self) -> tuple[str, str]:
        """Stamp and number of the last lease."""
        return self._given()[-1][3]

    def _given(self) -> list[tuple[str, int, str, tuple[str, str]]]:
        found = []
        for _, (address, payload) in self.call("XRANGE", f"m:{MAILBOX}", "-", "+"):
            if address.startswith(b"a"):
                token, stamp, lease, attempt, first, due, channel = address[1:].decode().split(" ")
                assert channel == "jobs"
                assert int(due) - int(first) >= VISIBILITY
                found.append((token, int(attempt), payload.decode(), (stamp, lease)))
        return found

    def end(self) -> None:
        """Let every lease end."""
        for stamp in self.call("ZRANGE", "k:jobs", 0, -1):
            self.call("ZADD", "k:jobs", 0, stamp)

    def letters(self) -> list[bytes]:
        return [member[STAMP:] for member in self.call("ZRANGE", "c:jobs.dead", 0, -1)]


@pytest.fixture
def shard(plain_server: Server, key_prefix: str) -> Leases:
    leases = Leases(plain_server, key_prefix)
    leases.register(MAILBOX)
    return leases


def test_several_that_wait_are_leased_at_once_and_no_more_than_asked(shard: Leases) -> None:
    for payload in ("one", "two", "three", "four"):
        shard.send("jobs", payload, 10)
    assert shard.lease_many(3)[-1] == 3
    assert shard.given() == [("t0", 1, "one"), ("t0", 1, "two"), ("t0", 1, "three")]
    assert shard.lease_many(3, shard.waiter("t1"))[-1] == 1
    assert shard.call("LLEN", "w:jobs") == 0


def test_who_wants_several_waits_for_one_behind_those_who_came_first(shard: Leases) -> None:
    shard.lease(shard.waiter("t0"))
    assert shard.lease_many(3, shard.waiter("t1"))[-1] == 0
    assert shard.call("LLEN", "w:jobs") == 2
    for payload in ("one", "two", "three"):
        shard.send("jobs", payload)
    assert shard.given() == [("t0", 1, "one"), ("t1", 1, "two")]
    # Asked again, as after a lost connection.
    assert shard.lease_many(2, shard.waiter("t1"))[-1] == 1
    assert shard.given()[2:] == [("t1", 1, "three")]


def test_what_waits_is_leased(shard: Leases) -> None:
    shard.send("jobs", "one")
    assert shard.lease() == [0, VISIBILITY, 0, 0, 0]
    assert shard.given() == [("t0", 1, "one")]
    assert shard.stored("jobs") == []
    for key in ("k:jobs", "d:jobs", "q:jobs"):
        assert STAYS - 10_000 < shard.call("PTTL", key) <= STAYS + VISIBILITY
    assert shard.call("EXISTS", "w:jobs") == 0
    stamp, lease = shard.last()
    assert shard.ack((stamp, str(int(lease) + 1))) == 0
    assert shard.ack((stamp, lease)) == 1
    assert shard.ack((stamp, lease)) == 0
    assert shard.call("EXISTS", "k:jobs") == shard.call("EXISTS", "d:jobs") == 0


def test_who_waits_is_given_what_is_sent(shard: Leases) -> None:
    shard.register("m2")
    assert shard.lease() == [0, -1, 0, 0, 0]
    # Asked twice, it waits once.
    assert shard.lease() == [0, -1, 0, 0, 0]
    shard.take("jobs", "m2")
    shard.lease(shard.waiter("t1"))
    assert shard.call("LLEN", "w:jobs") == 3
    for payload in ("1", "2", "3", "4"):
        shard.send("jobs", payload)
    assert shard.given() == [("t0", 1, "1"), ("t1", 1, "3")]
    assert shard.posted("m2") == [(2, "pjobs", "2")]
    assert shard.stored("jobs") == ["4"]
    assert shard.run(SCRIPTS.unwait, "jobs", shard.waiter(), 0) == 0


def test_what_is_due_comes_first(shard: Leases) -> None:
    for payload in ("1", "2", "3"):
        shard.send("jobs", payload)
    shard.lease()
    shard.lease(shard.waiter("t1"))
    shard.end()
    assert shard.look() == [0, 0, 0, 0, 0]
    shard.lease(shard.waiter("t2"))
    shard.lease(shard.waiter("t3"))
    shard.lease(shard.waiter("t4"))
    assert shard.given()[2:] == [("t2", 2, "1"), ("t3", 2, "2"), ("t4", 1, "3")]


def test_what_is_due_comes_before_what_is_sent(shard: Leases) -> None:
    shard.send("jobs", "1")
    shard.lease()
    shard.lease(shard.waiter("t1"))
    shard.lease(shard.waiter("t2"))
    shard.end()
    shard.send("jobs", "2")
    assert shard.given()[1:] == [("t1", 2, "1"), ("t2", 1, "2")]


def test_a_plain_receiver_takes_what_is_due_to_its_place(shard: Leases) -> None:
    shard.register("m2")
    shard.send("jobs", "1")
    shard.age("jobs", 50)
    shard.lease()
    stamp, _ = shard.last()
    shard.send("jobs", "2")
    shard.end()
    assert [shard.take("jobs", "m2") for _ in range(2)] == [0, 0]
    assert shard.posted("m2") == [(2, "pjobs", "1"), (3, "pjobs", "2")]
    address = shard.call("XRANGE", "m:m2", "-", "+")[0][1][0].decode()
    assert address[1:17] == stamp[:16]
    assert int(address[17:30]) > int(stamp[16:]) + 40_000
    assert shard.ack(shard.last()) == 0


def test_whoever_came_first_gets_what_is_due(shard: Leases) -> None:
    shard.register("m2")
    shard.send("jobs", "1")
    shard.lease()
    shard.lease(shard.waiter("t1"))
    shard.end()
    assert shard.take("jobs", "m2") == 1
    assert shard.given() == [("t0", 1, "1"), ("t1", 2, "1")]


def test_an_owner_gets_what_is_due(shard: Leases) -> None:
    shard.register("m2")
    shard.send("jobs", "1")
    shard.lease()
    shard.end()
    assert shard.own("jobs", "m2") == [0, 0]
    assert shard.posted("m2") == [(2, "pjobs", "1")]
    shard.send("jobs", "2")
    assert shard.posted("m2")[1:] == [(3, "pjobs", "2")]


def test_what_was_delivered_too_often_is_put_aside(shard: Leases) -> None:
    shard.send("jobs", "1")
    shard.lease()
    first = int(shard.call("XRANGE", f"m:{MAILBOX}", "-", "+")[0][1][0].split(b" ")[4])
    shard.end()
    shard.lease()
    shard.end()
    assert shard.look() == [0, -1, 0, 1, 0]
    stamp, _ = shard.last()
    assert shard.letters() == [
        wrap(b"1", channel="jobs", reason="max_deliveries", attempts=2, first_seen=first / 1000, id=stamp)
    ]
    assert STAYS < shard.call("PTTL", "c:jobs.dead") <= STAYS + EXPIRY + 60_000


def test_a_plain_take_puts_aside_too_and_says_so(shard: Leases) -> None:
    shard.send("jobs", "1")
    shard.lease(shard.waiter(most=1))
    shard.end()
    # A sender only leaves it where it is.
    shard.send("jobs", "2")
    assert shard.letters() == []
    assert shard.take("jobs", MAILBOX) == [0, 0, 1, 0]
    assert len(shard.letters()) == 1


def test_a_retry_and_a_release(shard: Leases) -> None:
    shard.send("jobs", "1")
    shard.lease()
    assert shard.retry(shard.last(), 5000) == [1, 5000, 0, 0, 0]
    assert shard.retry(shard.last(), 0)[0] == 0
    shard.end()
    shard.lease()
    assert shard.retry(shard.last(), -1) == [1, 0, 0, 0, 0]
    shard.lease()
    assert shard.given() == [("t0", 1, "1"), ("t0", 2, "1"), ("t0", 2, "1")]
    # The last one that was allowed.
    assert shard.retry(shard.last(), 5000) == [1, -1, 0, 1, 0]
    assert len(shard.letters()) == 1


def test_what_is_put_off_for_long_outlives_what_others_need(shard: Leases) -> None:
    shard.run(SCRIPTS.send, MAXLEN, EXPIRY, "jobs", "1", 3, "drop_newest", 3 * STAYS)
    shard.send("jobs", "2")
    shard.lease()
    assert shard.call("PTTL", "c:jobs") > 2 * STAYS
    shard.retry(shard.last(), 3 * STAYS)
    shard.lease()
    for key in ("k:jobs", "d:jobs"):
        assert shard.call("PTTL", key) > 3 * STAYS
    shard.call("PEXPIRE", "q:jobs", 1000)
    shard.look()
    assert shard.call("PTTL", "q:jobs") <= 1000
    # Whoever waits still asks.
    shard.look(shard.waiter())
    assert shard.call("PTTL", "q:jobs") > STAYS - 10_000


def test_letters_are_bounded(shard: Leases) -> None:
    dropped = 0
    for number in range(4):
        shard.send("jobs", str(number))
        shard.lease(shard.waiter(capacity=2))
        reply = shard.run(SCRIPTS.reject, MAXLEN, EXPIRY, "jobs", *shard.last(), "why not")
        assert reply[:4] == [1, -1, 0, 1]
        dropped += reply[4]
    assert dropped == 2
    assert [letter[-8:] for letter in shard.letters()] == [b"why not2", b"why not3"]


def test_what_expires_is_put_aside_by_those_who_ask(shard: Leases) -> None:
    shard.lease()
    shard.run(SCRIPTS.unwait, "jobs", shard.waiter(), 0)
    for number in range(3):
        shard.send("jobs", str(number))
    shard.age("jobs", 61)
    # It is not forgotten although nobody reads.
    assert shard.call("PTTL", "c:jobs") > STAYS - 10_000
    assert shard.send("jobs", "full") == [2, 1, 0]
    shard.send("other", "sweeps")
    assert shard.stored("jobs") == ["0", "1", "2"]
    assert shard.run(SCRIPTS.refresh, MAILBOX, LEASE, KEPT, "0-0", EXPIRY)[2] == 0
    assert shard.call("ZSCORE", "e", "jobs") is None
    assert shard.lease() == [0, -1, 0, 3, 0]
    assert len(shard.letters()) == 3
    assert shard.letters()[0].startswith(b"\xc1sealane.dead\xc10 0 ")


def test_a_channel_whose_messages_may_wait_longer(shard: Leases) -> None:
    shard.run(SCRIPTS.send, MAXLEN, EXPIRY, "jobs", "1", 3, "drop_newest", 3_600_000)
    assert shard.call("PTTL", "c:jobs") > 3_600_000
    assert shard.call("PTTL", "e") > 3_600_000
    shard.age("jobs", 61)
    assert shard.run(SCRIPTS.refresh, MAILBOX, LEASE, KEPT, "0-0", EXPIRY)[2] == 0
    # It keeps that when it is given back, and the key is made anew.
    assert shard.take("jobs", MAILBOX) == 0
    assert shard.call("EXISTS", "c:jobs") == 0
    address = shard.call("XRANGE", f"m:{MAILBOX}", "-", "+")[0][1][0]
    shard.run(SCRIPTS.give_back, MAXLEN, EXPIRY, "", "jobs", address[1 : 1 + STAMP], "1")
    assert shard.call("PTTL", "c:jobs") > 3_500_000


def test_a_group_knows_how_long_messages_of_a_member_may_wait(shard: Leases) -> None:
    shard.run(SCRIPTS.plain_join, "group", "jobs", "c", "3 3600000")
    shard.run(SCRIPTS.plain_join, "group", "other", "c", 3)
    shard.group_send("group", "1")
    assert shard.call("PTTL", "c:jobs") > 3_600_000
    assert shard.call("PTTL", "c:other") < 3_600_000


def test_who_takes_leave_releases_what_it_has_not_read(shard: Leases) -> None:
    for number in range(2):
        shard.send("jobs", str(number))
        shard.lease(shard.waiter(f"t{number}"))
    position = shard.call("XRANGE", f"m:{MAILBOX}", "-", "+")[0][0]
    assert shard.run(SCRIPTS.unregister, MAXLEN, EXPIRY, MAILBOX, position) == [0, 1, 0]
    shard.register(MAILBOX)
    shard.lease(shard.waiter("t2"))
    assert shard.given() == [("t2", 1, "1")]
    assert shard.call("ZCARD", "k:jobs") == 2


def test_who_is_not_there_is_told_and_loses_nothing(shard: Leases) -> None:
    shard.send("jobs", "1")
    shard.call("DEL", f"l:{MAILBOX}")
    assert shard.lease() == [3, -1, 0, 0, 0]
    shard.register("m2")
    shard.call("RPUSH", "w:jobs", shard.waiter())
    assert shard.look(shard.waiter()) == [3, -1, 0, 0, 0]
    assert shard.call("EXISTS", "w:jobs") == 0
    assert shard.stored("jobs") == ["1"]
    assert shard.call("EXISTS", "d:jobs") == 0


def test_a_look_tells_who_does_not_wait_and_enters_nobody(shard: Leases) -> None:
    waiters = [shard.waiter(f"t{number}") for number in range(3)]
    for waiter in waiters:
        shard.lease(waiter)
    assert shard.look(*waiters) == [0, -1, 0, 0, 0]
    shard.send("jobs", "1")
    shard.run(SCRIPTS.unwait, "jobs", waiters[2], 0)
    # The first was given what is the second entry of its mailbox, the third was forgotten.
    state, _, *counts, number, absent = shard.look(*waiters)
    assert (state, counts, number, absent) == (0, [0, 0, 0], 2, [0, 2])
    assert shard.call("LRANGE", "w:jobs", 0, -1) == [waiters[1].encode()]
    assert 9 * LEASE < shard.call("PTTL", "w:jobs") <= 10 * LEASE


def test_keys_that_others_spoilt_are_made_anew(shard: Leases) -> None:
    for key in ("d:jobs", "k:jobs"):
        shard.call("SET", key, "x")
    shard.send("jobs", "1")
    assert shard.lease()[0] == 0
    assert shard.ack(shard.last()) == 1
    shard.call("HSET", "d:jobs", "0" * STAMP, "what ever")
    shard.call("ZADD", "k:jobs", 0, "0" * STAMP)
    assert shard.look() == [0, -1, 0, 0, 0]
    assert shard.call("EXISTS", "d:jobs") == 0


def test_closing_and_flushing_drop_what_is_leased(shard: Leases) -> None:
    shard.send("jobs", "1")
    shard.send("jobs", "2")
    shard.lease()
    shard.lease(shard.waiter("t1"))
    shard.lease(shard.waiter("t2"))
    assert shard.close("jobs") == [2, 0, 0]
    assert shard.posted(MAILBOX)[-1][1] == "xjobs"
    assert not [key for kind in "cwokdq" for key in shard.server.keys(f"{shard.prefix}:{kind}:*")]
    shard.send("jobs", "3")
    shard.lease()
    assert shard.run(SCRIPTS.drop, f"{shard.prefix}:k:jobs", f"{shard.prefix}:d:jobs") == 1
    assert shard.ack(shard.last()) == 0


def test_a_full_server_still_leases_and_takes_acknowledgements(
    new_server: Callable[..., Server], key_prefix: str
) -> None:
    shard = Leases(new_server(), key_prefix)
    shard.register(MAILBOX)
    for number in range(3):
        shard.send("jobs", str(number))
    shard.server.command("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(ServerError, match="OOM"):
        shard.send("jobs", "4")
    assert shard.lease()[0] == 0
    assert shard.run(SCRIPTS.extend, "jobs", *shard.last(), 1000) == 1
    assert shard.retry(shard.last(), 0)[0] == 1
    assert shard.lease()[0] == 0
    assert shard.ack(shard.last()) == 1
    assert shard.lease()[0] == 0
    assert shard.run(SCRIPTS.reject, MAXLEN, EXPIRY, "jobs", *shard.last(), "no")[0] == 1
    assert shard.given() == [("t0", 1, "0"), ("t0", 2, "0"), ("t0", 1, "1")]
    assert len(shard.letters()) == 1

"""Finding a place's server: whom to ask, what to make of the answers, and what an error may say of them."""

from typing import Any

import pytest
import redis
from redis.exceptions import AskError, MovedError, NoPermissionError, RedisError, ResponseError

from sealane.exceptions import ServerUnreachable
from sealane.layers.redis.access import Access, Address, Endpoint, scrub
from sealane.layers.redis.discovery import (
    Ask,
    Failed,
    Hint,
    Search,
    find_master,
    find_node,
    find_server,
    slot_of,
    tag_of,
)


class Lost(AssertionError):
    """A search took another step than the test expected."""


def run(search: Search, *script: tuple[str, object]) -> list[str]:
    """Carry a search out by a script of "ask host:port" or "try host:port" and outcome. Returns the steps."""
    steps: list[str] = []
    outcome: Any = None
    for expected, answer in (*script, ("end", None)):
        try:
            step = search.send(outcome)
        except StopIteration:
            found = "end"
        else:
            found = f"ask {step.endpoint}" if isinstance(step, Ask) else f"try {step.address}"
        if found != expected:
            raise Lost(f"expected {expected!r} after {steps}, got {found!r}")
        steps.append(found)
        outcome = answer
    return steps


def endpoints(*names: str) -> list[Endpoint]:
    return [Endpoint(Address(name, 1), Access()) for name in names]


def sentinels(*names: str, hint: Hint | None = None) -> Search:
    return find_master("chat/0 (Sentinel)", "chat", endpoints(*names), Access(), hint or Hint())


MASTER = [b"master", 1, []]
REPLICA = [b"slave", b"old", 6379, b"connected", 1]


def test_a_server_is_tried_once() -> None:
    run(find_server("a:1/0", Address("a", 1), Access()), ("try a:1", None))
    with pytest.raises(ServerUnreachable, match="Cannot connect to a:1/0: it is gone"):
        run(find_server("a:1/0", Address("a", 1), Access()), ("try a:1", Failed("it is gone")))


def test_the_first_sentinel_that_names_a_master_ends_the_search() -> None:
    run(sentinels("s1", "s2"), ("ask s1:1", [b"m", b"6379"]), ("try m:6379", MASTER))
    run(
        sentinels("s1", "s2"),
        ("ask s1:1", Failed("connection refused")),
        ("ask s2:1", [b"::1", b"6379"]),
        ("try [::1]:6379", MASTER),
    )


def test_a_sentinel_that_names_a_replica_is_not_believed() -> None:
    run(
        sentinels("s1", "s2", "s3"),
        ("ask s1:1", [b"old", b"1"]),
        ("try old:1", REPLICA),
        # Named again, it is not tried again.
        ("ask s2:1", [b"old", b"1"]),
        ("ask s3:1", [b"new", b"1"]),
        ("try new:1", MASTER),
    )


def test_a_user_who_may_not_ask_for_the_role_believes_the_sentinel() -> None:
    run(sentinels("s1"), ("ask s1:1", [b"m", b"1"]), ("try m:1", NoPermissionError("no permissions to run 'role'")))


def test_the_sentinel_that_answered_last_is_asked_first() -> None:
    hint = Hint()
    run(sentinels("s1", "s2", hint=hint), ("ask s1:1", Failed("x")), ("ask s2:1", [b"m", b"1"]), ("try m:1", MASTER))
    run(sentinels("s1", "s2", hint=hint), ("ask s2:1", [b"m", b"1"]), ("try m:1", MASTER))
    run(sentinels("s1", "s2", hint=hint), ("ask s2:1", Failed("x")), ("ask s1:1", [b"m", b"1"]), ("try m:1", MASTER))


def test_the_error_tells_what_each_sentinel_said() -> None:
    with pytest.raises(ServerUnreachable) as caught:
        run(
            sentinels("s1", "s2", "s3", "s4", "s5", "s6"),
            ("ask s1:1", Failed("connection refused")),
            ("ask s2:1", None),
            ("ask s3:1", [b"old", b"1"]),
            ("try old:1", REPLICA),
            ("ask s4:1", [b"dead", b"1"]),
            ("try dead:1", Failed("no answer within 1 s")),
            ("ask s5:1", ResponseError("no permissions")),
            ("ask s6:1", b"what"),
        )
    assert str(caught.value) == (
        "Cannot connect to chat/0 (Sentinel): no sentinel names a master that answers (s1:1: connection refused; "
        "s2:1: knows no service 'chat'; s3:1 names old:1, but its role is slave; s4:1 names dead:1, but no answer "
        "within 1 s; s5:1: no permissions; s6:1: gave an answer that is not an address; is it a sentinel?)"
    )
    assert caught.value.place == "chat/0 (Sentinel)"


TAG = tag_of(1)  # in the middle: slot 8245


def nodes(*names: str, hint: Hint | None = None) -> Search:
    return find_node("Cluster", TAG, endpoints(*names), Access(), hint or Hint())


def slots(*hosts: object, extra: tuple[object, ...] = ()) -> list[Any]:
    """An answer to CLUSTER SLOTS of three nodes; the second has the slot of TAG."""
    names = [b"a", b"b", b"c"]
    for index, host in enumerate(hosts):
        names[index] = host  # type: ignore[call-overload]
    ranges = [(0, 5460), (5461, 10922), (10923, 16383)]
    return [
        [first, last, [name, 7, b"id", *extra], [b"replica", 8, b"id2", []]]
        for (first, last), name in zip(ranges, names, strict=True)
    ]


def test_the_node_of_the_slot_is_tried() -> None:
    run(nodes("s1"), ("ask s1:1", slots()), ("try b:7", 0))


@pytest.mark.parametrize(
    ("host", "extra", "address"),
    [
        (b"10.0.0.2", (), "10.0.0.2:7"),
        (b"node-b.example", ([b"ip", b"10.0.0.2"],), "node-b.example:7"),
        (b"::1", (), "[::1]:7"),
        # The node does not know its own address, or must not tell it: the one that we reached it by.
        (b"", (), "s1:7"),
        (None, (), "s1:7"),
        # It is to be called by a host name and has none.
        (b"?", ([b"ip", b"10.0.0.2"],), "10.0.0.2:7"),
    ],
)
def test_hosts_of_every_kind(host: object, extra: tuple[object, ...], address: str) -> None:
    run(nodes("s1"), ("ask s1:1", slots(b"a", host, extra=extra)), (f"try {address}", 0))


def test_a_node_whose_host_nobody_knows_is_passed_over() -> None:
    run(
        nodes("s1", "s2"),
        ("ask s1:1", slots(b"a", b"?", extra=([],))),
        ("ask s2:1", slots()),
        ("try b:7", 0),
    )


def test_moved_is_followed() -> None:
    run(nodes("s1"), ("ask s1:1", slots()), ("try b:7", MovedError("8245 c:7")), ("try c:7", 0))
    # As redis-py 5.0 gives it.
    moved = ResponseError("MOVED 8245 ::1:7")
    run(nodes("s1"), ("ask s1:1", slots()), ("try b:7", moved), ("try [::1]:7", 0))
    # Without a host, it is the one that said so.
    run(nodes("s1"), ("ask s1:1", slots()), ("try b:7", MovedError("8245 :9")), ("try b:9", 0))


def test_nodes_that_send_us_in_a_circle_do_not_keep_us() -> None:
    with pytest.raises(ServerUnreachable, match=r"s1:1 names b:7, but it answers that the slot has moved to c:7\)"):
        run(
            nodes("s1"),
            ("ask s1:1", slots()),
            ("try b:7", MovedError("8245 c:7")),
            ("try c:7", MovedError("8245 b:7")),
        )
    with pytest.raises(ServerUnreachable, match="has moved to h:7"):
        run(
            nodes("s1"),
            ("ask s1:1", slots()),
            ("try b:7", MovedError("8245 e:7")),
            ("try e:7", MovedError("8245 f:7")),
            ("try f:7", MovedError("8245 g:7")),
            ("try g:7", MovedError("8245 h:7")),
        )


@pytest.mark.parametrize(
    "answer", [AskError("8245 c:7"), ResponseError("ASK 8245 c:7"), NoPermissionError("no permissions"), 0, 1]
)
def test_a_node_that_the_slot_is_leaving_still_serves_it(answer: object) -> None:
    run(nodes("s1"), ("ask s1:1", slots()), ("try b:7", answer))


def test_the_nodes_that_were_heard_of_are_asked_when_the_seeds_are_gone() -> None:
    hint = Hint()
    run(nodes("s1", hint=hint), ("ask s1:1", slots()), ("try b:7", 0))
    run(
        nodes("s1", hint=hint),
        ("ask s1:1", Failed("x")),
        ("ask a:7", Failed("x")),
        ("ask b:7", Failed("x")),
        ("ask c:7", slots(b"a", b"c")),
        ("try c:7", 0),
    )
    # And who answered comes first from then on.
    run(nodes("s1", hint=hint), ("ask c:7", slots(b"a", b"c")), ("try c:7", 0))


def test_the_error_tells_what_each_node_said() -> None:
    with pytest.raises(ServerUnreachable) as caught:
        run(
            nodes("s1", "s2", "s3", "s4", "s5"),
            ("ask s1:1", Failed("connection refused")),
            ("ask s2:1", ResponseError("This instance has cluster support disabled")),
            ("ask s3:1", [[0, 10, [b"a", 7]]]),
            ("ask s4:1", [[0]]),
            ("ask s5:1", slots()),
            ("try b:7", ResponseError("CLUSTERDOWN Hash slot not served")),
        )
    message = str(caught.value)
    assert message.startswith("Cannot connect to Cluster: no node of the Cluster serves slot 8245 (s1:1: connection r")
    assert "; s2:1: CLUSTER SLOTS: This instance has cluster support disabled; " in message
    assert "; s3:1 names no node for slot 8245; s4:1: gave an answer to CLUSTER SLOTS that cannot be read; " in message
    assert "; s5:1 names b:7, but it answers 'CLUSTERDOWN Hash slot not served')" in message


def test_steps_share_the_time() -> None:
    search = sentinels("s1", "s2")
    first = next(search)
    second = search.send([b"m", b"1"])
    third = search.send(Failed("x"))
    assert [step.share for step in (first, second, third)] == [3, 3, 2]
    assert next(sentinels(*(f"s{number}" for number in range(20)))).share == 4


def test_slots_of_keys() -> None:
    assert slot_of(b"foo") == 12182  # as CLUSTER KEYSLOT has it


# Errors without secrets


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RedisError("one\n  two"), "one two"),
        (RedisError(), "RedisError"),
        (OSError(2, "No such file"), "[Errno 2] No such file"),
        (ResponseError("unknown command 'AUTH', with args beginning with: 'alice' 's3cret'"), "unknown command 'AUTH'"),
        (ResponseError("s3cret, and s3cret%2F2 too, and s3cret/2"), "***, and *** too, and ***"),
        (ValueError("s3cret"), "ValueError"),
        (RedisError("x" * 400), "x" * 300 + "..."),
    ],
)
def test_scrub(error: Exception, text: str) -> None:
    assert scrub(error, ["s3cret", "s3cret/2"]) == text


def test_scrub_names_what_redis_py_has_wrapped() -> None:
    # As asyncio's connections do it.
    error = redis.ConnectionError("s3cret")
    error.__cause__ = ValueError("s3cret")
    assert scrub(error) == "ValueError"

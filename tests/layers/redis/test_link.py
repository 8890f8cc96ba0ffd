"""One connection shared by many calls, over real servers that are killed, stopped, moved and filled."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import ResponseError

from sealane.exceptions import CallRefused, ChannelLayerUnavailable
from sealane.layers.redis.hosts import parse_hosts
from sealane.layers.redis.link import Link
from sealane.layers.redis.opening import Opening
from sealane.layers.redis.places import Place
from sealane.layers.redis.script import Script
from sealane.layers.redis.scripts import STREAM_SCRIPTS, Scripts
from sealane.layers.redis.topics import TOPIC_SCRIPTS
from tests.layers.redis.relay import Relay
from tests.servers import Cluster, SentinelGroup, Server, ServerError, slot_of

#: Appends a value to a list; returns how long the list is.
APPEND = Script("append", "return redis.call('RPUSH', KEYS[2], ARGV[2])", numbered=True)
#: Two keys, so that it is refused while a slot is being moved.
BOTH = Script("both", "redis.call('INCR', KEYS[3]) return redis.call('RPUSH', KEYS[2], ARGV[2])", numbered=True)
GET = Script("get", "return redis.call('GET', KEYS[1])")
FAIL = Script("fail", "return redis.call('LPUSH', KEYS[2], 'x')", numbered=True)
SCRIPTS = [APPEND, BOTH, GET, FAIL]

REQUEST: ContextVar[str | None] = ContextVar("REQUEST", default=None)

#: Seconds for which a busy machine may keep a process waiting. A server that is stopped never answers.
BUSY = 10.0

NewLink = Callable[..., Link]
NewServer = Callable[..., Server]


def place_of(server: Server) -> Place:
    (place,) = parse_hosts([server.url])
    return place


@pytest_asyncio.fixture
async def new_link() -> AsyncIterator[NewLink]:
    """Call it with a server or a place, and Link's options. What it makes is closed after the test."""
    links = []

    def make(where: Server | Place, **options: Any) -> Link:
        place = place_of(where) if isinstance(where, Server) else where
        link = Link(place, **{"scripts": SCRIPTS, "sender": "t:s:", "timeout": 20.0, **options})
        links.append(link)
        return link

    yield make
    for link in links:
        await link.close()
    # What is left when all links are closed would outlive the test.
    assert {task for task in asyncio.all_tasks() if task.get_name().startswith("sealane-link")} == set()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; the test's time limit ends it."""
    while not condition():
        await asyncio.sleep(0.002)


async def settle(futures: Iterable[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*futures, return_exceptions=True)


def numbers(server: Server, key: str) -> list[int]:
    return [int(value) for value in server.command("LRANGE", key, 0, -1)]


# Calls


async def test_replies_are_raw_and_in_order(plain_server: Server, new_link: NewLink, key_prefix: str) -> None:
    link = new_link(plain_server)
    key = f"{key_prefix}:x"
    futures = [link.call("SET", key, 1), link.call("INCRBY", key, 4), link.call("GET", key), link.call("GET", "none")]
    futures += [link.run(GET, [key]), link.run(APPEND, [f"{key}:l"], ["a"]), link.run(APPEND, [f"{key}:l"], [b"\xff"])]
    assert await settle(futures) == [b"OK", 5, b"5", None, b"5", 1, 2]
    assert await link.call("LRANGE", f"{key}:l", 0, -1) == [b"a", b"\xff"]
    assert link.connects == 1
    assert link.reconnects == 0


async def test_error_replies_are_the_callers(plain_server: Server, new_link: NewLink, key_prefix: str) -> None:
    link = new_link(plain_server)
    key = f"{key_prefix}:x"
    futures = [link.call("SET", key, "x"), link.call("INCR", key), link.run(FAIL, [key]), link.run(APPEND, ["l"], [1])]
    ok, incr, fail, append = await settle(futures)
    assert ok == b"OK"
    assert isinstance(incr, CallRefused)
    assert isinstance(fail, CallRefused)
    assert "WRONGTYPE" in str(fail)
    # The script that failed counts as carried out: the next is at its turn.
    assert append == 1
    await link.call("DEL", "l", key)
    assert link.connects == 1


async def test_calls_of_one_turn_leave_together(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    await link.call("PING")
    before = int(server.info("stats")["total_reads_processed"])
    await settle(link.call("INCR", "x") for _ in range(200))
    after = int(server.info("stats")["total_reads_processed"])
    # The two INFOs are commands too.
    assert after - before <= 3


async def test_calls_keep_their_order_across_kinds(valkey_server: Server, new_link: NewLink, key_prefix: str) -> None:
    link = new_link(valkey_server)
    key = f"{key_prefix}:l"

    async def caller(first: int) -> None:
        for number in range(first, first + 50):
            made.append(number)
            if number % 3 == 0:
                await link.run(APPEND, [key], [number])
            elif number % 3 == 1:
                await link.call("RPUSH", key, number)
            else:
                await link.call_once("RPUSH", key, number)

    made: list[int] = []
    await asyncio.gather(*[caller(100 * number) for number in range(20)])
    assert numbers(valkey_server, key) == made
    assert len(made) == 1000


async def test_what_cannot_be_sent_is_refused_at_once(valkey_server: Server, new_link: NewLink) -> None:
    link = new_link(valkey_server, sender=None)
    with pytest.raises(TypeError, match="is bytes, str, int or float, not NoneType"):
        link.call("SET", "x", None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Script 'append' is numbered: the link needs a `sender`"):
        link.run(APPEND, ["x"], [1])
    assert await link.call("PING") == b"PONG"


async def test_a_large_call_passes(valkey_server: Server, new_link: NewLink, key_prefix: str) -> None:
    link = new_link(valkey_server)
    data = b"x" * 3_000_000
    futures = [link.run(APPEND, [f"{key_prefix}:l"], [data]) for _ in range(3)]
    futures.append(link.call("LRANGE", f"{key_prefix}:l", 0, -1))
    assert await settle(futures) == [1, 2, 3, [data] * 3]
    await link.call("DEL", f"{key_prefix}:l")


async def test_the_number_of_calls_is_bounded(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, limit=50)
    with server.paused():
        futures = [link.call("INCR", "x") for _ in range(50)]
        with pytest.raises(ChannelLayerUnavailable, match="50 calls are under way or waiting already") as caught:
            link.call("INCR", "x")
        assert caught.value.sent is False
        assert (link.in_flight, link.queued) == (0, 50)
    assert await settle(futures) == list(range(1, 51))


async def test_a_link_says_how_it_is(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server(password="opensesame")
    link = new_link(server)
    label = f"{server.host}:{server.port}/0"
    assert repr(link) == f"<Link sealane-link to {label}: not connected, 0 in flight, 0 queued, 0 reconnects>"
    await link.call("PING")
    assert repr(link) == f"<Link sealane-link to {label}: connected, 0 in flight, 0 queued, 0 reconnects>"
    assert [client["name"] for client in server.clients()].count("sealane-link") == 1
    server.kill_clients(name="sealane-link")
    await eventually(lambda: link.reconnects == 1)
    assert "1 reconnects, last error: " in repr(link)
    await link.close()
    assert repr(link).startswith(f"<Link sealane-link to {label}: closed")
    assert "opensesame" not in repr(link)


# Opening


async def test_the_hook_runs_before_any_call(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    seen: list[Any] = []

    async def register(opening: Opening) -> None:
        seen.append(await opening.call("RPUSH", "l", "registered"))
        seen.append(await opening.run(GET, ["none"]))
        with pytest.raises(ResponseError):
            await opening.call("INCR", "l")
        with pytest.raises(ValueError, match=r"'append' is numbered: call it with Link\.run\(\)"):
            await opening.run(APPEND, ["l"], [1])

    link = new_link(server, on_connect=register)
    assert await link.call("LRANGE", "l", 0, -1) == [b"registered"]
    server.kill_clients(name="sealane-link")
    # Without any call: it connects again by itself.
    await eventually(lambda: link.connects == 2)
    assert await link.call("LLEN", "l") == 2
    assert seen == [1, None, 2, None]


async def test_a_link_keeps_nothing_of_its_first_callers_context(valkey_server: Server, new_link: NewLink) -> None:
    seen = []

    async def look(opening: Opening) -> None:
        seen.append(REQUEST.get())

    REQUEST.set("the first caller's")
    assert await new_link(valkey_server, on_connect=look).call("PING") == b"PONG"
    assert seen == [None]


async def test_a_hook_that_fails_is_given_another_connection(
    valkey_server: Server, new_link: NewLink, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    async def register(opening: Opening) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            await opening.call("NOSUCHCOMMAND", "secret")
        if tries == 2:
            raise KeyError("ours")
        if tries == 3:
            await asyncio.sleep(60)

    link = new_link(valkey_server, on_connect=register, connect_timeout=1.5)
    assert await link.call("PING") == b"PONG"
    assert tries == 4
    assert link.connects == 1
    assert "unknown command 'NOSUCHCOMMAND'" in caplog.text
    assert "on_connect failed" in caplog.text
    assert "not ready within 1.5 s" in caplog.text
    assert "secret" not in caplog.text


async def test_open_connects_without_a_call(valkey_server: Server, new_link: NewLink) -> None:
    link = new_link(valkey_server)
    link.open()
    link.open()
    await eventually(lambda: link.connected)
    assert link.connects == 1


# Scripts


def loads(server: Server) -> int:
    """Count the scripts that the server was given."""
    return server.command_calls().get("script|load", 0)


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
@pytest.mark.parametrize("scripts", [STREAM_SCRIPTS, TOPIC_SCRIPTS], ids=["streams", "pubsub"])
async def test_a_server_that_has_the_scripts_is_given_none(
    new_server: NewServer, new_link: NewLink, flavour: str, scripts: Scripts
) -> None:
    server = new_server(flavour)
    every = list(scripts.all())
    first = new_link(server, scripts=every, name="first")
    await first.call("PING")
    # Nothing frightens whoever looks at a fresh server.
    assert first.error is None
    assert loads(server) == len(every)
    before, _ = server.net_bytes()
    await new_link(server, scripts=every).call("PING")
    server.kill_clients(name="first")
    await eventually(lambda: first.connects == 2)
    assert await first.call("PING") == b"PONG"
    after, _ = server.net_bytes()
    assert loads(server) == len(every)
    # A hash of each, what a connection needs anyway, and what the test asks.
    assert (after - before) / 2 < 60 * len(every) + 500 < sum(len(script.source) for script in every) / 50


async def test_a_server_is_given_the_scripts_that_it_lacks(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    server.command("SCRIPT", "LOAD", APPEND.source)
    server.command("SCRIPT", "LOAD", FAIL.source)
    link = new_link(server)
    assert await settle([link.run(APPEND, ["l"], [0]), link.run(BOTH, ["l", "n"], [1]), link.run(GET, ["n"])]) == [
        1,
        2,
        b"1",
    ]
    assert loads(server) == len(SCRIPTS)
    assert "errorstat_NOSCRIPT" not in server.info("errorstats")
    assert link.error is None


async def test_a_server_that_takes_over_without_scripts_is_given_them(new_server: NewServer, new_link: NewLink) -> None:
    old, new = new_server(), new_server()
    async with Relay(old) as relay:
        link = new_link(parse_hosts([relay.url])[0])
        assert await link.run(APPEND, ["l"], [0]) == 1
        relay.turn_to(new)
        assert await settle(link.run(APPEND, ["l"], [number]) for number in range(1, 4)) == [1, 2, 3]
        assert loads(new) == len(SCRIPTS)
        assert "errorstat_NOSCRIPT" not in new.info("errorstats")
        await link.close()


async def test_many_links_at_once_to_a_fresh_server(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    links = [new_link(server) for _ in range(20)]
    assert sorted(await settle(link.run(APPEND, ["l"], [0]) for link in links)) == list(range(1, 21))
    assert [(link.connects, link.error) for link in links] == [(1, None)] * 20


async def test_scripts_that_vanish_while_a_connection_opens_do_no_harm(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server()
    seen: list[Any] = []

    async def flush(opening: Opening) -> None:
        await opening.call("SCRIPT", "FLUSH")
        seen.append(await opening.run(GET, ["none"]))
        with pytest.raises(ResponseError, match="wrong kind of value"):
            await opening.run(GET, ["l"])
        await opening.call("SCRIPT", "FLUSH")

    server.command("RPUSH", "l", "x")
    link = new_link(server, on_connect=flush)
    assert await link.run(APPEND, ["l"], [1]) == 2
    assert seen == [None]
    assert link.connects == 1


async def test_a_thousand_calls_that_find_no_script_have_it_loaded_once(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server()
    link = new_link(server)
    await link.call("PING")
    server.command("SCRIPT", "FLUSH")
    assert await settle(link.run(APPEND, ["l"], [number]) for number in range(1000)) == list(range(1, 1001))
    assert loads(server) == 2 * len(SCRIPTS)
    assert link.connects == 1


async def test_a_script_that_the_server_does_not_keep_is_not_loaded_without_end(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server()
    script = Script("kept", "return 1")
    # As at a proxy that gives each command to another server.
    object.__setattr__(script, "sha1", "0" * 40)
    link = new_link(server, scripts=[script], timeout=3.0)
    await link.call("PING")
    with pytest.raises(ChannelLayerUnavailable, match=r"no reply within 3 s .*No matching script"):
        await link.run(script, [])
    # One delay may be short by chance; all of them are not.
    assert 3 <= loads(server) < 60
    assert await link.call("PING") == b"PONG"
    assert link.connects == 1


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_a_user_who_may_not_ask_for_scripts_loads_them(
    new_server: NewServer, new_link: NewLink, flavour: str
) -> None:
    server = new_server(flavour, users=["default off", "alice on >s3cret ~* &* +@all -script|exists"])
    (place,) = parse_hosts([server.url_as("alice", "s3cret")])
    for number in (1, 2):
        link = new_link(place)
        assert await link.run(APPEND, ["l"], [0]) == number
        assert link.error is None
        assert loads(server) == number * len(SCRIPTS)


async def test_a_user_who_may_not_load_scripts_uses_those_that_are_there(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server(users=["default off", "alice on >s3cret ~* &* +@all -script|load"])
    for script in SCRIPTS:
        server.command("SCRIPT", "LOAD", script.source)
    link = new_link(parse_hosts([server.url_as("alice", "s3cret")])[0], timeout=3.0)
    assert await link.run(APPEND, ["l"], [0]) == 1
    server.command("SCRIPT", "FLUSH")
    with pytest.raises(ChannelLayerUnavailable, match=r"last error: .*permissions.*script\|load"):
        await link.run(APPEND, ["l"], [1])


# Faults


async def traffic(link: Link, key: str, count: int, disturb: Callable[[int], Awaitable[None]]) -> list[Any]:
    """Make numbered calls, 20 in a turn, with a disturbance after each turn."""
    futures: list[asyncio.Future[Any]] = []
    for number in range(count):
        futures.append(link.run(APPEND, [key], [number]))
        if number % 20 == 19:
            await disturb(number)
    return await settle(futures)


@pytest.mark.untraced
async def test_nothing_is_lost_or_repeated_over_a_killed_server(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server(appendonly=True)
    link = new_link(server)
    kills = 0

    async def disturb(number: int) -> None:
        nonlocal kills
        if number in (999, 2999):
            # As far as it has come by now, with calls under way. Connected: else this kill is part of the last outage.
            await eventually(lambda: link.connected)
            server.kill()
            kills += 1
            await asyncio.sleep(0.05)
            await asyncio.to_thread(server.restart)
        await asyncio.sleep(0.001)

    replies = await traffic(link, "l", 5000, disturb)
    assert numbers(server, "l") == list(range(5000))
    # None: it was carried out, and the reply lost.
    assert all(reply in (None, number + 1) for number, reply in enumerate(replies))
    assert kills == 2
    assert link.reconnects >= 2


@pytest.mark.untraced
async def test_nothing_is_lost_or_repeated_over_killed_connections(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    # Else the first connection that is waited for may be the first of all, and one fewer is made again.
    await link.call("PING")

    async def disturb(number: int) -> None:
        if number % 100 == 99:
            # With calls under way, and more to come while it is away; now and then it is waited for.
            before = link.connects
            server.kill_clients(name="sealane-link")
            while link.connects == before and number % 1000 == 999:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0)

    replies = await traffic(link, "l", 5000, disturb)
    assert numbers(server, "l") == list(range(5000))
    assert all(reply in (None, number + 1) for number, reply in enumerate(replies))
    assert link.reconnects >= 5


async def test_what_was_carried_out_is_not_sent_again_where_only_the_reply_got_lost(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server()
    async with Relay(server) as relay:
        link = new_link(parse_hosts([relay.url])[0])
        assert await link.run(APPEND, ["l"], [0]) == 1
        relay.lines[0].to_client.clear()
        futures = [link.run(APPEND, ["l"], [number]) for number in range(1, 6)]
        plain = link.call("LLEN", "l")
        await eventually(lambda: len(numbers(server, "l")) == 6)
        later = link.run(APPEND, ["l"], [6])
        relay.lines[0].cut()
        assert await settle([*futures, plain, later]) in ([None] * 5 + [6, 7], [None] * 5 + [7, None])
        assert numbers(server, "l") == list(range(7))
        await link.close()


async def test_what_an_old_connection_still_brings_is_refused(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    async with Relay(server) as relay:
        link = new_link(parse_hosts([relay.url])[0])
        await link.run(APPEND, ["l"], [0])
        old = relay.lines[0]
        old.to_server.clear()
        before = old.received
        futures = [link.run(APPEND, ["l"], [number]) for number in range(1, 6)]
        await eventually(lambda: old.received > before)
        # The claim over the new connection is carried out, its reply comes late: the old calls are in between.
        relay.trap = b"\r\nEVAL\r\n"
        old.cut()
        assert link.sender_key is not None
        sender = link.sender_key
        await eventually(lambda: server.command("GET", sender).startswith(b"2"))
        refused = refusals(server)
        old.to_server.set()
        await eventually(lambda: refusals(server) == refused + 5)
        relay.lines[1].to_client.set()
        assert await settle(futures) == [2, 3, 4, 5, 6]
        assert numbers(server, "l") == list(range(6))
        assert link.connects == 2
        await link.close()


def refusals(server: Server) -> int:
    """Count the calls that were refused because it was not their turn."""
    return int(server.info("errorstats").get("errorstat_OUTOFTURN", "count=0").removeprefix("count="))


@pytest.mark.untraced
async def test_scripts_that_were_flushed_are_loaded_again(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)

    async def disturb(number: int) -> None:
        if number % 100 == 99:
            server.command("SCRIPT", "FLUSH")
        await asyncio.sleep(0)

    replies = await traffic(link, "l", 5000, disturb)
    assert numbers(server, "l") == list(range(5000))
    assert replies == list(range(1, 5001))
    assert link.connects == 1


async def test_plain_calls_stay_behind_a_numbered_one_that_is_sent_again(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server()
    link = new_link(server)
    await link.call("PING")
    server.command("SCRIPT", "FLUSH")
    futures = [
        link.run(APPEND, ["l"], [1]),
        link.call("LLEN", "l"),
        link.run(APPEND, ["l"], [2]),
        link.call("LLEN", "l"),
    ]
    assert await settle(futures) == [1, 1, 2, 2]


@pytest.mark.parametrize("flushes_scripts", [False, True])
async def test_a_flushed_server_goes_on_counting(
    new_server: NewServer, new_link: NewLink, flushes_scripts: bool
) -> None:
    server = new_server()
    link = new_link(server)
    assert await settle(link.run(APPEND, ["l"], [number]) for number in range(3)) == [1, 2, 3]
    server.flush()
    if flushes_scripts:
        server.command("SCRIPT", "FLUSH")
    assert await settle(link.run(APPEND, ["l"], [number]) for number in range(3)) == [1, 2, 3]
    assert link.connects == 1


async def test_a_stopped_server_that_goes_on_in_time_loses_nothing(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, timeout=10.0)
    await link.run(APPEND, ["l"], [0])
    with server.paused():
        futures = [link.run(APPEND, ["l"], [number]) for number in range(1, 2000)]
        await asyncio.sleep(0.3)
    assert await settle(futures) == list(range(2, 2001))
    assert link.connects == 1


async def test_calls_to_a_stopped_server_end_in_time(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, timeout=1.5)
    await link.run(APPEND, ["l"], ["first"])
    loop = asyncio.get_running_loop()
    began = loop.time()
    with server.paused():
        written = [link.run(APPEND, ["l"], [number]) for number in range(10)]
        await eventually(lambda: link.in_flight == 10)
        errors = await settle(written)
        waited = loop.time() - began
        assert all(isinstance(error, ChannelLayerUnavailable) and error.sent for error in errors)
        assert "no reply within 1.5 s" in str(errors[0])
        assert "it may have been carried out" in str(errors[0])
        # The connection is given up; another cannot be made, so this is not even written.
        await eventually(lambda: not link.connected)
        later = await settle([link.run(APPEND, ["l"], ["later"])])
        assert isinstance(later[0], ChannelLayerUnavailable)
        assert later[0].sent is False
        assert 1.4 < later[0].seconds < BUSY
    assert 1.4 < waited < BUSY
    assert await link.run(APPEND, ["l"], ["last"]) == server.command("LLEN", "l")
    values = server.command("LRANGE", "l", 0, -1)
    # What was still on its way in the old connection came in its order and before the last, or not at all.
    assert values[0] == b"first"
    assert values[-1] == b"last"
    assert b"later" not in values
    middle = [int(value) for value in values[1:-1]]
    assert middle == list(range(len(middle)))


async def test_calls_on_their_way_in_an_old_connection_come_only_once(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, timeout=1.5, random=lambda: 0.1)
    await link.run(APPEND, ["l"], ["first"])
    # More than the server reads at once, so that the old connection is still being read while the new one is.
    futures: list[asyncio.Future[Any]] = []
    server.pause()
    futures += [link.run(APPEND, ["l"], [number, b"x" * 900]) for number in range(60)]
    await eventually(lambda: link.in_flight == 60)
    await asyncio.sleep(0.9)
    # Younger than the rest: still valid when the connection is given up, and sent again over the new one.
    futures += [link.run(APPEND, ["l"], [number, b"x" * 900]) for number in range(60, 120)]
    await eventually(lambda: not link.connected)
    server.resume()
    results = await settle(futures)
    await link.run(APPEND, ["l"], ["last"])
    values = [int(value) for value in server.command("LRANGE", "l", 1, -2)]
    assert values == sorted(set(values))
    for number, result in enumerate(results):
        if isinstance(result, ChannelLayerUnavailable):
            assert result.sent or number not in values
        else:
            assert number in values


async def test_a_full_connection_to_a_stopped_server_is_closed_at_once(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server(config={"client-query-buffer-limit": "1gb"})
    # The machine may be busy with something else for a while, but hardly each time.
    links = [new_link(server, timeout=30.0) for _ in range(3)]
    for link in links:
        await link.call("PING")
    server.pause()
    loop = asyncio.get_running_loop()
    took = []
    for link in links:
        future = link.call("SET", "x", b"x" * 50_000_000)
        await eventually(lambda link=link: link.in_flight == 1)  # type: ignore[misc]
        await asyncio.sleep(0.05)
        began = loop.time()
        await link.close()
        took.append(loop.time() - began)
        assert future.done()
    assert min(took) < 0.5
    server.kill()
    # Only now can the kernel give up what it was to send.
    await asyncio.sleep(0.05)


async def test_a_server_that_is_away_is_waited_for(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    server.kill()
    link = new_link(server)
    future = link.call("PING")
    await eventually(lambda: link.error is not None)
    short = new_link(server, timeout=1.5)
    with pytest.raises(ChannelLayerUnavailable, match=r"No call to .*: no reply within 1.5 s \(last error: .+\)"):
        await short.call("PING")
    await asyncio.to_thread(server.restart)
    assert await future == b"PONG"
    await eventually(lambda: short.connected)
    assert await short.call("PING") == b"PONG"


async def test_what_must_not_be_sent_twice_is_not(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    await link.call("PING")
    once, again = link.call_once("BLPOP", "a", 0), link.call("BLPOP", "b", 0)
    await eventually(lambda: link.in_flight == 2)
    await eventually(lambda: server.info("clients")["blocked_clients"] == "1")
    waiting = link.call_once("PING")
    server.kill_clients(name="sealane-link")
    with pytest.raises(ChannelLayerUnavailable, match="the connection was lost") as caught:
        await once
    assert caught.value.sent
    server.command("RPUSH", "b", "x")
    assert await again == [b"b", b"x"]
    (answer,) = await settle([waiting])
    # It may have been written behind the other two.
    assert answer == b"PONG" or (isinstance(answer, ChannelLayerUnavailable) and answer.sent)


async def test_a_replica_is_not_written_to(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    await link.run(APPEND, ["l"], [0])
    server.command("REPLICAOF", "127.0.0.1", "1")
    futures = [link.run(APPEND, ["l"], [1]), link.call("SET", "x", 1), link.run(APPEND, ["l"], [2])]
    await eventually(lambda: link.reconnects > 2)
    assert "read only replica" in (link.error or "")
    server.command("REPLICAOF", "NO", "ONE")
    assert await settle(futures) == [2, b"OK", 3]


async def test_a_server_that_loads_its_data_is_waited_for(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server(config={"enable-debug-command": "yes", "loading-process-events-interval-bytes": "1024"})
    for number in range(400):
        server.command("SET", f"k{number}", "x" * 1000)
    link = new_link(server)
    await link.run(APPEND, ["l"], [0])
    server.command("CONFIG", "SET", "key-load-delay", 6000)

    def reload_slowly() -> None:
        with server.connect(timeout=60) as wire:
            wire.command("DEBUG", "RELOAD")

    reload = asyncio.create_task(asyncio.to_thread(reload_slowly))
    futures: list[asyncio.Future[Any]] = []
    while not reload.done():
        futures.append(link.run(APPEND, ["l"], [len(futures) + 1]))
        await asyncio.sleep(0.01)
    await reload
    await settle(futures)
    assert "loading" in (link.error or "")
    assert numbers(server, "l") == list(range(len(futures) + 1))


async def test_a_busy_server_is_waited_for(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server(config={"busy-reply-threshold": "50"})
    link = new_link(server)
    await link.run(APPEND, ["l"], [0])

    def run_for_ever() -> None:
        with server.connect(timeout=60) as wire, pytest.raises(ServerError, match="killed"):
            wire.command("EVAL", "while true do end", 0)

    def is_busy() -> bool:
        try:
            server.command("PING")
        except ServerError as error:
            return error.code == "BUSY"
        return False

    busy = asyncio.create_task(asyncio.to_thread(run_for_ever))
    await eventually(is_busy)
    futures = [link.run(APPEND, ["l"], [number]) for number in range(1, 10)]
    await eventually(lambda: "BUSY" in (link.error or ""))
    server.command("SCRIPT", "KILL")
    await busy
    assert await settle(futures) == list(range(2, 11))
    assert link.connects == 1


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_a_full_server_is_told_at_once(new_server: NewServer, new_link: NewLink, flavour: str) -> None:
    server = new_server(flavour)
    link = new_link(server)
    await link.run(APPEND, ["l"], [0])
    await link.run(APPEND, ["fill"], [b"x" * 4_000_000])
    server.command("CONFIG", "SET", "maxmemory", 3_000_000)
    futures = [
        link.run(APPEND, ["l"], [1]),
        link.call("SET", "x", 1),
        link.call("GET", "x"),
        link.run(APPEND, ["l"], [2]),
    ]
    first, second, none, third = await settle(futures)
    assert none is None
    for reply in (first, second, third):
        assert isinstance(reply, ChannelLayerUnavailable)
        assert "the server's memory is full (maxmemory)" in str(reply)
        assert reply.sent is False
    await link.call("DEL", "fill")
    # Memory is freed in the background.
    await eventually(lambda: int(server.info("memory")["used_memory"]) < 2_500_000)
    assert await settle(link.run(APPEND, ["l"], [number]) for number in (3, 4)) == [2, 3]
    assert numbers(server, "l") == [0, 3, 4]
    assert link.connects == 1


# Groups of servers


async def test_a_failover_is_followed(sentinel_group: SentinelGroup, new_link: NewLink, key_prefix: str) -> None:
    (place,) = parse_hosts([sentinel_group.hosts])
    link = new_link(place)
    key = f"{key_prefix}:l"
    await link.run(APPEND, [key], [0])
    failover = asyncio.create_task(asyncio.to_thread(sentinel_group.failover))
    futures: list[asyncio.Future[Any]] = []
    while not failover.done():
        futures.append(link.run(APPEND, [key], [len(futures) + 1]))
        await asyncio.sleep(0.01)
    master = await failover
    futures.append(link.run(APPEND, [key], [len(futures) + 1]))
    replies = await settle(futures)
    assert not [reply for reply in replies if isinstance(reply, BaseException)]
    await link.call("PING")
    values = numbers(master, key)
    # The old master may take writes for a moment after the switch, and loses them. What is there is in order, once.
    assert values == sorted(set(values))
    assert master.port == sentinel_group.master().port


@pytest.mark.parametrize("atomic", [False, True], ids=["classic", "atomic"])
async def test_a_slot_that_moves_is_followed(
    cluster: Cluster, new_link: NewLink, key_prefix: str, atomic: bool
) -> None:
    place = parse_hosts([cluster.hosts], shards=1)[0]
    sender, key, count = f"{key_prefix}{place.tag}:s:", f"{key_prefix}{place.tag}:l", f"{key_prefix}{place.tag}:n"
    link = new_link(place, sender=sender)
    slot = slot_of(key)
    target = next(node for node in cluster.masters() if node.port != cluster.owner_of(slot).port)
    assert await link.run(BOTH, [key, count], [0]) == 1
    move = asyncio.create_task(asyncio.to_thread(cluster.migrate_slot, slot, target, atomic=atomic))
    futures: list[asyncio.Future[Any]] = []
    while not move.done():
        futures.append(link.run(BOTH, [key, count], [len(futures) + 1]))
        await asyncio.sleep(0.002)
    await move
    futures.append(link.run(BOTH, [key, count], [len(futures) + 1]))
    replies = await settle(futures)
    assert all(reply in (None, number + 2) for number, reply in enumerate(replies))
    assert numbers(target, key) == list(range(len(futures) + 1))
    assert link.reconnects >= 1


async def test_a_slot_that_moves_slowly_is_waited_for(cluster: Cluster, new_link: NewLink, key_prefix: str) -> None:
    place = parse_hosts([cluster.hosts], shards=1)[0]
    sender, key, count = f"{key_prefix}{place.tag}:s:", f"{key_prefix}{place.tag}:l", f"{key_prefix}{place.tag}:n"
    link = new_link(place, sender=sender)
    slot = slot_of(key)
    target = next(node for node in cluster.masters() if node.port != cluster.owner_of(slot).port)
    assert await link.run(BOTH, [key, count], [0]) == 1
    migration = cluster.migration(slot, target)
    migration.begin()
    # Keys that are not there yet are asked for at the target: ASK, and TRYAGAIN beside some that are there.
    missing = f"{key_prefix}{place.tag}:new"
    futures = [link.run(APPEND, [missing], [number]) for number in range(5)]
    futures += [link.run(BOTH, [key, count], [number]) for number in range(1, 4)]
    futures += [link.call("LLEN", missing), link.run(GET, [f"{missing}2"])]
    await eventually(lambda: link.error is not None)
    assert link.connects == 1
    await asyncio.sleep(0.1)
    assert not [future for future in futures if future.done()]
    await asyncio.to_thread(migration.move_keys)
    await asyncio.to_thread(migration.finish)
    assert await settle(futures) == [1, 2, 3, 4, 5, 2, 3, 4, 5, None]
    assert numbers(target, key) == [0, 1, 2, 3]


# Callers that are cancelled, and the end


async def test_a_caller_cancelled_before_the_write_sends_nothing(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    await link.call("PING")
    caller = asyncio.create_task(wait_for(link.run(APPEND, ["l"], [1])))
    later = link.run(APPEND, ["l"], [2])
    caller.cancel()
    link.call("INCR", "x").cancel()
    assert await later in (1, 2)
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert await link.call("GET", "x") is None


async def wait_for(future: "asyncio.Future[Any]") -> Any:
    return await future


async def test_a_caller_may_be_cancelled_at_any_moment(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    await link.call("PING")
    cancelled = []
    # Each caller is cancelled some turns of the loop after its call: before the write, on its way, after the reply.
    for number in range(300):
        caller = asyncio.create_task(wait_for(link.run(APPEND, ["l"], [number])))
        beside = link.call("ECHO", number)
        for _ in range(number % 12):
            await asyncio.sleep(0)
        if caller.cancel():
            cancelled.append(number)
        await asyncio.wait([caller])
        assert await beside == b"%d" % number
        assert caller.cancelled() or caller.result() > 0
    values = numbers(server, "l")
    assert values == sorted(set(values))
    assert set(range(300)) - set(values) <= set(cancelled)
    assert link.connects == 1
    assert (link.in_flight, link.queued) == (0, 0)


async def test_cancelled_callers_lose_nothing_of_others_over_a_lost_connection(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server()
    link = new_link(server)
    await link.call("PING")
    kept: list[tuple[int, asyncio.Future[Any]]] = []
    dropped: list[tuple[int, asyncio.Future[Any]]] = []
    for number in range(1000):
        future = link.run(APPEND, ["l"], [number])
        (dropped if number % 3 == 0 else kept).append((number, future))
        if number % 50 == 49:
            await asyncio.sleep(0)
            if number % 200 == 199:
                server.kill_clients(name="sealane-link")
            for _, future in dropped:
                future.cancel()
            await asyncio.sleep(0.001)
    replies = await settle(future for _, future in kept)
    assert not [reply for reply in replies if isinstance(reply, BaseException)]
    values = numbers(server, "l")
    assert values == sorted(set(values))
    assert {number for number, _ in kept} <= set(values)


async def test_calls_that_nobody_waits_for_are_made(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    for _ in range(10):
        link.call("INCR", "x")
        # Its error is nobody's.
        link.call("INCR", "x", "wrong")
    assert await link.call("GET", "x") == b"10"


async def test_closing_fails_what_is_under_way(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    await link.call("PING")
    blocked = link.call("BLPOP", "x", 0)
    await eventually(lambda: link.in_flight == 1)
    waiting = link.call("INCR", "x")
    await link.close()
    errors = await settle([blocked, waiting])
    assert [(type(error), error.problem, error.sent) for error in errors] == [
        (ChannelLayerUnavailable, "the link was closed", True),
        (ChannelLayerUnavailable, "the link was closed", False),
    ]
    await eventually(lambda: not [client for client in server.clients() if client["name"] == "sealane-link"])
    await link.close()
    with pytest.raises(ChannelLayerUnavailable, match="the link is closed"):
        link.call("PING")
    with pytest.raises(ChannelLayerUnavailable, match="the link is closed"):
        link.open()


@pytest.mark.untraced
async def test_a_link_is_closed_at_any_moment_of_its_opening(valkey_server: Server, new_link: NewLink) -> None:
    for turns in range(60):
        link = new_link(valkey_server)
        future = link.call("PING")
        for _ in range(turns):
            await asyncio.sleep(0)
        await link.close()
        (reply,) = await settle([future])
        assert reply == b"PONG" or isinstance(reply, ChannelLayerUnavailable)


async def test_a_link_that_was_never_used_closes(valkey_server: Server) -> None:
    link = Link(place_of(valkey_server))
    await link.close()
    assert link.closed


@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
async def test_a_loop_that_ends_without_closing_leaves_no_trace(valkey_server: Server, runner: str) -> None:
    program = """
        import asyncio
        import gc
        import importlib
        import sys

        from sealane.layers.redis.hosts import parse_hosts
        from sealane.layers.redis.link import Link

        async def use(turns):
            # A busy machine is nobody's fault.
            asyncio.get_running_loop().slow_callback_duration = 60.0
            link = Link(place)
            links.append(link)
            if turns is None:
                await link.call("PING")
                link.call("BLPOP", "none-such", 0)
            else:
                link.call("PING")
                for _ in range(turns):
                    await asyncio.sleep(0)

        links = []
        (place,) = parse_hosts([sys.argv[1]])
        for turns in [None, *range(40)]:
            importlib.import_module(sys.argv[2]).run(use(turns), debug=True)
            gc.collect()
        assert all(link.closed for link in links)
        asyncio.run(links[0].close())
        links.clear()
        gc.collect()
    """
    paths = [str(Path(__file__).parents[3] / "src")]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-X", "dev", "-c"),
        f"import sys; sys.path[:0] = {paths!r}\n{textwrap.dedent(program)}",
        valkey_server.url,
        runner,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert output.decode() == ""
    assert process.returncode == 0

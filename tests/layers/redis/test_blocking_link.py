"""Blocking calls from many threads, over real servers that are killed, stopped, moved and filled."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from sealane.exceptions import CallRefused, ChannelLayerUnavailable
from sealane.layers.redis.blocking_link import BlockingLink
from sealane.layers.redis.hosts import parse_hosts
from sealane.layers.redis.places import Place
from sealane.layers.redis.script import Script
from tests.servers import Cluster, SentinelGroup, Server, ServerError, slot_of, wait_until

#: Appends a value to a list; returns how long the list is.
APPEND = Script("append", "return redis.call('RPUSH', KEYS[2] .. ':list', ARGV[2])", numbered=True)
READ = Script("read", "return redis.call('LRANGE', KEYS[1] .. ':list', 0, -1)")
FAIL = Script("fail", "return redis.call('INCR', KEYS[2] .. ':list')", numbered=True)

#: Seconds for which a busy machine may keep a process waiting. A server that is stopped never answers.
BUSY = 10.0

NewLink = Callable[..., BlockingLink]
NewServer = Callable[..., Server]


@pytest.fixture
def new_link(key_prefix: str) -> Iterator[NewLink]:
    """Call it with a server or a place, and BlockingLink's options. What it makes is closed after the test."""
    links = []

    def make(where: Server | Place, **options: Any) -> BlockingLink:
        place = parse_hosts([where.url])[0] if isinstance(where, Server) else where
        link = BlockingLink(place, f"{key_prefix}{place.tag}".encode(), **{"timeout": 20.0, **options})
        links.append(link)
        return link

    yield make
    for link in links:
        link.close()
        assert link.connections == 0


def listed(link: BlockingLink) -> list[str]:
    return [value.decode() for value in link.run(READ)]


class Interrupted(Exception):
    pass


@contextmanager
def interrupted(seconds: float = 1.5) -> Iterator[None]:
    """Raise Interrupted in the block after so many seconds, as the time limit of a task does, and expect it."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    former = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        with pytest.raises(Interrupted):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def resumed_after_the_first_try(link: BlockingLink, server: Server) -> threading.Thread:
    """Let a server that stands still go on when a call has given up its first connection, after half of its time."""

    def resume() -> None:
        wait_until(lambda: link.error, what="the end of the first try")
        server.resume()

    thread = threading.Thread(target=resume)
    thread.start()
    return thread


def is_busy(server: Server) -> bool:
    try:
        server.command("PING")
    except ServerError as exc:
        return str(exc).startswith("BUSY")
    return False


def clients(server: Server) -> list[dict[str, str]]:
    return [client for client in server.clients() if client["name"] == "sealane-sync"]


# Calls


def test_replies_are_raw(plain_server: Server, new_link: NewLink, key_prefix: str) -> None:
    link = new_link(plain_server)
    assert link.call("SET", f"{key_prefix}:key", "ä") == b"OK"
    assert link.call("GET", f"{key_prefix}:key") == "ä".encode()
    assert link.call("GET", f"{key_prefix}:none") is None
    assert [link.run(APPEND, value) for value in ("a", b"b", 3)] == [1, 2, 3]
    assert link.run(READ) == [b"a", b"b", b"3"]
    assert link.call_once("PUBLISH", f"{key_prefix}:topic", b"x") == 0


def test_error_replies_are_the_callers_and_harm_no_other_call(plain_server: Server, new_link: NewLink) -> None:
    link = new_link(plain_server)
    assert link.run(APPEND, "a") == 1
    with pytest.raises(CallRefused, match="WRONGTYPE"):
        link.run(FAIL)
    with pytest.raises(CallRefused, match="unknown command"):
        link.call("NONSENSE")
    with pytest.raises(TypeError, match="An argument of a command is bytes, str, int or float, not list"):
        link.run(APPEND, ["a"])  # type: ignore[arg-type]
    assert link.run(APPEND, "b") == 2
    assert link.connections == 1


def test_calls_one_after_another_share_a_connection_and_need_one_round_trip(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server()
    link = new_link(server)
    link.run(APPEND, "first")
    before = server.command_calls()
    for number in range(100):
        link.run(APPEND, number)
    after = server.command_calls()
    assert {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)} == {
        "evalsha": 100,
        "get": 100,
        "incr": 100,
        "rpush": 100,
        "info": 1,
    }
    assert len(clients(server)) == 1


def test_threads_have_a_connection_each_while_they_call(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: link.run(APPEND, number), range(400)))
    assert sorted(map(int, listed(link))) == list(range(400))
    assert 1 <= len(clients(server)) <= 4


def test_a_link_says_how_it_is(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server(password="hush")
    link = new_link(server, timeout=2.0)
    assert repr(link) == f"<BlockingLink sealane-sync to 127.0.0.1:{server.port}/0: 0 connections>"
    link.call("PING")
    assert repr(link) == f"<BlockingLink sealane-sync to 127.0.0.1:{server.port}/0: 1 connections>"
    server.stop()
    with pytest.raises(ChannelLayerUnavailable) as caught:
        link.call("PING")
    assert "last error: " in repr(link)
    assert "hush" not in f"{link!r} {caught.value}"


def test_a_closed_link_opens_again(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    link.run(APPEND, "a")
    link.close()
    link.close()
    wait_until(lambda: not clients(server), what="the end of the connection")
    assert link.run(APPEND, "b") == 2
    assert len(clients(server)) == 1


def test_a_connection_in_use_is_closed_when_its_call_ends(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    replies = []
    thread = threading.Thread(target=lambda: replies.append(link.call("BLPOP", "queue", 10)))
    thread.start()
    wait_until(lambda: any(client["flags"] == "b" for client in server.clients()), what="the blocked call")
    link.close()
    server.command("RPUSH", "queue", "a")
    thread.join()
    assert replies == [[b"queue", b"a"]]
    wait_until(lambda: not clients(server), what="the end of the connection")


# Lost connections


def test_a_connection_that_was_closed_meanwhile_is_made_again(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    for number in range(1, 4):
        assert link.run(APPEND, number) == number
        assert server.kill_clients(name="sealane-sync") == 1
    # Nothing was under way: the one that must not be sent twice is not in doubt either.
    assert link.call_once("RPUSH", "other", "a") == 1
    assert server.kill_clients(name="sealane-sync") == 1
    assert link.call_once("RPUSH", "other", "b") == 2


def test_nothing_is_lost_or_repeated_over_killed_connections(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    threads, each = 4, 300
    done = threading.Event()
    kills = 0

    def kill() -> None:
        nonlocal kills
        while not done.is_set():
            kills += server.kill_clients(name="sealane-sync")

    def send(sender: int) -> None:
        for number in range(each):
            link.run(APPEND, f"{sender}.{number}")

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(send, range(threads)))
    finally:
        done.set()
        killer.join()
    assert kills > 10
    values = listed(link)
    for sender in range(threads):
        own = [value for value in values if value.startswith(f"{sender}.")]
        assert own == [f"{sender}.{number}" for number in range(each)]
    assert len(values) == threads * each


def test_a_call_whose_reply_is_lost_is_carried_out_once(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, timeout=5.0)
    assert link.run(APPEND, "a") == 1
    server.pause()
    # When the server goes on it has the call from the old connection.
    resuming = resumed_after_the_first_try(link, server)
    assert link.run(APPEND, "b") is None
    resuming.join()
    assert link.run(APPEND, "c") == 3
    assert listed(link) == ["a", "b", "c"]


def test_a_killed_server_that_kept_its_data_loses_and_repeats_nothing(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server(appendonly=True)
    link = new_link(server)
    sent = threading.Event()

    def send() -> None:
        for number in range(600):
            if number == 200:
                sent.set()
            link.run(APPEND, number)

    thread = threading.Thread(target=send)
    thread.start()
    assert sent.wait(20)
    server.kill()
    server.restart()
    thread.join()
    assert listed(link) == [str(number) for number in range(600)]


def test_scripts_and_keys_that_were_flushed_do_no_harm(
    plain_server: Server, new_link: NewLink, key_prefix: str
) -> None:
    link = new_link(plain_server)
    assert [link.run(APPEND, "a"), link.run(APPEND, "b")] == [1, 2]
    plain_server.command("SCRIPT", "FLUSH")
    assert link.run(APPEND, "c") == 3
    plain_server.command("SCRIPT", "FLUSH")
    assert listed(link) == ["a", "b", "c"]
    for key in plain_server.keys(f"{key_prefix}*"):
        plain_server.command("DEL", key)
    assert [link.run(APPEND, "d"), link.run(APPEND, "e")] == [1, 2]
    assert link.error is None


def test_a_script_is_loaded_once_and_alone(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    assert [new_link(server).run(APPEND, value) for value in "abc"] == [1, 2, 3]
    assert server.command_calls()["script|load"] == 1
    assert listed(new_link(server)) == ["a", "b", "c"]
    assert server.command_calls()["script|load"] == 2


def test_a_script_that_the_server_does_not_keep_is_not_loaded_without_end(
    new_server: NewServer, new_link: NewLink
) -> None:
    server = new_server()
    link = new_link(server, timeout=3.0)
    script = Script("kept", "return 1")
    # As at a proxy that gives each command to another server.
    object.__setattr__(script, "sha1", "0" * 40)
    with pytest.raises(ChannelLayerUnavailable, match=r"no reply within 3 s .*No matching script"):
        link.run(script)
    # One delay may be short by chance; all of them are not.
    assert 2 <= server.command_calls()["script|load"] < 60


def test_a_stopped_server_is_given_up_in_time(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, timeout=2.0)
    assert link.run(APPEND, "a") == 1
    started = time.monotonic()
    with server.paused():
        with pytest.raises(ChannelLayerUnavailable, match=r"no reply within 2 s.*; it may have") as caught:
            link.run(APPEND, "doubtful")
        assert caught.value.sent
        assert time.monotonic() - started < BUSY
        with pytest.raises(ChannelLayerUnavailable, match="it was not carried out") as caught:
            link.run(APPEND, "never")
        assert not caught.value.sent
    assert link.run(APPEND, "b") == 3
    # The doubtful one was carried out, before the one that was called after it, and only once.
    assert listed(link) == ["a", "doubtful", "b"]


def test_a_call_is_not_mistaken_for_the_one_before_it(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, timeout=5.0)
    assert link.run(APPEND, "a") == 1
    with server.paused(), interrupted():
        link.run(APPEND, "doubtful")
    # Connected again, but the count of calls is not claimed yet. The reply to that, and to the next call, is lost too.
    link.call("PING")
    link.error = None
    server.pause()
    resuming = resumed_after_the_first_try(link, server)
    link.run(APPEND, "b")
    resuming.join()
    assert listed(link) == ["a", "doubtful", "b"]


def test_a_server_that_is_away_is_waited_for(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server(appendonly=True)
    link = new_link(server, timeout=10.0)
    link.run(APPEND, "a")
    server.kill()
    restarting = threading.Timer(0.3, server.restart)
    restarting.start()
    assert link.run(APPEND, "b") == 2
    # It may answer us before its own thread has heard that it does.
    restarting.join()


def test_a_server_that_stays_away_is_told(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, timeout=0.3)
    server.stop()
    with pytest.raises(ChannelLayerUnavailable, match=r"no reply within 0\.3 s.*; it was not carried out") as caught:
        link.run(APPEND, "a")
    assert caught.value.place == f"127.0.0.1:{server.port}/0"
    assert not caught.value.sent
    assert 0.3 <= caught.value.seconds < BUSY


def test_what_must_not_be_sent_twice_is_not(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, timeout=5.0)
    link.call("PING")
    server.pause()
    # There would be time enough to send it again.
    resuming = resumed_after_the_first_try(link, server)
    with pytest.raises(ChannelLayerUnavailable, match=r"the connection was lost.*may have been carried out") as caught:
        link.call_once("RPUSH", "list", "a")
    assert caught.value.sent
    resuming.join()
    wait_until(lambda: server.command("LLEN", "list") == 1, what="the call that was on its way")
    assert link.call_once("RPUSH", "list", "b") == 2
    assert server.command("LRANGE", "list", 0, -1) == [b"a", b"b"]


def test_what_is_not_numbered_is_in_doubt_after_a_failed_call_too(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server, timeout=2.0)
    with pytest.raises(CallRefused):
        link.call("NONSENSE")
    with server.paused():
        with pytest.raises(ChannelLayerUnavailable, match="may have been carried out") as caught:
            link.call_once("RPUSH", "list", "a")
        assert caught.value.sent
    wait_until(lambda: server.command("LLEN", "list") == 1, what="the call that was on its way")


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
def test_a_full_server_is_told_at_once(new_server: NewServer, new_link: NewLink, flavour: str) -> None:
    server = new_server(flavour, maxmemory="8mb")
    link = new_link(server)
    link.run(APPEND, "a")
    server.command("CONFIG", "SET", "maxmemory", "1")
    for value in ("b", "c"):
        with pytest.raises(ChannelLayerUnavailable, match="memory is full") as caught:
            link.run(APPEND, value)
        assert not caught.value.sent
    assert listed(link) == ["a"]
    server.command("CONFIG", "SET", "maxmemory", "100mb")
    assert link.run(APPEND, "d") == 2


def test_a_busy_server_is_waited_for(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server(config={"lua-time-limit": "50"})
    link = new_link(server)
    link.run(APPEND, "a")

    def loop() -> None:
        with pytest.raises(ServerError, match="killed"):
            server.command("EVAL", "while true do end", 0)

    thread = threading.Thread(target=loop)
    thread.start()
    wait_until(lambda: is_busy(server), what="the script that does not end")
    killing = threading.Timer(0.3, lambda: server.command("SCRIPT", "KILL"))
    killing.start()
    assert link.run(APPEND, "b") == 2
    killing.join()
    thread.join()


# Interruptions


def test_an_interrupted_call_leaves_the_link_in_order(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    assert link.call("ECHO", "a") == b"a"
    assert link.run(APPEND, "a") == 1

    calls: list[Callable[[], Any]] = [lambda: link.run(APPEND, "doubtful"), lambda: link.call("ECHO", "stale")]
    for call in calls:
        with server.paused(), interrupted():
            call()
        # The reply to the interrupted call is not taken for this one's.
        assert link.call("ECHO", "fresh") == b"fresh"
    assert link.run(APPEND, "b") == 3
    assert listed(link) == ["a", "doubtful", "b"]


# Places


def test_a_failover_is_followed(sentinel_group: SentinelGroup, new_link: NewLink) -> None:
    (place,) = parse_hosts([sentinel_group.hosts])
    link = new_link(place)
    link.run(APPEND, "before")
    old = sentinel_group.master()
    new = sentinel_group.failover()
    key = link.base + b":list"

    def arrived() -> bool:
        # For a while the old master takes writes, which are lost when it becomes a replica.
        link.run(APPEND, "after")
        return b"after" in new.command("LRANGE", key, 0, -1)

    wait_until(arrived, within=20, what="a call to the new master")
    assert old is not new


def test_a_slot_that_moves_is_followed(cluster: Cluster, new_link: NewLink) -> None:
    place = parse_hosts([cluster.hosts])[0]
    link = new_link(place)
    assert link.run(APPEND, "a") == 1
    slot = slot_of(link.base.decode())
    target = next(node for node in cluster.masters() if node is not cluster.owner_of(slot))
    cluster.migrate_slot(slot, target)
    assert link.run(APPEND, "b") == 2
    assert target.command("LRANGE", link.base + b":list", 0, -1) == [b"a", b"b"]


def test_a_slot_that_is_on_its_way_is_waited_for(cluster: Cluster, new_link: NewLink) -> None:
    place = parse_hosts([cluster.hosts])[0]
    link = new_link(place)
    assert link.run(APPEND, "a") == 1
    slot = slot_of(link.base.decode())
    target = next(node for node in cluster.masters() if node is not cluster.owner_of(slot))
    migration = cluster.migration(slot, target)
    migration.begin()
    finishing = threading.Timer(0.3, migration.finish)
    finishing.start()
    assert link.run(APPEND, "b") == 2
    finishing.join()
    assert listed(link) == ["a", "b"]


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_forked_processes_share_no_connection(new_server: NewServer, new_link: NewLink) -> None:
    server = new_server()
    link = new_link(server)
    link.run(APPEND, "parent.first")
    # One more, which a thread is using while the others are made.
    thread = threading.Thread(target=lambda: link.call("BLPOP", "queue", 20))
    thread.start()
    wait_until(lambda: any(client["flags"] == "b" for client in server.clients()), what="the blocked call")
    link.run(APPEND, "parent.second")
    used = {client["id"] for client in clients(server)}
    assert len(used) == 2

    lines = list(link._lines)
    children = []
    for child in ("one", "two"):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert not any(line.connected for line in lines)
                assert not link._lines
                for number in range(300):
                    link.run(APPEND, f"{child}.{number}")
                assert str(link.call("CLIENT", "ID")) not in used
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    for number in range(300):
        link.run(APPEND, f"parent.{number}")
    for pid in children:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    # The parent's connections outlive the children.
    assert {client["id"] for client in clients(server)} == used
    server.command("RPUSH", "queue", "x")
    thread.join()
    values = listed(link)
    for name in ("one", "two", "parent"):
        own = [value for value in values[2:] if value.startswith(f"{name}.")]
        assert own == [f"{name}.{number}" for number in range(300)]
    assert len(values) == 902

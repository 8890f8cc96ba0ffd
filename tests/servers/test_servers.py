"""The servers do what the tests of the layers rely on."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.servers import (
    Cluster,
    Flavour,
    SentinelGroup,
    Server,
    ServerError,
    available,
    server,
    slot_of,
    wait_until,
)
from tests.servers.ports import RANGE, free_port
from tests.servers.server import PortTaken

ROOT = Path(__file__).parents[2]

needs_redis = pytest.mark.skipif(not available("redis"), reason="redis-server is not on the PATH")

pytestmark = pytest.mark.untraced

FLAVOURS = [pytest.param("valkey", id="valkey"), pytest.param("redis", id="redis", marks=needs_redis)]


@pytest.fixture(scope="module", params=FLAVOURS)
def shared(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as one:
        yield one


def test_answers_the_client_library(shared: Server) -> None:
    with redis.Redis.from_url(shared.url) as client:
        assert client.info("server")["process_id"] == shared.pid


def test_each_kind_of_reply(shared: Server) -> None:
    with shared.connect() as wire:
        assert wire.command("SET", "replies", b"\r\n\x00") == b"OK"
        assert wire.command("GET", "replies") == b"\r\n\x00"
        assert wire.command("GET", "nothing") is None
        assert wire.command("STRLEN", "replies") == 3
        assert wire.command("MGET", "replies", "nothing") == [b"\r\n\x00", None]
        with pytest.raises(ServerError, match=r"^ERR unknown command") as caught:
            wire.command("NONSENSE")
        assert caught.value.code == "ERR"
        wire.command("MULTI")
        wire.command("LPUSH", "replies", "x")
        (inner,) = wire.command("EXEC")
        assert isinstance(inner, ServerError)
        assert inner.code == "WRONGTYPE"


def test_counts_commands_and_bytes(shared: Server) -> None:
    shared.command("CONFIG", "RESETSTAT")
    shared.command("SET", "counted", "x" * 1000)
    shared.command("EVAL", "return redis.call('GET', 'counted')", 0)
    calls = shared.command_calls()
    assert (calls["set"], calls["get"], calls["eval"]) == (1, 1, 1)
    received, sent = shared.net_bytes()
    assert 1000 < received < 2000
    assert sent > 1000


def test_cuts_the_connections_that_match(shared: Server) -> None:
    with shared.connect() as chosen, shared.connect() as other:
        chosen.command("CLIENT", "SETNAME", "chosen-one")
        other.command("CLIENT", "SETNAME", "other")
        assert {client["name"] for client in shared.clients()} >= {"chosen-one", "other"}
        assert shared.kill_clients(name="chosen*", cmd="client*") == 1
        with pytest.raises(ConnectionResetError):
            chosen.command("PING")
        assert other.command("PING") == b"PONG"


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_keeps_its_port_and_what_is_on_disk(flavour: Flavour) -> None:
    with Server(flavour, appendonly=True) as one:
        port, pid = one.port, one.pid
        one.command("SET", "kept", "1")
        one.kill()
        assert not one.running
        with pytest.raises(ConnectionRefusedError):
            one.command("PING")
        one.restart()
        assert (one.port, one.keys()) == (port, [b"kept"])
        assert one.pid != pid
        one.restart(keep_data=False)
        assert (one.port, one.keys()) == (port, [])


def test_without_a_disk_it_begins_empty() -> None:
    with Server() as one:
        one.command("SET", "lost", "1")
        one.restart()
        assert one.keys() == []
        one.command("SET", "saved", "1")
        one.command("SAVE")
        one.restart()
        assert one.keys() == [b"saved"]


def test_a_paused_server_accepts_and_never_answers(shared: Server) -> None:
    with shared.paused(), shared.connect(timeout=0.1) as wire, pytest.raises(TimeoutError):
        wire.command("PING")
    assert shared.command("PING") == b"PONG"


def test_a_paused_server_can_be_ended() -> None:
    one = Server()
    for end in (one.kill, one.stop):
        one.start()
        one.pause()
        end()
        assert not one.running


def test_on_a_unix_socket() -> None:
    with Server(unix=True) as one:
        assert one.url == f"unix://{one.path}"
        with redis.Redis.from_url(one.url) as client:
            assert client.ping()
        with pytest.raises(RuntimeError, match="has no port"):
            _ = one.port


@needs_redis
def test_over_tls() -> None:
    with Server("redis", tls=True, password="a:secret/") as one:
        assert one.url == f"rediss://:a%3Asecret%2F@127.0.0.1:{one.port}"
        with redis.Redis.from_url(one.url, **one.tls_options) as client:
            assert client.ping()
        with redis.Redis.from_url(one.url) as stranger, pytest.raises(redis.ConnectionError, match="certificate"):
            stranger.ping()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_passwords_and_users(flavour: Flavour) -> None:
    with Server(flavour, password="secret") as one:
        with socket.create_connection(("127.0.0.1", one.port)) as plain:
            plain.sendall(b"PING\r\n")
            assert plain.recv(100).startswith(b"-NOAUTH")
        with redis.Redis.from_url(one.url) as client:
            assert client.ping()
        assert "secret" not in repr(one)
    with Server(flavour, users=["default off", "alice on >her-own ~asgi* &asgi* +@all -flushall"]) as one:
        with redis.Redis.from_url(one.url_as("alice", "her-own")) as client:
            client.set("asgi:1", "x")
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.set("other", "x")
        assert one.keys() == [b"asgi:1"]
        one.flush()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_full_memory_refuses_writes(flavour: Flavour) -> None:
    with Server(flavour, maxmemory="3mb") as one:
        with pytest.raises(ServerError, match=r"^OOM"):
            for number in range(40):
                one.command("SET", f"key{number}", "x" * 100_000)
        assert one.command("PING") == b"PONG"


def test_says_why_it_did_not_start() -> None:
    one = Server(config={"nonsense": "1"})
    with pytest.raises(RuntimeError, match=r"(?s)ended at its start. Its log: .*nonsense"):
        one.start()
    assert not one.running


def test_takes_another_port_where_one_is_taken(shared: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PortTaken, match=str(shared.port)):
        Server(port=shared.port).start()
    ports = iter([shared.port, shared.port, free_port()])
    monkeypatch.setattr(server, "free_port", lambda: next(ports))
    with Server() as one:
        assert one.port != shared.port
        assert one.info("server")["tcp_port"] == str(one.port)


def test_free_ports_are_no_ephemeral_ones() -> None:
    ports = [free_port(2) for _ in range(20)]
    ports += [port + 1 for port in ports]
    assert len(set(ports)) == 40
    assert all(port in RANGE for port in ports)
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if limits.exists():
        assert RANGE.stop <= int(limits.read_text().split()[0])


def test_waiting_names_what_it_waited_for() -> None:
    def refused() -> bool:
        raise ConnectionRefusedError("nobody there")

    with pytest.raises(TimeoutError, match=r"^the tide: not within 0.02 s \(ConnectionRefusedError: nobody there\)$"):
        wait_until(refused, within=0.02, what="the tide")
    looks = iter([False, False, True])
    wait_until(lambda: next(looks))


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        ("123456789", 0x31C3),
        ("foo", 12182),
        ("{foo}.following", 12182),
        (b"bar{foo}{zap}", 12182),
        ("", 0),
    ],
)
def test_slots(key: str | bytes, slot: int) -> None:
    assert slot_of(key) == slot


def test_slots_of_broken_tags() -> None:
    assert slot_of("foo{}{bar}") not in (slot_of("bar"), slot_of(""))
    assert slot_of("foo{{bar}}zap") == slot_of("{bar")


SCRIPT = """
import os, sys, threading, time
from tests.servers import Server
server = Server()
thread = threading.Thread(target=server.start)
thread.start()
thread.join()
if sys.argv[1] == "fork" and os.fork() == 0:
    # It holds all pipes of the parent for longer than the test takes.
    os.close(1)
    time.sleep(20)
    os._exit(0)
if sys.argv[1] == "pause":
    server.pause()
print(server.port, server.directory.parent, flush=True)
if sys.argv[1] != "end":
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("way", "ending"),
    [
        ("end", None),
        ("wait", signal.SIGINT),
        ("wait", signal.SIGKILL),
        ("pause", signal.SIGKILL),
        ("fork", signal.SIGKILL),
    ],
)
def test_no_server_outlives_the_process_that_started_it(way: str, ending: signal.Signals | None) -> None:
    """Started in a thread that has ended: it lives on, and ends with the process."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, way],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        port, directory = process.stdout.readline().split()
        try:
            if ending is not None:
                assert is_listening(int(port))
                process.send_signal(ending)
            process.wait(20)
            wait_until(lambda: not is_listening(int(port)), what="the server ends")
            wait_until(lambda: not Path(directory).exists(), what="the directory is removed")
        finally:
            # The forked child, which is in the session of its own parent.
            kill_group(process.pid)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def test_may_be_managed_from_any_thread() -> None:
    with Server() as one:
        thread = threading.Thread(target=one.restart)
        thread.start()
        thread.join()
        assert one.command("PING") == b"PONG"


def test_sentinel_group_after_the_death_of_its_master() -> None:
    with SentinelGroup(password="secret", sentinel_password="other") as group:
        old, replica = group.master(), group.replica()
        assert group.hosts["sentinels"] == [node.address for node in group.sentinels]
        old.command("SET", "key", "1")
        wait_until(lambda: replica.keys() == [b"key"], what="the replica has the key")
        assert group.kill_master() is replica
        assert not old.running
        assert replica.command("SET", "key", "2") == b"OK"
        group.heal()
        assert group.replica() is old
        assert old.command("GET", "key") == b"2"


@needs_redis
def test_sentinel_group_changes_places() -> None:
    with SentinelGroup("redis") as group:
        replica = group.replica()
        assert group.failover() is replica
        assert group.master() is replica
        assert group.master_address() == replica.address


def test_cluster() -> None:
    with Cluster(replicas=1, password="secret") as cluster:
        slot = slot_of("{tag}")
        home = cluster.owner_of(slot)
        target = next(node for node in cluster.masters() if node is not home)
        assert len(cluster.masters()) == len(cluster.replicas()) == 3
        for number in range(120):
            home.command("SET", f"{{tag}}{number}", "x")

        cluster.migrate_slot(slot, target)
        assert cluster.owner_of(slot) is target
        assert (len(home.keys()), len(target.keys())) == (0, 120)
        with pytest.raises(ServerError, match=f"^MOVED {slot} 127.0.0.1:{target.port}$"):
            home.command("GET", "{tag}1")

        assert cluster.has_atomic_migration
        cluster.migrate_slot(slot, home, atomic=True)
        assert (len(home.keys()), len(target.keys())) == (120, 0)

        migration = cluster.migration(slot, target)
        migration.begin()
        assert migration.move_keys(limit=110) == 110
        with pytest.raises(ServerError, match=f"^ASK {slot} 127.0.0.1:{target.port}$"):
            home.command("GET", "{tag}new")
        migration.finish()
        assert (len(home.keys()), len(target.keys())) == (0, 120)
        cluster.heal()
        assert cluster.owner_of(slot) is home

        replica = cluster.kill_master(slot)
        assert replica is not home
        assert len(replica.keys()) == 120
        cluster.heal()
        assert cluster.owner_of(slot) is replica
        wait_until(lambda: len(home.keys()) == 120, what="the old master has the keys again")

"""Connecting to places, with asyncio and with threads, on real servers."""

import asyncio
import contextlib
import logging
import os
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from sealane.exceptions import ServerUnreachable
from sealane.layers.redis.discovery import Try, slot_of
from sealane.layers.redis.hosts import ClusterSlot, Place, parse_hosts
from tests.servers import Cluster, SentinelGroup, Server
from tests.servers.ports import free_port

Reach = Callable[..., Awaitable[Any]]


async def reach_async(place: Place, *command: Any, timeout: float = 5, name: str | None = "test") -> Any:
    """Open a connection, execute one command and close it."""
    connection: Any = await place.open(timeout=timeout, name=name)
    try:
        await connection.send_command(*command)
        return await connection.read_response()
    finally:
        await connection.disconnect()


async def reach_blocking(place: Place, *command: Any, timeout: float = 5, name: str | None = "test") -> Any:
    """Do the same by a pool, in a thread."""

    def execute() -> Any:
        pool = place.blocking_pool(timeout=timeout, name=name)
        try:
            client: Any = redis.Redis(connection_pool=pool)
            # Replies as they come, as the asyncio connection gives them.
            client.response_callbacks.clear()
            return client.execute_command(*command)
        finally:
            pool.disconnect()

    return await asyncio.to_thread(execute)


#: For tests whose servers take long to start, or to become whole again.
BOTH: tuple[Reach, ...] = (reach_async, reach_blocking)


@pytest.fixture(params=BOTH, ids=["async", "blocking"])
def reach(request: pytest.FixtureRequest) -> Reach:
    function: Reach = request.param
    return function


def one(hosts: object) -> Place:
    (place,) = parse_hosts(hosts)
    return place


def port_of(config: Any) -> int:
    """Return the port in an answer to CONFIG GET port."""
    return int(config[1])


async def test_a_plain_server(plain_server: Server, reach: Reach) -> None:
    reply = await reach(one([plain_server.address]), "CLIENT", "INFO")
    fields = dict(field.split("=", 1) for field in reply.decode().split())
    assert (fields["name"], fields["db"], fields["resp"]) == ("test", "0", "2")
    # CLIENT SETINFO was not sent.
    assert fields.get("lib-name", "") == ""


async def test_url_with_a_database_and_a_client_name(valkey_server: Server, reach: Reach) -> None:
    reply = await reach(one([{"address": f"{valkey_server.url}/3", "client_name": "chat"}]), "CLIENT", "INFO")
    assert b" name=chat " in reply
    assert b" db=3 " in reply


async def test_without_a_name(valkey_server: Server, reach: Reach) -> None:
    assert b" name= " in await reach(one([valkey_server.address]), "CLIENT", "INFO", name=None)


async def test_replies_are_bytes_whatever_was_configured(valkey_server: Server, reach: Reach) -> None:
    place = one([{"address": valkey_server.address, "decode_responses": True, "protocol": 3}])
    assert await reach(place, "ECHO", "ü") == "ü".encode()


async def test_a_unix_socket(unix_server: Server, reach: Reach) -> None:
    assert unix_server.path is not None
    for hosts in (f"unix://{unix_server.path}", [{"address": str(unix_server.path)}]):
        assert await reach(one(hosts), "ECHO", "here") == b"here"


async def test_ipv6(new_server: Callable[..., Server], reach: Reach) -> None:
    server = new_server(config={"bind": "127.0.0.1 ::1"})
    for hosts in (f"redis://[::1]:{server.port}", [("::1", server.port)]):
        assert one(hosts).label == f"[::1]:{server.port}/0"
        assert await reach(one(hosts), "ECHO", "here") == b"here"


async def test_tls(tls_server: Server, reach: Reach) -> None:
    assert await reach(one([{"address": tls_server.url, **tls_server.tls_options}]), "ECHO", "x") == b"x"


async def test_tls_checks_the_certificate(tls_server: Server, reach: Reach) -> None:
    with pytest.raises(ServerUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        await reach(one(tls_server.url), "PING")
    assert await reach(one(f"{tls_server.url}?ssl_cert_reqs=none"), "ECHO", "x") == b"x"


async def test_tls_where_there_is_none(valkey_server: Server, reach: Reach) -> None:
    with pytest.raises(ServerUnreachable, match=f"Cannot connect to 127.0.0.1:{valkey_server.port}/0: "):
        await reach(one(f"rediss://127.0.0.1:{valkey_server.port}"), "PING", timeout=0.5)


async def test_a_password(new_server: Callable[..., Server], reach: Reach) -> None:
    server = new_server(password="s3cret")
    assert await reach(one(server.url), "ECHO", "x") == b"x"


async def test_a_user_of_an_acl(new_server: Callable[..., Server], reach: Reach) -> None:
    # She may do nothing to her connection: neither name it nor describe it.
    server = new_server(users=["alice on >s3cret ~* &* +echo +acl|whoami"])
    place = one([{"address": server.address, "username": "alice", "password": "s3cret"}])
    assert await reach(place, "ACL", "WHOAMI") == b"alice"
    assert await reach(one(server.url_as("alice", "s3cret")), "ECHO", "x") == b"x"


class Credentials(CredentialProvider):
    def get_credentials(self) -> Any:
        return "alice", "s3cret"

    async def get_credentials_async(self) -> Any:
        return self.get_credentials()


class NoCredentials(Credentials):
    def get_credentials(self) -> Any:
        raise RuntimeError("the vault refuses the token s3cret")


async def test_a_credential_provider(new_server: Callable[..., Server], reach: Reach) -> None:
    server = new_server(users=["alice on >s3cret ~* &* +@all"])
    place = one([{"address": server.address, "credential_provider": Credentials()}])
    assert await reach(place, "ACL", "WHOAMI") == b"alice"
    place = one([{"address": server.address, "credential_provider": NoCredentials()}])
    await fails_without_secrets(reach, place, "RuntimeError")


async def fails_without_secrets(reach: Reach, place: Place, problem: str) -> None:
    with pytest.raises(ServerUnreachable, match=problem) as caught:
        await reach(place, "PING", timeout=20)
    error = caught.value
    assert error.place == place.label
    assert isinstance(error, ConnectionError)
    assert (error.__cause__, error.__context__) == (None, None)
    assert "s3cret" not in "".join(traceback.format_exception(error))
    assert "s3cret" not in repr(error)


async def test_a_wrong_password(
    new_server: Callable[..., Server], reach: Reach, caplog: pytest.LogCaptureFixture
) -> None:
    server = new_server(password="right")
    with caplog.at_level(logging.DEBUG):
        await fails_without_secrets(reach, one(f"redis://:s3cret@127.0.0.1:{server.port}"), "invalid username-password")
    await fails_without_secrets(reach, one(f"redis://al:s3cret@127.0.0.1:{server.port}"), "invalid username-password")
    await fails_without_secrets(reach, one([server.address]), "Authentication required|NOAUTH")
    assert "s3cret" not in caplog.text


async def test_a_server_that_repeats_the_password(new_server: Callable[..., Server], reach: Reach) -> None:
    # It does not know AUTH, and says with which arguments it came.
    server = new_server(config={"rename-command": 'AUTH ""'})
    for hosts in (f"redis://:s3cret@127.0.0.1:{server.port}", f"redis://alice:s3cret@127.0.0.1:{server.port}"):
        await fails_without_secrets(reach, one(hosts), "unknown command 'AUTH'$")


async def test_a_database_that_is_not_there(valkey_server: Server, reach: Reach) -> None:
    with pytest.raises(ServerUnreachable, match="DB index is out of range"):
        await reach(one(f"{valkey_server.url}/9999"), "PING")


async def test_nobody_listens(reach: Reach) -> None:
    port = free_port()
    with pytest.raises(ServerUnreachable, match=f"Cannot connect to 127.0.0.1:{port}/0: Error 111 connecting to"):
        await reach(one([("127.0.0.1", port)]), "PING")


async def test_no_such_host(reach: Reach) -> None:
    with pytest.raises(ServerUnreachable, match=r"Cannot connect to no\.such\.host\.invalid:6379/0: Error -"):
        await reach(one("redis://no.such.host.invalid"), "PING")


async def test_no_such_socket(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match="No such file"):
        await reach_async(one(f"unix://{tmp_path}/none.sock"), "PING")


async def test_a_server_that_does_not_answer(new_server: Callable[..., Server], reach: Reach) -> None:
    server = new_server()
    started = time.monotonic()
    with server.paused():
        with pytest.raises(ServerUnreachable, match=r"no answer within 0\.[0-3]\d* s|Timeout reading from"):
            await reach(one([server.address]), "PING", timeout=0.3)
        assert 0.2 < time.monotonic() - started < 20


async def test_socket_connect_timeout_may_be_shorter(new_server: Callable[..., Server]) -> None:
    server = new_server()
    place = one([{"address": server.address, "socket_connect_timeout": 0.1}])
    with server.paused(), pytest.raises(ServerUnreachable, match=r"no answer within 0.1 s"):
        await place.open(timeout=30, name="test")


async def test_cancelled_it_leaves_nothing_open(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with server.paused():
        task = asyncio.create_task(one([server.address]).open(timeout=30, name="cancelled"))
        # Connected it is at once, by the kernel: the server's queue takes it. What it waits for is the reply.
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    names = [client["name"] for client in server.clients()]
    assert "cancelled" not in names


async def test_each_call_is_a_connection_of_its_own(valkey_server: Server) -> None:
    place = one([valkey_server.address])
    first, second = await asyncio.gather(place.open(timeout=5, name="own"), place.open(timeout=5, name="own"))
    assert first is not second
    for connection in (first, second, first):
        await connection.disconnect(nowait=True)


def test_two_event_loops_share_a_place(valkey_server: Server) -> None:
    place = one([valkey_server.address])
    for _ in range(2):
        assert asyncio.run(reach_async(place, "ECHO", "x")) == b"x"


# Pools


@contextlib.contextmanager
def client_of(place: Place, **options: Any) -> Iterator[Any]:
    pool = place.blocking_pool(**{"timeout": 5.0, "name": "pool", **options})
    try:
        yield redis.Redis(connection_pool=pool)
    finally:
        pool.disconnect()


def test_a_pool_connects_when_it_is_used(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with client_of(one([server.address])) as client:
        assert [each["name"] for each in server.clients()].count("pool") == 0
        assert client.echo("x") == b"x"
        assert client.echo("y") == b"y"
        assert [each["name"] for each in server.clients()].count("pool") == 1
        assert repr(client.connection_pool) == f"<BlockingPool 127.0.0.1:{server.port}/0>"


def test_a_pool_connects_anew_after_its_connection_was_closed(new_server: Callable[..., Server]) -> None:
    server = new_server()
    with client_of(one([server.address])) as client:
        assert client.echo("x") == b"x"
        assert server.kill_clients(name="pool") == 1
        assert client.echo("y") == b"y"
        server.kill()
        with pytest.raises(RedisError):
            # Which of the two depends on whether the end of the connection has been seen.
            _as_redis_error(lambda: client.echo("z"))
        with pytest.raises(ServerUnreachable, match="Error 111"):
            client.echo("z")
        server.start()
        assert client.echo("z") == b"z"


def _as_redis_error(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ServerUnreachable as exc:
        raise RedisError(str(exc)) from None


def test_threads_share_a_pool(valkey_server: Server) -> None:
    with client_of(one([valkey_server.address])) as client:
        replies: list[bytes] = []
        threads = [
            threading.Thread(target=lambda text=f"t{number}": replies.append(client.echo(text))) for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sorted(replies) == [f"t{number}".encode() for number in range(8)]


def test_a_forked_process_has_connections_of_its_own(valkey_server: Server) -> None:
    with client_of(one([valkey_server.address])) as client:
        here = client.client_id()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(writer, str(client.client_id()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            there = int(pipe.read())
        os.waitpid(child, 0)
        assert there != here
        assert client.client_id() == here


# Sentinel


async def test_sentinel(sentinel_group: SentinelGroup, reach: Reach) -> None:
    place = one([sentinel_group.hosts])
    assert port_of(await reach(place, "CONFIG", "GET", "port")) == sentinel_group.master().port


async def test_a_sentinel_group_with_passwords(new_sentinel_group: Callable[..., SentinelGroup]) -> None:
    group = new_sentinel_group(password="s3cret-data", sentinel_password="s3cret-sentinel")
    for reach in BOTH:
        place = one([group.hosts])
        assert port_of(await reach(place, "CONFIG", "GET", "port")) == group.master().port
        for password in (None, "s3cret-wrong"):
            place = one([{**group.hosts, "sentinel_kwargs": {"password": password}}])
            await fails_without_secrets(reach, place, "no sentinel names a master that answers .*(required|invalid)")
        place = one([{**group.hosts, "password": "s3cret-wrong"}])
        await fails_without_secrets(reach, place, "names 127.0.0.1:[0-9]+, but invalid username-password pair")


async def test_a_service_that_sentinels_do_not_know(sentinel_group: SentinelGroup, reach: Reach) -> None:
    with pytest.raises(ServerUnreachable, match=r"Cannot connect to other/0 \(Sentinel\): .*knows no service 'other'"):
        await reach(one([{**sentinel_group.hosts, "master_name": "other"}]), "PING")


async def test_sentinels_that_are_down_are_passed_over(sentinel_group: SentinelGroup, reach: Reach) -> None:
    dead = [("127.0.0.1", free_port()) for _ in range(2)]
    place = one([{**sentinel_group.hosts, "sentinels": [*dead, sentinel_group.sentinels[2].address]}])
    assert port_of(await reach(place, "CONFIG", "GET", "port")) == sentinel_group.master().port
    with pytest.raises(ServerUnreachable, match=r"no sentinel names a master that answers \(127.0.0.1:.*; 127.0.0.1:"):
        await reach(one([{"sentinels": dead, "master_name": "sealane"}]), "PING")


async def test_a_sentinel_that_hangs_leaves_time_for_the_others(sentinel_group: SentinelGroup, reach: Reach) -> None:
    place = one([sentinel_group.hosts])
    master = sentinel_group.master()
    with sentinel_group.sentinels[0].paused():
        assert port_of(await reach(place, "CONFIG", "GET", "port", timeout=6)) == master.port


async def test_a_server_that_is_no_sentinel(valkey_server: Server, reach: Reach) -> None:
    with pytest.raises(ServerUnreachable, match="unknown command 'SENTINEL'"):
        await reach(one([{"sentinels": [valkey_server.address], "master_name": "m"}]), "PING")


async def test_a_failover_is_followed(sentinel_group: SentinelGroup) -> None:
    place = one([sentinel_group.hosts])
    with client_of(place) as client:
        client.response_callbacks.clear()
        before = port_of(await asyncio.to_thread(client.execute_command, "CONFIG", "GET", "port"))
        new = await asyncio.to_thread(sentinel_group.failover)
        assert new.port != before
        for reach in BOTH:
            assert port_of(await reach(place, "CONFIG", "GET", "port")) == new.port
        # A pool that is in use finds the new master when its connections are closed.
        client.connection_pool.disconnect()
        assert port_of(await asyncio.to_thread(client.execute_command, "CONFIG", "GET", "port")) == new.port


# Cluster


def slot_places(cluster: Cluster, **options: Any) -> list[ClusterSlot]:
    return [place for place in parse_hosts([{**cluster.hosts, **options}]) if isinstance(place, ClusterSlot)]


def slot_at(place: Place) -> int:
    return slot_of(place.tag.strip("{}").encode())


async def test_each_slot_is_found_at_its_node(cluster: Cluster, reach: Reach) -> None:
    ports = set()
    for place in slot_places(cluster):
        port = port_of(await reach(place, "CONFIG", "GET", "port"))
        assert port == cluster.owner_of(slot_at(place)).port
        ports.add(port)
        key = f"asgi{place.tag}:test"
        assert await reach(place, "CLUSTER", "KEYSLOT", key) == slot_at(place)
        assert await reach(place, "EXISTS", key, f"asgi{place.tag}:other") == 0
    # Eight shards are spread over all three.
    assert len(ports) == 3


async def test_one_seed_that_lives_is_enough(cluster: Cluster, reach: Reach) -> None:
    seeds = [("127.0.0.1", free_port()), cluster.nodes[2].address]
    for place in slot_places(cluster, hosts=seeds, shards=3):
        assert port_of(await reach(place, "CONFIG", "GET", "port")) == cluster.owner_of(slot_at(place)).port


async def test_a_slot_that_moves_is_followed(cluster: Cluster, reach: Reach) -> None:
    place = slot_places(cluster)[1]
    source = cluster.owner_of(slot_at(place))
    target = next(node for node in cluster.nodes if node is not source)
    await asyncio.to_thread(cluster.migrate_slot, slot_at(place), target)
    assert port_of(await reach(place, "CONFIG", "GET", "port")) == target.port


async def test_a_slot_that_is_moving_is_found_at_its_source(cluster: Cluster, reach: Reach) -> None:
    place = slot_places(cluster)[1]
    source = cluster.owner_of(slot_at(place))
    target = next(node for node in cluster.nodes if node is not source)
    migration = cluster.migration(slot_at(place), target)
    migration.begin()
    try:
        assert port_of(await reach(place, "CONFIG", "GET", "port")) == source.port
    finally:
        migration.abort()


async def test_endpoints_of_every_type_and_a_password(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster(password="s3cret")
    place = slot_places(cluster)[1]
    port = cluster.owner_of(slot_at(place)).port

    async def is_found() -> bool:
        return all([port_of(await reach(place, "CONFIG", "GET", "port")) == port for reach in BOTH])

    for kind in ("unknown-endpoint", "hostname", "ip"):
        for node in cluster.nodes:
            node.command("CONFIG", "SET", "cluster-preferred-endpoint-type", kind)
        assert await is_found()
    for node in cluster.nodes:
        node.command("CONFIG", "SET", "cluster-announce-hostname", "localhost")
        node.command("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
    assert await is_found()
    for reach in BOTH:
        wrong = slot_places(cluster, password="s3cret-wrong")[0]
        await fails_without_secrets(reach, wrong, "no node of the Cluster serves slot 53 .*invalid username-password")


async def test_a_server_that_is_no_cluster(valkey_server: Server, reach: Reach) -> None:
    place = parse_hosts([{"cluster": True, "hosts": [valkey_server.address]}])[0]
    with pytest.raises(ServerUnreachable, match="CLUSTER SLOTS: This instance has cluster support disabled"):
        await reach(place, "PING")


# redis-py


def test_every_step_can_be_made_by_this_redis_py() -> None:
    # What a release may lack shows when connections are made, not when they connect.
    for hosts in ("redis://u:p@h", "rediss://h", "unix:///s"):
        place = one(hosts)
        step = next(place.search())
        assert isinstance(step, Try)
        connection = place.access.connection(step.address)
        assert isinstance(connection, redis.asyncio.connection.AbstractConnection)
        assert not connection.is_connected

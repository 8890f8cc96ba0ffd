"""What the option `hosts` may hold, what it becomes, and that no error or repr shows a password."""

import copy
import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealane.exceptions import InvalidChannelLayerError
from sealane.layers.redis.access import Access, Address
from sealane.layers.redis.discovery import slot_of, tag_of
from sealane.layers.redis.hosts import ClusterSlot, SentinelService, Server, parse_hosts


def server(hosts: object) -> Server:
    (place,) = parse_hosts(hosts)
    assert isinstance(place, Server)
    return place


def sentinel(**options: Any) -> SentinelService:
    (place,) = parse_hosts([{"sentinels": [("s1", 26379)], "master_name": "chat", **options}])
    assert isinstance(place, SentinelService)
    return place


# Servers


@pytest.mark.parametrize(
    ("hosts", "identity"),
    [
        (None, "localhost:6379/0"),
        ([], "localhost:6379/0"),
        ("redis://cache", "cache:6379/0"),
        (["redis://cache:6380/3"], "cache:6380/3"),
        ("valkey://cache/", "cache:6379/0"),
        ("REDIS://Cache.Example", "cache.example:6379/0"),
        ("redis://", "localhost:6379/0"),
        ("redis://cache/1?db=2", "cache:6379/2"),
        ("redis://[::1]:6380", "[::1]:6380/0"),
        (("cache", 6380), "cache:6380/0"),
        (["cache", 6380], "cache:6380/0"),
        ([("cache", 6380)], "cache:6380/0"),
        ([["Cache", "6380"]], "cache:6380/0"),
        ([("::1", 6380)], "[::1]:6380/0"),
        ({"host": "cache", "port": 6380, "db": 2}, "cache:6380/2"),
        ([{"host": "cache", "db": "2"}], "cache:6379/2"),
        ([{}], "localhost:6379/0"),
        ([{"address": "redis://cache:6380", "db": 4}], "cache:6380/4"),
        ([{"address": ("cache", 6380)}], "cache:6380/0"),
        ([{"address": "/run/redis.sock"}], "unix:/run/redis.sock/0"),
        ([{"path": "/run/redis.sock"}], "unix:/run/redis.sock/0"),
        ([{"unix_socket_path": "/run/redis.sock", "db": 1}], "unix:/run/redis.sock/1"),
        ("unix:///run/redis.sock?db=1", "unix:/run/redis.sock/1"),
        ("unix:///run/a%40b.sock", "unix:/run/a@b.sock/0"),
    ],
)
def test_one_server(hosts: object, identity: str) -> None:
    place = server(hosts)
    assert place.identity == place.label == str(place) == identity
    assert repr(place) == f"<Server {identity}>"
    assert place.tag == ""


@pytest.mark.parametrize(
    ("hosts", "username", "password"),
    [
        ("redis://cache", None, None),
        ("redis://:secret@cache", None, "secret"),
        ("redis://alice:secret@cache", "alice", "secret"),
        ("redis://alice@cache", "alice", None),
        ("redis://:p%40ss%2Fw%3Ard@cache", None, "p@ss/w:rd"),
        ("unix://alice:secret@/run/redis.sock", "alice", "secret"),
        ([{"address": "redis://cache", "username": "alice", "password": "secret"}], "alice", "secret"),
        ([{"address": "redis://alice:secret@cache", "password": "other"}], "alice", "secret"),
        ([{"host": "cache", "password": ""}], None, None),
    ],
)
def test_credentials(hosts: object, username: str | None, password: str | None) -> None:
    access = server(hosts).access
    assert (access.username, access.password) == (username, password)


@given(username=st.text(min_size=1, max_size=20), password=st.text(min_size=1, max_size=20))
def test_any_password_survives_a_url(username: str, password: str) -> None:
    access = server(f"redis://{quote(username, safe='')}:{quote(password, safe='')}@cache/1").access
    assert (access.username, access.password, access.db) == (username, password, 1)


def test_tls() -> None:
    access = server("rediss://cache?ssl_cert_reqs=none&ssl_check_hostname=false").access
    assert access.tls
    assert dict(access.arguments) == {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    access = server([{"host": "cache", "ssl": True, "ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": None}]).access
    assert access.tls
    assert dict(access.arguments) == {"ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": None}
    assert server("valkeys://cache").access.tls


def test_arguments_for_redis_py() -> None:
    access = server(
        [
            {
                "address": "redis://cache?socket_keepalive=no&socket_read_size=4096",
                "client_name": "chat:1",
                "socket_connect_timeout": "2.5",
                "socket_keepalive_options": {},
            }
        ]
    ).access
    assert access.client_name == "chat:1"
    assert access.connect_timeout == 2.5
    assert dict(access.arguments) == {
        "socket_keepalive": False,
        "socket_keepalive_options": {},
        "socket_read_size": 4096,
    }


def test_arguments_that_the_layer_decides_itself_have_no_effect() -> None:
    access = server(
        [
            {
                "host": "cache",
                "decode_responses": True,
                "socket_timeout": 1,
                "retry_on_timeout": True,
                "health_check_interval": 30,
                "max_connections": 10,
                "ssl": False,
                "ssl_cert_reqs": None,
            }
        ]
    ).access
    assert vars(access) == vars(Access())


def test_settings_are_not_changed() -> None:
    hosts = [
        {"address": "redis://:pw@cache", "db": 1},
        {"sentinels": [("s1", 1)], "master_name": "m", "sentinel_kwargs": {"password": "x"}},
        {"cluster": True, "hosts": [("a", 1)], "shards": 2},
    ]
    before = copy.deepcopy(hosts)
    parse_hosts(hosts)
    assert hosts == before


# Several


def test_each_host_is_a_shard() -> None:
    places = parse_hosts(["redis://a", ("b", 1), {"host": "c"}, {"sentinels": [("s", 1)], "master_name": "m"}])
    assert [place.identity for place in places] == ["a:6379/0", "b:1/0", "c:6379/0", "sentinel:m/0"]


def test_the_same_place_twice_is_refused() -> None:
    with pytest.raises(InvalidChannelLayerError, match="hosts has cache:6379/0 twice; each entry is a shard"):
        parse_hosts(["redis://cache", ("CACHE", 6379)])


# Sentinel


def test_sentinel() -> None:
    (place,) = parse_hosts(
        [
            {
                "sentinels": [("s1", 26379), "redis://s2", {"host": "s3", "port": 5000, "password": "own"}],
                "master_name": "chat",
                "sentinel_kwargs": {"password": "shared", "ssl": True},
                "password": "data",
                "db": 2,
            }
        ]
    )
    assert isinstance(place, SentinelService)
    assert (place.identity, place.label, place.tag) == ("sentinel:chat/2", "chat/2 (Sentinel)", "")
    assert [str(each) for each in place.sentinels] == ["s1:26379", "s2:26379", "s3:5000"]
    assert [each.access.password for each in place.sentinels] == ["shared", "shared", "own"]
    assert all(each.access.tls and not each.access.db for each in place.sentinels)
    assert (place.access.password, place.access.db, place.access.tls) == ("data", 2, False)
    (other,) = parse_hosts([{"sentinels": [("s1", 26379)], "service_name": "chat"}])
    assert other.identity == "sentinel:chat/0"


def test_two_groups_of_sentinels_with_services_of_one_name() -> None:
    places = parse_hosts(
        [
            {"sentinels": [("b", 1), ("a", 1)], "master_name": "mymaster"},
            {"sentinels": [("d", 1), ("c", 1)], "master_name": "mymaster"},
        ]
    )
    assert [place.identity for place in places] == ["sentinel:mymaster/0@a:1", "sentinel:mymaster/0@c:1"]
    turned = parse_hosts(
        [
            {"sentinels": [("c", 1), ("d", 1)], "master_name": "mymaster"},
            {"sentinels": [("a", 1), ("b", 1)], "master_name": "mymaster"},
        ]
    )
    assert {place.identity for place in places} == {place.identity for place in turned}


# Cluster


def test_a_cluster_has_eight_shards() -> None:
    seeds = [("n1", 7000), ("n2", 7000)]
    places = parse_hosts([{"cluster": True, "hosts": seeds, "password": "secret"}])
    assert [place.tag for place in places] == [tag_of(shard) for shard in range(8)]
    for place in places:
        assert isinstance(place, ClusterSlot)
        assert place.identity == f"cluster:{place.tag}"
        assert place.label == f"Cluster {place.tag}"
        assert place.access.password == "secret"
        assert [str(seed) for seed in place.seeds] == ["n1:7000", "n2:7000"]


@pytest.mark.parametrize(
    ("hosts", "options"),
    [
        ([{"cluster": True, "startup_nodes": [{"host": "n1", "port": 7000}], "shards": 3}], {}),
        ([{"cluster": True, "address": "redis://n1:7000"}], {"shards": 3}),
        ({"cluster": True, "host": "n1", "port": 7000, "shards": 3}, {"shards": 3}),
        (["redis://n1:7000"], {"cluster": True, "shards": 3}),
        ("redis://n1:7000", {"cluster": True, "shards": 3}),
        ([{"cluster": True, "hosts": "redis://n1:7000", "shards": 3}], {"cluster": True}),
    ],
)
def test_ways_to_write_a_cluster(hosts: object, options: dict[str, Any]) -> None:
    places = parse_hosts(hosts, **options)
    assert [place.identity for place in places] == [f"cluster:{tag_of(shard)}" for shard in range(3)]
    for place in places:
        assert isinstance(place, ClusterSlot)
        assert [seed.address for seed in place.seeds] == [Address("n1", 7000)]


def test_tags_are_part_of_the_format() -> None:
    # Keys of running systems hold them: these texts never change.
    assert [tag_of(shard) for shard in range(8)] == [
        "{sealane:0.470}",
        "{sealane:1.22}",
        "{sealane:2.124}",
        "{sealane:3.142}",
        "{sealane:4.264}",
        "{sealane:5.202}",
        "{sealane:6.371}",
        "{sealane:7.317}",
    ]
    assert slot_of(b"123456789") == 0x31C3  # the check value of the Cluster specification


@pytest.mark.parametrize("shards", [1, 2, 3, 8, 12, 64, 128])
def test_slots_of_tags_are_spread_evenly(shards: int) -> None:
    slots = sorted(slot_of(tag_of(shard).strip("{}").encode()) for shard in range(shards))
    assert 0 <= slots[0] <= slots[-1] < 16_384
    gaps = [after - before for before, after in zip(slots, [*slots[1:], slots[0] + 16_384], strict=True)]
    # 64 slots lie between where a tag should be and where it may be. Powers of two are spread most evenly.
    power = shards & (shards - 1) == 0
    even = 16_384 / shards
    assert max(gaps) <= (even if power else 2 * even) + 64
    assert len(set(slots)) == shards


# What is refused


@pytest.mark.parametrize(
    ("hosts", "options", "message"),
    [
        (42, {}, "hosts is of type int; expected a URL such as 'redis://localhost:6379/0', a "),
        (b"redis://s3cret@x", {}, "hosts is of type bytes; expected a URL"),
        ("s3cret", {}, "hosts is a str that does not begin with redis://, rediss://, valkey://, valkeys:// or unix://"),
        ("http://:s3cret@cache", {}, "hosts is a str that does not begin with redis://"),
        ([None], {}, "hosts is None; expected a URL"),
        ([("a", 1), ("b", 1, 2)], {}, r"hosts\[1\] is of type tuple; expected a URL"),
        ([("a", 0)], {}, r"hosts\['port'\] is 0; expected a number from 1 to 65535"),
        ([("a", "s3cret")], {}, r"hosts\['port'\] is a str of 6 characters; expected a number from 1 to 65535"),
        ([{"port": 1.5}], {}, r"hosts\['port'\] is 1.5; expected a number"),
        ([{"port": True}], {}, r"hosts\['port'\] is True; expected a number"),
        ([("", 1)], {}, "hosts has a host that is an empty str; expected a host name or an IP address"),
        ([("[::1]", 1)], {}, "hosts has a host that is a str of 5 characters; .* without brackets"),
        ([("user:s3cret@cache", 1)], {}, "hosts has a host that is a str of 17 characters"),
        ([{"db": -1}], {}, r"hosts\['db'\] is -1; expected a number of at least 0"),
        ([{"socket_connect_timeout": 0}], {}, r"hosts\['socket_connect_timeout'\] is 0; expected a number of seconds"),
        ([{"socket_connect_timeout": "nan"}], {}, r"hosts\['socket_connect_timeout'\] is a str of 3 characters"),
        ([{"username": b"s3cret"}], {}, r"hosts\['username'\] is of type bytes; expected a str"),
        ([{"password": 12345}], {}, r"hosts\['password'\] is of type int; expected a str"),
        ([{"client_name": "a b"}], {}, r"hosts\['client_name'\] is 'a b'; expected a str of visible ASCII"),
        ([{"ssl": "yes"}], {}, r"hosts\['ssl'\] is 'yes'; expected True or False"),
        ([{"ssl_ca_certs": "/x"}], {}, "hosts has 'ssl_ca_certs' but no TLS; add 'ssl': True, or use rediss://"),
        ([{"path": "/x", "ssl": True}], {}, "hosts asks for TLS on a Unix socket"),
        ([{"path": "/x", "host": "h"}], {}, "hosts needs one of 'path', as a str, and 'host'"),
        ([{"pasword": "s3cret"}], {}, "hosts has the unknown key 'pasword'; expected address, client_name, credential"),
        ([{"address": "redis://a", "host": "b"}], {}, "hosts has 'address' and 'host'; expected one of them"),
        ([{"address": 5}], {}, r"hosts\['address'\] is 5; expected a URL, a tuple or a path"),
        ([{"credential_provider": object(), "password": "s3cret"}], {}, "a credential_provider and a username or pass"),
        # URLs whose password was not percent-encoded: a part of it stands for something else.
        (
            "redis://:pa/s3cret@cache",
            {},
            "hosts is a redis:// URL that cannot be read; in a user name or password, per",
        ),
        ("redis://:123/s3cret@cache", {}, "hosts is a redis:// URL that cannot be read"),
        ("redis://:12#s3cret@cache", {}, "hosts is a redis:// URL that cannot be read"),
        ("redis://:12?s3cret@cache", {}, "hosts is a redis:// URL that cannot be read"),
        ("redis://:s3cret@x@cache", {}, "hosts is a redis:// URL that cannot be read"),
        ("redis://[s3cret", {}, "hosts is a redis:// URL that cannot be read"),
        ("redis://cache/s3cret", {}, "hosts is a redis:// URL whose path is not the number of a database"),
        ("redis://cache?socket_read_size=s3cret", {}, "URL whose 'socket_read_size' cannot be read"),
        ("redis://cache?socket_keepalive=maybe", {}, "URL whose 'socket_keepalive' cannot be read"),
        ("redis://cache?pasword=s3cret", {}, "hosts has the unknown key 'pasword'"),
        ("unix://", {}, "hosts is a unix:// URL without a path; expected unix:///path/to/socket"),
        ("unix://run/redis.sock", {}, "hosts is a unix:// URL without a path"),
        # Sentinel
        ([{"sentinels": [("a", 1)]}], {}, "hosts needs 'master_name', the service's name in Sentinel"),
        ([{"master_name": "m"}], {}, r"hosts\['sentinels'\] is None; expected a list of \(host, port\) tuples"),
        (
            [{"master_name": "m", "sentinels": "a:1"}],
            {},
            r"hosts\['sentinels'\] is a str of 3 characters; expected a l",
        ),
        ([{"master_name": "m", "sentinels": [("a", 1)], "host": "b"}], {}, "hosts has the unknown key 'host'"),
        (
            [{"master_name": "m", "sentinels": [("a", 1)], "sentinel_kwargs": {"pw": "s3cret"}}],
            {},
            r"hosts\['sentinel_kwargs'\] has the unknown key 'pw'",
        ),
        (
            [{"master_name": "m", "sentinels": [("a", 1)], "sentinel_kwargs": "s3cret"}],
            {},
            r"hosts\['sentinel_kwargs'\] is of type str; expected a dict",
        ),
        (
            [{"master_name": "m", "sentinels": [("a", 1), ("a", "b")]}],
            {},
            r"hosts\['sentinels'\]\[1\]\['port'\] is a str of 1 characters",
        ),
        ([{"master_name": "m", "sentinels": ["redis://a/1"]}], {}, r"\[0\] has db 1, but a sentinel has no databases"),
        ([{"master_name": "m", "sentinels": [("a", 1)], "is_master": False}], {}, "is False; a layer writes"),
        # Cluster
        (["redis://a/1"], {"cluster": True}, "hosts has db 1, but a Cluster has database 0 only; leave it out"),
        (["unix:///x"], {"cluster": True}, "hosts has a Unix socket; the nodes of a Cluster are reached by TCP"),
        (["redis://a", "redis://:s3cret@b"], {"cluster": True}, "names nodes of one Cluster with different passwords"),
        ([{"cluster": True}], {}, "hosts needs 'hosts', a list of nodes of the Cluster"),
        ([{"cluster": False, "host": "a"}], {}, r"hosts\['cluster'\] is False; expected True, or leave it out"),
        ([("a", 1)], {"cluster": "yes"}, "cluster is 'yes'; expected True or False"),
        ([("a", 1)], {"cluster": True, "shards": 0}, "shards is 0; expected a number from 1 to 128"),
        ([("a", 1)], {"cluster": True, "shards": 129}, "shards is 129; expected a number from 1 to 128"),
        ([("a", 1)], {"cluster": True, "shards": 2.0}, "shards is 2.0; expected a number from 1 to 128"),
        ([("a", 1)], {"shards": 8}, "shards is 8, but hosts has no Cluster; leave it out, or say cluster: True"),
        ([{"cluster": True, "host": "a", "shards": 4}], {"shards": 8}, r"shards is 8, but hosts\['shards'\] is 4"),
        (
            [{"cluster": True, "host": "a"}, {"cluster": True, "host": "b"}],
            {},
            r"hosts has Cluster {sealane:0.470} twice",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(hosts: object, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidChannelLayerError, match=message) as caught:
        parse_hosts(hosts, **options)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


# Secrets


@pytest.mark.parametrize(
    "hosts",
    [
        "redis://alice:s3cret@cache",
        [{"address": "rediss://cache", "password": "s3cret"}],
        [{"sentinels": ["redis://:s3cret@s"], "master_name": "m", "password": "s3cret"}],
        [{"cluster": True, "hosts": [("a", 1)], "password": "s3cret"}],
    ],
)
def test_nothing_that_is_printed_shows_a_password(hosts: object) -> None:
    for place in parse_hosts(hosts):
        pool = place.blocking_pool(timeout=1)
        endpoints = getattr(place, "sentinels", ()) + getattr(place, "seeds", ())
        shown = [place, place.access, place.access.settings(place.access.blocking_kind(unix=False)), pool, *endpoints]
        shown += [place.access.connection(Address("h", 1)), *pool.connection_kwargs.values(), pool.make_connection()]
        for each in shown:
            assert "s3cret" not in repr(each)
            assert "s3cret" not in str(each)


def test_the_password_of_a_client_certificate_is_a_secret() -> None:
    # Not every release of redis-py takes it, so that hosts are not asked here.
    access = Access(password="s3cret", arguments={"ssl_password": "s3cret2"})
    assert access.secrets() == ("s3cret", "s3cret2")
    assert "s3cret" not in repr(access)

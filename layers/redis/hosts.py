"""The option ``hosts`` of the Redis layers: from what settings hold to places."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from sealane.exceptions import InvalidChannelLayerError
from sealane.layers.redis.access import Access, Address, Endpoint, scrub
from sealane.layers.redis.arguments import PASSED, check_arguments, kind_of, list_of, number_of
from sealane.layers.redis.discovery import Hint, tag_of
from sealane.layers.redis.places import ClusterSlot, Place, SentinelService, Server
from sealane.layers.redis.urls import parse_url

__all__ = ["ClusterSlot", "Place", "SentinelService", "Server", "parse_hosts"]

#: How many shards a Cluster has where ``shards`` does not say.
DEFAULT_SHARDS: Final = 8

#: Each shard costs two connections in every event loop that uses it.
MOST_SHARDS: Final = 128

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379

#: What says where a server is and who logs in.
_OWN: Final = (
    "address",
    "host",
    "port",
    "path",
    "unix_socket_path",
    "db",
    "username",
    "password",
    "ssl",
    "client_name",
    "socket_connect_timeout",
)

#: What configurations hold for channels_redis, and the layer decides itself: replies are bytes, it keeps the time of
#: each call, and what is sent again depends on what was sent.
_WITHOUT_EFFECT: Final = (
    "auto_close_connection_pool",
    "check_connection",
    "decode_responses",
    "driver_info",
    "encoding",
    "encoding_errors",
    "health_check_interval",
    "legacy_responses",
    "lib_name",
    "lib_version",
    "maint_notifications_config",
    "max_connections",
    "protocol",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "single_connection_client",
    "socket_timeout",
    "socket_type",
    "timeout",
)

_SERVER: Final = frozenset((*_OWN, *PASSED, *_WITHOUT_EFFECT))
_WHERE: Final = frozenset(("address", "host", "port", "path", "unix_socket_path"))
_SENTINEL: Final = frozenset(("sentinels", "master_name", "service_name", "sentinel_kwargs"))
_CLUSTER: Final = frozenset(("cluster", "hosts", "startup_nodes", "shards"))

_ENTRY: Final = (
    "expected a URL such as 'redis://localhost:6379/0', a (host, port) tuple, or a dict with 'address', with 'host' "
    "and 'port', with 'sentinels' and 'master_name', or with 'cluster' and 'hosts'"
)

_CLIENT_NAME: Final = re.compile(r"[!-~]+", re.ASCII)


def parse_hosts(hosts: object = None, *, cluster: bool = False, shards: int | None = None) -> tuple[Place, ...]:
    """Return the place of each shard that the option ``hosts`` describes. It does no I/O.

    hosts: one entry or a list of them; without one, localhost:6379. Each entry is a URL (redis, rediss, valkey,
        valkeys, unix), a (host, port) tuple, or a dict: ``{"address": ...}`` with a URL, a tuple or a path,
        ``{"host": ..., "port": ...}``, ``{"sentinels": [...], "master_name": ...}``, or ``{"cluster": True,
        "hosts": [...]}``, each with any argument of a redis-py connection beside it.
    cluster: whether all of ``hosts`` are nodes of one Cluster.
    shards: over how many hash slots a Cluster's keys are spread; 8 by default.

    Raises InvalidChannelLayerError, which names the option and holds no password, for whatever it cannot use.
    """
    entries = _several("hosts", hosts)
    if not isinstance(cluster, bool):
        raise InvalidChannelLayerError(f"cluster is {_shown(cluster)}; expected True or False")
    if cluster:
        if len(entries) == 1 and isinstance(entries[0], Mapping) and "cluster" in entries[0]:
            return tuple(_cluster("hosts", entries[0], shards))
        return tuple(_cluster("hosts", {"cluster": True, "hosts": entries}, shards))
    places: list[Place] = []
    names = ["hosts" if len(entries) == 1 else f"hosts[{index}]" for index in range(len(entries))]
    for where, entry in zip(names, entries, strict=True):
        if isinstance(entry, Mapping) and "cluster" in entry:
            places.extend(_cluster(where, entry, shards))
        elif isinstance(entry, Mapping) and not _SENTINEL.isdisjoint(entry):
            places.append(_sentinel(where, entry))
        else:
            places.append(_server(where, entry))
    if shards is not None and not any(isinstance(place, ClusterSlot) for place in places):
        raise InvalidChannelLayerError(
            f"shards is {_shown(shards)}, but hosts has no Cluster; leave it out, or say cluster: True"
        )
    return _told_apart(places)


def _several(where: str, hosts: object) -> list[object]:
    """Return the entries of an option that holds one or a list of them."""
    if hosts is None:
        return [("localhost", _PORT)]
    if isinstance(hosts, (str, Mapping)):
        return [hosts]
    if isinstance(hosts, (bytes, bytearray)) or not isinstance(hosts, Iterable):
        raise InvalidChannelLayerError(f"{where} is of type {type(hosts).__name__}; {_ENTRY}, or a list of these")
    entries = list(hosts)
    if len(entries) == 2 and isinstance(entries[0], str) and isinstance(entries[1], int):
        return [tuple(entries)]
    return entries or [("localhost", _PORT)]


def _told_apart(places: list[Place]) -> tuple[Place, ...]:
    """Return the places with identities that differ; raise where two are the same place."""
    services = [place for place in places if isinstance(place, SentinelService)]
    names = [place.identity for place in services]
    found: list[Place] = []
    for place in places:
        if isinstance(place, SentinelService) and names.count(place.identity) > 1:
            # Two groups of sentinels may watch services of one name. The order of sentinels must not matter.
            place = replace(place, of=f"@{min(str(sentinel) for sentinel in place.sentinels)}")
        found.append(place)
    identities: set[str] = set()
    for place in found:
        if place.identity in identities:
            raise InvalidChannelLayerError(
                f"hosts has {place.label} twice; each entry is a shard of its own, so name each place once"
            )
        identities.add(place.identity)
    return tuple(found)


# Kinds of entries


def _server(where: str, entry: object) -> Server:
    endpoint = _endpoint(where, entry, _PORT, {})
    return Server(endpoint.address, endpoint.access)


def _sentinel(where: str, entry: Mapping[Any, Any]) -> SentinelService:
    _check_keys(where, entry, (_SERVER - _WHERE) | _SENTINEL | {"is_master"})
    if entry.get("is_master", True) is not True:
        raise InvalidChannelLayerError(f"{where}['is_master'] is False; a layer writes, and needs the master")
    given = [key for key in ("master_name", "service_name") if entry.get(key) is not None]
    if len(given) != 1 or not isinstance(entry[given[0]], str) or not entry[given[0]]:
        raise InvalidChannelLayerError(f"{where} needs 'master_name', the service's name in Sentinel, as a str")
    shared = entry.get("sentinel_kwargs") or {}
    if not isinstance(shared, Mapping):
        raise InvalidChannelLayerError(
            f"{where}['sentinel_kwargs'] is of type {type(shared).__name__}; expected a dict of arguments for the "
            "connections to the sentinels"
        )
    _check_keys(f"{where}['sentinel_kwargs']", shared, _SERVER - _WHERE)
    sentinels = entry.get("sentinels")
    if isinstance(sentinels, (str, bytes, Mapping)) or not isinstance(sentinels, Sequence) or not sentinels:
        raise InvalidChannelLayerError(
            f"{where}['sentinels'] is {kind_of(sentinels)}; expected a list of (host, port) tuples"
        )
    endpoints = []
    for index, sentinel in enumerate(sentinels):
        name = f"{where}['sentinels'][{index}]"
        endpoint = _endpoint(name, sentinel, _SENTINEL_PORT, shared)
        _check_no_db(name, endpoint.access, "a sentinel has no databases")
        endpoints.append(endpoint)
    own = {key: value for key, value in entry.items() if key in _SERVER}
    access = _access(where, own)
    _try_out(where, access, endpoints[0].address)
    return SentinelService(entry[given[0]], tuple(endpoints), access)


def _cluster(where: str, entry: Mapping[Any, Any], shards: int | None) -> list[Place]:
    if entry["cluster"] is not True:
        raise InvalidChannelLayerError(
            f"{where}['cluster'] is {_shown(entry['cluster'])}; expected True, or leave it out"
        )
    _check_keys(where, entry, _SERVER | _CLUSTER)
    lists = [key for key in ("hosts", "startup_nodes") if key in entry]
    single = not _WHERE.isdisjoint(entry)
    if len(lists) + single != 1:
        raise InvalidChannelLayerError(f"{where} needs 'hosts', a list of nodes of the Cluster")
    common = {key: value for key, value in entry.items() if key in _SERVER}
    if single:
        endpoints = [_endpoint(where, common, _PORT, {})]
    else:
        names = where if where == "hosts" else f"{where}['{lists[0]}']"
        seeds = _several(names, entry[lists[0]])
        endpoints = [_endpoint(f"{names}[{index}]", seed, _PORT, common) for index, seed in enumerate(seeds)]
    first = endpoints[0].access
    for endpoint in endpoints:
        _check_no_db(where, endpoint.access, "a Cluster has database 0 only")
        if endpoint.address.path:
            raise InvalidChannelLayerError(f"{where} has a Unix socket; the nodes of a Cluster are reached by TCP")
        if vars(endpoint.access) != vars(first):
            raise InvalidChannelLayerError(
                f"{where} names nodes of one Cluster with different passwords or arguments; the other nodes are found "
                "through them, so all need the same"
            )
    count = entry.get("shards", shards)
    if shards is not None and count != shards:
        raise InvalidChannelLayerError(f"shards is {_shown(shards)}, but {where}['shards'] is {_shown(count)}")
    if count is None:
        count = DEFAULT_SHARDS
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST_SHARDS:
        raise InvalidChannelLayerError(f"shards is {_shown(count)}; expected a number from 1 to {MOST_SHARDS}")
    hint = Hint()
    return [ClusterSlot(tag_of(shard), tuple(endpoints), first, hint) for shard in range(count)]


def _check_no_db(where: str, access: Access, reason: str) -> None:
    if access.db:
        raise InvalidChannelLayerError(f"{where} has db {access.db}, but {reason}; leave it out")


# One server


def _endpoint(where: str, entry: object, port: int, common: Mapping[Any, Any]) -> Endpoint:
    """Return address and access of one server. ``common`` holds arguments that the entry may override."""
    if isinstance(entry, str):
        own: dict[Any, Any] = {"address": entry}
    elif isinstance(entry, Mapping):
        own = dict(entry)
    elif isinstance(entry, (tuple, list)) and len(entry) == 2:
        own = {"host": entry[0], "port": entry[1]}
    else:
        raise InvalidChannelLayerError(f"{where} is {kind_of(entry)}; {_ENTRY}")
    _check_keys(where, own, _SERVER)
    arguments = {**common, **own}
    address = arguments.pop("address", None)
    if address is not None and not _WHERE.isdisjoint(arguments):
        raise InvalidChannelLayerError(
            f"{where} has 'address' and {list_of(_WHERE & set(arguments))}; expected one of them"
        )
    if isinstance(address, str) and address.startswith("/"):
        arguments["path"] = address
    elif isinstance(address, str):
        # As in redis-py, what the URL says counts more than what stands beside it.
        said = parse_url(where, address)
        _check_keys(where, said, _SERVER)
        arguments.update(said)
    elif isinstance(address, (tuple, list)) and len(address) == 2:
        arguments.update(host=address[0], port=address[1])
    elif address is not None:
        raise InvalidChannelLayerError(f"{where}['address'] is {kind_of(address)}; expected a URL, a tuple or a path")
    place = _address(where, arguments, port)
    access = _access(where, arguments)
    if place.path and access.tls:
        raise InvalidChannelLayerError(f"{where} asks for TLS on a Unix socket; leave 'ssl' out")
    _try_out(where, access, place)
    return Endpoint(place, access)


def _address(where: str, arguments: Mapping[str, Any], default: int) -> Address:
    paths = [arguments[key] for key in ("path", "unix_socket_path") if arguments.get(key) is not None]
    if paths:
        if len(paths) > 1 or not isinstance(paths[0], str) or not paths[0] or "host" in arguments:
            raise InvalidChannelLayerError(f"{where} needs one of 'path', as a str, and 'host'")
        return Address(path=paths[0])
    host = arguments.get("host", "localhost")
    if not isinstance(host, str) or not host or any(character in host for character in "@/ []"):
        raise InvalidChannelLayerError(
            f"{where} has a host that is {kind_of(host)}; expected a host name or an IP address, without brackets"
        )
    port = number_of(where, "port", arguments.get("port", default), int, 1, 65_535)
    # Host names know no upper case; two spellings must not make two places.
    return Address(host.lower(), int(port))


def _access(where: str, arguments: Mapping[str, Any]) -> Access:
    for key in ("username", "password"):
        value = arguments.get(key)
        if value is not None and not isinstance(value, str):
            raise InvalidChannelLayerError(f"{where}['{key}'] is of type {type(value).__name__}; expected a str")
    client_name = arguments.get("client_name")
    if client_name is not None and not (isinstance(client_name, str) and _CLIENT_NAME.fullmatch(client_name)):
        raise InvalidChannelLayerError(
            f"{where}['client_name'] is {_shown(client_name)}; expected a str of visible ASCII characters, no spaces"
        )
    tls = arguments.get("ssl", False)
    if not isinstance(tls, bool):
        raise InvalidChannelLayerError(f"{where}['ssl'] is {_shown(tls)}; expected True or False")
    passed = {key: arguments[key] for key in PASSED if key in arguments}
    stray = [key for key, value in passed.items() if key.startswith("ssl_") and value is not None]
    if stray and not tls:
        raise InvalidChannelLayerError(f"{where} has {list_of(stray)} but no TLS; add 'ssl': True, or use rediss://")
    if arguments.get("credential_provider") is not None and (arguments.get("username") or arguments.get("password")):
        raise InvalidChannelLayerError(f"{where} has a credential_provider and a username or password; leave one out")
    check_arguments(where, passed)
    limit = arguments.get("socket_connect_timeout")
    if limit is not None:
        limit = number_of(where, "socket_connect_timeout", limit, float, 0, math.inf)
        if not limit:
            raise InvalidChannelLayerError(f"{where}['socket_connect_timeout'] is 0; expected a number of seconds")
    return Access(
        db=int(number_of(where, "db", arguments.get("db") or 0, int, 0, math.inf)),
        username=arguments.get("username") or None,
        password=arguments.get("password") or None,
        tls=tls,
        client_name=client_name,
        connect_timeout=limit,
        arguments=MappingProxyType({key: passed[key] for key in passed if tls or not key.startswith("ssl_")}),
    )


def _try_out(where: str, access: Access, address: Address) -> None:
    """Make a connection of either kind, without connecting, for what redis-py itself has against an argument."""
    try:
        access.connection(address)
        access.blocking_connection(address, timeout=1)
    except Exception as exc:
        # A TypeError names the argument that this release of redis-py does not take.
        problem = str(exc) if isinstance(exc, TypeError) else scrub(exc, access.secrets())
    else:
        return
    raise InvalidChannelLayerError(f"{where} has an argument that redis-py refuses: {problem}")


# Checks


def _check_keys(where: str, entry: Mapping[Any, Any], accepted: frozenset[str]) -> None:
    unknown = [key for key in entry if key not in accepted]
    if unknown:
        expected = ", ".join(sorted(accepted.difference(_WITHOUT_EFFECT)))
        raise InvalidChannelLayerError(f"{where} has the unknown key {list_of(map(str, unknown))}; expected {expected}")


def _shown(value: object) -> str:
    """Return a value as an error may show it that is not where a secret would stand."""
    return repr(value) if isinstance(value, str) and len(value) < 100 else kind_of(value)

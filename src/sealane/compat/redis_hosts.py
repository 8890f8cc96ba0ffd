"""Connection pools from the ``hosts`` of channels_redis, for programs that talk to the same servers by themselves.

Sealane's layers read ``hosts`` in another way, and have no pools: see ``sealane.layers.redis.hosts``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Sentinel, SentinelConnectionPool

__all__ = ["create_pool", "decode_hosts"]

_DEFAULT = "redis://localhost:6379"


def decode_hosts(hosts: Sequence[Any] | None) -> list[dict[str, Any]]:
    """Return ``hosts`` as arguments for :func:`create_pool`, one dict for each.

    A host is a URL, a pair of a name and a port, or a dict, which stays as it is. Without any, it is the server on
    this machine. Raises ValueError for a single str or bytes in the place of the list.
    """
    if not hosts:
        return [{"address": _DEFAULT}]
    if isinstance(hosts, str | bytes):
        raise ValueError(f"hosts is of type {type(hosts).__name__}; expected a list of Redis hosts, even of one")
    return [_decode(host) for host in hosts]


def create_pool(host: Mapping[str, Any]) -> ConnectionPool:
    """Return a new pool of connections of redis-py to a host, as :func:`decode_hosts` gives it. Nothing connects yet.

    ``address`` is a URL. ``master_name`` with ``sentinels`` asks these for the master. Every other item is an argument
    of redis-py's connections.
    """
    options = dict(host)
    if "address" in options:
        return ConnectionPool.from_url(options.pop("address"), **options)
    master = options.pop("master_name", None)
    if master is None:
        return ConnectionPool(**options)
    sentinels = Sentinel(options.pop("sentinels"), sentinel_kwargs=options.pop("sentinel_kwargs", None))  # type: ignore[no-untyped-call]
    return SentinelConnectionPool(master, sentinels, **options)  # type: ignore[no-untyped-call]


def _decode(host: Any) -> dict[str, Any]:
    if isinstance(host, dict):
        return host
    if isinstance(host, tuple | list):
        return {"host": host[0], "port": host[1]}
    return {"address": host}

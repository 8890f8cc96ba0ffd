"""Real servers for the tests: one alone, a Sentinel group, a Cluster, of Valkey and of Redis; PostgreSQL; nginx.

Everything here blocks, and may be called from any thread: within a coroutine, hand what takes time to
``asyncio.to_thread``. No server outlives the process that started it, however that ends.
"""

from tests.servers.binaries import Flavour, available
from tests.servers.certificates import Certificates
from tests.servers.cluster import Cluster, Migration
from tests.servers.nginx import Nginx, nginx_program
from tests.servers.postgresql import PostgreSQL, postgresql_programs
from tests.servers.sentinel import SentinelGroup
from tests.servers.server import Server
from tests.servers.slots import SLOTS, slot_of
from tests.servers.waiting import wait_until
from tests.servers.wire import ServerError, Wire

__all__ = [
    "SLOTS",
    "Certificates",
    "Cluster",
    "Flavour",
    "Migration",
    "Nginx",
    "PostgreSQL",
    "SentinelGroup",
    "Server",
    "ServerError",
    "Wire",
    "available",
    "nginx_program",
    "postgresql_programs",
    "slot_of",
    "wait_until",
]

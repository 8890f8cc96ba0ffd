"""How to get into a server: addresses, credentials, the arguments of a connection. Secrets stay out of sight."""

import inspect
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import redis
import redis.asyncio
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from sealane.layers.redis.arguments import missing_files

__all__ = ["Access", "Address", "Endpoint", "scrub"]

#: An error text is cut after so many characters.
_LONGEST = 300

#: A server repeats the arguments of a command that it does not know. If that command was AUTH, one is the password.
_ECHO = "with args beginning with"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: a host and a port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Credentials(CredentialProvider):
    """A user and a password in an object that shows neither, since redis-py's pools print their arguments."""

    def __init__(self, username: str | None, password: str | None) -> None:
        self._pair = (username, password or "") if username else (password or "",)

    def get_credentials(self) -> Any:
        return self._pair

    async def get_credentials_async(self) -> Any:
        # The base class logs a warning here.
        return self._pair

    def __repr__(self) -> str:
        return "<credentials>"


@dataclass(frozen=True, eq=False)
class Access:
    """What a server is told by whoever connects, and how: the same for every address of a place."""

    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    client_name: str | None = None
    #: Seconds to connect within, where that is less than there is.
    connect_timeout: float | None = None
    #: What else redis-py's connections take, under their names: ssl_*, socket_keepalive, credential_provider...
    arguments: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that no log and no error may hold."""
        found = (self.password, self.arguments.get("ssl_password"))
        return tuple(secret for secret in found if isinstance(secret, str) and secret)

    def why(self, error: BaseException) -> str:
        """Return why no connection was made, in one line that may be logged."""
        # Neither Python nor redis-py says which file it is that is not there.
        return scrub(error, self.secrets()) + missing_files(self.arguments)

    def connection(self, address: Address) -> redis.asyncio.Connection:
        """Return a new asyncio connection, not connected yet."""
        kind: Any = redis.asyncio.Connection
        if address.path:
            kind = redis.asyncio.UnixDomainSocketConnection
        elif self.tls:
            kind = redis.asyncio.SSLConnection
        connection: redis.asyncio.Connection = kind(
            **_where(address), **self.settings(kind), socket_timeout=None, socket_connect_timeout=None
        )
        return connection

    def blocking_connection(self, address: Address, *, timeout: float) -> redis.Connection:
        """Return a new blocking connection, not connected yet. ``timeout`` is that of each step, in seconds."""
        kind: Any = self.blocking_kind(unix=bool(address.path))
        connection: redis.Connection = kind(
            **_where(address), **self.settings(kind), socket_timeout=timeout, socket_connect_timeout=timeout
        )
        return connection

    def blocking_kind(self, *, unix: bool) -> type[Any]:
        """Return redis-py's class for a blocking connection."""
        if unix:
            return redis.UnixDomainSocketConnection
        return redis.SSLConnection if self.tls else redis.Connection

    def settings(self, kind: type[Any]) -> dict[str, Any]:
        """Return the arguments of a connection of this class, without address and timeouts."""
        settings: dict[str, Any] = {
            "db": self.db,
            # Replies are bytes, in the protocol that every server speaks and that gives the same types everywhere.
            "protocol": 2,
            # Whoever uses the connection decides what is sent again.
            "retry_on_timeout": False,
            "health_check_interval": 0,
        }
        # mypy takes a type[Any] for unhashable.
        names = _arguments_of(kind)  # type: ignore[arg-type]
        if "path" not in names.own:
            settings["socket_keepalive"] = True
        if self.username or self.password:
            settings["credential_provider"] = _Credentials(self.username, self.password)
        # CLIENT SETINFO costs two round trips at every connection and tells nothing that CLIENT SETNAME does not.
        if "driver_info" in names.all:
            settings["driver_info"] = None
        else:
            settings["lib_name"] = settings["lib_version"] = None
        if self.tls:
            # redis-py checked the host name by default only from 6 on.
            settings["ssl_check_hostname"] = self.arguments.get("ssl_cert_reqs", "required") in (
                "required",
                "optional",
                ssl.CERT_REQUIRED,
                ssl.CERT_OPTIONAL,
            )
        return {**settings, **self.arguments}


def _where(address: Address) -> dict[str, Any]:
    return {"path": address.path} if address.path else {"host": address.host, "port": address.port}


class _Arguments(NamedTuple):
    """The names of the arguments of a class: what it takes itself, and what it and its bases take."""

    own: frozenset[str]
    all: frozenset[str]


@cache
def _arguments_of(kind: type[Any]) -> _Arguments:
    # Looked up once for a class: it costs more than to make the connection, and every connection needs it.
    bases = (base for base in kind.__mro__ if "__init__" in vars(base))
    names = frozenset(name for base in bases for name in inspect.signature(base).parameters)
    return _Arguments(frozenset(inspect.signature(kind).parameters), names)


@dataclass(frozen=True, eq=False)
class Endpoint:
    """A server that is asked where another is: a sentinel, or a node of a Cluster."""

    address: Address
    access: Access

    def __str__(self) -> str:
        return str(self.address)


def scrub(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """Return what an error says, in one line that may be logged.

    What a server repeats of a command's arguments is cut off, the ``secrets`` are masked, and of errors that are
    neither redis-py's nor the system's, such as those of a credential provider, only the class is named.
    """
    name = type(error).__name__
    if not isinstance(error, (RedisError, OSError)):
        return name
    cause = error.__cause__
    if cause is not None and not isinstance(cause, (RedisError, OSError)):
        # redis-py wraps what it does not know: `ConnectionError(exc) from exc`.
        return type(cause).__name__
    text = str(error)
    # Those that Python itself raises have no reason.
    reason = getattr(error.__context__, "reason", None) if isinstance(error.__context__, ssl.SSLError) else None
    if reason:
        # redis-py 5 leaves out what was wrong.
        text = f"{text} ({reason})"
    text = " ".join(text.split())
    text = text.partition(_ECHO)[0].rstrip(" ,")
    # The longer first: one may be part of another.
    forms = {form for secret in secrets for form in (secret, quote(secret, safe=""))}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}..."
    return text or name

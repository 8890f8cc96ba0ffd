"""URLs of servers: redis://user:password@host:6379/0?ssl_cert_reqs=none"""

from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sealane.exceptions import InvalidChannelLayerError

__all__ = ["parse_url"]

_TLS: Final = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}

#: Why a URL that looks odd is refused: the rest of a password may be anywhere in it, so that no error shows a part.
_HINT: Final = (
    "in a user name or password, percent-encode every character but letters, digits and -._~ "
    "(urllib.parse.quote(password, safe=''))"
)


def parse_url(where: str, url: str) -> dict[str, Any]:
    """Return the arguments that a URL stands for, as the keys of a host's dict. ``where`` names it in errors.

    What the query holds are arguments too; those of redis-py that are not text are converted. Raises
    InvalidChannelLayerError, which shows nothing of the URL but its scheme.
    """
    scheme, mark, _ = url.partition("://")
    scheme = scheme.lower()
    if not mark or (scheme not in _TLS and scheme != "unix"):
        raise InvalidChannelLayerError(
            f"{where} is a str that does not begin with redis://, rediss://, valkey://, valkeys:// or unix://"
        )
    split = _split(url)
    if split is None:
        raise InvalidChannelLayerError(f"{where} is a {scheme}:// URL that cannot be read; {_HINT}")
    parts, port, query = split
    arguments: dict[str, Any] = {}
    if parts.username:
        arguments["username"] = unquote(parts.username)
    if parts.password:
        arguments["password"] = unquote(parts.password)
    path = unquote(parts.path)
    if scheme == "unix":
        if parts.hostname or not path:
            raise InvalidChannelLayerError(f"{where} is a unix:// URL without a path; expected unix:///path/to/socket")
        arguments["path"] = path
    else:
        if parts.hostname:
            arguments["host"] = unquote(parts.hostname)
        if port is not None:
            arguments["port"] = port
        if _TLS[scheme]:
            arguments["ssl"] = True
        database = path.strip("/")
        if database:
            if not (database.isascii() and database.isdigit()):
                raise InvalidChannelLayerError(
                    f"{where} is a {scheme}:// URL whose path is not the number of a database; {_HINT}"
                )
            arguments["db"] = int(database)
    for key, value in query:
        converted = _converted(key, value)
        if converted is None:
            raise InvalidChannelLayerError(f"{where} is a {scheme}:// URL whose {key!r} cannot be read")
        arguments[key] = converted
    return arguments


def _split(url: str) -> tuple[SplitResult, int | None, list[tuple[str, str]]] | None:
    """Return the parts of a URL, its port and its query; None where it makes no sense."""
    try:
        parts = urlsplit(url)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        # Its text may show the beginning of a password, as the port.
        return None
    if parts.fragment or "@" in parts.path or "@" in parts.query or parts.netloc.count("@") > 1:
        return None
    return parts, port, query


def _converted(key: str, value: str) -> Any:
    """Return what the text of an argument stands for; None where it cannot be read."""
    if key in _BOOLEAN:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(value.lower())
    if key in _INTEGER:
        return int(value) if value.isascii() and value.isdigit() else None
    return value


_BOOLEAN: Final = ("ssl", "ssl_check_hostname", "socket_keepalive")
_INTEGER: Final = ("socket_read_size",)

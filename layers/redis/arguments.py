"""The arguments of redis-py's connections that a host may hold, and what is wrong with them before one connects."""

import math
import os
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from sealane.exceptions import InvalidChannelLayerError

__all__ = ["PASSED", "check_arguments", "kind_of", "list_of", "missing_files", "number_of"]


class _Rule(NamedTuple):
    """What an argument may be where it is not None, which stands for what was not given; and how an error says so."""

    allows: Callable[[Any], bool]
    expected: str


def _is_flags(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(flag, ssl.VerifyFlags) for flag in value)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_BOOL: Final = _Rule(lambda value: isinstance(value, bool), "True or False")
_PATH: Final = _Rule(lambda value: isinstance(value, (str, os.PathLike)) and bool(value), "the path of a file")
_FLAGS: Final = _Rule(_is_flags, "a list of ssl.VerifyFlags")

_RULES: Final[Mapping[str, _Rule]] = {
    "credential_provider": _Rule(
        lambda value: callable(getattr(value, "get_credentials", None)), "a redis.credentials.CredentialProvider"
    ),
    "socket_keepalive": _BOOL,
    "socket_keepalive_options": _Rule(
        lambda value: isinstance(value, Mapping), "a dict of socket options to their values"
    ),
    "socket_read_size": _Rule(_is_size, "a whole number of bytes above 0"),
    "ssl_ca_certs": _PATH,
    "ssl_ca_data": _Rule(lambda value: isinstance(value, (str, bytes)), "certificates, as a str or bytes"),
    "ssl_ca_path": _Rule(_PATH.allows, "the path of a directory"),
    "ssl_cert_reqs": _Rule(
        lambda value: value in ("none", "optional", "required") or isinstance(value, ssl.VerifyMode),
        "'none', 'optional' or 'required'",
    ),
    "ssl_certfile": _PATH,
    "ssl_check_hostname": _BOOL,
    "ssl_ciphers": _Rule(lambda value: isinstance(value, str), "a str in the format of OpenSSL"),
    "ssl_exclude_verify_flags": _FLAGS,
    "ssl_include_verify_flags": _FLAGS,
    "ssl_keyfile": _PATH,
    "ssl_min_version": _Rule(
        lambda value: isinstance(value, ssl.TLSVersion), "an ssl.TLSVersion, such as ssl.TLSVersion.TLSv1_2"
    ),
    "ssl_password": _Rule(lambda value: isinstance(value, str), "a str"),
}

_FILES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")

#: What redis-py's connections get as it is.
PASSED: Final = tuple(_RULES)


def check_arguments(where: str, arguments: Mapping[str, Any]) -> None:
    """Raise InvalidChannelLayerError for an argument of ``PASSED`` with which no connection could be made.

    What it says of certificates and keys is found out by reading them. A file that is not there, or not to be read by
    this user, is not held against it: it may be there when the layer connects, and the error says so then.
    """
    for name, value in arguments.items():
        rule = _RULES.get(name)
        if rule is not None and value is not None and not rule.allows(value):
            raise InvalidChannelLayerError(f"{where}['{name}'] is {kind_of(value)}; expected {rule.expected}")
    given = {name: value for name, value in arguments.items() if value is not None}
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise InvalidChannelLayerError(f"{where} has 'ssl_keyfile' without 'ssl_certfile'; expected both or none")
    for names, load in _LOADS:
        present = [name for name in names if name in given]
        problem = _refusal(load, given) if present else None
        if problem is not None:
            raise InvalidChannelLayerError(f"{where} has {list_of(present)} that cannot be used: {problem}")


def missing_files(arguments: Mapping[str, Any]) -> str:
    """Return which of the arguments name files that are not there, as the end of an error; nothing where all are."""
    names = [name for name in _FILES if arguments.get(name) is not None and not os.path.exists(arguments[name])]
    return f" (no such file: {list_of(names)})" if names else ""


def _refusal(load: Callable[[ssl.SSLContext, Mapping[str, Any]], None], arguments: Mapping[str, Any]) -> str | None:
    """Return what OpenSSL has against arguments; None where it has nothing, or a file cannot be read."""
    try:
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), arguments)
    except ssl.SSLError as exc:
        # Python's own have no reason.
        return getattr(exc, "reason", None) or str(exc.args[0])
    except OSError:
        pass
    except ValueError as exc:
        return type(exc).__name__
    return None


def _load_chain(context: ssl.SSLContext, arguments: Mapping[str, Any]) -> None:
    if "ssl_certfile" in arguments:
        # A key that is encrypted, without a password, must not make OpenSSL ask for one at the terminal.
        password = arguments.get("ssl_password", "")
        context.load_cert_chain(arguments["ssl_certfile"], arguments.get("ssl_keyfile"), password=lambda: password)


def _load_authorities(context: ssl.SSLContext, arguments: Mapping[str, Any]) -> None:
    context.load_verify_locations(
        arguments.get("ssl_ca_certs"), arguments.get("ssl_ca_path"), arguments.get("ssl_ca_data")
    )


def _load_ciphers(context: ssl.SSLContext, arguments: Mapping[str, Any]) -> None:
    context.set_ciphers(arguments["ssl_ciphers"])


_LOADS: Final = (
    (("ssl_certfile", "ssl_keyfile", "ssl_password"), _load_chain),
    (("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"), _load_authorities),
    (("ssl_ciphers",), _load_ciphers),
)


# What errors say


def number_of(where: str, key: str, value: object, kind: type[float], least: float, most: float) -> float:
    """Return a number, which may be given as a str, since many come from the environment."""
    number: float | None = None
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = kind(value)
        except ValueError:
            pass
    if number is None or (number != value and not isinstance(value, str)) or not least <= number <= most:
        bounds = f"from {least:g} to {most:g}" if most < math.inf else f"of at least {least:g}"
        raise InvalidChannelLayerError(f"{where}['{key}'] is {kind_of(value)}; expected a number {bounds}")
    return number


def kind_of(value: object) -> str:
    """Return a value as an error may show it: a number as it is, of anything else the type, as it may hold secrets."""
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return "an empty str" if not value else f"a str of {len(value)} characters"
    return f"of type {type(value).__name__}"


def list_of(names: Iterable[str]) -> str:
    """Return names as an error lists them."""
    return ", ".join(repr(name) for name in sorted(names))

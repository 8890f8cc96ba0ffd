"""Messages to bytes and back: one table of types, the same for every layer and every format.

What a serializer takes, and what the receiver gets:

=========================================  ==================================================================
None, bool, float, str, bytes              the same; ``nan`` and infinities too
int                                        the same, from -2**63 to 2**64 - 1
bytearray, memoryview                      bytes
list, tuple                                list
dict with str keys                         dict, in the same order
set, frozenset                             set (inside it tuples stay tuples, and sets are frozensets)
datetime, time                             the same; an aware one comes back with a fixed offset from UTC
date, timedelta, Decimal, UUID             the same
lazy strings of Django, SafeString         str
members of TextChoices, IntegerChoices,    their value
StrEnum, IntEnum
=========================================  ==================================================================

Everything else is refused with UnserializableMessage, which names the key.
"""

import base64
import datetime
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgpack
from django.utils.functional import Promise

from sealane.exceptions import InvalidChannelLayerError, UnserializableMessage
from sealane.types import Message

__all__ = [
    "MAX_DEPTH",
    "JSONSerializer",
    "MsgPackSerializer",
    "Serializer",
    "SerializersRegistry",
    "register",
    "registry",
]

#: How deep lists, dicts and sets may stand in one another; the message itself is the first level.
MAX_DEPTH: Final = 100

#: A packer keeps a buffer of the size of the largest message it packed: one larger than this, in bytes, is let go.
_KEPT = 65_536

_SMALLEST = -(2**63)
_LARGEST = 2**64 - 1

#: Values of exactly these types hold no other value, and nobody can change them.
SCALARS: Final = frozenset(
    {
        str,
        int,
        float,
        bool,
        type(None),
        bytes,
        datetime.datetime,
        datetime.date,
        datetime.time,
        datetime.timedelta,
        Decimal,
        UUID,
    }
)

#: msgpack packs these by itself, past the table.
_MSGPACK_OWN = (msgpack.ExtType, msgpack.Timestamp)


class Serializer(ABC):
    """Turns messages into bytes and back.

    Its methods are called from any thread, and never under a layer's lock. It holds to the table of this module, so
    that a message means the same on every layer.
    """

    @abstractmethod
    def serialize(self, message: Message) -> bytes:
        """Return a message as bytes. Raise UnserializableMessage for one that ``deserialize`` could not restore."""

    @abstractmethod
    def deserialize(self, data: bytes) -> Message:
        """Return a new message, which shares nothing mutable with an earlier one, from what ``serialize`` made."""


class MsgPackSerializer(Serializer):
    """The default format: one call of msgpack for a message of plain values."""

    def __init__(self) -> None:
        # A Packer costs more to make than to use. One is never in two hands: whoever uses it takes it out of the list,
        # be it another thread or code that interrupts this one.
        self._packers: list[msgpack.Packer] = []

    def serialize(self, message: Message) -> bytes:
        try:
            packer = self._packers.pop()
        except IndexError:
            packer = msgpack.Packer(default=_to_ext)
        try:
            _check(message, MAX_DEPTH)
            packed: bytes = packer.pack(message)
        except Exception as exc:
            raise _refusal(message, exc) from exc
        if len(packed) <= _KEPT:
            self._packers.append(packer)
        return packed

    def deserialize(self, data: bytes) -> Message:
        message: Message = msgpack.unpackb(data, ext_hook=_from_ext)
        return message


class JSONSerializer(Serializer):
    """For messages that people or other programs want to read on the wire; slower than msgpack.

    Types that JSON does not have stand in an object with one key, ``"__sealane__"``.
    """

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
        self._decode = json.JSONDecoder(object_hook=_from_object).decode

    def serialize(self, message: Message) -> bytes:
        try:
            _check(message, MAX_DEPTH)
            return self._encode(_to_json(message)).encode()
        except Exception as exc:
            raise _refusal(message, exc) from exc

    def deserialize(self, data: bytes) -> Message:
        message: Message = self._decode(data.decode())
        return message


class SerializersRegistry:
    """Serializers by the name that ``serializer_format`` gives in a layer's CONFIG."""

    def __init__(self) -> None:
        self._factories: dict[str, Callable[[], Serializer]] = {}

    def register(self, format: str, factory: Callable[[], Serializer]) -> None:
        """Make a format known. ``factory``, a Serializer class as a rule, is called once per layer."""
        if not callable(factory):
            raise TypeError(f"The serializer for {format!r} must be a class or a callable, not {factory!r}")
        self._factories[format] = factory

    def get(self, format: str) -> Serializer:
        """Return a new serializer for a format; raise InvalidChannelLayerError for one that is not known."""
        try:
            factory = self._factories[format]
        except (KeyError, TypeError):
            known = ", ".join(repr(name) for name in sorted(self._factories))
            raise InvalidChannelLayerError(
                f"serializer_format is {format!r}; expected one of {known}, or a name given to "
                "sealane.layers.serializers.register() before"
            ) from None
        return factory()


registry = SerializersRegistry()
register = registry.register


# The table: each type that the formats lack, its tag, its text and the way back. Subclasses go with their base, so a
# datetime must be tried before a date.

_EXTENSIONS: tuple[tuple[type, int, Callable[[Any], str], Callable[[str], Any]], ...] = (
    (datetime.datetime, 1, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    (datetime.date, 2, datetime.date.isoformat, datetime.date.fromisoformat),
    (datetime.time, 3, lambda value: _time_text(value), datetime.time.fromisoformat),
    (
        datetime.timedelta,
        4,
        lambda value: f"{value.days},{value.seconds},{value.microseconds}",
        lambda text: datetime.timedelta(*map(int, text.split(","))),
    ),
    (Decimal, 5, Decimal.__str__, Decimal),
    (UUID, 6, lambda value: value.hex, UUID),
)
_SET = 7
_BYTES = 8
_DICT = 9

_FROM_TEXT = {tag: from_text for _, tag, _, from_text in _EXTENSIONS}

#: The key of the JSON objects that stand for other types.
_MARK = "__sealane__"


class _Refused(TypeError):
    """A value that the table does not have."""


def _time_text(value: datetime.time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise _Refused("a time has no offset from UTC in this time zone; send a datetime")
    return value.isoformat()


def _extension(value: object) -> tuple[int, str]:
    """Return the tag and the text of a value that is neither plain nor a container."""
    for kind, tag, to_text, _ in _EXTENSIONS:
        if isinstance(value, kind):
            return tag, to_text(value)
    raise _Refused(_advice(value))


def _advice(value: object) -> str:
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if hasattr(value, "_meta") and hasattr(value, "pk"):
        return f"a {kind} is a model instance; send its primary key"
    if hasattr(type(value), "__members__"):
        return f"a {kind} is an enum member; send its value"
    return f"a {kind} is not among the types that a message may hold"


def _check(message: Iterable[Any], depth: int) -> None:
    """Refuse what a format would take on its own and could not give back the same: keys, nesting, msgpack's types."""
    if depth <= 0:
        raise _Refused("nested too deep")
    if isinstance(message, dict):
        for key in message:
            if type(key) is not str and not isinstance(key, str):
                raise _Refused("key")
        message = message.values()
    for value in message:
        if type(value) in SCALARS:
            continue
        if isinstance(value, _MSGPACK_OWN):
            raise _Refused(_advice(value))
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            _check(value, depth - 1)


def _refusal(message: Message, reason: Exception) -> UnserializableMessage:
    """Return the error that says which value of a message a serializer refused, found by trying each."""
    try:
        found = _search(message, "message", MAX_DEPTH)
    except Exception as exc:  # a value whose own methods raise
        return UnserializableMessage("message", f"{type(exc).__name__}: {exc}")
    if found is None:
        return UnserializableMessage("message", f"{type(reason).__name__}: {reason}")
    return UnserializableMessage(*found)


def _search(value: object, path: str, depth: int) -> tuple[str, str] | None:
    """Return the path to the first value that the table does not have, and what is wrong with it."""
    if isinstance(value, _MSGPACK_OWN):
        return path, _advice(value)
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        if depth <= 0:
            return path, f"it is nested more than {MAX_DEPTH} levels deep, or holds itself"
        if isinstance(value, dict):
            inside = [(f"{path}[{key!r}]", key, item) for key, item in value.items()]
        elif isinstance(value, (list, tuple)):
            inside = [(f"{path}[{index}]", "", item) for index, item in enumerate(value)]
        else:
            inside = [(f"{path}{{{item!r}}}", "", item) for item in value]
        for where, key, item in inside:
            if not isinstance(key, str):
                return where, f"a key must be a str, not {type(key).__name__}"
            found = _search(key, f"the key of {where}", depth) or _search(item, where, depth - 1)
            if found:
                return found
        return None
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            return path, f"the str holds a lone surrogate, {value[exc.start]!r} at position {exc.start}"
        return None
    if isinstance(value, int):
        if not _SMALLEST <= value <= _LARGEST:
            return path, "the int is outside 64 bits, -2**63 to 2**64 - 1; send it as a str"
        return None
    if value is None or isinstance(value, (float, bytes, bytearray, memoryview)):
        return None
    if isinstance(value, Promise):
        return _search(str(value), path, depth)
    try:
        _extension(value)
    except _Refused as exc:
        return path, str(exc)
    return None


# msgpack


def _to_ext(value: object) -> object:
    if isinstance(value, (set, frozenset)):
        return msgpack.ExtType(_SET, msgpack.packb(list(value), default=_to_ext))
    if isinstance(value, Promise):
        return str(value)
    tag, text = _extension(value)
    return msgpack.ExtType(tag, text.encode())


def _from_ext(tag: int, data: bytes) -> object:
    if tag == _SET:
        return set(map(_hashable, msgpack.unpackb(data, ext_hook=_from_ext)))
    return _FROM_TEXT[tag](data.decode())


def _hashable(value: object) -> object:
    """Return an element of a set as it was before it became a list or a set on the wire."""
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, set):
        return frozenset(value)
    return value


# JSON


def _to_json(value: object) -> object:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return value
    if isinstance(value, int):
        if not _SMALLEST <= value <= _LARGEST:
            raise _Refused("int")
        return value
    if isinstance(value, (str, float)):
        return value
    if isinstance(value, dict):
        plain = {key: _to_json(item) for key, item in value.items()}
        # A dict of the user's own that has the mark as a key is written as pairs, or it would be read as another type.
        return {_MARK: [_DICT, list(plain.items())]} if _MARK in plain else plain
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return {_MARK: [_SET, [_to_json(item) for item in value]]}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {_MARK: [_BYTES, base64.b64encode(value).decode()]}
    if isinstance(value, Promise):
        return str(value)
    return {_MARK: list(_extension(value))}


def _from_object(value: dict[str, Any]) -> object:
    if _MARK not in value:
        return value
    tag, content = value[_MARK]
    if tag == _SET:
        return set(map(_hashable, content))
    if tag == _BYTES:
        return base64.b64decode(content)
    if tag == _DICT:
        return dict(content)
    return _FROM_TEXT[tag](content)


register("json", JSONSerializer)
register("msgpack", MsgPackSerializer)

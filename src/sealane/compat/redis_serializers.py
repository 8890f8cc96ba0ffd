"""Serializers in the shape of channels_redis, for projects that have registered one of their own.

A layer encrypts by itself what its serializer returns, so it makes a registered serializer without keys.
"""

import base64
import hashlib
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, cast

from sealane.layers import serializers

__all__ = [
    "BaseMessageSerializer",
    "JSONSerializer",
    "MissingSerializer",
    "MsgPackSerializer",
    "SerializerDoesNotExist",
    "SerializersRegistry",
    "registry",
]

#: Seconds that a clock may be behind another before what was encrypted counts as expired.
_SKEW = 10

_JSON = serializers.JSONSerializer()
_MSGPACK = serializers.MsgPackSerializer()


class SerializerDoesNotExist(KeyError):
    """No serializer is registered under a name."""


class BaseMessageSerializer(ABC):
    """Turns messages into bytes and back: ``as_bytes()`` and ``from_bytes()``, with encryption around them.

    symmetric_encryption_keys: the first encrypts, all decrypt.
    random_prefix_length: how many random bytes stand before each message, so that no two are the same.
    expiry: seconds after which what was encrypted is refused; None for never.

    Raises ValueError for keys that are no list, and where the extra ``crypto`` is not installed.
    """

    def __init__(
        self,
        symmetric_encryption_keys: Iterable[str | bytes] | None = None,
        random_prefix_length: int = 0,
        expiry: int | None = None,
    ) -> None:
        self.random_prefix_length = random_prefix_length
        self.expiry = expiry
        self.crypter: Any = None
        if symmetric_encryption_keys:
            self.crypter = self._crypter(symmetric_encryption_keys)

    def _crypter(self, keys: Iterable[str | bytes]) -> Any:
        if isinstance(keys, str | bytes):
            raise ValueError(
                f"symmetric_encryption_keys is of type {type(keys).__name__}; symmetric_encryption_keys must be a list "
                "of possible keys"
            )
        fernets = [self.make_fernet(key) for key in keys]
        from cryptography.fernet import MultiFernet

        return MultiFernet(fernets)

    def make_fernet(self, key: str | bytes) -> Any:
        """Return what encrypts with a key of any length: a ``cryptography.fernet.Fernet`` with its SHA-256 digest."""
        try:
            from cryptography.fernet import Fernet
        except ImportError as error:
            raise ValueError(
                "Cannot run with encryption without 'cryptography' installed: pip install \"sealane[crypto]\""
            ) from error
        secret = key.encode() if isinstance(key, str) else key
        return Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret).digest()))

    @abstractmethod
    def as_bytes(self, message: Any, *args: Any, **kwargs: Any) -> bytes:
        """Return a message as bytes."""

    @abstractmethod
    def from_bytes(self, message: bytes, *args: Any, **kwargs: Any) -> Any:
        """Return a message from what ``as_bytes()`` made of it."""

    def serialize(self, message: Any) -> bytes:
        """Return a message as bytes, encrypted where there are keys."""
        data = self.as_bytes(message)
        if self.crypter is not None:
            data = self.crypter.encrypt(data)
        return secrets.token_bytes(self.random_prefix_length) + data

    def deserialize(self, message: bytes) -> Any:
        """Return a message from what ``serialize()`` made of it."""
        data = message[self.random_prefix_length :]
        if self.crypter is not None:
            data = self.crypter.decrypt(data, None if self.expiry is None else self.expiry + _SKEW)
        return self.from_bytes(data)


class MissingSerializer(BaseMessageSerializer):
    """Stands for a serializer whose module is not installed, and raises why when it is made."""

    exception: ClassVar[Exception | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise self._reason()

    def _reason(self) -> Exception:
        return self.exception or TypeError(f"{type(self).__name__} has no exception that says what is missing")

    def as_bytes(self, message: Any, *args: Any, **kwargs: Any) -> bytes:
        raise self._reason()

    def from_bytes(self, message: bytes, *args: Any, **kwargs: Any) -> Any:
        raise self._reason()


class JSONSerializer(BaseMessageSerializer):
    """Sealane's format ``"json"``, for subclasses."""

    def as_bytes(self, message: Any, *args: Any, **kwargs: Any) -> bytes:
        return _JSON.serialize(message)

    @staticmethod
    def from_bytes(message: bytes, *args: Any, **kwargs: Any) -> Any:
        return _JSON.deserialize(message)


class MsgPackSerializer(BaseMessageSerializer):
    """Sealane's format ``"msgpack"``, for subclasses."""

    @staticmethod
    def as_bytes(message: Any, *args: Any, **kwargs: Any) -> bytes:
        return _MSGPACK.serialize(message)

    @staticmethod
    def from_bytes(message: bytes, *args: Any, **kwargs: Any) -> Any:
        return _MSGPACK.deserialize(message)


class SerializersRegistry:
    """Serializers by the name that ``serializer_format`` gives in a layer's CONFIG."""

    def __init__(self) -> None:
        self._registry: dict[str, type[Any]] = {}

    def register_serializer(self, format: str, serializer_class: type[Any]) -> None:
        """Make a format known: a class with ``serialize()`` and ``deserialize()``. TypeError for anything else.

        It is called with the three arguments of BaseMessageSerializer, by name.
        """
        has_both = hasattr(serializer_class, "serialize") and hasattr(serializer_class, "deserialize")
        if not (isinstance(serializer_class, type) and has_both):
            raise TypeError(
                f"The serializer for {format!r} is {serializer_class!r}; expected a class with serialize() and "
                "deserialize(), such as a subclass of channels_redis.serializers.BaseMessageSerializer"
            )
        self._registry[format] = serializer_class

    def get_serializer(self, format: str, *args: Any, **kwargs: Any) -> Any:
        """Return a new serializer. Raises SerializerDoesNotExist, a KeyError, for a format that is not known."""
        try:
            serializer_class = self._registry[format]
        except KeyError:
            raise SerializerDoesNotExist(format) from None
        return serializer_class(*args, **kwargs)


class _LayersRegistry(SerializersRegistry):
    """The registry of channels_redis: what it knows, the layers know too."""

    def register_serializer(self, format: str, serializer_class: type[Any]) -> None:
        super().register_serializer(format, serializer_class)

        def make() -> serializers.Serializer:
            made = serializer_class(symmetric_encryption_keys=None, random_prefix_length=0, expiry=None)
            return cast(serializers.Serializer, made)

        serializers.register(format, make)


registry = _LayersRegistry()
# Not in the layers: they have these formats by themselves.
SerializersRegistry.register_serializer(registry, "json", JSONSerializer)
SerializersRegistry.register_serializer(registry, "msgpack", MsgPackSerializer)

"""Serializers in the shape of channels_redis."""

from typing import Any

import pytest
from cryptography.fernet import InvalidToken

from sealane.compat.redis_serializers import (
    BaseMessageSerializer,
    JSONSerializer,
    MissingSerializer,
    MsgPackSerializer,
    SerializerDoesNotExist,
    SerializersRegistry,
    registry,
)
from sealane.exceptions import InvalidChannelLayerError
from sealane.layers import InMemoryChannelLayer
from sealane.layers.serializers import registry as formats

MESSAGE = {"type": "chat.message", "list": [1, "é", None]}


@pytest.mark.parametrize("kind", [JSONSerializer, MsgPackSerializer])
@pytest.mark.parametrize("prefix", [0, 12])
def test_a_message_comes_back(kind: type[BaseMessageSerializer], prefix: int) -> None:
    serializer = kind(random_prefix_length=prefix)
    data = serializer.serialize(MESSAGE)
    assert serializer.deserialize(data) == MESSAGE
    assert len(data) == prefix + len(serializer.as_bytes(MESSAGE))
    assert kind.from_bytes(serializer.as_bytes(MESSAGE)) == MESSAGE  # type: ignore[arg-type, call-arg]


def test_a_random_prefix_makes_two_of_the_same_differ() -> None:
    serializer = MsgPackSerializer(random_prefix_length=12)
    assert serializer.serialize(MESSAGE) != serializer.serialize(MESSAGE)


def test_encryption_with_the_first_key_and_decryption_with_any() -> None:
    old = JSONSerializer(symmetric_encryption_keys=["old"], expiry=60)
    both = JSONSerializer(symmetric_encryption_keys=[b"new", "old"], expiry=60)
    data = old.serialize(MESSAGE)
    assert b"chat" not in data
    assert both.deserialize(data) == MESSAGE
    with pytest.raises(InvalidToken):
        old.deserialize(both.serialize(MESSAGE))


def test_keys_that_are_a_text_are_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="symmetric_encryption_keys must be a list of possible keys") as caught:
        JSONSerializer(symmetric_encryption_keys="very secret")
    assert "very secret" not in str(caught.value)


def test_a_missing_serializer_says_why() -> None:
    class Missing(MissingSerializer):
        exception = ImportError("no such module")

    with pytest.raises(ImportError, match="no such module"):
        Missing()
    with pytest.raises(TypeError, match="no exception that says what is missing"):
        MissingSerializer()


def test_a_registry_of_ones_own() -> None:
    mine = SerializersRegistry()
    mine.register_serializer("json", JSONSerializer)
    assert isinstance(mine.get_serializer("json", expiry=5), JSONSerializer)
    with pytest.raises(SerializerDoesNotExist, match="msgpack"):
        mine.get_serializer("msgpack")
    with pytest.raises(TypeError, match="expected a class with serialize\\(\\) and deserialize\\(\\)"):
        mine.register_serializer("x", dict)


async def test_what_is_registered_is_a_format_of_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_factories", dict(formats._factories))
    monkeypatch.setattr(registry, "_registry", dict(registry._registry))
    made: list[dict[str, Any]] = []

    class Shouting(JSONSerializer):
        def __init__(self, **options: Any) -> None:
            made.append(options)
            super().__init__(**options)

        def as_bytes(self, message: Any, *args: Any, **kwargs: Any) -> bytes:
            return super().as_bytes({**message, "text": message["text"].upper()})

    registry.register_serializer("shouting", Shouting)
    layer = InMemoryChannelLayer(serializer_format="shouting")
    await layer.send("queue", {"type": "x", "text": "hello"})
    assert await layer.receive("queue") == {"type": "x", "text": "HELLO"}
    assert made == [{"symmetric_encryption_keys": None, "random_prefix_length": 0, "expiry": None}]
    assert registry.get_serializer("shouting", symmetric_encryption_keys=["k"]).crypter is not None


def test_the_formats_of_the_layers_stay_their_own() -> None:
    assert isinstance(registry.get_serializer("msgpack"), MsgPackSerializer)
    assert not isinstance(formats.get("msgpack"), MsgPackSerializer)
    with pytest.raises(InvalidChannelLayerError, match="serializer_format is 'shouting'"):
        formats.get("shouting")

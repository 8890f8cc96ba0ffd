"""Messages to bytes and back, beyond the table that the contract tests."""

import datetime
import gc
import json
import threading
from collections import OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack
import pytest
from django.contrib.auth.models import User
from django.http import QueryDict
from django.utils.functional import lazystr
from django.utils.translation import gettext_lazy, override
from hypothesis import given
from hypothesis import strategies as st

from sealane.exceptions import InvalidChannelLayerError, UnserializableMessage
from sealane.layers import InMemoryChannelLayer, serializers
from sealane.layers.serializers import (
    MAX_DEPTH,
    JSONSerializer,
    MsgPackSerializer,
    Serializer,
    SerializersRegistry,
    registry,
)
from sealane.types import Message

FORMATS = ["msgpack", "json"]


def named(value: object) -> str | None:
    """Name a test after a value; pytest numbers those whose repr() is another in each process."""
    return None if isinstance(value, (set, frozenset)) else repr(value)[:30]


@pytest.fixture(params=FORMATS)
def serializer(request: pytest.FixtureRequest) -> Serializer:
    return registry.get(request.param)


def round_trip(serializer: Serializer, value: Any) -> Any:
    return serializer.deserialize(serializer.serialize({"type": "x", "value": value}))["value"]


Pair = namedtuple("Pair", "one other")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Pair(1, 2), [1, 2]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (QueryDict("a=1&a=2&b=3"), {"a": "2", "b": "3"}),
        ({"a": {"__sealane__": {"__sealane__": 1}}}, {"a": {"__sealane__": {"__sealane__": 1}}}),
        ({frozenset({frozenset({(1, (2,))})})}, {frozenset({frozenset({(1, (2,))})})}),
        ({datetime.date(2024, 1, 1), UUID(int=1), b"a"}, {datetime.date(2024, 1, 1), UUID(int=1), b"a"}),
        (Decimal("NaN").copy_abs().is_nan(), True),
        (Decimal("-Infinity"), Decimal("-Infinity")),
        (-0.0, -0.0),
        (5e-324, 5e-324),
        (datetime.timedelta.max, datetime.timedelta.max),
        (datetime.datetime.min, datetime.datetime.min),
    ],
    ids=named,
)
def test_round_trips(serializer: Serializer, value: Any, expected: Any) -> None:
    restored = round_trip(serializer, value)
    assert restored == expected
    assert type(restored) is type(expected)


def test_a_datetime_in_a_time_zone_comes_back_as_the_same_instant(serializer: Serializer) -> None:
    # 02:30 comes twice on that day in Berlin: the second one is told by fold.
    for fold in (0, 1):
        sent = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
        restored = round_trip(serializer, sent)
        assert restored.astimezone(datetime.UTC) == sent.astimezone(datetime.UTC)
        assert restored.utcoffset() == sent.utcoffset() == datetime.timedelta(hours=2 - fold)
        assert restored.replace(tzinfo=None) == sent.replace(tzinfo=None, fold=0)


def test_a_time_in_a_time_zone_is_refused(serializer: Serializer) -> None:
    with pytest.raises(UnserializableMessage, match=r"message\['value'\]: a time has no offset from UTC in this time"):
        round_trip(serializer, datetime.time(12, tzinfo=ZoneInfo("Europe/Berlin")))


def test_lazy_strings_are_in_the_senders_language(serializer: Serializer) -> None:
    lazy = gettext_lazy("Monday")
    with override("de"):
        data = serializer.serialize({"type": "x", "value": lazy})
    assert serializer.deserialize(data)["value"] == "Montag"


@pytest.mark.parametrize(
    ("value", "key", "problem"),
    [
        (deque([1]), "message['value']", "a collections.deque is not among the types that a message may hold"),
        ({"a": [{"b": (0, deque())}]}, "message['value']['a'][0]['b'][1]", "collections.deque"),
        (User(pk=3), "message['value']", "a django.contrib.auth.models.User is a model instance; send its primary key"),
        (ValueError("x"), "message['value']", "a ValueError is not among"),
        (int, "message['value']", "a type is not among"),
        ({"a": 1}.keys(), "message['value']", "a dict_keys is not among"),
        (msgpack.ExtType(1, b"2024-01-01"), "message['value']", "ExtType is not among"),
        ([msgpack.Timestamp(1)], "message['value'][0]", "Timestamp is not among"),
        ({(1, 2): 3}, "message['value'][(1, 2)]", "a key must be a str, not tuple"),
        ({b"a": 3}, "message['value'][b'a']", "a key must be a str, not bytes"),
        ({gettext_lazy("a"): 1}, "message['value']['a']", "a key must be a str, not __proxy__"),
        ([[2**70]], "message['value'][0][0]", r"outside 64 bits, -2**63 to 2**64 - 1; send it as a str"),
        ({"\ud800"}, "message['value']{'\\ud800'}", "lone surrogate, '\\ud800' at position 0"),
        ([lazystr("fine"), lazystr("\ud800")], "message['value'][1]", "lone surrogate"),
        (OrderedDict({1: 2}), "message['value'][1]", "a key must be a str"),
        ({"deep": OrderedDict({"a": OrderedDict({1: 2})})}, "message['value']['deep']['a'][1]", "must be a str"),
    ],
    ids=named,
)
def test_refusals_name_the_key(serializer: Serializer, value: Any, key: str, problem: str) -> None:
    with pytest.raises(UnserializableMessage) as caught:
        serializer.serialize({"type": "x", "value": value})
    assert caught.value.key == key
    assert problem in caught.value.problem
    assert str(caught.value) == f"Message cannot be serialized at {key}: {caught.value.problem}"


def nested(levels: int, value: Any) -> Message:
    for _ in range(levels - 1):
        value = [value]
    return {"type": "x", "value": value}


def test_nesting_has_a_limit_of_its_own(serializer: Serializer) -> None:
    deepest = nested(MAX_DEPTH, 1)
    assert serializer.deserialize(serializer.serialize(deepest)) == deepest
    with pytest.raises(UnserializableMessage, match=r"at message\['value'\]\[0\]\[0\].*more than 100 levels deep"):
        serializer.serialize(nested(MAX_DEPTH + 1, 1))
    with pytest.raises(UnserializableMessage, match="levels deep"):
        serializer.serialize(nested(10_000, 1))


def test_a_cycle_is_refused_at_once(serializer: Serializer) -> None:
    loop: list[Any] = []
    loop += [loop, loop, loop]
    with pytest.raises(UnserializableMessage, match="or holds itself") as caught:
        serializer.serialize({"type": "x", "value": loop})
    assert len(str(caught.value)) < 600


def test_a_value_whose_own_methods_raise_is_reported(serializer: Serializer) -> None:
    class Broken(dict[str, Any]):
        def values(self) -> Any:
            raise OSError("gone")

        items = values

    with pytest.raises(UnserializableMessage, match="at message: OSError: gone") as caught:
        serializer.serialize({"type": "x", "value": Broken(a=1)})
    assert isinstance(caught.value.__cause__, OSError)


def test_what_only_the_format_itself_refuses_is_reported_too(serializer: Serializer) -> None:
    with pytest.raises(UnserializableMessage, match=r"at message: \w+Error: "):
        serializer.serialize({"type": "x", "value": memoryview(b"abcdef")[::2]})


def test_a_refused_message_does_no_harm_to_the_next(serializer: Serializer) -> None:
    for _ in range(3):
        with pytest.raises(UnserializableMessage):
            serializer.serialize({"type": "x", "a": "kept?", "value": object()})
        assert round_trip(serializer, 1) == 1


AWARE = st.datetimes(timezones=st.timezones(), allow_imaginary=False)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    st.datetimes(),
    st.dates(),
    st.times(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.uuids(),
)
KEYS = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.just("__sealane__"))
HASHABLE = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=5,
)
VALUES = st.recursive(
    st.one_of(SCALARS, st.sets(HASHABLE, max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=15,
)


def same(one: Any, other: Any) -> bool:
    """Compare values and their types all the way down."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.untraced
@pytest.mark.parametrize("format", FORMATS)
@given(message=st.dictionaries(KEYS, VALUES, max_size=5))
def test_every_message_of_the_table_comes_back_the_same(format: str, message: Message) -> None:
    serializer = registry.get(format)
    data = serializer.serialize(message)
    assert same(serializer.deserialize(data), message)
    assert same(serializer.deserialize(data), message)


@pytest.mark.untraced
@pytest.mark.parametrize("format", FORMATS)
@given(moment=AWARE)
def test_every_aware_datetime_comes_back_as_the_same_instant(format: str, moment: datetime.datetime) -> None:
    restored = round_trip(registry.get(format), moment)
    assert restored.utcoffset() == moment.utcoffset()
    assert restored.replace(tzinfo=None) == moment.replace(tzinfo=None, fold=0)


ANYTHING = st.recursive(
    st.one_of(
        SCALARS,
        st.integers(),
        st.text(st.characters(codec=None)),
        st.just(object),
        st.builds(msgpack.ExtType, st.integers(0, 127), st.binary()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(KEYS, st.integers(), st.none()), inner, max_size=3),
    ),
    max_leaves=8,
)


@pytest.mark.untraced
@given(message=st.dictionaries(KEYS, ANYTHING, max_size=3))
def test_both_formats_refuse_the_same_messages_with_the_same_words(message: Message) -> None:
    outcomes = []
    for format in FORMATS:
        serializer = registry.get(format)
        try:
            data = serializer.serialize(message)
        except UnserializableMessage as exc:
            outcomes.append(str(exc))
        else:
            # What was taken can be read.
            assert same(serializer.deserialize(data), message)
            outcomes.append("taken")
    assert outcomes[0] == outcomes[1]


def test_msgpack_sends_a_plain_message_as_msgpack_does() -> None:
    message = {"type": "chat.message", "text": "hello", "tags": ["a", {"b": None}], "n": 3, "f": 1.5, "raw": b"\x00"}
    assert MsgPackSerializer().serialize(message) == msgpack.packb(message)


def test_json_sends_a_plain_message_as_json() -> None:
    message = {"type": "chat.message", "text": "grün", "tags": ["a", {"b": None}], "n": 3, "f": 1.5}
    assert json.loads(JSONSerializer().serialize(message)) == message
    assert "grün".encode() in JSONSerializer().serialize(message)


def test_a_large_message_leaves_no_large_buffer_behind() -> None:
    serializer = MsgPackSerializer()
    large = {"type": "x", "value": b"x" * 10_000_000}
    assert len(serializer.serialize(large)) > 10_000_000
    assert not serializer._packers
    serializer.serialize({"type": "x"})
    serializer.serialize({"type": "x"})
    assert len(serializer._packers) == 1


def test_threads_do_not_disturb_each_other(serializer: Serializer) -> None:
    right: list[bool] = []

    def work(number: int) -> None:
        message = {"type": "x", "set": {number, str(number)}, "when": datetime.date(2024, 1, 1 + number)}
        right.append(all(serializer.deserialize(serializer.serialize(message)) == message for _ in range(300)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


def test_code_that_interrupts_a_serializer_may_use_it(serializer: Serializer) -> None:
    class Interrupting(dict[str, Any]):
        def items(self) -> Any:
            assert round_trip(serializer, {"inner": {1}}) == {"inner": {1}}
            gc.collect()
            return super().items()

    assert round_trip(serializer, [Interrupting(a=1), {2}]) == [{"a": 1}, {2}]


# The registry


class Reversed(MsgPackSerializer):
    def serialize(self, message: Message) -> bytes:
        return super().serialize(message)[::-1]

    def deserialize(self, data: bytes) -> Message:
        return super().deserialize(data[::-1])


async def test_a_format_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    serializers.register("reversed", Reversed)
    layer = InMemoryChannelLayer(serializer_format="reversed")
    assert isinstance(layer.serializer, Reversed)
    await layer.send("channel", {"type": "x"})
    assert await layer.receive("channel") == {"type": "x"}


@pytest.mark.parametrize("format", ["pickle", None, ["json"]])
def test_an_unknown_format_names_the_known_ones(format: Any) -> None:
    with pytest.raises(InvalidChannelLayerError, match=r"expected one of 'json', 'msgpack', or a name given to"):
        InMemoryChannelLayer(serializer_format=format)


def test_what_is_registered_must_make_serializers() -> None:
    with pytest.raises(TypeError, match="The serializer for 'x' must be a class or a callable, not 'y'"):
        SerializersRegistry().register("x", "y")  # type: ignore[arg-type]

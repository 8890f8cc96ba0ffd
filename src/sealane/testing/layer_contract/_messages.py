"""The part of the contract about what a message may hold, and whose copy it is."""

import datetime
import enum
import json
import re
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.utils.functional import lazystr
from django.utils.safestring import mark_safe

from sealane.exceptions import MessageTooLarge, UnserializableMessage
from sealane.testing.layer_contract._harness import Harness, message_with, next_message
from sealane.types import Message


class _Colour(enum.StrEnum):
    RED = "red"


class _Size(enum.IntEnum):
    LARGE = 3


class _Plain(enum.Enum):
    ONE = 1


_ZONE = datetime.timezone(datetime.timedelta(hours=5, minutes=45))


def _named(value: object) -> str | None:
    """Name a test after a value, where its text is the same in every process."""
    return None if isinstance(value, (set, frozenset)) or " at 0x" in repr(value) else ascii(value)[:40]


#: What is sent, and what must arrive: equal, and of the same type.
ROUND_TRIPS: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (0, 0),
    (-(2**63), -(2**63)),
    (2**64 - 1, 2**64 - 1),
    (1.5, 1.5),
    (float("inf"), float("inf")),
    ("", ""),
    ("grün 🚢 \x00", "grün 🚢 \x00"),
    (b"\x00\xff", b"\x00\xff"),
    (bytearray(b"ab"), b"ab"),
    (memoryview(b"ab"), b"ab"),
    ([1, [2]], [1, [2]]),
    ((1, (2,)), [1, [2]]),
    ({"a": {"b": None}}, {"a": {"b": None}}),
    ({"__sealane__": [1, "x"]}, {"__sealane__": [1, "x"]}),
    ({1, 2}, {1, 2}),
    (frozenset({"a"}), {"a"}),
    ({(1, 2), frozenset({3})}, {(1, 2), frozenset({3})}),
    (set(), set()),
    (datetime.datetime(2024, 2, 29, 23, 59, 59, 999999), datetime.datetime(2024, 2, 29, 23, 59, 59, 999999)),
    (datetime.datetime(2024, 1, 1, tzinfo=_ZONE), datetime.datetime(2024, 1, 1, tzinfo=_ZONE)),
    (datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)),
    (datetime.date(1, 1, 1), datetime.date(1, 1, 1)),
    (datetime.time(12, 30, 0, 1), datetime.time(12, 30, 0, 1)),
    (datetime.time(12, tzinfo=_ZONE), datetime.time(12, tzinfo=_ZONE)),
    (datetime.timedelta(days=-1, microseconds=3), datetime.timedelta(days=-1, microseconds=3)),
    (Decimal("1.10"), Decimal("1.10")),
    (UUID(int=7), UUID(int=7)),
    (lazystr("lazy"), "lazy"),
    (mark_safe("<b>"), "<b>"),
    (_Colour.RED, "red"),
    (_Size.LARGE, 3),
]

#: A value that no message may hold, the key that the error names, and words of what it says.
REFUSALS: list[tuple[Any, str, str]] = [
    (object(), "message['value']", "object"),
    (_Plain.ONE, "message['value']", "send its value"),
    ({"user": {"avatar": object()}}, "message['value']['user']['avatar']", "object"),
    ([0, {1j}], "message['value'][1]{1j}", "complex"),
    ({1: "one"}, "message['value'][1]", "a key must be a str, not int"),
    ({None: "one"}, "message['value'][None]", "a key must be a str, not NoneType"),
    (2**64, "message['value']", "64 bits"),
    (-(2**63) - 1, "message['value']", "64 bits"),
    ("\ud800", "message['value']", "lone surrogate"),
    ({"\udfff": 1}, "the key of message['value']['\\udfff']", "lone surrogate"),
    (iter(()), "message['value']", "tuple_iterator"),
]


class MessagesContract(Harness):
    @pytest.mark.parametrize(("sent", "expected"), ROUND_TRIPS, ids=_named)
    async def test_a_value_arrives_as_the_table_says(self, sent: Any, expected: Any) -> None:
        async with self.make_layer() as layer:
            await layer.group_add("group", "a")
            await layer.group_add("group", "b")
            await layer.group_send("group", {"type": "x", "value": sent})
            await layer.send("a", {"type": "x", "value": [sent]})
            for channel in ("a", "b"):
                value = (await next_message(layer, channel))["value"]
                assert value == expected
                assert type(value) is type(expected)
            (value,) = (await next_message(layer, "a"))["value"]
            assert value == expected
            assert type(value) is type(expected)

    async def test_keys_stay_in_order(self) -> None:
        async with self.make_layer() as layer:
            message = {"type": "x", "b": 1, "a": {"z": 1, "y": 2}}
            await layer.send("channel", message)
            assert json.dumps(await next_message(layer, "channel")) == json.dumps(message)

    @pytest.mark.parametrize(("value", "key", "words"), REFUSALS, ids=_named)
    async def test_any_other_value_is_refused_when_it_is_sent(self, value: Any, key: str, words: str) -> None:
        async with self.make_layer() as layer:
            await layer.group_add("group", "channel")
            for call in (layer.send("channel", message_with(value)), layer.group_send("group", message_with(value))):
                with pytest.raises(UnserializableMessage, match=re.escape(words)) as caught:
                    await call
                assert caught.value.key == key
                assert isinstance(caught.value, TypeError)
            await self.nothing_waits(layer, "channel")

    async def test_a_message_within_itself_is_refused(self) -> None:
        async with self.make_layer() as layer:
            message: Message = {"type": "x"}
            message["self"] = [message]
            with pytest.raises(UnserializableMessage, match="levels deep, or holds itself"):
                await layer.send("channel", message)

    @pytest.mark.parametrize("message", [None, [], "text", b"bytes", [("type", "x")]], ids=ascii)
    async def test_what_is_not_a_dict_is_refused(self, message: Any) -> None:
        async with self.make_layer() as layer:
            await layer.group_add("group", "channel")
            for call in (layer.send("channel", message), layer.group_send("group", message)):
                with pytest.raises(TypeError, match=f"A message must be a dict.*not {type(message).__name__}"):
                    await call
            await self.nothing_waits(layer, "channel")

    async def test_a_message_that_is_too_large_is_refused(self) -> None:
        async with self.make_layer(max_message_size=200) as layer:
            await layer.group_add("group", "channel")
            for call in (
                layer.send("channel", message_with("x" * 200)),
                layer.group_send("group", message_with("x" * 200)),
            ):
                with pytest.raises(MessageTooLarge, match="the limit is 200") as caught:
                    await call
                assert caught.value.size > 200
            await layer.send("channel", message_with("x" * 100))
            assert await next_message(layer, "channel") == message_with("x" * 100)

    async def test_what_the_sender_does_afterwards_changes_nothing(self) -> None:
        async with self.make_layer() as layer:
            message: Message = {"type": "x", "list": [1]}
            await layer.send("channel", message)
            message["list"].append(2)
            message["more"] = 1
            assert await next_message(layer, "channel") == {"type": "x", "list": [1]}

    @pytest.mark.parametrize("value", ["flat", ["nested"]], ids=["flat", "nested"])
    async def test_each_receiver_has_a_copy_of_its_own(self, value: Any) -> None:
        async with self.make_layer() as layer:
            for channel in ("a", "b", "c"):
                await layer.group_add("group", channel)
            await layer.group_send("group", message_with(value))
            for channel in ("a", "b", "c"):
                received = await next_message(layer, channel)
                assert received == message_with(value)
                received["more"] = 1
                if isinstance(value, list):
                    received["value"].append("spoilt")
                else:
                    received["value"] = "spoilt"

"""The part of the contract about names of channels and groups."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from sealane.exceptions import InvalidName
from sealane.testing.layer_contract._harness import Harness, next_message, within

INVALID_NAMES: list[Any] = [None, 7, b"bytes", "", "with space", "grün", "x" * 100, "newline\n", "slash/", ["list"]]
INVALID_CHANNELS = [*INVALID_NAMES, "two!marks!", "!", "mark!ü"]
INVALID_GROUPS = [*INVALID_NAMES, "a!b"]


class NamesContract(Harness):
    @pytest.mark.parametrize("name", INVALID_CHANNELS, ids=ascii)
    async def test_every_call_refuses_an_invalid_channel_name(self, name: Any) -> None:
        async with self.make_layer() as layer:
            calls: list[Callable[[], Any]] = [
                lambda: layer.send(name, {"type": "x"}),
                lambda: layer.receive(name),
                lambda: layer.close_channel(name),
                lambda: layer.group_add("group", name),
                lambda: layer.group_discard("group", name),
            ]
            for call in calls:
                with pytest.raises(InvalidName, match=r"Channel name .* is not valid") as caught:
                    await within(call())
                assert isinstance(caught.value, TypeError)

    @pytest.mark.parametrize("name", INVALID_GROUPS, ids=ascii)
    async def test_every_call_refuses_an_invalid_group_name(self, name: Any) -> None:
        async with self.make_layer() as layer:
            calls: list[Callable[[], Any]] = [
                lambda: layer.group_add(name, "channel"),
                lambda: layer.group_discard(name, "channel"),
                lambda: layer.group_send(name, {"type": "x"}),
            ]
            for call in calls:
                with pytest.raises(InvalidName, match=r"Group name .* is not valid"):
                    await within(call())

    @pytest.mark.parametrize("name", ["x" * 99, "a.b-c_d", "Caps09", "local!x_9-.", "tail!"])
    async def test_valid_names_carry_messages(self, name: str) -> None:
        async with self.make_layer() as layer:
            await layer.send(name, {"type": "x", "n": 1})
            assert await next_message(layer, name) == {"type": "x", "n": 1}

    async def test_new_channels_differ_and_are_valid(self) -> None:
        async with self.make_layer() as layer:
            names = [await layer.new_channel() for _ in range(100)]
            assert len(set(names)) == 100
            for name in names:
                layer.require_valid_channel_name(name)
                assert re.fullmatch(r"specific\.[^!]*![^!]+", name), name

    async def test_a_new_channel_can_have_a_prefix(self) -> None:
        async with self.make_layer() as layer:
            assert (await layer.new_channel("worker")).startswith("worker.")
            with pytest.raises(InvalidName, match="Channel name"):
                await layer.new_channel("not valid")

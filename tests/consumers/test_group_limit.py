"""How many groups a connection may be in."""

import asyncio
from typing import Any

import pytest

from sealane.consumers.group_limit import GroupRoll, LimitedLayer
from sealane.exceptions import InvalidName, TooManyGroups
from sealane.layers import InMemoryChannelLayer

TOO_MANY = r"Group 'c' was not joined: the connection is in 2 already, which is its max_groups"


def test_the_roll_is_full_at_the_limit() -> None:
    roll = GroupRoll(2)
    assert [roll.enter("a"), roll.enter("b"), roll.enter("a")] == [True, True, False]
    with pytest.raises(TooManyGroups, match=TOO_MANY) as caught:
        roll.enter("c")
    assert (caught.value.group, caught.value.limit) == ("c", 2)
    roll.leave("a")
    roll.leave("never joined")
    assert roll.enter("c")
    assert len(roll) == 2


def limited(layer: InMemoryChannelLayer, channel: str, limit: int = 2) -> tuple[LimitedLayer, list[TooManyGroups]]:
    refused: list[TooManyGroups] = []
    return LimitedLayer(layer, channel, GroupRoll(limit), refused.append), refused


async def test_its_own_channel_joins_so_many_groups_and_others_any_number() -> None:
    async with InMemoryChannelLayer() as layer:
        channel = await layer.new_channel()
        view, refused = limited(layer, channel)
        for group in "a", "b", "a":
            await view.group_add(group, channel)
        with pytest.raises(TooManyGroups, match=TOO_MANY):
            await view.group_add("c", channel)
        assert [error.group for error in refused] == ["c"]
        assert layer.stats()["groups"] == 2
        for group in "c", "d":
            await view.group_add(group, "other")
        await view.group_discard("a", "other")
        with pytest.raises(TooManyGroups, match=TOO_MANY):
            await view.group_add("c", channel)
        await view.group_discard("a", channel)
        await view.group_add("c", channel)
        await view.group_send("c", {"type": "news"})
        assert (await layer.receive(channel))["type"] == "news"
        assert repr(view).endswith(", 2 of 2 groups joined>")


async def test_the_synchronous_face_counts_too() -> None:
    async with InMemoryChannelLayer() as layer:
        view, refused = limited(layer, "mine", 1)

        def join() -> None:
            view.sync.group_add("a", "mine")
            view.sync.group_add("c", "other")
            with pytest.raises(TooManyGroups, match="'b' was not joined"):
                view.sync.group_add("b", "mine")
            view.sync.group_discard("a", "mine")
            view.sync.group_add("b", "mine")
            view.sync.group_send("b", {"type": "news"})
            with pytest.raises(InvalidName):
                view.sync.group_discard("not a name!", "mine")

        await asyncio.to_thread(join)
        assert (await layer.receive("mine"))["type"] == "news"
        assert len(refused) == 1


@pytest.mark.parametrize("group", ["not a name!", 5, ["list"]], ids=repr)
async def test_what_the_layer_refuses_was_not_joined(group: Any) -> None:
    async with InMemoryChannelLayer() as layer:
        view, refused = limited(layer, "mine", 1)
        with pytest.raises(InvalidName):
            await view.group_add(group, "mine")
        with pytest.raises(InvalidName):
            await asyncio.to_thread(view.sync.group_add, group, "mine")
        await view.group_add("a", "mine")
        assert refused == []

"""The part of the contract about groups."""

from uuid import UUID

from sealane.testing.layer_contract._harness import Harness, message_with, next_message


class GroupsContract(Harness):
    async def test_group_send_reaches_the_members_and_nobody_else(self) -> None:
        async with self.make_layer() as layer:
            await layer.group_add("group", "a")
            await layer.group_add("group", "b")
            await layer.group_add("other", "c")
            await layer.group_send("group", message_with(1))
            assert await next_message(layer, "a") == message_with(1)
            assert await next_message(layer, "b") == message_with(1)
            await self.nothing_waits(layer, "a", "b", "c")

    async def test_a_group_without_members_takes_messages(self) -> None:
        async with self.make_layer() as layer:
            await layer.group_send("empty", message_with(1))
            await layer.group_add("empty", "late")
            await self.nothing_waits(layer, "late")

    async def test_joining_twice_is_joining_once(self) -> None:
        async with self.make_layer() as layer:
            await layer.group_add("group", "channel")
            await layer.group_add("group", "channel")
            await layer.group_send("group", message_with(1))
            assert await next_message(layer, "channel") == message_with(1)
            await layer.group_discard("group", "channel")
            await layer.group_send("group", message_with(2))
            await self.nothing_waits(layer, "channel")

    async def test_leaving_a_group_without_being_in_it_is_harmless(self) -> None:
        async with self.make_layer() as layer:
            await layer.group_discard("group", "channel")
            await layer.group_add("group", "other")
            await layer.group_discard("group", "channel")
            await layer.group_send("group", message_with(1))
            assert await next_message(layer, "other") == message_with(1)

    async def test_a_channel_can_be_in_many_groups(self) -> None:
        async with self.make_layer() as layer:
            groups = [f"group.{number}" for number in range(20)]
            for group in groups:
                await layer.group_add(group, "channel")
            for group in groups[::2]:
                await layer.group_discard(group, "channel")
            for group in groups:
                await layer.group_send(group, message_with(group))
            assert [(await next_message(layer, "channel"))["value"] for _ in groups[1::2]] == groups[1::2]
            await self.nothing_waits(layer, "channel")

    async def test_group_names_from_parts_are_valid(self) -> None:
        async with self.make_layer() as layer:
            for parts in (("room", 1), ("room", "grün"), ("room", "x" * 200), ("room", UUID(int=1))):
                name = layer.group_name(*parts)
                assert layer.require_valid_group_name(name)
                assert layer.group_name(*parts) == name

"""The part of the contract about capacity, overflow and expiry."""

import asyncio
import re

import pytest

from sealane.exceptions import ChannelFull
from sealane.testing.layer_contract._harness import Harness, message_with, next_message, reaches, turns


class LimitsContract(Harness):
    async def test_a_full_channel_refuses_the_newest_message(self) -> None:
        async with self.make_layer(capacity=3) as layer:
            for number in range(3):
                await layer.send("channel", message_with(number))
            with pytest.raises(ChannelFull, match=r"Channel 'channel' is full: 3 messages wait there") as caught:
                await layer.send("channel", message_with(3))
            assert (caught.value.channel, caught.value.capacity) == ("channel", 3)
            assert [(await next_message(layer, "channel"))["value"] for _ in range(3)] == [0, 1, 2]
            await layer.send("channel", message_with(4))
            assert await next_message(layer, "channel") == message_with(4)
            assert layer.stats()["dropped_full"] == 1

    async def test_capacity_counts_per_channel(self) -> None:
        async with self.make_layer(capacity=3) as layer:
            channels = [await layer.new_channel() for _ in range(50)]
            for channel in channels:
                for number in range(3):
                    await layer.send(channel, message_with(number))
            for channel in channels:
                assert [(await next_message(layer, channel))["value"] for _ in range(3)] == [0, 1, 2]
            assert layer.stats()["dropped_full"] == 0

    async def test_capacity_can_follow_a_pattern(self) -> None:
        capacities = {"thumb*": 1, re.compile(r"thumb\w+|http\.\w"): 2, "http.*": 3}
        async with self.make_layer(capacity=4, channel_capacity=capacities) as layer:
            for channel, capacity in {"thumbnail": 1, "http.request": 2, "http.2": 2, "http._": 2, "other": 4}.items():
                assert layer.get_capacity(channel) == capacity
                for _ in range(capacity):
                    await layer.send(channel, message_with(1))
                with pytest.raises(ChannelFull):
                    await layer.send(channel, message_with(1))

    async def test_a_full_member_does_not_keep_a_group_message_from_the_others(self) -> None:
        async with self.make_layer(capacity=2) as layer:
            await layer.group_add("group", "full")
            await layer.group_add("group", "free")
            for number in range(2):
                await layer.send("full", message_with(number))
            await layer.group_send("group", message_with(2))
            assert await next_message(layer, "free") == message_with(2)
            await reaches(layer, dropped_full=1)
            assert [(await next_message(layer, "full"))["value"] for _ in range(2)] == [0, 1]
            await self.nothing_waits(layer, "full")

    async def test_drop_oldest_keeps_the_newest(self) -> None:
        async with self.make_layer(capacity=2, overflow="drop_oldest") as layer:
            await layer.group_add("group", "channel")
            await layer.send("channel", message_with(0))
            await layer.send("channel", message_with(1))
            await layer.send("channel", message_with(2))
            await layer.group_send("group", message_with(3))
            assert [(await next_message(layer, "channel"))["value"] for _ in range(2)] == [2, 3]
            await self.nothing_waits(layer, "channel")
            await reaches(layer, dropped_full=2)

    async def test_without_an_owner_the_policy_close_refuses(self) -> None:
        async with self.make_layer(capacity=1, overflow="close") as layer:
            await layer.send("channel", message_with(0))
            with pytest.raises(ChannelFull, match="is full: 1 messages wait"):
                await layer.send("channel", message_with(1))
            assert await next_message(layer, "channel") == message_with(0)

    async def test_a_message_that_waited_too_long_does_not_arrive(self) -> None:
        async with self.make_layer(expiry=self.EXPIRY) as layer:
            await layer.send("channel", message_with("old"))
            await self.advance(layer, self.EXPIRY * 1.2)
            receiving = asyncio.create_task(next_message(layer, "channel"))
            await reaches(layer, dropped_expired=1)
            last = {"type": "last"}
            assert await self.sent_until_done(layer, "channel", last, receiving) == last

    async def test_a_member_stays_when_a_message_to_it_expires(self) -> None:
        async with self.make_layer(expiry=self._short_expiry) as layer:
            await layer.group_add("group", "channel")
            await layer.group_send("group", message_with("old"))
            await self.advance(layer, self._short_expiry * 1.2)
            receiving = asyncio.create_task(next_message(layer, "channel"))
            await turns()
            while not receiving.done():
                await layer.group_send("group", message_with("new"))
                await asyncio.wait([receiving], timeout=2)
            assert receiving.result() == message_with("new")

    async def test_expired_messages_leave_room(self) -> None:
        async with self.make_layer(expiry=self._short_expiry, capacity=1) as layer:
            await layer.send("channel", message_with("old"))
            await self.advance(layer, self._short_expiry * 1.2)
            await layer.send("channel", message_with("new"))
            await reaches(layer, dropped_expired=1, dropped_full=0)

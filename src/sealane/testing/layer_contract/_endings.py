"""The part of the contract about the end of a channel and of a layer, and what is counted."""

import asyncio
import re

import pytest

from sealane.exceptions import ChannelClosed
from sealane.testing.layer_contract._harness import Harness, message_with, next_message, reaches, turns, within


class EndingsContract(Harness):
    async def test_a_closed_channel_leaves_its_groups_and_drops_what_comes(self) -> None:
        async with self.make_layer() as layer:
            channel = await layer.new_channel()
            await layer.group_add("group", channel)
            await layer.group_add("group", "stays")
            await layer.send(channel, message_with(0))
            await layer.close_channel(channel)
            await layer.close_channel(channel)
            await layer.send(channel, message_with(1))
            await layer.group_add("group", channel)
            await layer.group_send("group", message_with(2))
            assert await next_message(layer, "stays") == message_with(2)
            with pytest.raises(ChannelClosed, match=re.escape(f"Channel {channel!r} was closed")):
                await next_message(layer, channel)
            await reaches(layer, dropped_closed=2)

    async def test_closing_a_channel_ends_its_receivers(self) -> None:
        async with self.make_layer() as layer:
            channel = await layer.new_channel()
            receivers = [asyncio.create_task(layer.receive(channel)) for _ in range(2)]
            await turns()
            await layer.close_channel(channel)
            for receiver in receivers:
                with pytest.raises(ChannelClosed) as caught:
                    await within(receiver)
                assert caught.value.channel == channel

    async def test_closing_an_unknown_channel_is_harmless(self) -> None:
        async with self.make_layer() as layer:
            await layer.close_channel("nobody")
            await layer.send("nobody", message_with(1))
            assert await next_message(layer, "nobody") == message_with(1)

    async def test_closing_a_layer_twice_is_harmless(self) -> None:
        layer = self.make_layer()
        await layer.send("channel", message_with(1))
        await layer.close()
        await layer.close()

    async def test_closing_a_layer_ends_its_receivers(self) -> None:
        layer = self.make_layer()
        receiver = asyncio.create_task(layer.receive("channel"))
        await turns()
        await layer.close()
        with pytest.raises(ChannelClosed):
            await within(receiver)

    async def test_a_layer_is_closed_at_the_end_of_its_block(self) -> None:
        async with self.make_layer() as layer:
            receiver = asyncio.create_task(layer.receive("channel"))
            await turns()
        with pytest.raises(ChannelClosed):
            await within(receiver)

    async def test_a_closed_layer_opens_again(self) -> None:
        async with self.make_layer() as layer:
            await layer.close()
            await layer.group_add("group", "channel")
            await layer.group_send("group", message_with(1))
            assert await next_message(layer, "channel") == message_with(1)

    async def test_flush_drops_messages_and_groups(self) -> None:
        async with self.make_layer() as layer:
            await layer.group_add("group", "channel")
            await layer.send("channel", message_with(1))
            await layer.flush()
            await layer.group_send("group", message_with(2))
            await self.nothing_waits(layer, "channel")

    async def test_what_is_on_its_way_does_not_outlive_a_flush(self) -> None:
        async with self.make_layer() as layer:
            channel = await layer.new_channel()
            for number in range(10):
                await layer.group_add("group", channel)
                await layer.send(channel, message_with(number))
                await layer.group_send("group", message_with(number))
                await layer.flush()
                await self.nothing_waits(layer, channel)

    async def test_receivers_go_on_waiting_after_a_flush(self) -> None:
        async with self.make_layer() as layer:
            receiver = asyncio.create_task(layer.receive("channel"))
            await turns()
            await layer.flush()
            await layer.send("channel", message_with(1))
            assert await within(receiver) == message_with(1)

    async def test_every_message_is_counted_once(self) -> None:
        async with self.make_layer(capacity=2) as layer:
            channel = await layer.new_channel()
            await layer.group_add("group", "a")
            await layer.group_add("group", channel)
            for number in range(3):
                await layer.group_send("group", message_with(number))
            await next_message(layer, "a")
            # A pair is counted where it arrives, and what has not arrived yet finds no member in a closed channel.
            await reaches(layer, addressed=6)
            await layer.close_channel(channel)
            await layer.send(channel, message_with(3))
            await layer.flush()
            await layer.send("a", message_with(4))
            await reaches(
                layer,
                sent=2,
                group_sent=3,
                addressed=8,
                delivered=1,
                dropped_full=2,
                dropped_expired=0,
                dropped_closed=3,
                dropped_flushed=1,
                waiting=1,
            )

    async def test_what_comes_during_a_flush_is_counted_once(self) -> None:
        async with self.make_layer() as layer:
            channel, closed = await layer.new_channel(), await layer.new_channel()
            await layer.close_channel(closed)
            sends = (layer.send(name, message_with(0)) for _ in range(self.MANY) for name in (channel, closed))
            await asyncio.gather(*sends, layer.flush())
            await layer.send(channel, message_with(1))
            came = 1
            while await next_message(layer, channel) != message_with(1):
                came += 1
            await reaches(
                layer,
                sent=2 * self.MANY + 1,
                addressed=2 * self.MANY + 1,
                delivered=came,
                dropped_closed=self.MANY,
                dropped_flushed=self.MANY + 1 - came,
                waiting=0,
            )

    async def test_repr_names_the_class(self) -> None:
        async with self.make_layer() as layer:
            assert repr(layer).startswith(f"<{type(layer).__name__}")

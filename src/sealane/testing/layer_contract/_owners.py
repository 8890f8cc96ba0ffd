"""The part of the contract about attach()."""

import asyncio
from typing import Any

import pytest

from sealane.exceptions import ChannelClosed
from sealane.testing.layer_contract._harness import Harness, Owner, cancel, message_with, next_message, reaches, turns


class OwnersContract(Harness):
    async def test_an_owner_is_woken_once_until_it_has_taken_all(self) -> None:
        async with self.make_layer() as layer:
            owner = Owner(layer, "channel")
            await layer.group_add("group", "channel")
            await layer.group_send("group", message_with(1))
            await layer.send("channel", message_with(2))
            await owner.holds(2)
            assert owner.wakes == 1
            assert owner.inbox.take() == message_with(1)
            await layer.send("channel", message_with(3))
            await owner.holds(2)
            assert owner.wakes == 1
            assert [owner.inbox.take() for _ in range(3)] == [message_with(2), message_with(3), None]
            await layer.send("channel", message_with(4))
            await owner.holds(1)
            assert owner.wakes == 2
            assert len(owner.inbox) == 1

    async def test_an_owner_is_told_what_waited_before_it_came(self) -> None:
        async with self.make_layer() as layer:
            await layer.send("channel", message_with(1))
            owner = Owner(layer, "channel")
            await owner.woken(1)
            assert owner.inbox.take() == message_with(1)

    async def test_an_error_in_wake_is_not_the_senders(self) -> None:
        async with self.make_layer() as layer:
            errors: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
            bad, good = Owner(layer, "bad", fail=True), Owner(layer, "good")
            await layer.group_add("group", "bad")
            await layer.group_add("group", "good")
            await layer.group_send("group", message_with(1))
            await good.woken(1)
            await bad.woken(1)
            assert [str(error) for error in errors] == ["wake failed"]
            assert bad.inbox.take() == good.inbox.take() == message_with(1)

    async def test_a_channel_has_one_owner(self) -> None:
        async with self.make_layer() as layer:
            Owner(layer, "channel")
            with pytest.raises(RuntimeError, match="has an owner already"):
                layer.attach("channel", lambda: None)
            with pytest.raises(RuntimeError, match="has an owner, who takes its messages"):
                await next_message(layer, "channel")

    async def test_who_waits_in_receive_keeps_owners_away(self) -> None:
        async with self.make_layer() as layer:
            Owner(layer, "probe")
            receiver = asyncio.create_task(layer.receive("channel"))
            await turns()
            with pytest.raises(RuntimeError, match="while somebody waits for it in receive"):
                layer.attach("channel", lambda: None)
            await cancel(receiver)
            Owner(layer, "channel")

    async def test_a_closed_channel_gets_no_owner(self) -> None:
        async with self.make_layer() as layer:
            channel = await layer.new_channel()
            Owner(layer, channel)
            await layer.close_channel(channel)
            with pytest.raises(ChannelClosed):
                layer.attach(channel, lambda: None)

    async def test_an_owner_hears_nothing_after_it_closed_its_channel(self) -> None:
        async with self.make_layer() as layer:
            channel = await layer.new_channel()
            owner = Owner(layer, channel)
            await layer.group_add("group", channel)
            await layer.send(channel, message_with(1))
            await owner.woken(1)
            await layer.close_channel(channel)
            await layer.send(channel, message_with(2))
            await layer.group_send("group", message_with(3))
            await turns()
            assert owner.inbox.take() is None
            assert owner.wakes == 1
            assert owner.inbox.closed
            await reaches(layer, dropped_closed=2)

    async def test_an_owner_may_close_other_channels_while_it_is_woken(self) -> None:
        async with self.make_layer() as layer:
            owners = {}
            for channel in ("a!1", "b!2"):
                owners[channel] = Owner(layer, channel)
                await layer.group_add("group", channel)

            def close_the_other() -> None:
                closing = asyncio.ensure_future(layer.close_channel("b!2"))
                closing.add_done_callback(lambda _: None)

            owners["a!1"].then = close_the_other
            await layer.group_send("group", message_with(1))
            await owners["a!1"].woken(1)
            await reaches(layer, dropped_closed=1)
            assert owners["b!2"].inbox.take() is None

    async def test_the_policy_close_tells_the_owner(self) -> None:
        async with self.make_layer(capacity=2, overflow="close") as layer:
            owner = Owner(layer, "channel")
            await layer.group_add("group", "channel")
            await layer.send("channel", message_with(0))
            await layer.send("channel", message_with(1))
            await owner.woken(1)
            assert not owner.inbox.overflowed
            await layer.send("channel", message_with(2))
            await owner.woken(2)
            assert owner.inbox.overflowed
            assert owner.inbox.take() == message_with(0)
            await layer.group_send("group", message_with(3))
            await reaches(layer, dropped_full=2)
            assert [owner.inbox.take() for _ in range(2)] == [message_with(1), None]
            assert owner.inbox.dropped == 2

    async def test_an_owner_survives_a_flush(self) -> None:
        async with self.make_layer() as layer:
            owner = Owner(layer, "channel")
            await layer.send("channel", message_with(1))
            await owner.woken(1)
            await layer.flush()
            assert owner.inbox.take() is None
            await layer.send("channel", message_with(2))
            await owner.woken(2)
            assert owner.inbox.take() == message_with(2)

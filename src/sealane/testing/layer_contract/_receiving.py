"""The part of the contract about order, and receive()."""

import asyncio

import pytest

from sealane.testing.layer_contract._harness import LIMIT, Harness, cancel, message_with, next_message, turns, within


class ReceivingContract(Harness):
    async def test_one_sender_and_one_channel_keep_order(self) -> None:
        async with self.make_layer(capacity=self.MANY) as layer:
            for number in range(self.MANY):
                await layer.send("channel", message_with(number))
            assert [(await next_message(layer, "channel"))["value"] for _ in range(self.MANY)] == list(range(self.MANY))

    async def test_all_members_of_a_group_see_one_order(self) -> None:
        async with self.make_layer(capacity=2 * self.MANY) as layer:
            for channel in ("a", "b"):
                await layer.group_add("group", channel)

            async def send(sender: str) -> None:
                for number in range(self.MANY):
                    await layer.group_send("group", {"type": "x", "sender": sender, "number": number})
                    await asyncio.sleep(0)

            await within(asyncio.gather(send("one"), send("two")))
            seen = {
                channel: [await next_message(layer, channel) for _ in range(2 * self.MANY)] for channel in ("a", "b")
            }
            assert seen["a"] == seen["b"]
            for sender in ("one", "two"):
                numbers = [message["number"] for message in seen["a"] if message["sender"] == sender]
                assert numbers == list(range(self.MANY))

    async def test_a_direct_message_and_a_group_message_of_one_sender_keep_order(self) -> None:
        async with self.make_layer() as layer:
            await layer.group_add("group", "channel")
            await layer.send("channel", message_with(1))
            await layer.group_send("group", message_with(2))
            await layer.send("channel", message_with(3))
            assert [(await next_message(layer, "channel"))["value"] for _ in range(3)] == [1, 2, 3]

    async def test_receive_waits_for_a_message(self) -> None:
        async with self.make_layer() as layer:
            receiving = asyncio.create_task(layer.receive("channel"))
            await turns()
            assert not receiving.done()
            await layer.send("channel", message_with(1))
            assert await within(receiving) == message_with(1)

    async def test_competing_receivers_are_served_in_turn(self) -> None:
        async with self.make_layer() as layer:
            receivers = []
            for _ in range(4):
                receivers.append(asyncio.create_task(layer.receive("channel")))
                await turns()
            for number in range(4):
                await layer.send("channel", message_with(number))
            assert [message["value"] for message in await within(asyncio.gather(*receivers))] == [0, 1, 2, 3]

    async def test_a_receiver_that_was_cancelled_before_it_got_a_message_loses_none(self) -> None:
        async with self.make_layer() as layer:
            first, second = (asyncio.create_task(layer.receive("channel")) for _ in range(2))
            await turns()
            await cancel(first)
            await layer.send("channel", message_with(1))
            assert await within(second) == message_with(1)

    async def test_a_receiver_that_is_cancelled_in_the_turn_of_its_message_loses_none(self) -> None:
        async with self.make_layer() as layer:
            for number in range(20):
                first, second = (asyncio.create_task(layer.receive("channel")) for _ in range(2))
                await turns()
                await layer.send("channel", message_with(number))
                first.cancel()
                (outcome,) = await asyncio.gather(first, return_exceptions=True)
                if isinstance(outcome, asyncio.CancelledError):
                    outcome = await within(second)
                else:  # it was done before it could be cancelled
                    await cancel(second)
                assert outcome == message_with(number)
            await self.nothing_waits(layer, "channel")

    @pytest.mark.parametrize("to_group", [False, True], ids=["send", "group_send"])
    async def test_cancelled_receivers_give_back_in_order(self, to_group: bool) -> None:
        async with self.make_layer() as layer:
            await layer.group_add("group", "channel")
            tasks = [asyncio.create_task(layer.receive("channel")) for _ in range(3)]
            await turns()
            for number in range(5):
                if to_group:
                    await layer.group_send("group", message_with(number))
                else:
                    await layer.send("channel", message_with(number))
            for task in reversed(tasks):
                task.cancel()
            received = [
                result["value"]
                for result in await asyncio.gather(*tasks, return_exceptions=True)
                if not isinstance(result, BaseException)
            ]
            while len(received) < 5:
                received.append((await next_message(layer, "channel"))["value"])
            assert received == [0, 1, 2, 3, 4]

    async def test_receiving_under_a_time_limit_loses_none(self) -> None:
        async with self.make_layer(capacity=self.MANY) as layer:
            received: list[int] = []

            async def send() -> None:
                for number in range(self.MANY):
                    await layer.send("channel", message_with(number))
                    await asyncio.sleep(0)

            sending = asyncio.create_task(send())
            async with asyncio.timeout(LIMIT):
                while len(received) < self.MANY:
                    try:
                        async with asyncio.timeout(0):
                            received.append((await layer.receive("channel"))["value"])
                    except TimeoutError:
                        await asyncio.sleep(0)
                await sending
            assert received == list(range(self.MANY))

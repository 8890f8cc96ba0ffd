"""The part of the contract about several messages at once: receive_many() and receive_deliveries()."""

import asyncio
from typing import Any

import pytest

from sealane.exceptions import InvalidDeliveryOption
from sealane.layers import BaseChannelLayer
from sealane.testing.layer_contract._acknowledging import LONG, AcknowledgingHarness
from sealane.testing.layer_contract._harness import message_with, turns, within

_KINDS = pytest.mark.parametrize("leased", [False, True], ids=["receive_many", "receive_deliveries"])


class TogetherContract(AcknowledgingHarness):
    def make_taking_layer(self, leased: bool, **options: Any) -> BaseChannelLayer:
        return self.make_acknowledging_layer(**options) if leased else self.make_layer(**options)

    async def take(self, layer: BaseChannelLayer, most: int, leased: bool) -> list[Any]:
        """Take up to so many, acknowledge what is to be, and return the values."""
        if not leased:
            return [message["value"] for message in await layer.receive_many("jobs", most)]
        values = []
        for delivery in await layer.receive_deliveries("jobs", most, visibility_timeout=LONG):
            assert delivery.attempt == 1
            assert await delivery.ack()
            values.append(delivery.message["value"])
        return values

    @_KINDS
    async def test_several_at_once_come_in_order_and_are_no_more_than_asked(self, leased: bool) -> None:
        async with self.make_taking_layer(leased, capacity=self.MANY) as layer:
            for number in range(self.MANY):
                await layer.send("jobs", message_with(number))
            seen: list[int] = []
            while len(seen) < self.MANY:
                values = await within(self.take(layer, 7, leased))
                assert 1 <= len(values) <= 7
                seen += values
            assert seen == list(range(self.MANY))
            await self.is_empty(layer, leased)

    @_KINDS
    async def test_who_wants_several_does_not_wait_for_more_than_one(self, leased: bool) -> None:
        async with self.make_taking_layer(leased) as layer:
            taking = asyncio.create_task(self.take(layer, 7, leased))
            await turns()
            assert not taking.done()
            await layer.send("jobs", message_with(1))
            assert await within(taking) == [1]
            await self.is_empty(layer, leased)

    @_KINDS
    async def test_several_who_want_several_share_a_channel(self, leased: bool) -> None:
        async with self.make_taking_layer(leased, capacity=self.MANY) as layer:
            seen: list[int] = []

            async def work() -> None:
                while True:
                    seen.extend(await self.take(layer, 5, leased))

            workers = [asyncio.create_task(work()) for _ in range(3)]
            for number in range(self.MANY):
                await layer.send("jobs", message_with(number))

            async def all_seen() -> None:
                while len(seen) < self.MANY:  # noqa: ASYNC110 - the workers tell nobody
                    await asyncio.sleep(0.001)

            await within(all_seen())
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            assert sorted(seen) == list(range(self.MANY))
            await self.is_empty(layer, leased)

    @_KINDS
    async def test_who_wants_several_and_is_cancelled_loses_none(self, leased: bool) -> None:
        async with self.make_taking_layer(leased) as layer:
            for steps in range(12):
                for number in range(5):
                    await layer.send("jobs", message_with(number))

                async def take() -> list[Any]:
                    if not leased:
                        return await layer.receive_many("jobs", 3)
                    return await layer.receive_deliveries("jobs", 3, visibility_timeout=LONG)

                taking = asyncio.create_task(take())
                await turns(steps)
                if steps > 8:
                    # Somewhere on the way of the messages to whoever wants them.
                    await asyncio.sleep(0.0003 * (steps - 8))
                taking.cancel()
                outcome: Any
                (outcome,) = await asyncio.gather(taking, return_exceptions=True)
                values: list[Any] = []
                if not isinstance(outcome, BaseException):
                    for item in outcome:
                        values.append(item.message["value"] if leased else item["value"])
                        assert not leased or await item.ack()
                while len(values) < 5:
                    values += await within(self.take(layer, 5, leased))
                assert sorted(values) == [0, 1, 2, 3, 4]
            await self.is_empty(layer, leased)

    @_KINDS
    async def test_so_many_at_once_must_be_one_or_more(self, leased: bool) -> None:
        async with self.make_taking_layer(leased) as layer:
            for most in (0, True, 1.5):
                with pytest.raises(InvalidDeliveryOption, match=f"most is {most}; expected a whole number"):
                    await within(self.take(layer, most, leased))  # type: ignore[arg-type]

    async def is_empty(self, layer: BaseChannelLayer, leased: bool) -> None:
        """Fail where a message waits in the channel."""
        await layer.send("jobs", message_with("last"))
        assert await within(self.take(layer, 1, leased)) == ["last"]

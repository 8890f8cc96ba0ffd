"""The part of the contract about dead letters, and about what expires and counts where deliveries are acknowledged."""

import asyncio
from typing import Any

import pytest

from sealane.exceptions import (
    ChannelFull,
    InvalidDeliveryOption,
)
from sealane.testing.layer_contract._acknowledging import LONG, AcknowledgingHarness, next_delivery, value_of_next
from sealane.testing.layer_contract._harness import (
    message_with,
    next_message,
    reaches,
    turns,
    within,
)


class DeadLettersContract(AcknowledgingHarness):
    # Dead letters

    async def test_a_message_is_delivered_so_often_and_then_dead(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with([1]))
            terms: dict[str, Any] = {"visibility_timeout": self.VISIBILITY, "max_deliveries": 2}
            first = await next_delivery(layer, **terms)
            await self.lease_ends(layer)
            assert (await next_delivery(layer, **terms)).attempt == 2
            await self.lease_ends(layer)
            await self.is_done(layer)
            letter = await next_delivery(layer, "jobs.dead")
            assert letter.message.pop("first_seen") == pytest.approx(first.first_seen, abs=0.002)
            assert letter.message == {
                "type": "dead.letter",
                "channel": "jobs",
                "reason": "max_deliveries",
                "attempts": 2,
                "id": first.id,
                "message": message_with([1]),
            }
            assert await letter.ack()
            await reaches(layer, dead_lettered=1, redelivered=1, addressed=2, delivered=2, waiting=0)

    async def test_the_last_retry_is_dead_at_once(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            assert await (await next_delivery(layer, max_deliveries=1)).retry(LONG)
            letter = await next_message(layer, "jobs.dead")
            assert (letter["reason"], letter["attempts"], letter["message"]) == ("max_deliveries", 1, message_with(1))

    async def test_without_a_limit_a_message_is_delivered_on(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            for attempt in range(1, 12):
                delivery = await next_delivery(layer, max_deliveries=None)
                assert delivery.attempt == attempt
                assert await delivery.retry()

    async def test_a_rejected_message_is_a_dead_letter(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            waiting = asyncio.create_task(layer.receive("jobs.dead"))
            await turns()
            await layer.send("jobs", message_with(1))
            delivery = await next_delivery(layer)
            reason = "No such picture: grün \ud800 " + "x" * 3000
            assert await delivery.reject(reason)
            letter = await within(waiting)
            assert letter["reason"].startswith("No such picture: grün \\ud800 xxx")
            assert 2000 <= len(letter["reason"]) < 2010
            assert (letter["attempts"], letter["message"]) == (1, message_with(1))
            await self.is_done(layer)

    async def test_dead_letters_go_to_the_channel_that_is_named(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            try:
                delivery = await next_delivery(layer, dead_letter_channel="morgue")
            except InvalidDeliveryOption:
                pytest.skip("The layer has several servers, and the channel is on another one")
            assert await delivery.reject("no")
            assert (await next_message(layer, "morgue"))["message"] == message_with(1)

    async def test_a_dead_letter_can_die_again(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            assert await (await next_delivery(layer)).reject("first")
            assert await (await next_delivery(layer, "jobs.dead")).reject("second")
            letter = await next_message(layer, "jobs.dead.dead")
            assert (letter["reason"], letter["channel"]) == ("second", "jobs.dead")
            assert (letter["message"]["reason"], letter["message"]["message"]) == ("first", message_with(1))

    async def test_dead_letters_are_bounded_and_the_oldest_go(self) -> None:
        async with self.make_acknowledging_layer(channel_capacity={"*.dead": 2}, capacity=5) as layer:
            for number in range(3):
                await layer.send("jobs", message_with(number))
            for _ in range(3):
                assert await (await next_delivery(layer)).reject("no")
            letters = [await next_message(layer, "jobs.dead") for _ in range(2)]
            assert [letter["message"]["value"] for letter in letters] == [1, 2]
            await reaches(layer, dropped_full=1, dead_lettered=3, waiting=0)

    # Expiry and capacity

    async def test_what_expires_where_deliveries_are_asked_for_is_a_dead_letter(self) -> None:
        async with self.make_acknowledging_layer(expiry=self._short_expiry) as layer:
            # Somebody has asked for deliveries.
            await self.is_done(layer)
            await layer.send("jobs", message_with(1))
            await self.advance(layer, self._short_expiry * 1.2)
            await self.is_done(layer)
            # Dead letters outlive what becomes one.
            await self.advance(layer, self._short_expiry * 1.2)
            letter = await next_message(layer, "jobs.dead")
            while letter["message"] == message_with("last"):  # of a busy machine
                letter = await next_message(layer, "jobs.dead")
            assert (letter["reason"], letter["attempts"], letter["first_seen"]) == ("expired", 0, None)
            assert letter["message"] == message_with(1)
            assert layer.stats()["dropped_expired"] == 0
            assert layer.stats()["dead_lettered"] >= 1

    async def test_what_is_leased_or_given_back_does_not_expire(self) -> None:
        async with self.make_acknowledging_layer(expiry=self.EXPIRY) as layer:
            # From now on whoever asks waits at once, and what is sent need not live longer than that.
            await self.is_done(layer)
            asking = [asyncio.create_task(next_delivery(layer)) for _ in range(2)]
            await turns()
            for number in range(2):
                await layer.send("jobs", message_with(number))
            leased, released = await within(asyncio.gather(*asking))
            assert await released.release()
            await self.advance(layer, self.EXPIRY * 1.2)
            assert await value_of_next(layer) == 1
            assert await leased.ack()

    async def test_a_channel_can_have_an_expiry_of_its_own(self) -> None:
        expiry = self._short_expiry
        async with self.make_layer(expiry=expiry, channel_expiry={"job*": 60}) as layer:
            assert (layer.get_expiry("jobs"), layer.get_expiry("x")) == (60, expiry)
            await layer.group_add("group", "jobs")
            await layer.group_add("group", "other")
            await layer.group_send("group", message_with(1))
            await layer.send("jobs", message_with(2))
            await self.advance(layer, expiry * 1.2)
            await self.nothing_waits(layer, "other")
            assert [(await next_message(layer, "jobs"))["value"] for _ in range(2)] == [1, 2]

    async def test_a_channel_can_have_a_shorter_expiry(self) -> None:
        async with self.make_layer(expiry=60, channel_expiry={"tick*": self._short_expiry}) as layer:
            await layer.send("ticks", message_with(1))
            await layer.send("other", message_with(2))
            await self.advance(layer, self._short_expiry * 1.2)
            await self.nothing_waits(layer, "ticks")
            assert await next_message(layer, "other") == message_with(2)

    async def test_what_is_leased_counts_in_the_capacity(self) -> None:
        async with self.make_acknowledging_layer(capacity=2) as layer:
            for number in range(2):
                await layer.send("jobs", message_with(number))
            first, second = [await next_delivery(layer) for _ in range(2)]
            with pytest.raises(ChannelFull):
                await layer.send("jobs", message_with(2))
            assert await first.ack()
            await layer.send("jobs", message_with(3))
            assert await second.retry(LONG)
            with pytest.raises(ChannelFull):
                await layer.send("jobs", message_with(4))
            assert await value_of_next(layer) == 3

"""The part of the contract about acknowledged deliveries. It is skipped for a layer without them."""

import asyncio
import time
from typing import Any

import pytest

from sealane.exceptions import (
    AcknowledgementsUnsupported,
    ChannelClosed,
    InvalidDeliveryOption,
    InvalidName,
)
from sealane.testing.layer_contract._acknowledging import LONG, AcknowledgingHarness, next_delivery, value_of_next
from sealane.testing.layer_contract._harness import (
    in_thread,
    message_with,
    next_message,
    reaches,
    turns,
    within,
)


class DeliveriesContract(AcknowledgingHarness):
    async def test_a_layer_says_whether_it_has_acknowledgements(self) -> None:
        async with self.make_layer() as layer:
            if "acknowledgements" in layer.extensions:
                await layer.send("jobs", message_with(1))
                assert await value_of_next(layer) == 1
            else:
                with pytest.raises(AcknowledgementsUnsupported, match=type(layer).__name__):
                    await layer.receive_delivery("jobs")

    # One delivery

    async def test_a_delivery_tells_about_itself(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            before = time.time()
            await layer.send("jobs", message_with({"a": [1]}))
            delivery = await next_delivery(layer)
            assert (delivery.channel, delivery.attempt) == ("jobs", 1)
            assert delivery.message == message_with({"a": [1]})
            assert before - 1 < delivery.first_seen < time.time() + 1
            assert delivery.id
            assert repr(delivery) == f"<Delivery {delivery.id} of 'jobs': type='x', attempt=1>"
            assert await delivery.ack()

    async def test_what_is_acknowledged_never_comes_again(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            delivery = await next_delivery(layer, visibility_timeout=self.VISIBILITY)
            assert await delivery.ack()
            assert not await delivery.ack()
            assert not await delivery.retry()
            assert not await delivery.release()
            assert not await delivery.reject("late")
            assert not await delivery.extend(1)
            await self.lease_ends(layer)
            await self.is_done(layer)
            await reaches(layer, addressed=2, delivered=2, waiting=0, redelivered=0, leases_lost=5, dead_lettered=0)

    async def test_a_receiver_waits_for_a_delivery(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            receiving = asyncio.create_task(next_delivery(layer))
            await turns()
            assert not receiving.done()
            await layer.send("jobs", message_with(1))
            delivery = await within(receiving)
            assert delivery.message == message_with(1)
            assert await delivery.ack()

    async def test_a_message_of_a_group_is_delivered_too(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.group_add("group", "jobs")
            await layer.group_send("group", message_with(1))
            assert await value_of_next(layer) == 1

    async def test_first_deliveries_come_in_order(self) -> None:
        async with self.make_acknowledging_layer(capacity=self.MANY) as layer:
            for number in range(self.MANY):
                await layer.send("jobs", message_with(number))
            deliveries = [await next_delivery(layer) for _ in range(self.MANY)]
            assert [delivery.message["value"] for delivery in deliveries] == list(range(self.MANY))
            assert len({delivery.id for delivery in deliveries}) == self.MANY
            for delivery in deliveries:
                assert await delivery.ack()
            await self.is_done(layer)

    async def test_nobody_else_gets_what_is_leased(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            first = await next_delivery(layer)
            await layer.send("jobs", message_with(2))
            assert await value_of_next(layer) == 2
            await layer.send("jobs", message_with(3))
            assert await next_message(layer, "jobs") == message_with(3)
            assert await first.ack()

    async def test_receivers_and_those_who_acknowledge_share_a_channel(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            plain = asyncio.create_task(layer.receive("jobs"))
            await turns()
            leased = asyncio.create_task(next_delivery(layer))
            await turns()
            await layer.send("jobs", message_with(1))
            await layer.send("jobs", message_with(2))
            message, delivery = await within(asyncio.gather(plain, leased))
            assert {message["value"], delivery.message["value"]} == {1, 2}
            assert await delivery.ack()
            await self.is_done(layer)

    async def test_each_delivery_has_a_copy_of_its_own(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with([1]))
            delivery = await next_delivery(layer)
            delivery.message["value"].append(2)
            assert await delivery.retry()
            assert await value_of_next(layer) == [1]

    # Delivered again

    async def test_a_lease_that_ends_is_followed_by_another_delivery(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            first = await next_delivery(layer, visibility_timeout=self.VISIBILITY)
            await layer.send("jobs", message_with(2))
            await self.lease_ends(layer)
            again = await next_delivery(layer)
            assert (again.message, again.attempt, again.id) == (message_with(1), 2, first.id)
            assert again.first_seen == first.first_seen
            assert not await first.ack()
            assert not await first.extend(1)
            assert await again.ack()
            assert await value_of_next(layer) == 2
            await reaches(layer, delivered=2, redelivered=1, leases_lost=2)

    async def test_whoever_waits_gets_what_was_leased_when_the_lease_ends(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            first = await next_delivery(layer, visibility_timeout=self.VISIBILITY)
            waiting = asyncio.create_task(next_delivery(layer, visibility_timeout=self.VISIBILITY))
            await turns()
            await self.lease_ends(layer)
            again = await within(waiting)
            assert again.attempt == 2
            assert await again.ack()
            assert not await first.ack()

    async def test_a_lease_that_has_ended_is_good_until_somebody_else_has_the_message(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            delivery = await next_delivery(layer, visibility_timeout=self.VISIBILITY)
            await self.lease_ends(layer)
            assert await delivery.ack()
            await self.is_done(layer)

    async def test_a_lease_can_be_extended(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            delivery = await next_delivery(layer, visibility_timeout=self.VISIBILITY)
            assert await delivery.extend(LONG)
            await self.lease_ends(layer)
            await layer.send("jobs", message_with(2))
            assert await value_of_next(layer) == 2
            assert await delivery.extend(self.VISIBILITY)
            await self.lease_ends(layer)
            assert await value_of_next(layer) == 1

    async def test_what_is_given_back_comes_before_what_follows(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            for number in range(3):
                await layer.send("jobs", message_with(number))
            first, second = [await next_delivery(layer) for _ in range(2)]
            assert await second.release()
            assert await first.release()
            assert not await first.ack()
            deliveries = [await next_delivery(layer) for _ in range(3)]
            assert [(item.message["value"], item.attempt) for item in deliveries] == [(0, 1), (1, 1), (2, 1)]
            for delivery in deliveries:
                assert await delivery.ack()
            await reaches(layer, released=2, redelivered=0, delivered=3)

    async def test_a_retry_counts_as_a_delivery(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            for number in range(2):
                await layer.send("jobs", message_with(number))
            assert await (await next_delivery(layer)).retry()
            again = await next_delivery(layer)
            assert (again.message["value"], again.attempt) == (0, 2)
            assert await again.release()
            again = await next_delivery(layer)
            assert (again.message["value"], again.attempt) == (0, 2)
            assert await again.ack()
            assert await value_of_next(layer) == 1
            await reaches(layer, retried=1, released=1, redelivered=2)

    async def test_a_retry_can_be_put_off(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with("later"))
            assert await (await next_delivery(layer)).retry(LONG)
            await layer.send("jobs", message_with("now"))
            assert await value_of_next(layer) == "now"
            await layer.send("others", message_with("soon"))
            assert await (await next_delivery(layer, "others")).retry(self.VISIBILITY)
            await self.lease_ends(layer)
            await layer.send("others", message_with("last"))
            again = await next_delivery(layer, "others")
            assert (again.message["value"], again.attempt) == ("soon", 2)
            assert await again.ack()

    async def test_whoever_waits_gets_what_is_given_back(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            delivery = await next_delivery(layer)
            waiting = asyncio.create_task(next_delivery(layer))
            await turns()
            assert await delivery.retry()
            delivery = await within(waiting)
            plain = asyncio.create_task(layer.receive("jobs"))
            await turns()
            assert await delivery.release()
            assert await within(plain) == message_with(1)
            await self.is_done(layer)

    async def test_a_plain_receiver_gets_what_is_due_first(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            delivery = await next_delivery(layer, visibility_timeout=self.VISIBILITY)
            await layer.send("jobs", message_with(2))
            await self.lease_ends(layer)
            assert await next_message(layer, "jobs") == message_with(1)
            assert await next_message(layer, "jobs") == message_with(2)
            assert not await delivery.ack()

    # Cancellation, threads, the end

    async def test_a_cancelled_receiver_counts_no_delivery(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            for number in range(20):
                first = asyncio.create_task(next_delivery(layer))
                await turns()
                await layer.send("jobs", message_with(number))
                await turns(number)
                first.cancel()
                (outcome,) = await asyncio.gather(first, return_exceptions=True)
                delivery = await next_delivery(layer) if isinstance(outcome, BaseException) else outcome
                assert (delivery.message["value"], delivery.attempt) == (number, 1)
                assert await delivery.ack()

    async def test_receivers_under_a_time_limit_lose_nothing(self) -> None:
        async with self.make_acknowledging_layer(capacity=self.MANY) as layer:
            received: list[int] = []

            async def send() -> None:
                for number in range(self.MANY):
                    await layer.send("jobs", message_with(number))
                    await asyncio.sleep(0)

            async def work() -> None:
                limit = 0.0
                while len(received) < self.MANY:
                    # Longer where nothing comes in time, as on a busy machine.
                    limit = 2 * limit + 0.001
                    try:
                        async with asyncio.timeout(limit):
                            delivery = await layer.receive_delivery("jobs", visibility_timeout=LONG)
                    except TimeoutError:
                        continue
                    limit /= 4
                    assert delivery.attempt == 1
                    assert await delivery.ack()
                    received.append(delivery.message["value"])

            sending = asyncio.create_task(send())
            workers = [asyncio.create_task(work()) for _ in range(3)]
            await within(sending)
            await within(asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED))
            for worker in workers:
                worker.cancel()
            for outcome in await asyncio.gather(*workers, return_exceptions=True):
                assert outcome is None or isinstance(outcome, asyncio.CancelledError)
            assert sorted(received) == list(range(self.MANY))

    async def test_a_delivery_may_be_acknowledged_in_another_event_loop(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            delivery = await next_delivery(layer)

            def work() -> bool:
                return asyncio.run(delivery.ack())

            assert await in_thread(work)
            await self.is_done(layer)

    async def test_two_event_loops_share_a_channel(self) -> None:
        async with self.make_acknowledging_layer() as layer:

            async def elsewhere() -> tuple[Any, int]:
                delivery = await next_delivery(layer)
                assert await delivery.ack()
                return delivery.message["value"], delivery.attempt

            working = asyncio.ensure_future(in_thread(lambda: asyncio.run(elsewhere())))
            await layer.send("jobs", message_with(1))
            assert await within(working) == (1, 1)
            await self.is_done(layer)

    async def test_a_synchronous_receiver_reads_dead_letters(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            assert await (await next_delivery(layer)).reject("no")
            letter = await in_thread(layer.sync.receive, "jobs.dead", 10)
            assert (letter["reason"], letter["message"]) == ("no", message_with(1))

    async def test_closing_ends_those_who_wait_for_a_delivery(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            waiting = asyncio.create_task(next_delivery(layer))
            await turns()
            await layer.close_channel("jobs")
            with pytest.raises(ChannelClosed, match="Channel 'jobs' was closed"):
                await within(waiting)
            waiting = asyncio.create_task(next_delivery(layer))
            await turns()
            await layer.close()
            with pytest.raises(ChannelClosed):
                await within(waiting)

    @pytest.mark.parametrize("call", ["close_channel", "flush"])
    async def test_what_is_leased_is_dropped_with_the_rest(self, call: str) -> None:
        async with self.make_acknowledging_layer() as layer:
            for number in range(2):
                await layer.send("jobs", message_with(number))
            delivery = await next_delivery(layer)
            await (layer.close_channel("jobs") if call == "close_channel" else layer.flush())
            assert not await delivery.ack()
            await self.is_done(layer)
            name = "dropped_closed" if call == "close_channel" else "dropped_flushed"
            await reaches(layer, **{name: 2}, waiting=0)

    async def test_those_who_wait_for_a_delivery_go_on_after_a_flush(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            waiting = asyncio.create_task(next_delivery(layer))
            await turns()
            await layer.flush()
            await layer.send("jobs", message_with(1))
            assert await (await within(waiting)).ack()

    # Arguments

    @pytest.mark.parametrize(
        ("channel", "options", "error", "words"),
        [
            ("specific!x", {}, InvalidName, "reads named channels, without a '!'"),
            ("not valid", {}, InvalidName, "is not valid"),
            ("x" * 95, {}, InvalidName, "for its dead letters it has 100 characters"),
            ("jobs", {"dead_letter_channel": "jobs"}, InvalidName, "another channel"),
            ("jobs", {"dead_letter_channel": "a!b"}, InvalidName, "another channel"),
            ("jobs.dead", {"dead_letter_channel": "jobs"}, InvalidName, "would go to and fro without end"),
            ("jobs.dead.dead", {"dead_letter_channel": "jobs"}, InvalidName, "would go to and fro without end"),
            ("jobs", {"dead_letter_channel": 7}, InvalidName, "must be a str"),
            ("jobs", {"visibility_timeout": 0}, InvalidDeliveryOption, "visibility_timeout is 0; expected"),
            ("jobs", {"visibility_timeout": float("nan")}, InvalidDeliveryOption, "seconds above 0"),
            ("jobs", {"visibility_timeout": "1"}, InvalidDeliveryOption, "seconds above 0"),
            ("jobs", {"max_deliveries": 0}, InvalidDeliveryOption, "max_deliveries is 0; expected"),
            ("jobs", {"max_deliveries": 1.5}, InvalidDeliveryOption, "None for deliveries without end"),
        ],
    )
    async def test_what_cannot_be_used_is_refused_at_once(
        self, channel: str, options: dict[str, Any], error: type[Exception], words: str
    ) -> None:
        async with self.make_acknowledging_layer() as layer:
            with pytest.raises(error, match=words):
                await within(layer.receive_delivery(channel, **options))

    async def test_a_delivery_refuses_what_it_cannot_use(self) -> None:
        async with self.make_acknowledging_layer() as layer:
            await layer.send("jobs", message_with(1))
            delivery = await next_delivery(layer)
            with pytest.raises(InvalidDeliveryOption, match=r"delay is -1; expected a number of seconds from 0"):
                await delivery.retry(-1)
            with pytest.raises(InvalidDeliveryOption, match=r"visibility_timeout is 0; expected"):
                await delivery.extend(0)
            reason: Any = None
            with pytest.raises(InvalidDeliveryOption, match=r"reason is None; expected a str"):
                await delivery.reject(reason)
            assert await delivery.ack()

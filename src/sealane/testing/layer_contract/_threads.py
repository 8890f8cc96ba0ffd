"""The part of the contract about threads, event loops and synchronous code."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation

from sealane.exceptions import ChannelFull, InvalidName, UnserializableMessage
from sealane.testing.layer_contract._harness import (
    LIMIT,
    Harness,
    Owner,
    in_thread,
    message_with,
    next_message,
    turns,
    within,
)
from sealane.types import Message


class ThreadsContract(Harness):
    async def test_synchronous_code_in_a_thread_does_what_a_coroutine_does(self) -> None:
        async with self.make_layer() as layer:

            def work() -> Message:
                channel = layer.sync.new_channel()
                layer.require_valid_channel_name(channel)
                layer.sync.group_add("group", channel)
                layer.sync.group_send("group", message_with(1))
                layer.sync.group_discard("group", channel)
                layer.sync.group_send("group", message_with(2))
                layer.sync.send(channel, message_with(3))
                received = [layer.sync.receive(channel, timeout=LIMIT), layer.sync.receive(channel, timeout=LIMIT)]
                layer.sync.close_channel(channel)
                layer.sync.send("main", message_with(4))
                return {"received": received}

            assert await in_thread(work) == {"received": [message_with(1), message_with(3)]}
            assert await next_message(layer, "main") == message_with(4)
            await in_thread(layer.sync.flush)
            await in_thread(layer.sync.close)

    async def test_synchronous_calls_raise_the_same_errors(self) -> None:
        async with self.make_layer(capacity=1) as layer:

            def work() -> None:
                with pytest.raises(InvalidName, match="Channel name"):
                    layer.sync.send("not valid", message_with(1))
                with pytest.raises(InvalidName, match="Group name"):
                    layer.sync.group_send("not valid", message_with(1))
                with pytest.raises(UnserializableMessage, match="object"):
                    layer.sync.group_send("group", message_with(object()))
                layer.sync.send("channel", message_with(1))
                with pytest.raises(ChannelFull):
                    layer.sync.send("channel", message_with(2))

            await in_thread(work)

    async def test_a_message_for_after_the_commit_is_checked_at_once(self) -> None:
        # Whether it is sent then needs a database, which a layer's tests may not have.
        async with self.make_layer() as layer:

            def work() -> None:
                for call in (layer.sync.send, layer.sync.group_send):
                    with pytest.raises(InvalidName):
                        call("not valid", message_with(1), on_commit=True)
                    with pytest.raises(UnserializableMessage, match="object"):
                        call("channel", message_with(object()), on_commit=True)
                    with pytest.raises(TypeError, match="on_commit=True"):
                        call("channel", message_with(1), using="default")

            await in_thread(work)
            with pytest.raises(SynchronousOnlyOperation):
                layer.sync.group_send("group", message_with(1), on_commit=True)
            await self.nothing_waits(layer, "channel")

    async def test_synchronous_calls_are_refused_in_an_event_loop(self) -> None:
        async with self.make_layer() as layer:
            sync = layer.sync
            calls: dict[str, Callable[[], Any]] = {
                "send": lambda: sync.send("channel", message_with(1)),
                "receive": lambda: sync.receive("channel", timeout=0),
                "new_channel": lambda: sync.new_channel(),
                "close_channel": lambda: sync.close_channel("channel"),
                "group_add": lambda: sync.group_add("group", "channel"),
                "group_discard": lambda: sync.group_discard("group", "channel"),
                "group_send": lambda: sync.group_send("group", message_with(1)),
                "flush": lambda: sync.flush(),
                "close": lambda: sync.close(),
            }
            for name, call in calls.items():
                with pytest.raises(SynchronousOnlyOperation, match=rf"'await channel_layer\.{name}\(\.\.\.\)'"):
                    call()
            await self.nothing_waits(layer, "channel")

    async def test_a_synchronous_receive_gives_up_in_time_and_loses_none(self) -> None:
        async with self.make_layer() as layer:

            def work() -> None:
                with pytest.raises(TimeoutError):
                    layer.sync.receive("channel", timeout=0.01)
                layer.sync.send("channel", message_with(1))
                assert layer.sync.receive("channel", timeout=LIMIT) == message_with(1)

            await in_thread(work)

    async def test_a_thread_can_wait_for_a_message_of_the_loop(self) -> None:
        async with self.make_layer() as layer:
            receiving = asyncio.ensure_future(in_thread(lambda: layer.sync.receive("channel", timeout=LIMIT)))
            await turns()
            await layer.send("channel", message_with(1))
            assert await within(receiving) == message_with(1)

    async def test_a_thread_can_send_to_a_receiver_of_the_loop(self) -> None:
        async with self.make_layer() as layer:
            receiving = asyncio.create_task(layer.receive("channel"))
            await turns()
            await in_thread(lambda: layer.sync.send("channel", message_with(1)))
            assert await within(receiving) == message_with(1)

    async def test_a_thread_can_broadcast_to_owners_of_the_loop(self) -> None:
        async with self.make_layer() as layer:
            owners = [Owner(layer, f"channel.{number}") for number in range(5)]
            for owner in owners:
                await layer.group_add("group", owner.channel)
            await in_thread(lambda: layer.sync.group_send("group", message_with(1)))
            for owner in owners:
                await owner.woken(1)
                assert owner.thread is threading.current_thread()
                assert owner.inbox.take() == message_with(1)

    async def test_another_event_loop_can_broadcast_to_owners_of_this_one(self) -> None:
        async with self.make_layer() as layer:
            owner = Owner(layer, "here")
            await layer.group_add("group", "here")

            async def elsewhere() -> None:
                await layer.group_add("group", "there")
                await layer.group_send("group", message_with(1))
                assert await next_message(layer, "there") == message_with(1)

            await in_thread(lambda: asyncio.run(elsewhere()))
            await owner.woken(1)
            assert owner.thread is threading.current_thread()
            assert owner.inbox.take() == message_with(1)

    async def test_many_threads_lose_nothing_and_keep_each_ones_order(self) -> None:
        threads, each = 4, self.MANY
        async with self.make_layer(capacity=threads * each) as layer:
            owner = Owner(layer, "channel")
            await layer.group_add("group", "channel")

            def send(sender: int) -> None:
                for number in range(each):
                    layer.sync.group_send("group", {"type": "x", "sender": sender, "number": number})

            sending = [asyncio.ensure_future(in_thread(send, number)) for number in range(threads)]
            received: list[Message] = []
            async with asyncio.timeout(LIMIT):
                while len(received) < threads * each:
                    await owner.event.wait()
                    owner.event.clear()
                    while (message := owner.inbox.take()) is not None:
                        received.append(message)
                await asyncio.gather(*sending)
            for sender in range(threads):
                numbers = [message["number"] for message in received if message["sender"] == sender]
                assert numbers == list(range(each))

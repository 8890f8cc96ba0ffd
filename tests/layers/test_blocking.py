"""The synchronous face that every layer has."""

import asyncio
from collections.abc import Mapping

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation

from sealane.exceptions import MessageTooLarge
from sealane.layers import BaseChannelLayer, InMemoryChannelLayer, SyncChannelLayer
from sealane.layers.blocking import BridgedSyncChannelLayer
from tests.layers.test_contract import ThirdPartyLayer


def test_a_layer_without_synchronous_calls_gets_a_bridge() -> None:
    layer = ThirdPartyLayer(inner=InMemoryChannelLayer())
    assert isinstance(layer.sync, BridgedSyncChannelLayer)
    assert isinstance(layer.sync, SyncChannelLayer)
    assert layer.sync is layer.sync
    assert repr(layer.sync) == "<BridgedSyncChannelLayer of <ThirdPartyLayer>>"
    layer.sync.send("channel", {"type": "x"})
    assert layer.sync.receive("channel") == {"type": "x"}


def test_repr_of_a_layer_shows_what_is_not_zero() -> None:
    layer = ThirdPartyLayer(inner=InMemoryChannelLayer())
    layer.sync.send("channel", {"type": "x"})
    assert repr(layer) == "<ThirdPartyLayer sent=1 addressed=1 waiting=1 channels=1>"


def test_a_layer_that_counts_nothing_shows_its_class() -> None:
    class Silent(ThirdPartyLayer):
        def stats(self) -> Mapping[str, int]:
            return BaseChannelLayer.stats(self)

    assert repr(Silent(inner=InMemoryChannelLayer())) == "<Silent>"


def test_the_in_memory_layer_needs_no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_loop() -> asyncio.AbstractEventLoop:
        raise AssertionError("an event loop was made")

    monkeypatch.setattr(asyncio, "new_event_loop", no_loop)
    layer = InMemoryChannelLayer()
    assert layer.sync is layer.sync
    channel = layer.sync.new_channel("mine")
    assert channel.startswith("mine.inmemory!")
    layer.sync.group_add("group", channel)
    layer.sync.group_send("group", {"type": "x"})
    assert layer.sync.receive(channel) == {"type": "x"}
    layer.sync.group_discard("group", channel)
    layer.sync.close_channel(channel)
    layer.sync.flush()
    layer.sync.close()


async def test_the_error_in_an_event_loop_says_what_to_do() -> None:
    with pytest.raises(SynchronousOnlyOperation) as caught:
        InMemoryChannelLayer().sync.group_send("group", {"type": "x"})
    assert str(caught.value) == (
        "channel_layer.sync.group_send() was called in a thread that runs an event loop, which it would block. Write "
        "'await channel_layer.group_send(...)' there, or call it in a thread of its own with sync_to_async"
    )


def test_what_channels_users_write_in_a_view_works_too() -> None:
    layer = InMemoryChannelLayer()
    async_to_sync(layer.group_add)("group", "channel")
    async_to_sync(layer.group_send)("group", {"type": "x"})
    assert async_to_sync(layer.receive)("channel") == {"type": "x"}


def test_the_size_limit_is_the_most_that_is_taken() -> None:
    size = len(InMemoryChannelLayer().pack({"type": "x"}))
    assert len(InMemoryChannelLayer(max_message_size=size).pack({"type": "x"})) == size
    with pytest.raises(MessageTooLarge, match=rf"Message is {size} bytes when serialized; the limit is {size - 1}"):
        InMemoryChannelLayer(max_message_size=size - 1).pack({"type": "x"})

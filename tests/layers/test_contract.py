"""Every layer keeps the contract: the in-memory one with each format, and a third party's with what the base gives."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from sealane.layers import BaseChannelLayer, Inbox, InMemoryChannelLayer
from sealane.testing.layer_contract import ChannelLayerContract
from sealane.types import Message
from tests.layers.clock import Clock


class TestInMemoryMsgPack(ChannelLayerContract):
    FORMAT = "msgpack"

    def make_layer(self, **options: Any) -> BaseChannelLayer:
        self.clock = Clock()
        return InMemoryChannelLayer(serializer_format=self.FORMAT, clock=self.clock, **options)

    async def advance(self, layer: BaseChannelLayer, seconds: float) -> None:
        self.clock.advance(seconds)


class TestInMemoryJSON(TestInMemoryMsgPack):
    FORMAT = "json"


class ThirdPartyLayer(BaseChannelLayer):
    """The least that a layer must bring: no synchronous calls of its own, and no ``attach()`` if it cannot push."""

    def __init__(self, *, inner: BaseChannelLayer, **options: Any) -> None:
        super().__init__(**options)
        self.inner = inner

    async def send(self, channel: str, message: Message) -> None:
        await self.inner.send(channel, message)

    async def receive(self, channel: str) -> Message:
        return await self.inner.receive(channel)

    async def new_channel(self, prefix: str = "specific") -> str:
        return await self.inner.new_channel(prefix)

    async def close_channel(self, channel: str) -> None:
        await self.inner.close_channel(channel)

    async def group_add(self, group: str, channel: str) -> None:
        await self.inner.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self.inner.group_discard(group, channel)

    async def group_send(self, group: str, message: Message) -> None:
        await self.inner.group_send(group, message)

    async def flush(self) -> None:
        await self.inner.flush()

    async def close(self) -> None:
        await self.inner.close()

    def attach(self, channel: str, wake: Callable[[], None]) -> Inbox | None:
        return self.inner.attach(channel, wake)

    def stats(self) -> Mapping[str, int]:
        return self.inner.stats()


class TestThirdParty(ChannelLayerContract):
    def make_layer(self, **options: Any) -> BaseChannelLayer:
        self.clock = Clock()
        return ThirdPartyLayer(inner=InMemoryChannelLayer(clock=self.clock, **options), **options)

    async def advance(self, layer: BaseChannelLayer, seconds: float) -> None:
        self.clock.advance(seconds)


class Pull(ThirdPartyLayer):
    """A layer that does not push."""

    def attach(self, channel: str, wake: Callable[[], None]) -> Inbox | None:
        return BaseChannelLayer.attach(self, channel, wake)


class PullContract(ChannelLayerContract):
    def make_layer(self, **options: Any) -> BaseChannelLayer:
        return Pull(inner=InMemoryChannelLayer(**options), **options)


async def test_tests_of_push_are_skipped_for_a_layer_without() -> None:
    with pytest.raises(pytest.skip.Exception, match=r"Pull has no push: attach\(\) returns None"):
        await PullContract().test_a_channel_has_one_owner()


async def test_the_suite_fails_a_layer_that_breaks_the_contract() -> None:
    class Sticky(Pull):
        async def group_discard(self, group: str, channel: str) -> None:
            self.require_valid_group_name(group)

    class StickyContract(ChannelLayerContract):
        def make_layer(self, **options: Any) -> BaseChannelLayer:
            return Sticky(inner=InMemoryChannelLayer(**options), **options)

    with pytest.raises(AssertionError):
        await StickyContract().test_joining_twice_is_joining_once()


async def test_the_suite_needs_make_layer() -> None:
    with pytest.raises(NotImplementedError, match="define make_layer"):
        await ChannelLayerContract().test_closing_a_layer_twice_is_harmless()

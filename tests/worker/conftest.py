"""A layer of the test's own, which consumers find as the default one."""

from collections.abc import AsyncIterator

import pytest

from sealane.layers import InMemoryChannelLayer, channel_layers


@pytest.fixture
async def layer() -> AsyncIterator[InMemoryChannelLayer]:
    made = InMemoryChannelLayer(capacity=1000)
    before = channel_layers.set("default", made)
    yield made
    await made.close()
    channel_layers.set("default", before)

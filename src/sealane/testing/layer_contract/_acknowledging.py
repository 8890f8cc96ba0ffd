"""What the parts of the contract about acknowledged deliveries share."""

import asyncio
from typing import Any

import pytest

from sealane.layers import BaseChannelLayer, Delivery
from sealane.testing.layer_contract._harness import Harness, message_with, within

#: Longer than any test.
LONG = 60.0


async def next_delivery(layer: BaseChannelLayer, channel: str = "jobs", **terms: Any) -> Delivery:
    terms.setdefault("visibility_timeout", LONG)
    delivery: Delivery = await within(layer.receive_delivery(channel, **terms))
    return delivery


async def value_of_next(layer: BaseChannelLayer, channel: str = "jobs") -> Any:
    """Take a delivery, acknowledge it, and return the value of its message."""
    delivery = await next_delivery(layer, channel)
    assert await delivery.ack()
    return delivery.message["value"]


class AcknowledgingHarness(Harness):
    """What tests of deliveries share."""

    #: The ``visibility_timeout`` of deliveries in tests that let it pass, in seconds.
    VISIBILITY: float = 0.2

    def make_acknowledging_layer(self, **options: Any) -> BaseChannelLayer:
        layer = self.make_layer(**options)
        if "acknowledgements" not in layer.extensions:
            pytest.skip(f"{type(layer).__name__} has no acknowledgements")
        return layer

    async def lease_ends(self, layer: BaseChannelLayer) -> None:
        """Let ``VISIBILITY`` seconds pass."""
        await self.advance(layer, self.VISIBILITY * 1.25)

    async def is_done(self, layer: BaseChannelLayer, channel: str = "jobs") -> None:
        """Fail where a message waits in a channel, or is leased and comes again."""
        taking = asyncio.create_task(value_of_next(layer, channel))
        assert await self.sent_until_done(layer, channel, message_with("last"), taking) == "last"

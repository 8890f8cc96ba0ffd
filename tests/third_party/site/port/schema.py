"""Strawberry: a query, a mutation that tells a group, and a subscription that hears it."""

from collections.abc import AsyncGenerator

import strawberry
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer

from port.models import Ship


@strawberry.type
class Query:
    @strawberry.field
    async def ships(self) -> list[str]:
        return await database_sync_to_async(lambda: list(Ship.objects.order_by("id").values_list("name", flat=True)))()


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def announce(self, ship: str) -> bool:
        await get_channel_layer().group_send("arrivals", {"type": "ship.arrived", "ship": ship})
        return True


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def arrivals(self, info: strawberry.Info) -> AsyncGenerator[str, None]:
        async with info.context["ws"].listen_to_channel("ship.arrived", groups=["arrivals"]) as heard:
            yield "listening"
            async for message in heard:
                yield message["ship"]


schema = strawberry.Schema(Query, Mutation, Subscription)

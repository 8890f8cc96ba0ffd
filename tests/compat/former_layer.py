"""A layer as projects have them that were written for Channels: no more than its calls."""

import asyncio
from collections import defaultdict

from sealane.layers import BaseChannelLayer
from sealane.types import Message

__all__ = ["FormerLayer"]


class FormerLayer(BaseChannelLayer):
    """It has no ``close_channel()``, no ``close()`` and no inboxes."""

    def __init__(self, expiry: int = 60, capacity: int = 100) -> None:
        super().__init__(expiry=expiry, capacity=capacity)
        self.queues: defaultdict[str, asyncio.Queue[Message]] = defaultdict(asyncio.Queue)
        self.members: defaultdict[str, set[str]] = defaultdict(set)
        self.names = 0

    async def send(self, channel: str, message: Message) -> None:
        self.queues[channel].put_nowait(dict(message))

    async def receive(self, channel: str) -> Message:
        return await self.queues[channel].get()

    async def new_channel(self, prefix: str = "specific") -> str:
        self.names += 1
        return f"{prefix}.former!{self.names}"

    async def group_add(self, group: str, channel: str) -> None:
        self.members[group].add(channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.members[group].discard(channel)

    async def group_send(self, group: str, message: Message) -> None:
        for channel in self.members[group]:
            await self.send(channel, message)

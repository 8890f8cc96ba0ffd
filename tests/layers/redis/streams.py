"""A look into the mailboxes of RedisChannelLayer, for its tests."""

import asyncio
from collections.abc import Callable

from sealane.layers.redis.mailbox import Mailbox
from sealane.layers.redis.stream_branch import StreamBranch
from sealane.layers.redis.streams import RedisChannelLayer

Make = Callable[..., RedisChannelLayer]


def mailbox_of(layer: RedisChannelLayer) -> Mailbox:
    return layer.here()


def home_of(layer: RedisChannelLayer) -> StreamBranch:
    branch = mailbox_of(layer).home()
    assert isinstance(branch, StreamBranch)
    return branch


async def all_read(*layers: RedisChannelLayer) -> None:
    """Wait until what was posted has been read."""
    for layer in layers:
        for branch in mailbox_of(layer).branches:
            while await branch.backlog() != 0:
                await asyncio.sleep(0.001)


async def settled(layer: RedisChannelLayer) -> None:
    """Wait until a mailbox has opened what it was told to open, and read what was posted there."""
    await all_read(layer)
    await all_read(layer)


def waiting(layer: RedisChannelLayer, channel: str) -> int:
    inbox = mailbox_of(layer).channels.get(channel)
    return 0 if inbox is None else len(inbox)

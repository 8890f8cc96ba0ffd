"""The channel layer over Redis or Valkey in which a lost connection loses no message."""

import asyncio
from typing import ClassVar

from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.mailbox import Mailbox
from sealane.layers.redis.scripts import STREAM_SCRIPTS, Scripts
from sealane.layers.redis.stream_branch import StreamBranch

__all__ = ["RedisChannelLayer"]


class RedisChannelLayer(RedisLayer):
    """Carries messages between processes and machines over mailboxes that are streams.

    Whatever is sent to an event loop's channels and groups waits in its stream until it has read it, so that a lost
    connection, on either side, loses nothing and repeats nothing as long as the server keeps its data and the process
    its lease. Where something may have been missed all the same, it is counted, and owners are told by ``Inbox.gap``.
    """

    scripts: ClassVar[Scripts] = STREAM_SCRIPTS

    def make_mailbox(self, loop: asyncio.AbstractEventLoop) -> Mailbox:
        return Mailbox(self.options, loop, StreamBranch)

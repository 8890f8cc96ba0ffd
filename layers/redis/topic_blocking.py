"""``layer.sync`` of the pub/sub layer."""

import secrets
import time

from sealane.layers.blocking import refuse_event_loop
from sealane.layers.redis.blocking import RedisSyncChannelLayer
from sealane.layers.redis.topic_mailbox import LIST, answer_key, unanswered
from sealane.layers.redis.wire import mailbox_id

__all__ = ["RedisPubSubSyncChannelLayer"]


class RedisPubSubSyncChannelLayer(RedisSyncChannelLayer):
    """The calls of the pub/sub layer for any thread.

    A channel that an event loop has made joins a group in that loop: ``group_add()`` waits until it says that it has,
    and raises ChannelLayerUnavailable where it does not within ``timeout`` seconds, as when this thread blocks it.
    """

    def group_add(self, group: str, channel: str) -> None:
        refuse_event_loop("group_add")
        self._check(group, channel)
        owner = mailbox_id(channel)
        if owner is None:
            super().group_add(group, channel)
            return
        home = self._options.shards.of_channel(channel)
        link = self._link(home)
        token = secrets.token_hex(8)
        if not self._post(home, owner, f"+{group}", f"{channel} {LIST}{token}"):
            return
        timeout = self._options.timeout
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            # Shorter than what the connection takes for a server that does not answer.
            if link.call("BLPOP", answer_key(link.base, token), f"{min(left, timeout / 4):.3f}") is not None:
                return
        raise unanswered(self._options.places[home].label, channel, timeout)

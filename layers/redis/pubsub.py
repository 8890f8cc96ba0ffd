"""The channel layer over the publishing of Redis or Valkey: at the lowest cost, and at most once."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from sealane.exceptions import InvalidChannelLayerError
from sealane.layers.notices import OverflowPolicy
from sealane.layers.redis.blocking import RedisSyncChannelLayer
from sealane.layers.redis.layer import RedisLayer
from sealane.layers.redis.mailbox import Mailbox
from sealane.layers.redis.scripts import Scripts
from sealane.layers.redis.topic_blocking import RedisPubSubSyncChannelLayer
from sealane.layers.redis.topic_branch import TopicBranch
from sealane.layers.redis.topic_mailbox import TopicMailbox
from sealane.layers.redis.topics import TOPIC_SCRIPTS, frame
from sealane.layers.redis.wire import mailbox_id

__all__ = ["RedisPubSubChannelLayer"]


class RedisPubSubChannelLayer(RedisLayer):
    """Carries messages between processes and machines over topics, of which the server keeps nothing.

    Sending to a group is one publishing of the serialized message, however many members it has; each event loop listens
    to the topics of its members' groups. What is published while a loop's connection is lost is lost to that loop:
    that is counted in ``gaps``, and owners are told by ``Inbox.gap``.

    Plain channels are held by the server, as with RedisChannelLayer, and so are their places in groups: their messages
    wait there, and each goes to one taker. Only what is on its way to one whose connection is lost is lost.
    """

    scripts: ClassVar[Scripts] = TOPIC_SCRIPTS
    sync_class: ClassVar[type[RedisSyncChannelLayer]] = RedisPubSubSyncChannelLayer
    # What is published in one database is heard in all.
    names_database: ClassVar[bool] = True

    def __init__(
        self,
        hosts: Any = None,
        prefix: str = "asgi",
        expiry: float = 60,
        group_expiry: float = 86400,
        capacity: int = 100,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        symmetric_encryption_keys: Iterable[str | bytes] | None = None,
        random_prefix_length: int = 12,
        serializer_format: str = "msgpack",
        *,
        channel_expiry: Mapping[str | re.Pattern[str], float] | None = None,
        overflow: OverflowPolicy = "drop_newest",
        max_message_size: int | None = None,
        cluster: bool = False,
        shards: int | None = None,
        lease: float = 15,
        timeout: float = 5,
        maxlen: None = None,
        on_disconnect: None = None,
        on_reconnect: None = None,
    ) -> None:
        """Take the options of RedisChannelLayer, but that there is no ``maxlen``. Nothing connects yet.

        lease: seconds after which a thread that died while it waited for a message is forgotten. A few times within it
            each event loop looks whether the server still knows who waits here for plain channels, and owns some.
        maxlen, on_disconnect, on_reconnect: refused, with what there is instead.

        Raises InvalidChannelLayerError for a value that it cannot use.
        """
        if maxlen is not None:
            raise InvalidChannelLayerError(
                f"maxlen is {maxlen!r}; RedisPubSubChannelLayer takes no such option, since its server keeps nothing "
                "that is sent to groups. Leave it out, or use RedisChannelLayer"
            )
        if on_disconnect is not None or on_reconnect is not None:
            name = "on_disconnect" if on_disconnect is not None else "on_reconnect"
            raise InvalidChannelLayerError(
                f"RedisPubSubChannelLayer takes no option {name}; a consumer's on_gap() is called instead, after each "
                "reconnection, and the log tells of lost connections. Leave it out"
            )
        super().__init__(
            hosts,
            prefix,
            expiry,
            group_expiry,
            capacity,
            channel_capacity,
            symmetric_encryption_keys,
            random_prefix_length,
            serializer_format,
            channel_expiry=channel_expiry,
            overflow=overflow,
            max_message_size=max_message_size,
            cluster=cluster,
            shards=shards,
            lease=lease,
            timeout=timeout,
        )

    def make_mailbox(self, loop: asyncio.AbstractEventLoop) -> Mailbox:
        return TopicMailbox(self.options, loop)

    async def group_add(self, group: str, channel: str) -> None:
        mailbox = self.here()
        self._check_group(mailbox, group)
        self._check_channel(mailbox, channel)
        owner = mailbox_id(channel)
        if owner is None or owner == mailbox.id:
            await super().group_add(group, channel)
        else:
            assert isinstance(mailbox, TopicMailbox)
            await mailbox.ask_to_join(owner, group, channel)

    async def _post(self, mailbox: Mailbox, owner: str, channel: str, data: bytes) -> None:
        branch = mailbox.branch(self.options.shards.of_channel(channel))
        assert isinstance(branch, TopicBranch)
        is_own = owner == mailbox.id
        if is_own:
            await _listen(branch)
        address = f"c{channel}".encode()
        topic = b"%b:m:%b" % (branch.base, owner.encode())
        call = branch.link.call_once("SPUBLISH" if branch.sharded else "PUBLISH", topic, frame(address, data))
        try:
            heard = await call
        except asyncio.CancelledError:
            branch.link.follow(call, lambda heard: self._note_published(mailbox, heard))
            raise
        if heard == 0:
            # Nobody is there. Or this server is no master any more: a publisher is not told so, but a writer is.
            if is_own:
                await _listen(branch)
            call = branch.run(self.scripts.post, self.options.maxlen, owner, address, data)
            try:
                heard = await call
            except asyncio.CancelledError:
                branch.link.follow(call, lambda heard: self._note_heard(mailbox, heard))
                raise
        self._note_heard(mailbox, heard)

    def _note_published(self, mailbox: Mailbox, heard: int) -> None:
        # What nobody has heard was not sent: its caller is gone, who would have posted it.
        if heard:
            mailbox.counters.sent += 1

    def _note_heard(self, mailbox: Mailbox, heard: int | None) -> None:
        """Count a message that was published for a mailbox."""
        counters = mailbox.counters
        counters.sent += 1
        if heard == 0:
            counters.addressed += 1
            counters.dropped_closed += 1


async def _listen(branch: TopicBranch) -> None:
    """Wait until the mailbox's own topic is listened to."""
    listening = branch.listening()
    if listening is not None:
        # Others wait for the same.
        await asyncio.shield(listening)

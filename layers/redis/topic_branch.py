"""What a mailbox of the pub/sub layer has on one shard: a link, and a connection that listens to topics."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.gap import Gap
from sealane.layers.redis.board import Delivery
from sealane.layers.redis.branch import Branch
from sealane.layers.redis.opening import Opening
from sealane.layers.redis.pipeline import Argument
from sealane.layers.redis.subscriber import Subscriber
from sealane.layers.redis.topics import TOPIC_SCRIPTS
from sealane.layers.redis.wire import CHANNEL, GROUP, PLAIN, STAMP

if TYPE_CHECKING:
    from sealane.layers.redis.mailbox import Mailbox

__all__ = ["TopicBranch"]

#: What did not help is not tried again for so many seconds.
_HEALING: Final = 0.25


class TopicBranch(Branch):
    """One shard of a mailbox of the pub/sub layer. It belongs to the mailbox's event loop.

    It listens to the mailbox's own topic, and to that of each group with a member here. Joining and leaving take
    effect between what this loop's calls sent before it and what they send after it, although messages come over
    another connection than replies do: once something was sent to a group (``posted``), the next change waits in
    ``_later`` until everything has come that was published by then.
    """

    def __init__(self, mailbox: "Mailbox", shard: int) -> None:
        super().__init__(mailbox, shard)
        options = self.options
        place = options.places[shard]
        #: Whether the place is a slot of a Cluster: what is published there is heard on that slot's node only.
        self.sharded = bool(place.tag)
        #: The mailbox's own topic.
        self.topic = b"%b:m:%b" % (self.base, mailbox.id.encode())
        self.subscriber = Subscriber(
            place,
            self.accept,
            self._rest,
            self._on_listening,
            sharded=self.sharded,
            batch=options.batch,
            timeout=options.timeout,
            name="sealane-subscriber",
        )
        self._marks = b"%b:f" % self.base
        self._groups: dict[bytes, str] = {}
        self._later: deque[tuple[asyncio.Future[None], bool, str, str]] = deque()
        # When those who wait for or own plain channels were entered again, by time.monotonic().
        self._healed = 0.0
        self._examining: asyncio.TimerHandle | None = None
        # Plain channels that the server seemed to have forgotten when it was last looked.
        self._forgotten: set[bytes] = set()
        self._goal = 0
        # Whether it has listened before.
        self._listened = False

    # Listening

    def open(self) -> None:
        if not self.opened:
            self.opened = True
            self.ready = self.subscriber.subscribe(self.topic)
            self.subscriber.subscribe(self._marks)
            self.subscriber.start()
            self.mailbox.start_beating()

    def listening(self) -> "asyncio.Future[None] | None":
        """Return what is done when the mailbox's own topic is listened to; None where it is."""
        self.open()
        return self.subscriber.subscribe(self.topic)

    async def heard_from(self) -> None:
        """Wait for the first time that the mailbox's topic is listened to.

        Then all who wait here are entered again, for what was published before was not heard. Whoever asked a moment
        before, and was heard, would be given two messages.
        """
        if self._listened:
            return
        listening = self.listening()
        if listening is not None:
            # Others wait for the same.
            await asyncio.shield(listening)
        while not self._listened and (fence := self.subscriber.fence()) is not None:
            await asyncio.shield(fence)

    async def on_connect(self, opening: Opening) -> None:
        seconds, microseconds = await opening.call("TIME")
        self._note_time(int(seconds) * 1000 + int(microseconds) // 1000)

    def _note_time(self, now: int) -> None:
        self.offset = now / 1000 - time.monotonic()

    def _on_listening(self, missing: float | None) -> None:
        """Take note that all topics are listened to; ``missing`` is for how many seconds they were not before."""
        self._listened = True
        # Marks that were published before are not heard any more.
        self.flushing = 0
        self.mailbox.plain.forget_marks(self.shard)
        if missing is not None:
            self.mailbox.note_gap(self, Gap("disconnected", None, missing))
        self._healed = 0.0
        self.heal()
        self.mailbox.plain.retry(self.shard)

    def heal(self) -> None:
        """Have the server know again who waits for or owns a plain channel here."""
        if self.mailbox.closed or self.listening() is not None:
            return  # that follows, when the mailbox's topic is listened to
        now = time.monotonic()
        if now - self._healed < _HEALING:
            if self._examining is None:
                self._examining = self.mailbox.loop.call_later(_HEALING, self._examine, True)
            return
        self._healed = now
        plain = self.mailbox.plain
        for name in plain.names(self.shard):
            if name in plain.waiting:
                self.try_run(self.scripts.unwait, name, self.mailbox.id, 0)
        for script, arguments in plain.restoration(self.shard):
            self.try_run(script, *arguments)

    def beat(self) -> None:
        if self.opened:
            self._examine()
            self._keep()

    def _keep(self) -> None:
        """Have the server keep who waits for or owns a plain channel here, and look whether it knows them."""
        plain = self.mailbox.plain
        names = plain.names(self.shard)
        if names and not self.mailbox.closed:
            options = self.options
            known: list[Argument] = []
            for name in names:
                known += (name, plain.waiting.get(name, 0), int(name in plain.owned))
            call = self.try_run(TOPIC_SCRIPTS.keep, options.remembered, options.expiry, self.mailbox.id, *known)
            if call is not None:
                call.add_done_callback(self._on_kept)

    def _on_kept(self, call: "asyncio.Future[Any]") -> None:
        if call.cancelled() or call.exception() is not None:
            return
        now, expired, forgotten = call.result()
        self.mailbox.counters.dropped_expired += expired
        self._note_time(now)
        before, self._forgotten = self._forgotten, set(forgotten)
        if before & self._forgotten:
            self._forgotten = set()
            self.heal()
        elif self._forgotten:
            # Or a message is on its way here, for somebody who waits no longer at the server.
            self.mailbox.loop.call_later(_HEALING, self._keep)

    def _examine(self, heal: bool = False) -> None:
        """Ask the server that carries out the calls whether it is the one that is listened to.

        After a failover they may be two.
        """
        self._examining = None
        connects = self.subscriber.connects
        with contextlib.suppress(ChannelLayerUnavailable):
            call = self.link.call("PUBSUB", "SHARDNUMSUB" if self.sharded else "NUMSUB", self.topic)
            call.add_done_callback(lambda call: self._on_examined(call, connects, heal))

    def _on_examined(self, call: "asyncio.Future[Any]", connects: int, heal: bool) -> None:
        if self.mailbox.closed or call.cancelled() or call.exception() is not None:
            return
        self.mailbox.plain.retry(self.shard)
        if connects != self.subscriber.connects or self.listening() is not None:
            return
        if call.result()[1] == 0:
            self.subscriber.give_up("what is published is heard elsewhere")
        elif heal:
            self.heal()

    # Groups

    def group_topic(self, group: str) -> bytes:
        """Return the topic of a group."""
        return b"%b:g:%b" % (self.base, group.encode())

    def join(self, group: str) -> "asyncio.Future[None] | None":
        topic = self.group_topic(group)
        self._groups[topic] = group
        return self.subscriber.subscribe(topic)

    def leave(self, group: str) -> None:
        topic = self.group_topic(group)
        if self._groups.pop(topic, None) is not None:
            self.subscriber.unsubscribe(topic)

    def adopted(self, group: str) -> None:
        pass

    def settle(self, group: str) -> None:
        if group in self.mailbox.exchange.board.groups:
            self.join(group)
        elif not any(joins and name == group for _, joins, name, _ in self._later):
            self.leave(group)

    def forget_groups(self) -> None:
        self._later.clear()
        for group in list(self._groups.values()):
            self.leave(group)

    def change(self, joins: bool, group: str, channel: str) -> "asyncio.Future[None] | None":
        fence = self.subscriber.fence() if self.posted or self._later else None
        if fence is None:
            self._apply()
            self._change(joins, group, channel)
            self.settle(group)
            return None
        self.posted = 0
        if not self._later or self._later[-1][0] is not fence:
            fence.add_done_callback(self._apply)
        self._later.append((fence, joins, group, channel))
        return fence

    def _change(self, joins: bool, group: str, channel: str) -> None:
        exchange = self.mailbox.exchange
        if joins:
            exchange.group_add(group, channel)
        else:
            exchange.group_discard(group, channel)

    def _apply(self, fence: "asyncio.Future[None] | None" = None) -> None:
        """Make the changes that waited for this fence; for any, where it is None."""
        later = self._later
        touched = set()
        while later and (fence is None or later[0][0].done()):
            _, joins, group, channel = later.popleft()
            self._change(joins, group, channel)
            touched.add(group)
        for group in touched:
            self.settle(group)

    # What comes

    def accept(self, batch: Sequence[list[bytes]]) -> None:
        """Take replies, each with a topic and what was published there at its end."""
        mailbox = self.mailbox
        options = self.options
        counters = mailbox.exchange.board.counters
        addressed, delivered = counters.addressed, counters.delivered
        latest = time.monotonic() + options.expiry / 1000
        deliveries: list[Delivery] = []
        for reply in batch:
            topic, data = reply[1], reply[2]
            group = self._groups.get(topic)
            if group is not None:
                delivery = Delivery(GROUP, group, data, latest)
            elif topic != self.topic and topic != self._marks:
                continue  # of a group that was left meanwhile
            else:
                end = data[0] + 1 if data else 0
                kind = data[1] if 1 < end <= len(data) else 0
                if kind != PLAIN and kind != CHANNEL:
                    if deliveries:
                        mailbox.deliver(self, deliveries)
                        deliveries = []
                    mailbox.obey(self, kind, data[2:end], data[end:])
                    continue
                found = self._read(kind, data[2:end], data[end:], latest)
                if found is None:
                    mailbox.note_foreign(self)
                    continue
                delivery = found
            if not mailbox.admits(self, delivery):
                continue
            if options.keyring is not None:
                where = f"{'group' if delivery.kind == GROUP else 'channel'} {delivery.name!r}"
                kept = options.unseal(delivery.data, where)
                if kept is None:
                    if delivery.kind == PLAIN:
                        mailbox.plain.wait_again(delivery.name)
                    continue
                delivery = delivery._replace(data=kept)
            deliveries.append(delivery)
        if deliveries:
            mailbox.deliver(self, deliveries)
        self._goal = delivered + (counters.addressed - addressed) // 2

    async def _rest(self) -> None:
        await self.rest(self._goal)

    def mark(self, number: int) -> Callable[[], bool]:
        fence = self.subscriber.fence()
        return (lambda: True) if fence is None else fence.done

    def _read(self, kind: int, name: bytes, data: bytes, latest: float) -> Delivery | None:
        """Return what was posted to the mailbox's own topic; None where no layer has posted it."""
        try:
            if kind == CHANNEL:
                return Delivery(kind, name.decode(), data, latest)
            stamp = name[:STAMP]
            _, sent = int(stamp[:-13]), int(stamp[-13:])
            expires = latest
            if self.offset is not None:
                expires = min(latest, (sent + self.options.expiry) / 1000 - self.offset)
            return Delivery(kind, name[STAMP:].decode(), data, expires, stamp)
        except ValueError:
            return None

    # The end

    async def close(self) -> None:
        if self._examining is not None:
            self._examining.cancel()
        try:
            await self.subscriber.close()
        finally:
            await self.link.close()

    # State

    @property
    def reconnects(self) -> int:
        return self.link.reconnects + max(0, self.subscriber.connects - 1)

    @property
    def heard(self) -> float:
        return self.subscriber.heard

    async def backlog(self) -> int | None:
        # The server keeps nothing: what it has not sent yet stands in the buffer of the connection.
        return 0

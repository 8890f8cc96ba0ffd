"""What a mailbox has on one shard."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.redis.link import Link
from sealane.layers.redis.opening import Opening
from sealane.layers.redis.pipeline import Argument
from sealane.layers.redis.script import Script

if TYPE_CHECKING:
    from sealane.layers.redis.mailbox import Mailbox

__all__ = ["Branch"]

#: For how many turns in which nobody takes anything a burst waits for its receivers.
_IDLE: Final = 3


class Branch(ABC):
    """The connection for a mailbox's calls to one shard, and whatever brings to the mailbox what is posted there.

    It belongs to the mailbox's event loop.
    """

    def __init__(self, mailbox: "Mailbox", shard: int) -> None:
        options = mailbox.options
        self.mailbox = mailbox
        self.options = options
        self.scripts = options.scripts
        self.shard = shard
        #: What the keys of the shard begin with.
        self.base = options.base(shard)
        self.link = Link(
            options.places[shard],
            scripts=options.scripts.all(),
            timeout=options.timeout,
            name="sealane",
            sender=b"%b:s:" % self.base,
            on_connect=self.on_connect,
        )
        #: Whether the mailbox is to be known on this shard.
        self.opened = False
        #: Resolved when it was made known for the first time, or could not be in time.
        self.ready: asyncio.Future[Any] | None = None
        #: The groups that it is in, or is to be in when what was asked of Redis is done, with the call that does it.
        self.joined: dict[str, asyncio.Future[Any] | None] = {}
        #: The number of the last entry that this loop's calls are known to have posted here.
        self.posted = 0
        #: The server's clock minus ours, in seconds; None: not known yet.
        self.offset: float | None = None
        #: Flushes of this process whose mark has not come: what comes before it was dropped.
        self.flushing = 0

    # Calls

    def run(self, script: Script, *arguments: Argument) -> "asyncio.Future[Any]":
        """Run a script on this shard."""
        return self.link.run(script, (self.base,), arguments)

    def try_run(self, script: Script, *arguments: Argument) -> "asyncio.Future[Any] | None":
        """Run a script that nobody waits for, unless the link is closed or has too much to do."""
        with contextlib.suppress(ChannelLayerUnavailable):
            return self.link.run(script, (self.base,), arguments)
        return None

    # The mailbox

    @abstractmethod
    def open(self) -> None:
        """Have the mailbox known on this shard, before any call that follows."""

    @abstractmethod
    async def heard_from(self) -> None:
        """Wait until whatever is given by a call that is made from now on comes here, and comes once.

        Raises ChannelLayerUnavailable where it takes too long.
        """

    @abstractmethod
    async def on_connect(self, opening: Opening) -> None:
        """See to it, before anything else is sent over a new connection, that the server knows the mailbox."""

    @abstractmethod
    def heal(self) -> None:
        """Tell the server everything again, since it was found that it has forgotten the mailbox."""

    @abstractmethod
    def beat(self) -> None:
        """Do what is to be done a few times within each lease."""

    @abstractmethod
    async def close(self) -> None:
        """Take leave of the shard."""

    @property
    @abstractmethod
    def reconnects(self) -> int:
        """How many connections were made anew."""

    @property
    @abstractmethod
    def heard(self) -> float:
        """When something was last heard from the server about the mailbox, by ``time.monotonic``."""

    @abstractmethod
    async def backlog(self) -> int | None:
        """Return how many entries wait at the server for the mailbox, None where that is not known."""

    async def rest(self, goal: int) -> None:
        """Let receivers take what came, until so many were delivered in all, as long as they are at it.

        Otherwise a burst would overflow the channels of receivers that are fast, but had no turn.
        """
        counters = self.mailbox.exchange.board.counters
        idle = 0
        while counters.delivered < goal and idle < _IDLE:
            before = counters.delivered
            await asyncio.sleep(0)
            idle = 0 if counters.delivered > before else idle + 1

    @abstractmethod
    def mark(self, number: int) -> "Callable[[], bool]":
        """Return a function that tells whether all has come that was posted by now; ``number`` is that of the last."""

    # Groups

    @abstractmethod
    def join(self, group: str) -> "asyncio.Future[Any] | None":
        """Have what is sent to a group come here; return the call that does so, None where it is done."""

    @abstractmethod
    def leave(self, group: str) -> None:
        """Have what is sent to a group come here no longer."""

    @abstractmethod
    def change(self, joins: bool, group: str, channel: str) -> "asyncio.Future[Any] | None":
        """Let a channel join or leave a group, after all that this loop's calls have sent.

        Return what is done when it has; None where whatever is sent from now on comes after it.
        """

    @abstractmethod
    def settle(self, group: str) -> None:
        """Tell Redis where the first member of a group came, or the last one went."""

    def adopted(self, group: str) -> None:
        """Note that somebody else has let the mailbox join a group."""
        self.joined.setdefault(group, None)

    def forget_groups(self) -> None:
        """Forget every group, after a flush."""
        self.joined.clear()

    def on_flush_marked(self, call: "asyncio.Future[Any]") -> None:
        """Expect no mark where none was posted."""
        if call.cancelled() or call.exception() is not None or call.result() == 0:
            self.flushing = max(0, self.flushing - 1)

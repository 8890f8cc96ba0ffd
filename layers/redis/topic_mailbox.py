"""A mailbox of the pub/sub layer: what one event loop is asked to do by others, and what it asks of them."""

import asyncio
import contextlib
import secrets
from typing import Final

from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers.redis.branch import Branch
from sealane.layers.redis.mailbox import Mailbox
from sealane.layers.redis.options import Options
from sealane.layers.redis.topic_branch import TopicBranch
from sealane.layers.redis.wire import ANSWER, JOIN, mailbox_id

__all__ = ["LIST", "TopicMailbox", "answer_key", "unanswered"]

#: How an asker wants the answer: in a list that it waits for, or posted to its mailbox.
LIST: Final = "l"
_MAILBOX: Final = "m"


def answer_key(base: bytes, token: str) -> bytes:
    """Return the key of the list for an answer."""
    return b"%b:a:%b" % (base, token.encode())


class TopicMailbox(Mailbox):
    """A mailbox to which things are published.

    Only its own loop can listen to the topic of a group. Where another one, or a thread, has a channel of it join a
    group, it asks for that and waits for the answer.
    """

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(options, loop, TopicBranch)
        # What was asked of others, by its token.
        self._asked: dict[str, asyncio.Future[None]] = {}
        # What others have asked for.
        self._joining: set[asyncio.Task[None]] = set()

    async def ask_to_join(self, owner: str, group: str, channel: str) -> None:
        """Have a channel of another mailbox join a group. Where that one is gone, nothing happens.

        Raises ChannelLayerUnavailable where it does not answer in time.
        """
        home = self.home()
        assert isinstance(home, TopicBranch)
        listening = home.listening()
        if listening is not None:
            await asyncio.shield(listening)
        options = self.options
        branch = self.branch(options.shards.of_mailbox(owner))
        token = secrets.token_hex(8)
        answered = self._asked[token] = self.loop.create_future()
        try:
            payload = f"{channel} {_MAILBOX}{self.id}{token}"
            if await branch.run(self.options.scripts.post, options.maxlen, owner, f"+{group}", payload) == 0:
                return
            async with asyncio.timeout(options.timeout):
                await answered
        except TimeoutError:
            raise unanswered(branch.link.place.label, channel, options.timeout) from None
        finally:
            del self._asked[token]

    def obey(self, branch: Branch, kind: int, name: bytes, data: bytes) -> None:
        if kind == JOIN:
            with contextlib.suppress(ValueError):
                channel, _, answer = data.decode().partition(" ")
                if mailbox_id(channel) == self.id:
                    task = self.loop.create_task(self._join(branch, name.decode(), channel, answer))
                    self._joining.add(task)
                    task.add_done_callback(self._joining.discard)
                    return
        elif kind == ANSWER:
            answered = self._asked.get(name.decode("ascii", "replace"))
            if answered is not None and not answered.done():
                answered.set_result(None)
            return
        super().obey(branch, kind, name, data)

    async def _join(self, branch: Branch, group: str, channel: str, answer: str) -> None:
        """Do what another asked for, and tell it. Where it cannot be done there is no answer."""
        with contextlib.suppress(ChannelLayerUnavailable):
            await self.group_add(group, channel)
            options = self.options
            if answer.startswith(LIST):
                key = answer_key(branch.base, answer[1:])
                branch.link.call("RPUSH", key, "")
                branch.link.call("PEXPIRE", key, int(options.timeout * 1000))
            elif answer.startswith(_MAILBOX):
                # An id has 16 digits.
                asker, token = answer[1:17], answer[17:]
                back = self.branch(options.shards.of_mailbox(asker))
                back.run(options.scripts.post, options.maxlen, asker, f"k{token}", "")

    async def close(self) -> None:
        for task in self._joining:
            task.cancel()
        await super().close()


def unanswered(place: str, channel: str, timeout: float) -> ChannelLayerUnavailable:
    """Return the error for a question that was not answered."""
    return ChannelLayerUnavailable(
        place, f"the process that has channel {channel!r} did not answer within {timeout:g} s", timeout, sent=True
    )

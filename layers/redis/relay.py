"""Messages of groups that go on to plain channels: what became of them, and those that other shards hold."""

import asyncio
from typing import Any, Final

from sealane.layers.counters import Counters
from sealane.layers.redis.branch import Branch
from sealane.layers.redis.full import FullLog
from sealane.layers.redis.mailbox import Mailbox
from sealane.layers.redis.options import Options

__all__ = ["Relay", "count_held"]

#: A state that the script `send` returns.
_CLOSED: Final = 3


def count_held(counters: Counters, reply: list[int]) -> int:
    """Count what became of a message to a plain channel, and of those that were dropped for it; return its state."""
    state, dropped, expired = reply
    counters.dropped_full += dropped
    counters.dropped_expired += expired
    counters.dropped_closed += state == _CLOSED
    return state


class Relay:
    """Sends a group's message to the plain channels that the group's script could not reach."""

    def __init__(self, options: Options, full: FullLog) -> None:
        self._options = options
        self._full = full

    def take(self, mailbox: Mailbox, branch: Branch, data: bytes, reply: list[Any]) -> "list[asyncio.Future[Any]]":
        """Count what a reply of ``group_send`` tells of plain channels, and send to those of other shards.

        Return the calls that do so.
        """
        number, addressed, dropped, expired, closed, full, elsewhere = reply
        branch.posted = max(branch.posted, number)
        counters = mailbox.counters
        counters.addressed += addressed
        counters.dropped_full += dropped
        counters.dropped_expired += expired
        counters.dropped_closed += closed
        options = self._options
        for name in full:
            self._full.note(name.decode(), options.capacity)
        calls = []
        for encoded in elsewhere:
            name = encoded.decode()
            call = mailbox.branch(options.shards.of_channel(name)).run(
                options.scripts.send,
                options.maxlen,
                options.expiry,
                name,
                data,
                options.capacity(name),
                options.overflow,
                options.shift(name),
            )
            call.add_done_callback(lambda call, name=name: self._on_sent(mailbox, name, call))  # type: ignore[misc]
            calls.append(call)
        return calls

    def _on_sent(self, mailbox: Mailbox, channel: str, call: "asyncio.Future[Any]") -> None:
        if call.cancelled() or call.exception() is not None:
            return
        mailbox.counters.addressed += 1
        reply = call.result()
        if reply:
            count_held(mailbox.counters, reply)
            if reply[1]:
                self._full.note(channel, self._options.capacity)

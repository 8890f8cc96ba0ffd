"""Dropping everything that a layer has in Redis, for tests."""

import asyncio
import re
import secrets
from functools import partial

from sealane.layers.redis.branch import Branch

__all__ = ["COUNT", "drop", "flush", "pattern_of"]

#: Kinds of keys that are dropped: what waits in plain channels or is leased, groups, and who is in which. Mailboxes
#: stay, and so do those who wait for or own a channel.
_DROPPED = "cgjbxkd"

#: Keys that are looked at in one call.
COUNT = 500


def pattern_of(base: bytes) -> bytes:
    """Return the pattern of the keys that are dropped, all but one."""
    return re.sub(rb"([\\*?\[\]^])", rb"\\\1", base) + f":[{_DROPPED}]:*".encode()


async def flush(branches: list[Branch]) -> None:
    """Drop what waits in plain channels and all groups, then tell every mailbox. What goes is counted as it goes."""
    mailbox = branches[0].mailbox
    identity = secrets.token_hex(8)
    marked = [branch for branch in branches if branch.opened]
    mailbox.flush_here(identity, marked)
    try:
        for branch in branches:
            await drop(branch)
    finally:
        for branch in branches:
            own = mailbox.id if branch in marked else ""
            call = branch.run(branch.scripts.mark_flush, branch.options.maxlen, own, identity)
            call.add_done_callback(branch.on_flush_marked if own else _ignore)
    for branch in branches:
        # Calls of one link are carried out in order: when this one is, the mark was posted.
        await branch.link.call("PING")


def _ignore(_: object) -> None:
    pass


async def drop(branch: Branch) -> None:
    """Drop what one shard has, and tell no mailbox."""
    await _drop_keys(branch, branch.base + b":e")
    cursor: bytes | int = 0
    pattern = pattern_of(branch.base)
    while True:
        cursor, keys = await branch.link.call("SCAN", cursor, "MATCH", pattern, "COUNT", COUNT)
        if keys:
            await _drop_keys(branch, *keys)
        if int(cursor) == 0:
            return


async def _drop_keys(branch: Branch, *keys: bytes) -> None:
    call = branch.run(branch.scripts.drop, *keys)
    count = partial(_count, branch)
    try:
        # Not in one expression with the counter, which others count with while this waits.
        dropped = await call
    except asyncio.CancelledError:
        branch.link.follow(call, count)
        raise
    count(dropped)


def _count(branch: Branch, dropped: int) -> None:
    branch.mailbox.counters.dropped_flushed += dropped

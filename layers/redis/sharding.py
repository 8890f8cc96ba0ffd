"""Which shard a name lives on. Every call of a layer is routed here, and nowhere else."""

import functools
import hashlib
from collections.abc import Sequence

from sealane.layers.delivery import DEAD_LETTER_SUFFIX

__all__ = ["Shards", "mailbox_of"]

#: How many names have their shard remembered, per kind of name.
_REMEMBERED = 16_384


def mailbox_of(channel: str) -> str | None:
    """Return the id of the mailbox that a channel belongs to, or None for a plain channel.

    It is what stands between the last period before the ``!`` and the ``!``: "abc" of "specific.abc!x1y2". A prefix
    may hold periods, an id does not.
    """
    head, mark, _ = channel.partition("!")
    return head.rpartition(".")[2] if mark else None


def _without_suffix(channel: str) -> str:
    """Return the channel whose dead letters a channel has: it lives where that does."""
    while len(channel) > len(DEAD_LETTER_SUFFIX) and channel.endswith(DEAD_LETTER_SUFFIX):
        channel = channel[: -len(DEAD_LETTER_SUFFIX)]
    return channel


class Shards:
    """Rendezvous hashing: every shard draws a number for a name, and the highest has it.

    A shard's number is a hash of its identity and the name. So all processes agree whose hosts have the same
    identities, in whatever order they list them; and a shard more, among n, takes over about 1/(n + 1) of the names
    and moves no other.

    All calls may be made in any thread. What they return is the index into the ``identities`` given.
    """

    def __init__(self, identities: Sequence[str]) -> None:
        """Take the identity of each shard, in the order of the shards. They are all different, and at least one."""
        if not identities:
            raise ValueError("Shards() needs at least one identity")
        if len(set(identities)) < len(identities):
            raise ValueError(f"Shards() needs identities that differ, not {', '.join(map(repr, identities))}")
        self.identities = tuple(identities)
        # The identity goes in as a key of fixed length: no name and identity together look like another pair.
        self._drawers = [
            hashlib.blake2b(key=hashlib.blake2b(identity.encode(), digest_size=32).digest(), digest_size=8)
            for identity in self.identities
        ]
        self._of_name = functools.lru_cache(_REMEMBERED)(self._draw)
        self._of_channel = functools.lru_cache(_REMEMBERED)(self._route)

    def of_group(self, group: str) -> int:
        """Return the shard of a group."""
        return 0 if len(self._drawers) == 1 else self._of_name(group)

    def of_mailbox(self, mailbox: str) -> int:
        """Return the home shard of a mailbox, to which all that is sent to its channels goes."""
        return 0 if len(self._drawers) == 1 else self._of_name(mailbox)

    def of_channel(self, channel: str) -> int:
        """Return the shard of a channel: that of its mailbox where it has one, otherwise by its name.

        Dead letters (``jobs.dead``) live where their channel does, since one script moves them.
        """
        return 0 if len(self._drawers) == 1 else self._of_channel(channel)

    def _route(self, channel: str) -> int:
        mailbox = mailbox_of(channel)
        return self._of_name(_without_suffix(channel) if mailbox is None else mailbox)

    def _draw(self, name: str) -> int:
        encoded = name.encode()
        best = -1
        highest = b""
        for index, drawer in enumerate(self._drawers):
            draw = drawer.copy()
            draw.update(encoded)
            number = draw.digest()
            # Two equal draws of 64 bits do not happen; if they did, the identity decides and not the order of hosts.
            if best < 0 or (number, self.identities[index]) > (highest, self.identities[best]):
                best, highest = index, number
        return best

    def __len__(self) -> int:
        return len(self.identities)

    def __repr__(self) -> str:
        return f"<Shards {', '.join(self.identities)}>"

"""How far a mailbox stream has been read."""

from collections import deque
from collections.abc import Sequence
from typing import Final

from sealane.layers.redis.reader import Entry

__all__ = ["Progress"]

#: Ids of entries that were read last, to know them again where a server takes over that was behind.
_RECENT: Final = 2048

#: No mailbox counts that far: an entry with a higher number was not posted by a layer.
_FOREIGN: Final = 10**12


class Progress:
    """What was read of a stream whose entries are numbered one by one: an id is ``<number>-<time>``."""

    def __init__(self) -> None:
        #: The number of the last entry that was read, and its id.
        self.number = 1
        self.position = b"0-0"
        self._recent: deque[bytes] = deque(maxlen=_RECENT)
        #: Whether what is read next may have any number, since a gap was told already.
        self.resumed = False

    def missing(self, number: int) -> int | None:
        """Return how many entries are missing before one that comes next; None where no layer has posted it."""
        if number == self.number + 1:
            return 0
        if number > _FOREIGN:
            return None
        return 0 if self.resumed else max(0, number - self.number - 1)

    def advance(self, number: int, entry_id: bytes) -> None:
        """Note that the next entry was read."""
        self.number = number
        self.position = entry_id
        self._recent.append(entry_id)

    def rewind(self, entries: Sequence[Entry]) -> list[Entry]:
        """Go on from the last of these, which a server has up to the position that was behind when it took over.

        Return those that are new. What comes after them may have any number: the server may count on from what it had,
        or from what was read, as it was told by another connection.
        """
        known = set(self._recent)
        start = 0
        if len(self._recent) == _RECENT:
            # What comes before the first one that is known was read too, longer ago than is remembered.
            start = next((index for index, entry in enumerate(entries) if entry[0] in known), len(entries))
        unread = [entry for entry in entries[start:] if entry[0] not in known]
        self._recent.extend(entry[0] for entry in unread)
        if entries:
            self.position = entries[-1][0]
        self.resumed = True
        return unread

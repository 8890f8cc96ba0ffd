"""The mailboxes of one layer in one process: one for each event loop that uses the layer."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping

from sealane.layers.redis.mailbox import Mailbox

__all__ = ["Mailboxes", "add_counts"]


class Mailboxes:
    """A table that may be used in any thread. Each mailbox is made, and ends, in its own loop."""

    def __init__(self, make: Callable[[asyncio.AbstractEventLoop], Mailbox]) -> None:
        self._make = make
        self._lock = threading.RLock()
        #: Those that are in use. It is always the same dict, and a look into it needs no lock.
        self.by_loop: dict[asyncio.AbstractEventLoop, Mailbox] = {}
        self._by_id: dict[str, Mailbox] = {}
        # Those that are closed, as long as they may still count something, and what others have counted.
        self._former: list[Mailbox] = []
        self._totals: dict[str, int] = {}

    def here(self) -> Mailbox:
        """Return the mailbox of the running event loop, a new one where it has none."""
        loop = asyncio.get_running_loop()
        mailbox = self.by_loop.get(loop)
        if mailbox is None or mailbox.closed:
            mailbox = self._make(loop)
            with self._lock:
                self._bury()
                self.by_loop[loop] = mailbox
                self._by_id[mailbox.id] = mailbox
        return mailbox

    def get(self, identity: str) -> Mailbox | None:
        """Return the mailbox with an id; None where this process has none of that id."""
        return self._by_id.get(identity)

    def all(self) -> list[Mailbox]:
        """Return those that are in use."""
        with self._lock:
            return list(self.by_loop.values())

    def close(self, loop: asyncio.AbstractEventLoop | None = None) -> Mailbox | None:
        """Close the mailboxes of all loops but one, each in its own loop; return that one's, which is forgotten too."""
        with self._lock:
            mailboxes = dict(self.by_loop)
            self.by_loop.clear()
            self._by_id.clear()
            self._former.extend(mailboxes.values())
        mine = None if loop is None else mailboxes.pop(loop, None)
        for mailbox in mailboxes.values():
            mailbox.close_here()
            # It ends in its own loop; a loop that is closed has ended it.
            with contextlib.suppress(RuntimeError):
                mailbox.loop.call_soon_threadsafe(_close_soon, mailbox)
        return mine

    def stats(self) -> dict[str, int]:
        """Return what all have counted, those that are no more too."""
        with self._lock:
            mailboxes = [*self.by_loop.values(), *self._former]
            totals = dict(self._totals)
        for mailbox in mailboxes:
            add_counts(totals, mailbox.stats())
        return totals

    def _bury(self) -> None:
        """Forget the mailboxes of loops that are closed, but for what they have counted."""
        for loop, mailbox in list(self.by_loop.items()):
            if loop.is_closed():
                del self.by_loop[loop]
                self._by_id.pop(mailbox.id, None)
                mailbox.close_here()
                self._former.append(mailbox)
        for mailbox in list(self._former):
            if mailbox.ended or mailbox.loop.is_closed():
                self._former.remove(mailbox)
                add_counts(self._totals, mailbox.stats())


def add_counts(totals: dict[str, int], stats: Mapping[str, int]) -> None:
    """Add figures by their names."""
    for name, count in stats.items():
        totals[name] = totals.get(name, 0) + count


_ending: set["asyncio.Task[None]"] = set()


def _close_soon(mailbox: Mailbox) -> None:
    task = asyncio.ensure_future(mailbox.close())
    _ending.add(task)
    task.add_done_callback(_ending.discard)

"""What a server is told again that may have forgotten it: memberships, and who waits for or owns plain channels."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sealane.layers.redis.opening import ERROR_REPLIES, Opening
from sealane.layers.redis.pipeline import Argument, Verdict, verdict_of
from sealane.layers.redis.script import Script

if TYPE_CHECKING:
    from sealane.layers.redis.branch import Branch

__all__ = ["Restoration"]

#: Groups in one call.
_CHUNK: Final = 500

#: A call to be made: a script and its arguments.
_Call = tuple[Script, tuple[Argument, ...]]


class Restoration:
    """What one branch of a mailbox tells its server once more."""

    def __init__(self, branch: "Branch", on_added: Callable[[int, float], None]) -> None:
        """Take whose it is, and what is called when the server was asked whether it knows of memberships.

        ``on_added`` gets the number of the last entry that had been posted when there were some of which it knew
        nothing, and when it was asked, by ``time.monotonic()``.
        """
        self._branch = branch
        self._scripts = branch.scripts
        self._plain = branch.mailbox.plain
        self._on_added = on_added
        #: What the server was to be told, and could not be.
        self.untold: list[_Call] = []
        # Groups of which the server has not been asked in this round whether it knows that they are joined.
        self._unconfirmed: list[str] = []

    # What there is to tell

    def everything(self) -> list[_Call]:
        """Return the calls that tell a server what it has forgotten."""
        return self._rejoining(list(self._branch.joined)) + self._plain.restoration(self._branch.shard)

    def memberships(self) -> list[_Call]:
        """Return the calls that tell a server of the memberships that it was to know already."""
        return self._rejoining(self._confirmable())

    def _confirmable(self) -> list[str]:
        return [group for group, call in self._branch.joined.items() if call is None]

    def _rejoining(self, groups: list[str]) -> list[_Call]:
        return [
            (self._scripts.rejoin, (self._branch.mailbox.id, *groups[start : start + _CHUNK]))
            for start in range(0, len(groups), _CHUNK)
        ]

    # Telling it

    async def tell_first(self, opening: Opening, calls: Sequence[_Call]) -> int:
        """Tell it over a new connection, before all else.

        Return the number of the last entry that had been posted when there were memberships of which the server knew
        nothing; 0 where it knew all.
        """
        found = 0
        for script, arguments in calls:
            try:
                reply = await opening.run(script, (self._branch.base,), arguments)
            except ERROR_REPLIES as exc:
                if verdict_of(exc) > Verdict.FULL:
                    raise
                # The connection is of use all the same.
                self.untold.append((script, arguments))
            else:
                if script is self._scripts.rejoin:
                    added, number = reply
                    found = number if added else found
        return found

    def tell(self) -> None:
        """Tell everything."""
        self.untold.clear()
        for script, arguments in self.everything():
            self._tell(script, arguments)

    def tell_again(self) -> None:
        """Tell what could not be told before, and is still so."""
        untold, self.untold = self.untold, []
        plain = self._plain
        for script, arguments in untold:
            if script is self._scripts.rejoin:
                groups = [group for group in arguments[1:] if group in self._branch.joined]
                if groups:
                    self._tell(script, (arguments[0], *groups))
            elif plain.wants(script, arguments):
                self._tell(script, arguments)

    def _tell(self, script: Script, arguments: tuple[Argument, ...]) -> None:
        call = self._branch.try_run(script, *arguments)
        if call is None:
            self.untold.append((script, arguments))
        else:
            call.add_done_callback(lambda call: self._on_told(script, arguments, call))

    def _on_told(self, script: Script, arguments: tuple[Argument, ...], call: "asyncio.Future[Any]") -> None:
        if not call.cancelled() and call.exception() is not None:
            self.untold.append((script, arguments))

    # What the server may have lost unnoticed

    def confirm_all(self) -> None:
        """Tell the server of every membership once more, and have it found out which it did not know."""
        self._unconfirmed = self._confirmable()
        while self._unconfirmed:
            self.confirm_some()

    def confirm_some(self) -> None:
        """Do so with some of the memberships, in turn.

        A server that was replaced may lack the last joins, and a group's key may have been evicted. Between the mark
        of a flush by another process and its being read this brings a membership back, as a late call could: it lasts
        until something is sent to the group.
        """
        branch = self._branch
        if branch.flushing:
            self._unconfirmed.clear()
            return
        if not self._unconfirmed:
            self._unconfirmed = self._confirmable()
        chunk = self._unconfirmed[-_CHUNK:]
        del self._unconfirmed[-_CHUNK:]
        joined = branch.joined
        groups = [group for group in chunk if group in joined and joined[group] is None]
        if groups:
            asked = time.monotonic()
            call = branch.try_run(self._scripts.confirm, branch.mailbox.id, *groups)
            if call is not None:
                call.add_done_callback(lambda call: self._on_confirmed(asked, call))

    def _on_confirmed(self, asked: float, call: "asyncio.Future[Any]") -> None:
        if call.cancelled() or call.exception() is not None or self._branch.flushing:
            return
        if call.result() is not None:
            added, number = call.result()
            if added:
                self._on_added(number, asked)

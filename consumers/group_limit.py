"""How many groups a connection may be in."""

from collections.abc import Callable
from typing import Any

from sealane.exceptions import TooManyGroups

__all__ = ["GroupRoll", "LimitedLayer"]


class GroupRoll:
    """The groups that one connection has joined, up to a limit: decisions only, no I/O."""

    __slots__ = ("_groups", "limit")

    def __init__(self, limit: int) -> None:
        #: How many groups there may be.
        self.limit = limit
        self._groups: set[str] = set()

    def enter(self, group: str) -> bool:
        """Note that a group is joined; tell whether it is a new one. Raises TooManyGroups at the limit."""
        if group in self._groups:
            return False
        if len(self._groups) >= self.limit:
            raise TooManyGroups(group, self.limit)
        self._groups.add(group)
        return True

    def leave(self, group: str) -> None:
        """Note that a group is left; harmless where it was not joined."""
        self._groups.discard(group)

    def __len__(self) -> int:
        return len(self._groups)


class LimitedLayer:
    """A channel layer as one connection sees it: its own channel joins groups up to a limit.

    Everything else is the layer's. ``group_add()`` raises :exc:`~sealane.exceptions.TooManyGroups` for one group too
    many, before the layer is asked. A call that fails joins nothing; one that is cancelled counts as if it had joined,
    until ``group_discard()``. What others do with the channel, from another consumer or by ``get_channel_layer()``, is
    neither counted nor refused.
    """

    def __init__(self, layer: Any, channel: str, roll: GroupRoll, refused: Callable[[TooManyGroups], None]) -> None:
        #: The layer itself.
        self.unlimited = layer
        self._channel = channel
        self._roll = roll
        self._refused = refused

    async def group_add(self, group: str, channel: str) -> None:
        """Add a channel to a group, as the layer does."""
        is_new = self._enter(group, channel)
        try:
            await self.unlimited.group_add(group, channel)
        except Exception:
            if is_new:
                self._roll.leave(group)
            raise

    async def group_discard(self, group: str, channel: str) -> None:
        """Remove a channel from a group, as the layer does."""
        await self.unlimited.group_discard(group, channel)
        if channel == self._channel:
            self._roll.leave(group)

    @property
    def sync(self) -> Any:
        """The same calls for synchronous code."""
        return _LimitedSyncLayer(self)

    def _enter(self, group: str, channel: str) -> bool:
        if channel != self._channel or not isinstance(group, str):
            return False
        try:
            return self._roll.enter(group)
        except TooManyGroups as error:
            self._refused(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unlimited, name)

    def __repr__(self) -> str:
        return f"<{self.unlimited!r}, {len(self._roll)} of {self._roll.limit} groups joined>"


class _LimitedSyncLayer:
    """The synchronous face of a limited layer."""

    def __init__(self, limited: LimitedLayer) -> None:
        self._limited = limited
        self._sync = limited.unlimited.sync

    def group_add(self, group: str, channel: str) -> None:
        limited = self._limited
        is_new = limited._enter(group, channel)
        try:
            self._sync.group_add(group, channel)
        except Exception:
            if is_new:
                limited._roll.leave(group)
            raise

    def group_discard(self, group: str, channel: str) -> None:
        self._sync.group_discard(group, channel)
        if channel == self._limited._channel:
            self._limited._roll.leave(group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sync, name)

"""All instances of a worker's applications: how many there may be at once, and which one makes room."""

import asyncio
from collections.abc import Callable

from sealane.worker.instance import Instance

__all__ = ["Roster"]


class Roster:
    """Keep the number of instances at ``most``: for one more, the one that has been idle longest ends.

    Where all of them are busy, whoever wants one more waits.
    """

    def __init__(self, most: int, *, end_timeout: float) -> None:
        self._most = most
        self._end_timeout = end_timeout
        self._instances: dict[Instance, None] = {}  # the one that was used last stands last
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._instances)

    async def start(self, make: Callable[[], Instance]) -> Instance:
        """Make an instance when there is room for it. Cancelled, it has made none."""
        while len(self._instances) >= self._most:
            idle = next((instance for instance in self._instances if not instance.busy), None)
            if idle is None:
                self._changed.clear()
                await self._changed.wait()
            else:
                await self.end(idle)
        instance = make()
        self._instances[instance] = None
        return instance

    def used(self, instance: Instance) -> None:
        """Note that an instance has handled a message."""
        if instance.over:
            self._instances.pop(instance, None)
        elif instance in self._instances:
            del self._instances[instance]
            self._instances[instance] = None
        self._changed.set()

    async def end(self, instance: Instance) -> None:
        """End an instance. Cancelled, it is ended all the same. A later call does not wait for it again."""
        if instance not in self._instances:
            return
        try:
            await instance.end(self._end_timeout)
        finally:
            self._instances.pop(instance, None)
            self._changed.set()

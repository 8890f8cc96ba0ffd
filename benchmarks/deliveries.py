"""Counting what has arrived, and waiting for it."""

import asyncio

__all__ = ["Deliveries"]


class Deliveries:
    """Count deliveries over all receivers of an event loop, and wait for a number of them. One task waits at a time."""

    def __init__(self) -> None:
        self.count = 0
        self._due = 0
        self._reached: asyncio.Future[None] | None = None

    def add(self) -> None:
        """Count one."""
        self.count += 1
        if self._reached is not None and self.count >= self._due:
            self._reached.set_result(None)
            self._reached = None

    async def reach(self, due: int) -> None:
        """Wait until `due` have arrived altogether."""
        if self.count < due:
            self._due = due
            self._reached = asyncio.get_running_loop().create_future()
            await self._reached

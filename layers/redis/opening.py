"""A new connection, before anything that waits is sent over it."""

from collections.abc import Iterable, Sequence
from typing import Any

import redis.asyncio
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

from sealane.layers.redis.pipeline import Argument, pack
from sealane.layers.redis.script import Script

__all__ = ["ERROR_REPLIES", "Opening"]

#: What redis-py raises for an error reply; the connection is in order. Some of these it counts as connection errors.
ERROR_REPLIES = (ResponseError, BusyLoadingError, AuthenticationError)


class Opening:
    """Commands over a connection that nobody else uses yet. Whoever calls it waits for each reply.

    Error replies are raised as redis-py's errors. Cancelled, the connection cannot be used any more.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: redis.asyncio.Connection) -> None:
        self._connection = connection

    async def call(self, *arguments: Argument) -> Any:
        """Carry out a command, and return the reply."""
        return (await self.calls([pack(*arguments)]))[0]

    async def run(self, script: Script, keys: Sequence[bytes | str], arguments: Sequence[Argument] = ()) -> Any:
        """Carry out a script that the link has loaded, and return the reply. Not a numbered one."""
        if script.numbered:
            raise ValueError(f"Script {script.name!r} is numbered: call it with Link.run(), which counts its calls")
        return await self.call("EVALSHA", script.sha1, len(keys), *keys, *arguments)

    async def calls(self, commands: Iterable[bytes]) -> list[Any]:
        """Carry out packed commands at once, and return the replies; raise the first error among them."""
        commands = list(commands)
        if not commands:
            return []
        await self._connection.send_packed_command(b"".join(commands), check_health=False)
        replies = []
        error: Exception | None = None
        for _ in commands:
            try:
                replies.append(await self._connection.read_response(disconnect_on_error=False))
            except ERROR_REPLIES as exc:
                error = error or exc
        if error is not None:
            raise error
        return replies

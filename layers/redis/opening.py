"""A new connection, before anything that waits is sent over it."""

from collections.abc import Iterable, Sequence
from typing import Any

import redis.asyncio
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

from sealane.layers.redis.pipeline import Argument, Verdict, pack, pack_load, verdict_of
from sealane.layers.redis.script import Script

__all__ = ["ERROR_REPLIES", "Opening", "missing"]

#: What redis-py raises for an error reply; the connection is in order. Some of these it counts as connection errors.
ERROR_REPLIES = (ResponseError, BusyLoadingError, AuthenticationError)


def missing(scripts: Sequence[Script], reply: object) -> list[Script]:
    """Return which scripts a server is to be given, by its reply to SCRIPT EXISTS: all, where that says nothing."""
    if not isinstance(reply, list) or len(reply) != len(scripts):
        return list(scripts)
    return [script for script, known in zip(scripts, reply, strict=True) if known != 1]


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
        """Carry out a script that is not numbered, and return the reply. The server is given it where it lacks it."""
        if script.numbered:
            raise ValueError(f"Script {script.name!r} is numbered: call it with Link.run(), which counts its calls")
        command = pack("EVALSHA", script.sha1, len(keys), *keys, *arguments)
        try:
            return (await self.calls([command]))[0]
        except ERROR_REPLIES as exc:
            if verdict_of(exc) is not Verdict.RELOAD:
                raise
        return (await self.calls([pack_load(script), command]))[1]

    async def load(self, scripts: Sequence[Script]) -> None:
        """Have the server know these scripts: it is given those that it says it lacks, or all where it does not say.

        It is asked by their hashes, in one command: nearly always it has them all, and together they are long.
        """
        if not scripts:
            return
        reply: Any = None
        try:
            reply = await self.call("SCRIPT", "EXISTS", *[script.sha1 for script in scripts])
        except ERROR_REPLIES as exc:
            if verdict_of(exc) > Verdict.FULL:
                # It would not load them either.
                raise
        await self.calls([pack_load(script) for script in missing(scripts, reply)])

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

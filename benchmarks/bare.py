"""The limits of the Redis rows: bare tasks, and bare commands of redis-py, with the calls of a channel layer.

They do the least that can carry a message: no names are checked, nothing expires, nothing is found again after a lost
connection.
"""

import asyncio
import collections
from collections.abc import Callable
from typing import Any

import msgpack
import redis
import redis.asyncio

from sealane.types import Message

__all__ = ["BarePubSub", "BareStreams", "BareTasks", "blocking_publish", "blocking_script"]

#: Entries of a stream at most.
_LENGTH = 10_000

#: Entries that one XREAD brings at most.
_BATCH = 200

_ADD = f"redis.call('XADD', KEYS[1], 'MAXLEN', '~', {_LENGTH}, '*', 'm', ARGV[1])"

_ADD_TO_MEMBERS = f"""
for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    redis.call('XADD', key, 'MAXLEN', '~', {_LENGTH}, '*', 'm', ARGV[1])
end
"""


def _pack(message: Message) -> bytes:
    packed: bytes = msgpack.packb(message)
    return packed


def _unpack(data: bytes) -> Message:
    message: Message = msgpack.unpackb(data)
    return message


class BareTasks:
    """Tasks that are woken by futures in one process. A message is packed once, and unpacked by each of them."""

    def __init__(self) -> None:
        self._waiting: dict[str, collections.deque[bytes]] = {}
        self._futures: dict[str, asyncio.Future[None]] = {}

    async def new_channel(self) -> str:
        channel = f"channel-{len(self._waiting)}"
        self._waiting[channel] = collections.deque()
        return channel

    async def group_add(self, group: str, channel: str) -> None:
        """Do nothing: everybody is in the one group."""

    async def group_send(self, group: str, message: Message) -> None:
        data = _pack(message)
        futures = self._futures
        for channel, waiting in self._waiting.items():
            waiting.append(data)
            future = futures.pop(channel, None)
            if future is not None:
                future.set_result(None)

    async def receive(self, channel: str) -> Message:
        waiting = self._waiting[channel]
        if not waiting:
            self._futures[channel] = future = asyncio.get_running_loop().create_future()
            await future
        return _unpack(waiting.popleft())

    async def close(self) -> None:
        """Have the tasks cancelled first."""


class BarePubSub:
    """PUBLISH on one connection of a pool, and SUBSCRIBE on another. One channel is received from."""

    def __init__(self, url: str) -> None:
        self._client = _client(url)
        self._subscriptions = self._client.pubsub()

    async def new_channel(self) -> str:
        return await self._subscribe("channel")

    async def group_add(self, group: str, channel: str) -> None:
        await self._subscribe(group)

    async def send(self, channel: str, message: Message) -> None:
        await self._client.publish(channel, _pack(message))

    async def group_send(self, group: str, message: Message) -> None:
        await self._client.publish(group, _pack(message))

    async def send_many(self, channel: str, messages: list[Message]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            for message in messages:
                pipeline.publish(channel, _pack(message))
            await pipeline.execute()

    async def receive(self, channel: str) -> Message:
        while True:
            kind, _, data = await self._subscriptions.parse_response(block=True)
            if kind == b"message":
                return _unpack(data)

    async def close(self) -> None:
        await self._subscriptions.aclose()
        await self._client.aclose()

    async def _subscribe(self, name: str) -> str:
        await self._subscriptions.subscribe(name)
        # The server's reply: until it is here, what is published is missed.
        await self._subscriptions.parse_response(block=True)
        return name


class BareStreams:
    """EVALSHA of a script with an XADD, and XREAD on another connection. One channel is received from."""

    def __init__(self, url: str) -> None:
        self._client = _client(url)
        self._shas: dict[str, str] = {}
        self._last: bytes | str = "0"
        self._read: collections.deque[bytes] = collections.deque()

    async def new_channel(self) -> str:
        return f"channel-{await self._client.incr('channels')}"

    async def group_add(self, group: str, channel: str) -> None:
        await self._client.sadd(group, channel)

    async def send(self, channel: str, message: Message) -> None:
        await self._run(_ADD, channel, _pack(message))

    async def group_send(self, group: str, message: Message) -> None:
        await self._run(_ADD_TO_MEMBERS, group, _pack(message))

    async def send_many(self, channel: str, messages: list[Message]) -> None:
        sha = await self._sha(_ADD)
        async with self._client.pipeline(transaction=False) as pipeline:
            for message in messages:
                pipeline.evalsha(sha, 1, channel, _pack(message))
            await pipeline.execute()

    async def receive(self, channel: str) -> Message:
        while not self._read:
            found = await self._client.xread({channel: self._last}, count=_BATCH, block=5_000)
            for _, entries in found or ():
                self._read.extend(fields[b"m"] for _, fields in entries)
                self._last = entries[-1][0]
        return _unpack(self._read.popleft())

    async def close(self) -> None:
        await self._client.aclose()

    async def _sha(self, script: str) -> str:
        if script not in self._shas:
            self._shas[script] = str(await self._client.script_load(script))
        return self._shas[script]

    async def _run(self, script: str, key: str, data: bytes) -> None:
        await self._client.evalsha(self._shas.get(script) or await self._sha(script), 1, key, data)


def _client(url: str) -> Any:
    # Any: the types of redis-py differ from version to version. No limit for a read: XREAD waits as long as it likes.
    return redis.asyncio.Redis.from_url(url, protocol=2, socket_timeout=None)


def blocking_publish(url: str, group: str) -> Callable[[Message], object]:
    """Return redis-py's blocking PUBLISH."""
    client = redis.Redis.from_url(url, protocol=2)
    return lambda message: client.publish(group, _pack(message))


def blocking_script(url: str, group: str) -> Callable[[Message], object]:
    """Return redis-py's blocking EVALSHA of a script with one XADD, to the one member of a group."""
    client: Any = redis.Redis.from_url(url, protocol=2)
    sha = client.script_load(_ADD)
    (member,) = client.smembers(group)
    return lambda message: client.evalsha(sha, 1, member, _pack(message))

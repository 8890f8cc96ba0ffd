"""The keys of one shard, for tests of the scripts that act on them."""

import time
from typing import Any

from sealane.layers.redis.lineage import Lineage
from sealane.layers.redis.script import Script
from sealane.layers.redis.scripts import STREAM_SCRIPTS as SCRIPTS
from sealane.layers.redis.wire import STAMP
from tests.servers import Server

LEASE, KEPT, EXPIRY, MAXLEN = 15_000, 75_000, 60_000, 10_000


class Shard:
    """The keys of one prefix, and the scripts that act on them."""

    def __init__(self, server: Server, prefix: str) -> None:
        self.server = server
        self.prefix = prefix

    def run(self, script: Script, *arguments: Any) -> Any:
        keys = [self.prefix, self.prefix, ""] if script.numbered else [self.prefix]
        return self.server.command("EVAL", script.source, 1 + script.numbered, *keys, *arguments)

    def call(self, command: str, kind: str, *arguments: Any) -> Any:
        return self.server.command(command, f"{self.prefix}:{kind}", *arguments)

    def register(self, mailbox: str, read: int = 1, position: str = "0-0") -> Any:
        number, fresh, now, behind, lineage = self.run(SCRIPTS.register, mailbox, LEASE, KEPT, read, position)
        assert Lineage.of(lineage) is not None
        assert abs(now / 1000 - time.time()) < 60
        return number, fresh, behind

    def send(self, channel: str, payload: str, capacity: int = 3, policy: str = "drop_newest") -> Any:
        return self.run(SCRIPTS.send, MAXLEN, EXPIRY, channel, payload, capacity, policy)

    def group_send(self, group: str, payload: str, own: str = "", policy: str = "drop_newest") -> Any:
        return self.run(SCRIPTS.group_send, MAXLEN, EXPIRY, group, payload, own, policy)

    def take(self, channel: str, mailbox: str, most: int = 1) -> Any:
        return self.run(SCRIPTS.take, MAXLEN, EXPIRY, channel, mailbox, 10 * LEASE, most)

    def own(self, channel: str, mailbox: str) -> Any:
        return self.run(SCRIPTS.own, MAXLEN, EXPIRY, channel, mailbox, 10 * LEASE)

    def close(self, channel: str, own: str = "", remember: int = 0) -> Any:
        return self.run(SCRIPTS.close, MAXLEN, EXPIRY, channel, own, remember)

    def posted(self, mailbox: str) -> list[tuple[int, str, str]]:
        """Number, address without a stamp, and payload of what is in a mailbox."""
        entries = []
        for entry_id, (address, payload) in self.call("XRANGE", f"m:{mailbox}", "-", "+"):
            text = address.decode()
            if text.startswith("p"):
                text = text[0] + text[1 + STAMP :]
            entries.append((int(entry_id.split(b"-")[0]), text, payload.decode()))
        return entries

    def stored(self, channel: str) -> list[str]:
        return [member[STAMP:].decode() for member in self.call("ZRANGE", f"c:{channel}", 0, -1)]

    def age(self, channel: str, seconds: float) -> None:
        """Make what is stored in a channel so much older, and due."""
        for member in self.call("ZRANGE", f"c:{channel}", 0, -1):
            sent = int(member[16:STAMP]) - int(seconds * 1000)
            self.call("ZREM", f"c:{channel}", member)
            self.call("ZADD", f"c:{channel}", 0, member[:16] + b"%013d" % sent + member[STAMP:])
        self.call("ZADD", "e", 0, channel)

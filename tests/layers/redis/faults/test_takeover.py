"""A server that does not have all that was acknowledged, although its counters say so: a replica, or a snapshot."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from sealane.layers.redis.layer import RedisLayer
from sealane.testing.layer_contract._harness import until
from tests.layers.redis.faults.conftest import NewLayer
from tests.layers.redis.faults.traffic import Listener, Sender, check
from tests.layers.redis.relay import Relay
from tests.servers import Flavour, Server
from tests.servers.waiting import wait_until

NewServer = Callable[..., Server]


class _Scene:
    """A process that listens and one that sends, each with a way of its own to whichever server it is led to."""

    def __init__(self, here: Relay, there: Relay, new_layer: NewLayer) -> None:
        self._ways = here, there
        self.here: RedisLayer = new_layer([here.url])
        self.there: RedisLayer = new_layer([there.url])
        self.news = Sender("news", partial(self.there.group_send, "news"))

    @classmethod
    @contextlib.asynccontextmanager
    async def at(cls, server: Server, new_layer: NewLayer) -> "AsyncIterator[_Scene]":
        async with Relay(server) as here, Relay(server) as there:
            scene = cls(here, there, new_layer)
            yield scene
            # Before the relays, to which they would connect again.
            await scene.here.close()
            await scene.there.close()

    async def listen(self) -> Listener:
        """Return a listener that has got some messages."""
        listener = await Listener.of(self.here, "news")
        await self.send(5)
        await listener.has("news", 5)
        return listener

    async def send(self, count: int) -> None:
        for _ in range(count):
            assert await self.news.step()

    def hold(self, *, reader: bool = False) -> None:
        """Let nothing come to the listening process any more, or only nothing that its reader gets."""
        for line in self._ways[0].lines:
            if not reader or b"XREAD" in line.begun:
                line.to_client.clear()

    def lead_sender(self, server: Server) -> None:
        self._ways[1].turn_to(server)

    def lead_listener(self, server: Server) -> None:
        self._ways[0].turn_to(server)

    async def lead_all(self, server: Server) -> None:
        """Lead both to a server, and wait until the one that listens has come there with both of its connections."""
        made = self.here.stats()["reconnects"]
        self.lead_sender(server)
        self.lead_listener(server)
        await until(lambda: self.here.stats()["reconnects"] >= made + 2)
        # What they looked for first was answered.
        assert (await self.here.health()).reachable


def _replica_of(new_server: NewServer, master: Server) -> Server:
    """Return a replica that has all that its master has."""
    replica = new_server(master.flavour, config={"replicaof": f"{master.host} {master.port}"})
    wait_until(lambda: replica.command("ROLE")[3] == b"connected")
    return replica


def _promote(replica: Server, master: Server) -> None:
    """Make the replica a master, with all that the master has at this moment."""

    def has_all() -> bool:
        return replica.info("replication")["slave_repl_offset"] == master.info("replication")["master_repl_offset"]

    wait_until(has_all)
    replica.command("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
@pytest.mark.parametrize("count", [2, 3, 4], ids=["fewer", "as-many", "more"])
async def test_what_a_replica_lacks_that_nobody_had_read_is_told(
    new_server: NewServer, new_layer: NewLayer, flavour: Flavour, count: int
) -> None:
    """The numbers go on as if nothing had been lost: others have posted as many since the replica took over."""
    old = new_server(flavour)
    async with _Scene.at(old, new_layer) as scene:
        new = await asyncio.to_thread(_replica_of, new_server, old)
        listener = await scene.listen()
        scene.hold()
        await asyncio.to_thread(_promote, new, old)
        await scene.send(3)
        await asyncio.to_thread(old.kill)
        scene.lead_sender(new)
        await scene.send(count)
        scene.lead_listener(new)
        assert await check(scene.news, listener, lossless=False) == [6, 7, 8]
    assert [gap.reason for gap in listener.gaps] == ["rewound"]
    assert scene.here.stats()["gaps"] == 1


async def test_what_a_replica_lacks_that_others_had_not_read_keeps_nobody_out(
    new_server: NewServer, new_layer: NewLayer
) -> None:
    """A join waits for what its own process has sent before; where that is lost, it waits no longer."""
    old = new_server()
    async with _Scene.at(old, new_layer) as scene:
        new = await asyncio.to_thread(_replica_of, new_server, old)
        listener = await scene.listen()
        other = Listener(scene.here, await scene.here.new_channel())
        scene.hold(reader=True)
        await asyncio.to_thread(_promote, new, old)
        for _ in range(3):
            await scene.here.send(listener.channel, {"type": "lost"})
        await scene.here.group_add("news", other.channel)
        await asyncio.to_thread(old.kill)
        await scene.lead_all(new)
        await other.until(lambda: other.gaps, "the gap")
        assert await check(scene.news, listener, other, lossless=False) == [1, 2, 3, 4, 5]
    assert "lost" not in {message["type"] for message in listener.messages}
    assert [gap.reason for gap in listener.gaps] == [gap.reason for gap in other.gaps] == ["rewound"]


async def test_two_losses_at_one_takeover_are_told_once(new_server: NewServer, new_layer: NewLayer) -> None:
    """A replica that lacks what was read, what was not, and a membership: whichever connection comes there first."""
    old = new_server()
    async with _Scene.at(old, new_layer) as scene:
        new = await asyncio.to_thread(_replica_of, new_server, old)
        listener = await scene.listen()
        await asyncio.to_thread(_promote, new, old)
        await scene.here.group_add("more", listener.channel)
        await scene.send(3)
        await listener.has("news", 8)
        scene.hold()
        await scene.send(3)
        await asyncio.to_thread(old.kill)
        await scene.lead_all(new)
        assert await check(scene.news, listener, lossless=False) == [9, 10, 11]
        await scene.there.group_send("more", {"type": "numbered", "sender": "more", "number": 1})
        await listener.has("more", 1)
    assert [gap.reason for gap in listener.gaps] == ["rewound"]
    assert scene.here.stats()["gaps"] == 1


@pytest.mark.parametrize("flavour", ["valkey", "redis"])
async def test_what_a_snapshot_lacks_is_told(new_server: NewServer, new_layer: NewLayer, flavour: Flavour) -> None:
    server = new_server(flavour)
    async with _Scene.at(server, new_layer) as scene:
        listener = await scene.listen()
        server.command("SAVE")
        scene.hold()
        await scene.send(3)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.restart)
        scene.lead_sender(server)
        await scene.send(3)
        scene.lead_listener(server)
        assert await check(scene.news, listener, lossless=False) == [6, 7, 8]
    assert [gap.reason for gap in listener.gaps] == ["rewound"]


@pytest.mark.parametrize(("policy", "reasons"), [("always", []), ("everysec", ["rewound"])])
async def test_a_restart_is_told_where_the_log_may_lack_something(
    new_server: NewServer, new_layer: NewLayer, policy: str, reasons: list[str]
) -> None:
    server = new_server(appendonly=True, lines=[f"appendfsync {policy}"])
    async with _Scene.at(server, new_layer) as scene:
        listener = await scene.listen()
        await asyncio.to_thread(server.restart)
        await scene.lead_all(server)
        await check(scene.news, listener)
    assert [gap.reason for gap in listener.gaps] == reasons


async def test_a_master_that_gets_a_replica_is_the_same_server(new_server: NewServer, new_layer: NewLayer) -> None:
    """It takes another id for its writes then, and connections that are made again lose nothing."""
    server = new_server()
    async with _Scene.at(server, new_layer) as scene:
        listener = await scene.listen()
        before = server.info("replication")["master_replid"]
        await asyncio.to_thread(_replica_of, new_server, server)
        assert server.info("replication")["master_replid"] != before
        await scene.send(3)
        await scene.lead_all(server)
        await check(scene.news, listener)
    assert not listener.gaps

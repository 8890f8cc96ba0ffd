"""Each package at work: a client of its own protocol, over a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.third_party.conftest import CHANNELS, LIMIT, Site

pytestmark = [pytest.mark.untraced, pytest.mark.timeout(180)]


async def said(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(LIMIT):
        answer: dict[str, Any] = json.loads(await socket.recv())
    return answer


async def ask(socket: ClientConnection, **content: Any) -> dict[str, Any]:
    await socket.send(json.dumps(content))
    return await said(socket)


class TestInstalled:
    def test_channels_is_sealane(self, site: Site) -> None:
        text = httpx.get(site.url).text
        assert text.startswith("channels 4.3.2 of <sealane.compat.")

    def test_what_is_installed(self, site: Site) -> None:
        """The directory of Channels is there where the tests say so, and only there."""
        found = site.run("-c", "import importlib.util; print(importlib.util.find_spec('channels'))")
        assert (str(CHANNELS) in found.stdout) is site.with_channels, found.stdout

    def test_check(self, site: Site) -> None:
        checked = site.run("manage.py", "check", "--fail-level", "WARNING")
        assert checked.returncode == 0, checked.stderr


class TestDjangoChannelsRestFramework:
    async def test_actions(self, site: Site) -> None:
        async with connect(f"{site.ws_url}/ws/ships/") as page:
            answer = await ask(page, action="create", request_id=1, data={"name": "Ark", "berth": 1})
            assert (answer["response_status"], answer["errors"], answer["request_id"]) == (201, [], 1)
            ship = answer["data"]
            assert ship == {"id": ship["id"], "name": "Ark", "berth": 1}
            assert ship in (await ask(page, action="list", request_id=2))["data"]
            answer = await ask(page, action="patch", request_id=3, pk=ship["id"], data={"berth": 2})
            assert answer["data"] == {**ship, "berth": 2}
            answer = await ask(page, action="retrieve", request_id=4, pk=ship["id"])
            assert answer["data"]["berth"] == 2
            answer = await ask(page, action="count_in_a_thread", request_id=5)
            assert answer["data"]["user"] == "AnonymousUser"
            assert (await ask(page, action="delete", request_id=6, pk=ship["id"]))["response_status"] == 204
            answer = await ask(page, action="retrieve", request_id=7, pk=ship["id"])
            assert (answer["response_status"], answer["errors"]) == (404, ["Not found"])
            assert (await ask(page, action="sink", request_id=8))["response_status"] == 405
            answer = await ask(page, action="create", request_id=9, data={"berth": "x"})
            assert answer["response_status"] == 400

    async def test_an_instance_is_watched(self, site: Site) -> None:
        async with connect(f"{site.ws_url}/ws/ships/") as page, connect(f"{site.ws_url}/ws/ships/") as other:
            ship = (await ask(other, action="create", request_id=1, data={"name": "Beagle"}))["data"]
            assert (await ask(page, action="subscribe_instance", request_id=2, pk=ship["id"]))["response_status"] == 201
            await ask(other, action="patch", request_id=3, pk=ship["id"], data={"berth": 7})
            heard = await said(page)
            assert (heard["action"], heard["request_id"], heard["data"]["berth"]) == ("update", 2, 7)
            await ask(other, action="delete", request_id=4, pk=ship["id"])
            heard = await said(page)
            assert (heard["action"], heard["request_id"]) == ("delete", 2)

    async def test_all_of_a_model_are_watched(self, site: Site) -> None:
        async with connect(f"{site.ws_url}/ws/ships/") as page, connect(f"{site.ws_url}/ws/ships/") as other:
            assert (await ask(page, action="watch_all", request_id="w"))["response_status"] == 200
            ship = (await ask(other, action="create", request_id=1, data={"name": "Cutty Sark"}))["data"]
            await ask(other, action="delete", request_id=2, pk=ship["id"])
            heard = [await said(page) for _ in range(2)]
            assert [(item["action"], item["request_id"], item["data"]) for item in heard] == [
                ("activity", "w", {"ship": "Cutty Sark", "what": "create"}),
                ("activity", "w", {"ship": "Cutty Sark", "what": "delete"}),
            ]


class TestStrawberry:
    @asynccontextmanager
    async def socket(self, site: Site, protocol: str = "graphql-transport-ws") -> AsyncIterator[ClientConnection]:
        async with connect(f"{site.ws_url}/graphql", subprotocols=[protocol]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == protocol
            assert await ask(socket, type="connection_init") == {"type": "connection_ack"}
            yield socket

    async def post(self, site: Site, query: str) -> Any:
        async with httpx.AsyncClient() as client:
            response = await client.post(f"{site.url}/graphql", json={"query": query}, timeout=LIMIT)
        assert response.status_code == 200, response.text
        return response.json()

    async def test_a_query_over_http(self, site: Site) -> None:
        assert "data" in await self.post(site, "{ ships }")

    async def test_the_page_for_developers(self, site: Site) -> None:
        async with httpx.AsyncClient() as client:
            response = await client.get(f"{site.url}/graphql", headers={"accept": "text/html"}, timeout=LIMIT)
        assert response.status_code == 200
        assert "<html" in response.text

    async def test_a_query_over_a_websocket(self, site: Site) -> None:
        async with self.socket(site) as socket:
            answer = await ask(socket, id="1", type="subscribe", payload={"query": "{ ships }"})
            assert (answer["type"], answer["id"]) == ("next", "1")
            assert await said(socket) == {"id": "1", "type": "complete"}

    @pytest.mark.parametrize("protocol", ["graphql-transport-ws", "graphql-ws"])
    async def test_a_subscription_hears_a_group(self, protocol: str, site: Site) -> None:
        start, following = ("subscribe", "next") if protocol == "graphql-transport-ws" else ("start", "data")
        async with self.socket(site, protocol) as socket:
            answer = await ask(socket, id="1", type=start, payload={"query": "subscription { arrivals }"})
            assert (answer["type"], answer["payload"]["data"]) == (following, {"arrivals": "listening"})
            for ship in ("Ark", "Beagle"):
                assert await self.post(site, f'mutation {{ announce(ship: "{ship}") }}') == {"data": {"announce": True}}
                assert (await said(socket))["payload"]["data"] == {"arrivals": ship}

    async def test_a_subscription_ends(self, site: Site) -> None:
        async with self.socket(site) as socket:
            await ask(socket, id="1", type="subscribe", payload={"query": "subscription { arrivals }"})
            await socket.send(json.dumps({"id": "1", "type": "complete"}))
            # It goes on to answer.
            assert await ask(socket, type="ping") == {"type": "pong"}

    async def test_no_protocol_in_common(self, site: Site) -> None:
        async with connect(f"{site.ws_url}/graphql", subprotocols=["other"]) as socket:  # type: ignore[list-item]
            await socket.wait_closed()
            assert socket.close_code == 4406


class TestChanx:
    async def test_messages(self, site: Site) -> None:
        async with connect(f"{site.ws_url}/ws/rooms/quay/") as page:
            assert (await ask(page, action="ping"))["action"] == "pong"
            assert (await ask(page, action="say", payload={"nonsense": 1}))["action"] == "error"

    async def test_a_room(self, site: Site) -> None:
        async with connect(f"{site.ws_url}/ws/rooms/quay/") as page, connect(f"{site.ws_url}/ws/rooms/quay/") as other:
            for socket in (page, other):
                assert (await ask(socket, action="ping"))["action"] == "pong"
            await page.send(json.dumps({"action": "say", "payload": {"words": "ahoy"}}))
            for socket in (page, other):
                heard = [await said(socket) for _ in range(2)]
                assert [item["payload"]["words"] for item in heard] == ["ahoy", "event: ahoy"]


class TestDjangoEventstream:
    async def test_events(self, site: Site) -> None:
        async with httpx.AsyncClient(timeout=LIMIT) as client, client.stream("GET", f"{site.url}/events/") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            lines = stream.aiter_lines()
            assert await anext(line async for line in lines if line.startswith("event:")) == "event: stream-open"
            await client.get(f"{site.url}/send-event/", params={"ship": "Ark"})
            assert await anext(line async for line in lines if line.startswith("event:")) == "event: arrived"
            assert json.loads((await anext(lines)).removeprefix("data: ")) == {"ship": "Ark"}

"""Several consumers over one WebSocket: the guide does what it says, and the protocol's page is the code's."""

import json
import re
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User

from sealane import exceptions
from sealane.consumers import WebsocketDemultiplexer
from sealane.consumers.envelope import MAX_NAME, parse
from sealane.consumers.outbox import OVERHEAD
from sealane.layers import InMemoryChannelLayer
from sealane.testing import WebsocketCommunicator
from tests.consumers.multiplexing import LIMIT, Client, closed, demultiplexer
from tests.docs.reading import Reading
from tests.docs.snippets import DOCS

GUIDE = DOCS / "how-to" / "multiplex.md"
PROTOCOL = DOCS / "reference" / "multiplexing.md"


def envelopes(heading: str) -> list[Any]:
    """The envelopes in the table below a heading, with something in the place of the three dots."""
    text = PROTOCOL.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `(\{.+?\})` \|", text, re.MULTILINE)
    return [json.loads(each.replace('"payload": ...', '"payload": {"a": 1}')) for each in shown]


def test_the_envelopes_of_a_client_can_be_read() -> None:
    shown = envelopes("From the client")
    assert {key for envelope in shown for key in envelope} == {"stream", "event", "payload", "text", "bytes"}
    for envelope in shown:
        assert parse(json.dumps(envelope)).stream == "chat"
    assert f"a text of 1 to {MAX_NAME}" in " ".join(PROTOCOL.read_text().split())
    assert f"its content and {OVERHEAD} bytes" in " ".join(PROTOCOL.read_text().split())


async def test_the_envelopes_of_the_server_are_sent(layer: InMemoryChannelLayer) -> None:
    shown = envelopes("From the server")
    kinds = {envelope.get("event") or next(form for form in envelope if form != "stream") for envelope in shown}
    async with Client(demultiplexer()) as client:
        got = []
        for stream in "chat", "terminal":
            await client.send_json_to({"stream": stream, "event": "open"})
            got.append(await client.get())
        for sent in (
            {"stream": "chat", "payload": 1},
            {"stream": "terminal", "text": "x"},
            {"stream": "terminal", "bytes": "AP8="},
            {"stream": "nope", "payload": 1},
            {"stream": "chat", "event": "close"},
        ):
            await client.send_json_to(sent)
            got.append(await client.get())
    told = {envelope.get("event") or next(form for form in envelope if form != "stream"): envelope for envelope in got}
    assert set(told) == kinds
    for envelope in shown:
        kind = envelope.get("event") or next(form for form in envelope if form != "stream")
        assert set(told[kind]) == set(envelope)


def test_the_codes_of_errors() -> None:
    text = PROTOCOL.read_text()
    table = text[text.index("| Code of an error |") :].partition("\n\n")[0]
    kinds = (exceptions.InvalidEnvelope, exceptions.UnknownStream, exceptions.StreamConflict)
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == [str(kind.code) for kind in kinds]


def test_the_limits_that_the_guide_names() -> None:
    text = GUIDE.read_text()
    assert f"`max_streams` of the demultiplexer: {WebsocketDemultiplexer.max_streams}" in text
    assert f"`max_stream_queue`: {WebsocketDemultiplexer.max_stream_queue // 1024} KiB" in text
    lines = re.search(r"a client of (\d+) lines", " ".join(text.split()))
    assert lines is not None
    client = DOCS.parent / "src/sealane/static/sealane/multiplexer.js"
    assert len(client.read_text().splitlines()) == int(lines[1])


async def test_the_guide(reading: Reading, layer: InMemoryChannelLayer) -> None:
    names = await reading.read(GUIDE)
    async with WebsocketCommunicator(names["application"], "/ws/", [(b"origin", b"http://localhost")]) as page:
        for stream in "chat", "notices":
            await page.send_json_to({"stream": stream, "event": "open"})
            assert (await page.receive_json_from(LIMIT))["event"] == "open"
        await layer.group_send("notices", {"type": "notice", "text": "tea is ready"})
        assert await page.receive_json_from(LIMIT) == {"stream": "notices", "payload": {"notice": "tea is ready"}}


@pytest.mark.parametrize(
    ("user", "answer"),
    [
        (AnonymousUser(), closed("chat", 4401, "Authentication required")),
        (User(pk=1, username="ada"), {"stream": "chat", "event": "open"}),
    ],
    ids=["a stranger", "a user"],
)
async def test_a_stream_for_users_beside_one_for_all(
    user: Any, answer: Any, reading: Reading, layer: InMemoryChannelLayer
) -> None:
    names = await reading.read(GUIDE)
    async with Client(names["MixedDemultiplexer"], user=user) as client:
        await client.send_json_to({"stream": "chat", "event": "open"})
        assert await client.get() == answer
        await client.open("notices")


async def test_one_consumer_for_many_streams(reading: Reading, layer: InMemoryChannelLayer) -> None:
    names = await reading.read(GUIDE)
    async with Client(names["RoomsDemultiplexer"]) as client:
        await client.open("room.1", "room.2", "notices")
        assert await client.ask("room.2", "x") == {"room": "2", "got": "x"}

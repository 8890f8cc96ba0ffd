"""What each server supports, measured; the table in docs/reference/servers.md says the same."""

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.asgi_servers.asgi_server import KINDS, LIMIT, AsgiServer
from tests.asgi_servers.http2_socket import Http2Socket
from tests.asgi_servers.manual import claims
from tests.servers.waiting import wait_until

pytestmark = pytest.mark.untraced

#: How many frames the flood has, and their bytes. The kernel keeps far less for a client that does not read.
FRAMES, FRAME = 512, 64 * 1024

#: The rows of the table, and the tests below that measure them.
ROWS = {
    "Denial response",
    "Lifespan: startup and shutdown",
    "Lifespan: `state`",
    "`await send()` waits for a slow client",
    "A client's close code reaches `disconnect()`",
    "`close(code, reason)` reaches the client",
    "`close()` with 1003, 1008 to 1013",
    "An event stream ends with its client",
    "Compresses messages",
    "On SIGTERM, a WebSocket client sees",
    "On SIGTERM, `disconnect()` runs",
    "HTTP/2",
    "WebSockets over HTTP/2",
}


def test_the_table_has_a_column_for_each_server_and_the_rows_that_are_measured() -> None:
    table = claims()
    assert list(table) == [kind.name for kind in KINDS]
    assert {name: set(rows) - {"Measured with"} for name, rows in table.items()} == dict.fromkeys(table, ROWS)


async def wait_for_note(server: AsgiServer, *texts: str) -> str:
    """Return the first of these notes that is there, once there is one."""
    found: list[str] = []

    def is_there() -> bool:
        found[:] = [note for note in server.notes() if note.startswith(texts)]
        return bool(found)

    await asyncio.to_thread(wait_until, is_there, within=LIMIT, what=f"{server!r} notes one of {texts}")
    return found[0]


async def watch(server: AsgiServer, token: str) -> ClientConnection:
    """Open a connection to the probe that notes its end, and wait until it is there."""
    watched = await connect(f"{server.ws_url}/probe/watch/{token}/", open_timeout=LIMIT)
    assert await watched.recv() == "here"
    return watched


async def end_of(watched: ClientConnection) -> ConnectionClosed:
    """Return how the connection ended, once it has."""
    with pytest.raises(ConnectionClosed) as closed:
        async with asyncio.timeout(LIMIT):
            await watched.recv()
    return closed.value


async def test_denial_response(server: AsgiServer, claim: Callable[[str], str]) -> None:
    with pytest.raises(InvalidStatus) as denied:
        await connect(f"{server.ws_url}/ws/rooms/nowhere/", origin=Origin(server.url), open_timeout=LIMIT)
    response = denied.value.response
    found = "yes" if (response.status_code, response.body) == (404, b"There is no such room.") else "no: always 403"
    assert found == claim("Denial response")
    assert response.status_code in (404, 403)


async def test_back_pressure(server: AsgiServer, claim: Callable[[str], str], token: str) -> None:
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, FRAME)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", server.port))
    url = f"{server.ws_url}/probe/flood/{token}/"
    async with connect(url, sock=narrow, compression=None, max_size=None, max_queue=1, open_timeout=LIMIT) as client:
        await client.send(f"{FRAMES} {FRAME}")
        # The client does not read before the server has said one of the two.
        note = await wait_for_note(server, f"{token} waits", f"{token} ends")
        for _ in range(FRAMES):
            assert len(await client.recv()) == FRAME
        await wait_for_note(server, f"{token} ends")
    assert {"waits": "yes", "ends": "no"}[note.split()[1]] == claim("`await send()` waits for a slow client")


async def test_the_clients_close_code(server: AsgiServer, claim: Callable[[str], str], token: str) -> None:
    watched = await watch(server, token)
    await watched.close(4321, "enough")
    code = (await wait_for_note(server, f"{token} disconnect")).split()[-1]
    assert ("yes" if code == "4321" else f"no: {code}") == claim("A client's close code reaches `disconnect()`")


async def test_the_consumers_close_code(server: AsgiServer, claim: Callable[[str], str], token: str) -> None:
    watched = await watch(server, token)
    await watched.send("4001")
    frame = (await end_of(watched)).rcvd
    assert frame is not None
    found = {(4001, "on purpose"): "both", (4001, ""): "the code only"}.get((frame.code, frame.reason), str(frame))
    assert found == claim("`close(code, reason)` reaches the client")


async def test_a_close_code_of_the_protocol(server: AsgiServer, claim: Callable[[str], str], token: str) -> None:
    watched = await watch(server, token)
    await watched.send("1008")
    frame = (await end_of(watched)).rcvd
    assert frame is not None
    assert ("yes" if frame.code == 1008 else f"no: {frame.code}") == claim("`close()` with 1003, 1008 to 1013")


async def test_compression(server: AsgiServer, claim: Callable[[str], str], token: str) -> None:
    watched = await watch(server, token)
    assert watched.response is not None
    extensions = watched.response.headers.get("sec-websocket-extensions", "")
    await watched.close()
    assert ("yes" if "permessage-deflate" in extensions else "no") == claim("Compresses messages")


async def test_an_event_stream_ends_with_its_client(
    server: AsgiServer, claim: Callable[[str], str], token: str
) -> None:
    client = httpx.AsyncClient(base_url=server.url, timeout=LIMIT)
    async with client, client.stream("GET", f"/probe/beat/{token}/") as response:
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                break
    await wait_for_note(server, f"{token} disconnect")
    assert claim("An event stream ends with its client") == "yes"


def test_http2(server: AsgiServer, claim: Callable[[str], str]) -> None:
    found = "no"
    client = httpx.Client(base_url=server.http2_url, http1=False, http2=True, verify=server.tls(), timeout=LIMIT)
    # What a server says that takes it for bad HTTP/1.1, or ends the connection for it.
    with client, suppress(httpx.RemoteProtocolError, httpx.ReadError):
        response = client.get("/")
        assert (response.status_code, response.http_version) == (200, "HTTP/2")
        found = "over TLS" if server.kind.encrypted else "yes"
    assert found == claim("HTTP/2")


def test_websockets_over_http2(server: AsgiServer, claim: Callable[[str], str]) -> None:
    if server.kind.encrypted:
        opened = Http2Socket.open(server.tls_port, tls=server.tls())
    else:
        opened = Http2Socket.open(server.port)
    with opened as client:
        assert ("yes" if client.offers_websockets() else "no") == claim("WebSockets over HTTP/2")


async def test_lifespan_and_the_end(server: AsgiServer, claim: Callable[[str], str], token: str) -> None:
    """It ends the server, which the next test starts again."""
    if server.kind.name == "Hypercorn" and sys.version_info >= (3, 12):
        # wait_closed() has waited for every connection since then, and Hypercorn calls it before it closes any.
        pytest.skip("On Python 3.12 and newer, Hypercorn does not end while a WebSocket is open")
    before = len(server.notes())
    watched = await watch(server, token)
    server.terminate()
    frame = (await end_of(watched)).rcvd
    await asyncio.to_thread(server.wait_end)

    assert (str(frame.code) if frame else "a cut connection") == claim("On SIGTERM, a WebSocket client sees")
    notes = server.notes()
    codes = [note.split()[-1] for note in notes if note.startswith(f"{token} disconnect")]
    found = f"yes, with {codes[0]}" if codes else "no"
    claimed = claim("On SIGTERM, `disconnect()` runs")
    assert found in ({"no", claimed.replace("by chance", "yes")} if claimed.startswith("by chance") else {claimed})
    assert len(codes) <= 1
    lifespan = "startup" in notes[:before], "shutdown" in notes[before:]
    found = {(True, True): "yes", (False, False): "no", (True, False): "startup only"}[lifespan]
    claimed = claim("Lifespan: startup and shutdown")
    assert found in ({"yes", "startup only"} if claimed == "shutdown by chance" else {claimed})
    assert ("yes" if "state" in notes else "no") == claim("Lifespan: `state`")


@pytest.mark.parametrize("shared_server", [KINDS[1]], indirect=True, ids=["Daphne"])
@pytest.mark.parametrize(
    ("pauses", "expected"), [((0.0,) * 5, []), ((2.5, 5.0, 10.0), ["1012"])], ids=["at once", "seconds later"]
)
async def test_what_daphnes_chance_depends_on(
    server: AsgiServer, token: str, pauses: tuple[float, ...], expected: list[str]
) -> None:
    """A WebSocket that was just opened keeps it from telling its consumers, as the page says.

    It looks after its connections each second, which may come in between, or later where it is slow: so each try may
    miss what the next one sees.
    """
    codes: list[str] | None = None
    for number, pause in enumerate(pauses):
        server.start()
        watched = await watch(server, f"{token}.{number}")
        await asyncio.sleep(pause)
        server.terminate()
        assert (await end_of(watched)).rcvd is None
        await asyncio.to_thread(server.wait_end)
        codes = [note.split()[-1] for note in server.notes() if note.startswith(f"{token}.{number} disconnect")]
        if codes == expected:
            break
    assert codes == expected

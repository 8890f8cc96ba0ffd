"""Closing all WebSockets of an application at once, at the level of ASGI events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sealane.exceptions import ServerStopping
from sealane.server.closing import Closing
from sealane.types import Message, Receive, Scope, Send

CLOSE = {"type": "websocket.close", "code": 1012}


class Client:
    """A server's side of one connection. ``gone``: sending raises, as it does when a client has left."""

    def __init__(self, type: str = "websocket", *, gone: bool = False) -> None:
        self.scope: Scope = {"type": type}
        self.sent: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.gone = gone

    async def send(self, message: Message) -> None:
        if self.gone and message["type"] != "websocket.accept":
            raise OSError("gone")
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})


class Application:
    """Accept, and do what each event says: send, close, or end."""

    def __init__(self) -> None:
        self.received: list[object] = []
        self.raised: list[ServerStopping] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        while True:
            event = await receive()
            self.received.append(event.get("code", event["type"]))
            if event["type"] == "send":
                await send({"type": "websocket.send", "text": "x"})
            elif event["type"] == "close":
                await send({"type": "websocket.close", "code": 1000})
            else:
                break
        try:
            await send({"type": "websocket.send", "text": "too late"})
        except ServerStopping as error:
            self.raised.append(error)
            raise


@asynccontextmanager
async def served(closing: Closing, *clients: Client) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Serve these clients at once, up to the first wait of each."""
    tasks = [asyncio.create_task(closing(client.scope, client.incoming.get, client.send)) for client in clients]
    for _ in range(5):
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        yield tasks
        await asyncio.gather(*tasks)


async def test_all_open_websockets_are_closed_and_their_applications_hear_of_it() -> None:
    application = Application()
    closing = Closing(application)
    first, second = Client(), Client()

    async with served(closing, first, second):
        assert repr(closing) == "<Closing: 2 WebSockets open>"
        await closing.close_all()
        await closing.close_all()

    assert first.sent[1:] == second.sent[1:] == [CLOSE]
    assert application.received == [1012, 1012]
    assert repr(closing) == "<Closing: 0 WebSockets open>"


async def test_what_is_sent_later_raises_and_may_escape() -> None:
    application = Application()
    closing = Closing(application)

    async with served(closing, Client()):
        await closing.close_all()

    error = application.raised[0]
    assert isinstance(error, OSError)
    assert error.event == "websocket.send"
    assert str(error) == (
        "'websocket.send' was not sent: the server is stopping and has closed the WebSocket with code 1012"
    )


@pytest.mark.parametrize("event", ["close", "websocket.disconnect"])
async def test_a_websocket_that_is_over_is_not_closed_again(event: str) -> None:
    application = Application()
    closing = Closing(application)
    client = Client()

    async with served(closing, client) as tasks:
        client.incoming.put_nowait({"type": event})
        for _ in range(5):
            await asyncio.sleep(0)
        assert repr(closing) == "<Closing: 0 WebSockets open>"
        await closing.close_all()
        assert tasks

    assert CLOSE not in client.sent


async def test_an_application_that_raises_is_forgotten() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise ValueError("mine")

    closing = Closing(application)

    with pytest.raises(ValueError, match="mine"):
        async with served(closing, Client()):
            pass
    assert repr(closing) == "<Closing: 0 WebSockets open>"


async def test_a_client_that_has_left_meanwhile_does_not_keep_the_others() -> None:
    closing = Closing(Application())
    gone, there = Client(gone=True), Client()

    async with served(closing, gone, there):
        await closing.close_all()
        gone.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    assert there.sent[1:] == [CLOSE]


async def test_other_connections_pass() -> None:
    application = Application()
    closing = Closing(application)
    client = Client("http")

    async with served(closing, client):
        await closing.close_all()
        client.incoming.put_nowait({"type": "http.disconnect"})

    assert application.received == ["http.disconnect"]
    assert client.sent == [{"type": "websocket.send", "text": "too late"}]

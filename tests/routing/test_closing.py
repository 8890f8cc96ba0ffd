"""Closing all WebSockets of an application at once, at the level of ASGI events."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sealane.exceptions import ServerStopping
from sealane.routing.closing import Closing, moments
from sealane.types import Message, Receive, Scope, Send

CLOSE = {"type": "websocket.close", "code": 1012}


class Client:
    """A server's side of one connection. ``gone``: sending raises, as it does when a client has left.

    ``refuses``: it takes no message of this type, as Daphne takes no close with 1012.
    """

    def __init__(self, type: str = "websocket", *, gone: bool = False, refuses: str = "") -> None:
        self.scope: Scope = {"type": type}
        self.sent: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.gone = gone
        self.refuses = refuses

    async def send(self, message: Message) -> None:
        if self.gone and message["type"] != "websocket.accept":
            raise OSError("gone")
        if message["type"] == self.refuses and not message.get("body"):
            raise Exception("invalid")
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
        assert repr(closing) == "<Closing: 2 connections open>"
        await closing.close_all()
        await closing.close_all()

    assert first.sent[1:] == second.sent[1:] == [CLOSE]
    assert application.received == [1012, 1012]
    assert repr(closing) == "<Closing: 0 connections open>"


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
        assert repr(closing) == "<Closing: 0 connections open>"
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
    assert repr(closing) == "<Closing: 0 connections open>"


async def test_a_client_that_has_left_meanwhile_does_not_keep_the_others() -> None:
    closing = Closing(Application())
    gone, there = Client(gone=True), Client()

    async with served(closing, gone, there):
        await closing.close_all()
        gone.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    assert there.sent[1:] == [CLOSE]


@pytest.mark.parametrize("spread", [0.0, 0.01])
@pytest.mark.parametrize(("type", "message"), [("websocket", "websocket.close"), ("http", "http.response.body")])
async def test_where_the_server_refuses_to_close_the_application_is_cancelled(
    type: str, message: str, spread: float, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        else:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
            ended.append((await receive())["type"])
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    closing = Closing(application)
    refusing, other = [Client(type, refuses=message) for _ in range(3)], Client()
    tasks = [asyncio.create_task(closing(client.scope, client.incoming.get, client.send)) for client in refusing]
    tasks.append(asyncio.create_task(closing(other.scope, other.incoming.get, other.send)))
    while closing.open < 4:
        await asyncio.sleep(0)
    await closing.close_all(spread)
    async with asyncio.timeout(20):
        await closing.wait_until_none_runs()
    await asyncio.gather(*tasks, return_exceptions=True)
    # One that came meanwhile as well.
    late = Client(type, refuses=message)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(closing(late.scope, late.incoming.get, late.send))
    assert sorted(ended) == ["cancelled"] * 4 + ["websocket.disconnect"]
    assert other.sent[-1] == CLOSE
    [text] = caplog.messages
    assert re.fullmatch(rf"The server does not take .*'{message}'.* \(Exception: invalid\): applications are .*", text)


async def test_other_connections_pass() -> None:
    application = Application()
    closing = Closing(application)
    client = Client("http")

    async with served(closing, client):
        await closing.close_all()
        client.incoming.put_nowait({"type": "http.disconnect"})

    assert application.received == ["http.disconnect"]
    assert client.sent == [{"type": "websocket.send", "text": "too late"}]


async def test_what_is_accepted_afterwards_is_closed_at_once() -> None:
    application = Application()
    closing = Closing(application)
    client = Client()

    await closing.close_all()
    async with served(closing, client):
        pass

    assert client.sent[1:] == [CLOSE]
    assert application.received == [1012]


async def test_an_event_stream_is_brought_to_its_end() -> None:
    kind = b"text/event-stream; charset=utf-8"

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"Content-Type", kind)]})
        await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
        await receive()
        await send({"type": "http.response.body", "body": b"too late", "more_body": True})

    closing = Closing(application)
    client = Client("http")

    async with served(closing, client) as tasks:
        assert (closing.open, closing.running) == (1, 1)
        await closing.close_all()
        assert (closing.open, closing.running) == (0, 1)
        client.incoming.put_nowait({"type": "http.disconnect"})
        await closing.wait_until_none_runs()
        assert closing.running == 0
        assert tasks

    assert client.sent[2:] == [{"type": "http.response.body", "body": b"", "more_body": False}]
    assert str(ServerStopping("http.response.body")) == (
        "'http.response.body' was not sent: the server is stopping and has ended the response"
    )


async def test_other_responses_and_streams_that_ended_are_left_alone() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", scope["kind"])]})
        await send({"type": "http.response.body", "body": b"x", "more_body": scope["kind"] == b"text/plain"})
        await receive()

    closing = Closing(application)
    plain, ended = Client("http"), Client("http")
    plain.scope["kind"], ended.scope["kind"] = b"text/plain", b"text/event-stream"

    async with served(closing, plain, ended):
        assert closing.open == 0
        await closing.close_all()
        for client in (plain, ended):
            client.incoming.put_nowait({"type": "http.disconnect"})

    assert [len(client.sent) for client in (plain, ended)] == [2, 2]


async def test_connections_are_closed_one_after_the_other() -> None:
    closing = Closing(Application())
    clients = [Client() for _ in range(5)]
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def note(client: Client) -> None:
        while CLOSE not in client.sent:
            await asyncio.sleep(0.001)
        times.append(loop.time())

    async with served(closing, *clients):
        began = loop.time()
        await asyncio.gather(closing.close_all(0.1), *(note(client) for client in clients))

    # The last has its moment in the last fifth; a slow machine is later, never earlier.
    assert times[-1] - began >= 0.08
    assert [client.sent[1:] for client in clients] == [[CLOSE]] * 5


async def test_one_that_ends_before_its_moment_is_not_closed() -> None:
    closing = Closing(Application())
    first, second = Client(), Client()

    async with served(closing, first, second):
        task = asyncio.create_task(closing.close_all(0.05))
        await asyncio.sleep(0)
        second.incoming.put_nowait({"type": "websocket.disconnect"})
        await task

    assert (CLOSE in first.sent, CLOSE in second.sent) == (True, False)


def test_the_moments_are_in_equal_parts_of_the_time() -> None:
    assert moments(4, 8.0, lambda: 0.0) == [0.0, 2.0, 4.0, 6.0]
    assert moments(4, 8.0, lambda: 0.5) == [1.0, 3.0, 5.0, 7.0]
    assert moments(2, 0.0, lambda: 0.5) == [0.0, 0.0]
    assert moments(0, 8.0, lambda: 0.5) == []

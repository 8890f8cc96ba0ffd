"""The ends of streams, and of the WebSocket that they share: each certain, each exactly once, none of another's."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User

from sealane.consumers import AsyncJsonWebsocketConsumer, WebsocketDemultiplexer, permission_required
from sealane.consumers.credentials import CREDENTIALS
from sealane.consumers.dispatch import READ_AHEAD
from sealane.consumers.revocation import revoked_message, user_group
from sealane.layers import InMemoryChannelLayer
from sealane.routing.closing import Closing
from sealane.types import Message, Receive, Scope, Send
from tests.consumers.conftest import Run, until
from tests.consumers.multiplexing import LIMIT, Chat, Client, closed, demultiplexer, instances_of

BOTH = ["chat", "notices"]


async def outcome(client: Client) -> int:
    """Take what is still sent, and return the code that the WebSocket is closed with."""
    while (event := await client.receive_output(LIMIT))["type"] != "websocket.close":
        pass
    return int(event.get("code", 1000))


@pytest.mark.parametrize("stream", BOTH)
def test_a_consumer_that_raises_ends_its_stream_alone(
    stream: str, run: Run, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = demultiplexer()

    async def main() -> None:
        async with Client(consumer) as client:
            await client.open(*BOTH, "terminal")
            await client.say(stream, {"fail": "on purpose"})
            await client.say(stream, "in flight")
            assert await client.get() == closed(stream, 1011)
            await client.send_json_to({"stream": "terminal", "text": "undisturbed"})
            while (await client.get()) != {"stream": "terminal", "text": "undisturbed"}:
                pass
            await until(lambda: consumer.ended)
            await client.open(stream)
            assert await client.ask(stream, "again") == {"echo": "again"}

    with caplog.at_level(logging.ERROR):
        run(main())
    assert consumer.ended[0] == (stream, 1011)
    assert sorted(consumer.ended[1:]) == [("chat", 1000), ("notices", 1000)]
    [record] = [record for record in caplog.records if "failed" in record.getMessage()]
    assert record.getMessage() == f"Demultiplexer at '/socket/': the stream {stream!r} failed"
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "on purpose"


@pytest.mark.parametrize("stream", BOTH)
def test_a_consumer_that_closes_ends_its_stream_alone(stream: str, run: Run, layer: InMemoryChannelLayer) -> None:
    consumer = demultiplexer()

    async def main() -> None:
        async with Client(consumer) as client:
            await client.open(*BOTH)
            await client.say(stream, {"close": 4321})
            assert await client.get() == closed(stream, 4321, "as you wish")
            [other] = {*BOTH} - {stream}
            assert await client.ask(other, 1) == {"echo": 1}
            await until(lambda: consumer.ended)
            await client.open(stream)
            assert await client.ask(stream, 2) == {"echo": 2}

    run(main())
    assert consumer.ended[0] == (stream, 4321)
    assert sorted(consumer.ended[1:]) == [("chat", 1000), ("notices", 1000)]


def test_every_stream_is_told_how_the_client_left(run: Run, layer: InMemoryChannelLayer) -> None:
    order: list[Any] = []

    class Noting(WebsocketDemultiplexer):
        async def disconnect(self, code: int) -> None:
            order.append((code, len(consumer.ended)))

    class Listening(Chat):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            order.append(content)

    consumer = demultiplexer(Noting, streams={"listening": Listening})

    async def main() -> None:
        client = Client(consumer)
        await client.connect(LIMIT)
        await client.open(*BOTH, "listening")
        await client.say("listening", "the last word")
        await client.disconnect(4999, LIMIT)

    run(main())
    assert sorted(consumer.ended) == [("chat", 4999), ("notices", 4999)]
    assert order == ["the last word", (4999, 2)], "the demultiplexer's own end comes after all of theirs"


class Ending(WebsocketDemultiplexer):
    groups = ["sockets"]

    async def end_all(self, message: Message) -> None:
        if message["how"] == "fail":
            raise ZeroDivisionError("on purpose")
        await self.close(4001)


@pytest.mark.parametrize(("how", "code"), [("close", 4001), ("fail", 1011)])
def test_an_end_of_the_demultiplexer_is_one_of_all_streams(
    how: str, code: int, run: Run, layer: InMemoryChannelLayer
) -> None:
    consumer = demultiplexer(Ending)

    async def main() -> None:
        client = Client(consumer)
        await client.connect(LIMIT)
        await client.open(*BOTH)
        await layer.group_send("sockets", {"type": "end.all", "how": how})
        assert await outcome(client) == code
        if how == "fail":
            with pytest.raises(ZeroDivisionError):
                await client.wait(LIMIT)
        else:
            await client.disconnect(code, LIMIT)

    run(main())
    assert sorted(consumer.ended) == [("chat", code), ("notices", code)]


def test_a_cancellation_reaches_every_stream_as_1012(run: Run, layer: InMemoryChannelLayer) -> None:
    consumer = demultiplexer()

    async def main() -> None:
        client = Client(consumer)
        await client.connect(LIMIT)
        await client.open(*BOTH)
        client.stop()
        assert await outcome(client) == 1012
        with pytest.raises(asyncio.CancelledError):
            await client.future

    run(main())
    assert sorted(consumer.ended) == [("chat", 1012), ("notices", 1012)]


def test_a_server_that_stops_reaches_every_stream_as_1012(run: Run, layer: InMemoryChannelLayer) -> None:
    consumer = demultiplexer()

    async def main() -> None:
        closing = Closing(consumer.as_asgi())
        client = Client(SimpleNamespace(as_asgi=lambda: closing))
        await client.connect(LIMIT)
        await client.open(*BOTH)
        await closing.close_all()
        assert await outcome(client) == 1012
        await client.disconnect(1012, LIMIT)
        await closing.wait_until_none_runs()

    run(main())
    assert sorted(consumer.ended) == [("chat", 1012), ("notices", 1012)]


def test_a_handler_that_hangs_is_cancelled_at_the_end_of_the_socket(
    run: Run, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    cancelled: list[str] = []

    class Hanging(Chat):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                cancelled.append(content)
                raise

    # Time enough for the other stream to end within it, also on a busy machine.
    consumer = demultiplexer(streams={"hanging": Hanging}, end_timeout=0.5)
    Hanging.ended = consumer.ended

    async def main() -> None:
        client = Client(consumer)
        await client.connect(LIMIT)
        await client.open("hanging", "chat")
        await client.say("hanging", "x")
        assert await client.ask("chat", 1) == {"echo": 1}
        await client.disconnect(4000, LIMIT)

    run(main())
    assert cancelled == ["x"]
    assert sorted(consumer.ended) == [("chat", 4000), ("hanging", 4000)]
    assert "Demultiplexer at '/socket/': 1 streams did not end within 0.5 seconds" in caplog.text


def test_a_stream_begins_again_when_the_one_before_has_ended(run: Run, layer: InMemoryChannelLayer) -> None:
    order: list[str] = []

    class Leaving(Chat):
        async def connect(self) -> None:
            order.append("connect")
            await self.accept()

        async def disconnect(self, code: int) -> None:
            order.append("disconnect begins")
            await until(lambda: released)
            order.append("disconnect ends")

    released: list[bool] = []
    consumer = demultiplexer(streams={"leaving": Leaving})

    async def main() -> None:
        client = Client(consumer)
        await client.connect(LIMIT)
        await client.open("leaving")
        table = consumers[0]._table
        for _ in range(50):
            await client.close("leaving")
            await client.send_json_to({"stream": "leaving", "event": "open"})
            await until(lambda: table.get("leaving"))
        await client.say("leaving", "waits")
        await client.open("chat")
        assert len(table) == 3, "however often it was opened: the chat, the one that ends, and the one that waits"
        released.append(True)
        assert await client.get() == {"stream": "leaving", "event": "open"}
        assert await client.get() == {"stream": "leaving", "payload": {"echo": "waits"}}
        await client.disconnect(1000, LIMIT)

    consumers = instances_of(consumer)
    run(main())
    assert order == ["connect", "disconnect begins", "disconnect ends"] * 2


def test_a_stream_that_waits_for_the_one_before_ends_with_the_socket(run: Run, layer: InMemoryChannelLayer) -> None:
    class Hanging(Chat):
        async def disconnect(self, code: int) -> None:
            await until(lambda: released)
            self.ended.append(("hanging", code))

    released: list[bool] = []
    consumer = demultiplexer(streams={"hanging": Hanging})
    Hanging.ended = consumer.ended

    async def main() -> None:
        client = Client(consumer)
        await client.connect(LIMIT)
        await client.open("hanging")
        await client.close("hanging", 4000)
        await client.send_json_to({"stream": "hanging", "event": "open"})
        leaving = asyncio.ensure_future(client.disconnect(1000, LIMIT))
        # Turns enough for the end of the socket to come to the one that waits.
        for _ in range(100):
            await asyncio.sleep(0)
        released.append(True)
        await leaving

    run(main())
    assert consumer.ended == [("hanging", 4000)]


# A login that ends

ADA = User(pk=7, username="ada")
KEY = "k3y0fAs3ss10nth4tN0b0dyMayLearn0"


def logged_in() -> dict[str, Any]:
    return {"user": ADA, "session": SimpleNamespace(session_key=KEY)}


async def log_out(layer: InMemoryChannelLayer) -> None:
    group = user_group(ADA)
    assert group is not None
    await layer.group_send(group, revoked_message(KEY))


def test_a_logout_closes_the_socket(run: Run, layer: InMemoryChannelLayer) -> None:
    consumer = demultiplexer()

    async def main() -> None:
        client = Client(consumer, **logged_in())
        await client.connect(LIMIT)
        await client.open(*BOTH)
        await log_out(layer)
        assert await outcome(client) == 4401
        await client.disconnect(4401, LIMIT)

    run(main())
    assert sorted(consumer.ended) == [("chat", 4401), ("notices", 4401)]


def test_a_socket_that_stays_at_a_logout_opens_nothing_for_the_user_who_left(
    run: Run, layer: InMemoryChannelLayer
) -> None:
    class Public(Chat):
        close_on_logout = False

    consumer = demultiplexer(close_on_logout=False, streams={"public": Public})

    async def main() -> None:
        async with Client(consumer, **logged_in()) as client:
            await client.open("chat", "public")
            await log_out(layer)
            assert await client.get() == closed("chat", 4401, "Authentication required")
            assert await client.ask("public", 1) == {"echo": 1}
            for stream in "chat", "notices":
                await client.send_json_to({"stream": stream, "event": "open"})
                assert await client.get() == closed(stream, 4401, "Authentication required")

    run(main())
    assert consumer.ended == [("chat", 4401)]


class Member:
    """A user whose rights are as they were when the account was read."""

    is_authenticated = True
    is_active = True
    pk = 7

    def __init__(self, may_vote: bool) -> None:
        self.may_vote = may_vote

    def has_perms(self, names: Any, obj: Any = None) -> bool:
        return self.may_vote


class Credentials:
    session_key = KEY
    may_vote = True

    async def recheck(self) -> Any:
        return Member(self.may_vote)


@pytest.mark.django_db  # permissions are asked for as if they came from there
def test_a_right_that_is_lost_is_not_there_when_the_stream_is_opened_again(
    run: Run, layer: InMemoryChannelLayer
) -> None:
    class Voting(Chat):
        revalidate = 0.01

    voting = permission_required("polls.vote")(Voting.as_asgi())
    consumer = demultiplexer(streams={"voting": voting})

    async def main() -> None:
        credentials = Credentials()
        async with Client(consumer, user=Member(may_vote=True), **{CREDENTIALS: credentials}) as client:
            await client.open("voting", "chat")
            credentials.may_vote = False
            assert await client.get() == closed("voting", 4403, "Permission denied")
            await client.send_json_to({"stream": "voting", "event": "open"})
            assert await client.get() == closed("voting", 4403, "Permission denied")
            assert await client.ask("chat", 1) == {"echo": 1}
            credentials.may_vote = True
            await client.send_json_to({"stream": "voting", "event": "open"})
            assert await client.get() == closed("voting", 4403, "Permission denied"), "as it was at the last look"

    run(main())


async def test_nothing_is_left_of_streams_that_have_ended(layer: InMemoryChannelLayer) -> None:
    class Rooms(WebsocketDemultiplexer):
        def stream_application(self, name: str) -> Any:
            return Chat

    consumer = demultiplexer(Rooms)
    instances = instances_of(consumer)
    async with Client(consumer) as client:
        for number in range(200):
            await client.open(f"room.{number}")
            if number % 2:
                await client.say(f"room.{number}", {"close": 4403 if number % 3 else 4000})
                assert (await client.get())["event"] == "close"
            else:
                await client.close(f"room.{number}")
        table = instances[0]._table
        await until(lambda: not len(table))
        assert table._open == table._ending == {}
        assert layer.stats()["channels"] == 1, "the demultiplexer's own"
    assert instances[0]._table is None


# Streams and clients that are slow


class Slow(AsyncJsonWebsocketConsumer):
    """Handle nothing before it is released."""

    released: asyncio.Event
    handled: list[Any]
    ended: list[int]

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.handled.append(content)
        await self.released.wait()

    async def disconnect(self, code: int) -> None:
        self.ended.append(code)


async def test_a_slow_stream_is_closed_and_holds_nobody_up(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    slow: Any = type("Slow", (Slow,), {"released": asyncio.Event(), "handled": [], "ended": []})
    consumer = demultiplexer(streams={"slow": slow}, max_stream_queue=10 * 1024)
    made = instances_of(consumer)
    async with Client(consumer) as client:
        await client.open("slow", "chat")
        waiting: list[int] = []
        for number in range(200):
            await client.say("slow", [number, "x" * 100])
            assert await client.ask("chat", number) == {"echo": number} if number < 40 else True
            if number == 39:
                stream = made[0]._table.get("slow")
                waiting.append(stream._frames.waiting_bytes)
        while (envelope := await client.get()) != closed("slow", 1013, "Too many messages are waiting"):
            assert envelope["stream"] == "chat"
        assert waiting[0] < 10 * 1024
        assert await _next_of(client, "chat", 999) == {"echo": 999}
        assert slow.handled == [[0, "x" * 100]]
        slow.released.set()
        await until(lambda: slow.ended)
        assert slow.ended == [1013]
        assert len(slow.handled) <= 1 + READ_AHEAD, "what the consumer had not read was dropped"
        await client.send_json_to({"stream": "slow", "event": "open"})
        while (await client.get()) != {"stream": "slow", "event": "open"}:
            pass
    assert consumer.limit_counters["closed_streams"] == 1
    assert "the stream 'slow' is too slow for what its client sends, and is closed (closed_streams: 1" in caplog.text


async def _next_of(client: Client, stream: str, payload: Any) -> Any:
    await client.say(stream, payload)
    while (envelope := await client.get())["stream"] != stream or "payload" not in envelope:
        pass
    return envelope["payload"]


async def test_a_burst_does_not_close_a_stream_that_keeps_up(layer: InMemoryChannelLayer) -> None:
    consumer = demultiplexer(max_stream_queue=4096)
    async with Client(consumer) as client:
        await client.open("chat")
        for number in range(1000):  # all of it before the demultiplexer has a turn
            client.input_queue.put_nowait(
                {"type": "websocket.receive", "text": f'{{"stream":"chat","payload":{number}}}'}
            )
        for number in range(1000):
            assert await client.get() == {"stream": "chat", "payload": {"echo": number}}


def behind_a_client_that_does_not_read(consumer: Any, reads: asyncio.Event) -> Any:
    """The consumer on a server whose client takes what follows its first frame only when it reads."""
    application = consumer.as_asgi()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        sent = 0

        async def slow_send(message: Message) -> None:
            nonlocal sent
            sent += 1
            if sent > 3:
                await reads.wait()
            await send(message)

        await application(scope, receive, slow_send)

    return SimpleNamespace(as_asgi=lambda: app)


async def test_a_slow_client_is_bounded_for_all_streams_together(layer: InMemoryChannelLayer) -> None:
    reads = asyncio.Event()
    consumer = demultiplexer(max_send_queue=20 * 1024)
    client = Client(behind_a_client_that_does_not_read(consumer, reads))
    await client.connect(LIMIT)
    await client.open("chat", "terminal")
    for number in range(100):
        await client.say("chat", ["x" * 500, number])
        await client.send_json_to({"stream": "terminal", "text": "y" * 500})
    await until(lambda: consumer.limit_counters["closed_slow"])
    reads.set()
    assert await outcome(client) == 1013
    await client.disconnect(1013, LIMIT)
    assert consumer.ended == [("chat", 1013)]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_what_a_slow_client_is_told_of_its_streams_is_not_dropped(
    policy: str, layer: InMemoryChannelLayer
) -> None:
    reads = asyncio.Event()
    consumer = demultiplexer(max_send_queue=20 * 1024, slow_client=policy)
    async with Client(behind_a_client_that_does_not_read(consumer, reads)) as client:
        await client.open("chat", "terminal")
        for number in range(100):
            await client.say("chat", number)
            if number == 50:
                await client.say("terminal", "x" * 1000)
                await client.send_json_to({"stream": "terminal", "event": "close", "code": 4000})
                await client.send_json_to({"stream": "notices", "event": "open"})
                await client.send_json_to({"stream": "nope", "payload": 1})
        await until(lambda: consumer.limit_counters["refused_envelope"])
        await until(lambda: client.input_queue.empty())
        await until(lambda: any(consumer.limit_counters.as_dict()[f"dropped_{end}"] for end in ("oldest", "newest")))
        reads.set()
        got: list[Any] = []
        while not {4000, 4404, "open"} <= {one.get("code") or one.get("event") for one in got}:
            got.append(await client.get())
        echoes = [one["payload"]["echo"] for one in got if one["stream"] == "chat"]
        assert echoes == sorted(echoes), "what is left is in order"
        assert len(echoes) < 100


async def test_each_stream_is_in_order(layer: InMemoryChannelLayer) -> None:
    async with Client(demultiplexer()) as client:
        await client.open("chat", "notices", "terminal")
        for number in range(100):
            for stream in "chat", "notices":
                await client.say(stream, number)
            await client.send_json_to({"stream": "terminal", "text": str(number)})
        got: dict[str, list[Any]] = {"chat": [], "notices": [], "terminal": []}
        for _ in range(300):
            envelope = await client.get()
            got[envelope["stream"]].append(envelope.get("text") or envelope["payload"]["echo"])
        assert got["chat"] == got["notices"] == [*range(100)]
        assert got["terminal"] == [str(number) for number in range(100)]

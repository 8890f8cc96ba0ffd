"""Several consumers over one WebSocket: opening, messages, refusals, and what comes to nothing."""

import logging
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.urls import path

from sealane.consumers import (
    AsyncConsumer,
    AsyncHttpConsumer,
    AsyncJsonWebsocketConsumer,
    WebsocketDemultiplexer,
    login_required,
)
from sealane.exceptions import EnvelopeError, StopConsumer, WebsocketDenied
from sealane.layers import InMemoryChannelLayer
from sealane.routing import BaseMiddleware, URLRouter
from sealane.testing import WebsocketCommunicator
from sealane.types import Message, Receive, Scope, Send
from tests.consumers.conftest import until
from tests.consumers.multiplexing import (
    LIMIT,
    Chat,
    Client,
    Terminal,
    closed,
    demultiplexer,
    error,
    instances_of,
    refusing,
)

pytestmark = pytest.mark.usefixtures("layer")


async def test_each_stream_is_a_consumer_of_its_own(layer: InMemoryChannelLayer) -> None:
    consumer = demultiplexer()
    async with Client(consumer) as client:
        await client.open("chat", "notices")
        assert await client.ask("chat", {"a": [1, None, "ü"]}) == {"echo": {"a": [1, None, "ü"]}}
        assert await client.ask("notices", "hello") == {"echo": "hello"}

        await layer.group_send("notices", {"type": "chat.message", "text": "for notices"})
        assert await client.get() == {"stream": "notices", "payload": {"said": "for notices"}}
        await layer.group_send("chat", {"type": "chat.message", "text": "for chat"})
        assert await client.get() == {"stream": "chat", "payload": {"said": "for chat"}}
        # A frame that is ready goes out as what it is: a frame of that stream.
        await layer.group_send("chat", {"type": "websocket.send", "text": '{"ready": 1}'})
        assert await client.get() == {"stream": "chat", "payload": {"ready": 1}}
    assert sorted(consumer.ended) == [("chat", 1000), ("notices", 1000)]


@pytest.mark.parametrize("stream", ["terminal", "sync-terminal"])
async def test_texts_and_bytes_go_there_and_back(stream: str) -> None:
    async with Client(demultiplexer()) as client:
        await client.open(stream)
        for envelope in ({"text": "ls {"}, {"text": "1"}, {"text": ""}, {"bytes": "AP8="}, {"bytes": ""}):
            await client.send_json_to({"stream": stream, **envelope})
            assert await client.get() == {"stream": stream, **envelope}
        await client.say(stream, {"a": 1})
        assert await client.get() == {"stream": stream, "text": '{"a": 1}'}, "a payload is a text frame too"


async def test_a_frame_that_a_consumer_refuses_closes_its_stream() -> None:
    async with Client(demultiplexer()) as client:
        await client.open("chat", "notices", "terminal")
        await client.send_json_to({"stream": "chat", "text": "{"})
        assert await client.get() == closed("chat", 1007)
        await client.send_json_to({"stream": "notices", "bytes": "AP8="})
        assert await client.get() == closed("notices", 1003)
        await client.send_json_to({"stream": "terminal", "text": "still there"})
        assert await client.get() == {"stream": "terminal", "text": "still there"}


async def test_the_scope_is_a_copy_with_the_name(layer: InMemoryChannelLayer) -> None:
    scopes: list[Scope] = []

    class Looking(Chat):
        async def connect(self) -> None:
            scopes.append(self.scope)
            await self.accept()
            self.scope["mine"] = self.channel_name

    consumer = demultiplexer(streams={"one": Looking, "two": Looking})
    async with Client(consumer, url_route={"args": (), "kwargs": {"pk": 7}}) as client:
        await client.open("one", "two")
        one, two = scopes
        assert (one["stream"], two["stream"]) == ("one", "two")
        assert one["mine"] != two["mine"], "each has a channel of its own"
        assert one["url_route"]["kwargs"] == {"pk": 7}
        assert one["path"] == "/socket/"
        assert "stream" not in client.scope
        assert "mine" not in client.scope


async def test_it_is_a_consumer_for_routers_and_decorators() -> None:
    guarded = login_required(demultiplexer())
    router = URLRouter([path("socket/", guarded.as_asgi())])
    refused = WebsocketCommunicator(router, "/socket/")
    refused.scope["user"] = AnonymousUser()
    with pytest.raises(WebsocketDenied):
        async with refused:
            pass
    let_in = WebsocketCommunicator(router, "/socket/")
    let_in.scope["user"] = User(pk=1, username="ada")
    async with let_in:
        await let_in.send_json_to({"stream": "chat", "event": "open"})
        assert await let_in.receive_json_from(LIMIT) == {"stream": "chat", "event": "open"}


async def test_it_accepts_and_has_groups_and_handlers_of_its_own(layer: InMemoryChannelLayer) -> None:
    class Own(WebsocketDemultiplexer):
        groups = ["sockets"]

        async def connect(self) -> None:
            await self.accept(self.scope["subprotocols"][0])

        async def everybody(self, message: Message) -> None:
            await self.send('{"stream": null, "payload": "for all"}')

    client = WebsocketCommunicator(demultiplexer(Own).as_asgi(), "/", subprotocols=["v1"])
    assert await client.connect(LIMIT) == (True, "v1")
    await layer.group_send("sockets", {"type": "everybody"})
    assert await client.receive_json_from(LIMIT) == {"stream": None, "payload": "for all"}
    await client.disconnect()


async def test_streams_are_opened_on_connect_where_the_class_says_so() -> None:
    consumer = demultiplexer(open_on_connect=["chat", "notices"])
    async with Client(consumer) as client:
        opened = [await client.get(), await client.get()]
        assert sorted(envelope["stream"] for envelope in opened) == ["chat", "notices"]
        assert {envelope["event"] for envelope in opened} == {"open"}
        assert await client.ask("chat", 1) == {"echo": 1}


async def test_frames_wait_until_the_consumer_has_accepted() -> None:
    order: list[str] = []

    class Slow(Chat):
        async def connect(self) -> None:
            await self.channel_layer.group_add("released", self.channel_name)
            while not released:
                await until(lambda: released)
            order.append("accepts")
            await self.accept()

        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            order.append(content)
            await super().receive_json(content)

    released: list[bool] = []
    async with Client(demultiplexer(streams={"slow": Slow})) as client:
        await client.send_json_to({"stream": "slow", "event": "open"})
        await client.say("slow", "first")
        await client.open("chat")  # the other streams do not wait
        released.append(True)
        assert await client.get() == {"stream": "slow", "event": "open"}
        assert await client.get() == {"stream": "slow", "payload": {"echo": "first"}}
    assert order == ["accepts", "first"]


async def test_a_subprotocol_is_chosen_for_each_stream() -> None:
    class Choosing(Terminal):
        async def connect(self) -> None:
            await self.accept(self.scope["subprotocols"][1])

    async with Client(demultiplexer(streams={"choosing": Choosing}), subprotocols=["socket"]) as client:
        await client.send_json_to({"stream": "choosing", "event": "open", "subprotocols": ["a", "b"]})
        assert await client.get() == {"stream": "choosing", "event": "open", "subprotocol": "b"}


@pytest.mark.parametrize(
    ("how", "code", "reason"),
    [
        ("close", 4403, ""),
        (4001, 4001, "not you"),
        ("deny", 4404, "no such room"),
        ("fail", 1011, ""),
    ],
)
async def test_a_stream_that_is_refused_is_closed_with_code_and_reason(
    how: Any, code: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(demultiplexer(streams={"refusing": refusing(how)})) as client:
        await client.open("chat")
        await client.send_json_to({"stream": "refusing", "event": "open"})
        await client.say("refusing", "too early")
        assert await client.get() == closed("refusing", code, reason)
        assert await client.ask("chat", 1) == {"echo": 1}
    assert ("on purpose" in caplog.text) is (how == "fail")


async def test_login_required_refuses_the_stream_alone() -> None:
    guarded = login_required(Chat.as_asgi())
    async with Client(demultiplexer(streams={"guarded": guarded}), user=AnonymousUser()) as client:
        await client.send_json_to({"stream": "guarded", "event": "open"})
        assert await client.get() == closed("guarded", 4401, "Authentication required")
        await client.open("chat")


async def test_what_comes_to_nothing_is_answered_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    consumer = demultiplexer()
    async with Client(consumer) as client:
        await client.open("chat")
        for sent, answer in [
            ("{", (None, 4400, "An envelope cannot be read: it is not JSON: ")),
            ("[]", (None, 4400, "An envelope cannot be read: expected a JSON object, not a list")),
            ('{"payload": 1}', (None, 4400, "An envelope cannot be read: 'stream' has to be a text")),
            ('{"stream": "chat"}', ("chat", 4400, "An envelope of the stream 'chat' cannot be read: expected exactly")),
            ('{"stream": "nope", "payload": 1}', ("nope", 4404, "There is no stream 'nope'")),
            ('{"stream": "nope", "event": "close"}', ("nope", 4404, "There is no stream 'nope'")),
            ('{"stream": "notices", "payload": 1}', ("notices", 4409, "The stream 'notices' is not open")),
            ('{"stream": "chat", "event": "open"}', ("chat", 4409, "The stream 'chat' is open already")),
        ]:
            await client.send_to(sent)
            told = await client.get()
            assert (told["stream"], told["event"], told["code"]) == (answer[0], "error", answer[1])
            assert told["reason"].startswith(answer[2])
        await client.send_to(bytes_data=b"\x00")
        assert await client.get() == error(
            None, 4400, "An envelope cannot be read: expected a text frame, not a binary one"
        )
        await client.send_json_to({"stream": "nope", "event": "open"})
        assert await client.get() == closed("nope", 4404, "There is no stream 'nope'")
        assert await client.ask("chat", "undisturbed") == {"echo": "undisturbed"}
    assert consumer.limit_counters["refused_envelope"] == 10
    lines = [record.getMessage() for record in caplog.records if "refused_envelope" in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith("Demultiplexer at '/socket/': refused a frame: An envelope cannot be read")


async def test_on_error_decides_about_envelopes() -> None:
    class Strict(WebsocketDemultiplexer):
        async def on_error(self, error: Exception, message: Message | None) -> None:
            if isinstance(error, EnvelopeError):
                await self.close(error.code)
            else:
                await super().on_error(error, message)

    async with Client(demultiplexer(Strict)) as client:
        await client.send_to("{")
        assert await client.receive_close(LIMIT) == 4400


async def test_a_text_that_is_not_utf8_closes_the_socket() -> None:
    consumer = demultiplexer()
    async with Client(consumer) as client:
        await client.open("chat")
        await client.send_to('{"stream":"chat","payload":"\ud800"}')
        assert await client.receive_close(LIMIT) == 1007
    assert consumer.ended == [("chat", 1007)]


async def test_nothing_is_handled_after_a_close(layer: InMemoryChannelLayer) -> None:
    class Closing(WebsocketDemultiplexer):
        groups = ["sockets"]

        async def close_all(self, message: Message) -> None:
            await self.close(4001)

    consumer = demultiplexer(Closing)
    async with Client(consumer) as client:
        await layer.group_send("sockets", {"type": "close.all"})
        assert await client.receive_close(LIMIT) == 4001
        await client.send_json_to({"stream": "chat", "event": "open"})
        await client.send_to("{")
        await client.disconnect(4001, LIMIT)
        assert client.output_queue.empty()
    assert consumer.limit_counters["refused_envelope"] == 0


async def test_closing_a_stream_that_is_closed_is_harmless() -> None:
    consumer = demultiplexer()
    async with Client(consumer) as client:
        await client.send_json_to({"stream": "chat", "event": "close"})
        await client.open("chat")
        await client.close("chat", 4000)
        await client.send_json_to({"stream": "chat", "event": "close"})
        await client.open("chat")
    assert consumer.ended == [("chat", 4000), ("chat", 1000)]


async def test_the_limits_of_the_socket_are_for_all_streams_together() -> None:
    consumer = demultiplexer(max_message_size=100, max_message_rate=0.001, message_burst=4)
    async with Client(consumer) as client:
        await client.open("chat", "terminal")
        await client.ask("chat", 1)
        await client.send_json_to({"stream": "terminal", "text": "x" * 200})
        assert await client.receive_close(LIMIT) == 1009
    async with Client(consumer) as client:
        await client.open("chat", "terminal")
        await client.ask("chat", 1)
        await client.ask("chat", 2)
        await client.say("terminal", 3)
        assert await client.receive_close(LIMIT) == 1008


async def test_max_groups_is_of_each_consumer() -> None:
    class Joining(AsyncJsonWebsocketConsumer):
        max_groups = 1

        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.channel_layer.group_add(content, self.channel_name)
            await self.send_json("joined")

    async with Client(demultiplexer(streams={"one": Joining, "two": Joining})) as client:
        await client.open("one", "two")
        assert await client.ask("one", "a") == "joined"
        assert await client.ask("two", "b") == "joined"
        await client.say("one", "b")
        assert await client.get() == closed("one", 1011)
        assert await client.ask("two", "b") == "joined"


async def test_max_streams(caplog: pytest.LogCaptureFixture) -> None:
    consumer = demultiplexer(max_streams=2)
    instances = instances_of(consumer)
    async with Client(consumer) as client:
        await client.open("chat", "notices")
        await client.send_json_to({"stream": "terminal", "event": "open"})
        assert await client.get() == closed("terminal", 4429, "Too many streams")
        await client.close("chat")
        await client.open("chat")  # the one before may be ending still
        await client.close("chat")
        await until(lambda: len(instances[0]._table) == 1)
        await client.open("terminal")
    assert consumer.limit_counters["refused_streams"] == 1
    assert "there are 2 streams at once, as many as there may be (refused_streams: 1 so far)" in caplog.text


async def test_names_can_be_made_of_something() -> None:
    class Rooms(WebsocketDemultiplexer):
        def stream_application(self, name: str) -> Any:
            kind, _, number = name.partition(".")
            return Chat if kind == "room" and number.isdigit() else super().stream_application(name)

    async with Client(demultiplexer(Rooms)) as client:
        await client.open("room.1", "room.2", "terminal")
        assert await client.ask("room.2", "x") == {"echo": "x"}
        await client.send_json_to({"stream": "room.x", "event": "open"})
        assert await client.get() == closed("room.x", 4404, "There is no stream 'room.x'")


async def test_other_asgi_applications_and_middleware(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []

    async def plain(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((await receive())["type"])
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            if event["text"] == "leave":
                return
            await send({"type": "websocket.send", "text": event["text"]})
        seen.append(event)
        seen.append(await receive())
        await send({"type": "websocket.send", "text": "nobody"})

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    async def wrong(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.send", "text": "too early"})

    class Tagging(BaseMiddleware):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.inner({**scope, "tagged": True}, receive, send)

    class Tagged(Chat):
        async def connect(self) -> None:
            assert self.scope["tagged"]
            await self.accept()

    streams = {"plain": plain, "silent": silent, "wrong": wrong, "tagged": Tagging(Tagged.as_asgi())}
    async with Client(demultiplexer(streams=streams)) as client:
        await client.open("plain", "tagged")
        await client.send_json_to({"stream": "plain", "text": "hello"})
        assert await client.get() == {"stream": "plain", "text": "hello"}
        assert await client.ask("tagged", 1) == {"echo": 1}, "JSON through the middleware"
        await client.send_json_to({"stream": "plain", "text": "leave"})
        assert await client.get() == closed("plain", 1000)
        await client.send_json_to({"stream": "silent", "event": "open"})
        assert await client.get() == closed("silent", 1011, "No answer")
        await client.send_json_to({"stream": "wrong", "event": "open"})
        assert await client.get() == closed("wrong", 1011)
        assert "'websocket.send' cannot be sent while the connection is connecting" in caplog.text
        caplog.clear()
        await client.open("plain")
        await client.close("plain", 4000)
        await until(lambda: len(seen) == 4)
        left = {"type": "websocket.disconnect", "code": 4000, "reason": ""}
        assert seen == ["websocket.connect", "websocket.connect", left, left]
        assert await client.ask("tagged", 2) == {"echo": 2}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == [], "a gone client is quiet"


async def test_a_consumer_that_is_made_of_events() -> None:
    class Raw(AsyncConsumer):
        async def websocket_connect(self, message: Message) -> None:
            await self.send({"type": "websocket.accept"})

        async def websocket_receive(self, message: Message) -> None:
            await self.send({"type": "websocket.send", "text": message["text"]})

        async def websocket_disconnect(self, message: Message) -> None:
            raise StopConsumer

    async with Client(demultiplexer(streams={"raw": Raw})) as client:
        await client.open("raw")
        await client.send_json_to({"stream": "raw", "text": "x"})
        assert await client.get() == {"stream": "raw", "text": "x"}
        await client.close("raw")


class Http(AsyncHttpConsumer): ...


@pytest.mark.parametrize(
    ("attributes", "kind", "message"),
    [
        ({"streams": [Chat]}, TypeError, r"Bad.streams is \[.*\]; expected consumers by the names"),
        ({"streams": {"": Chat}}, ValueError, r"Bad.streams has ''; expected names of 1 to 100 characters"),
        ({"streams": {1: Chat}}, ValueError, r"Bad.streams has 1; expected names"),
        ({"streams": {"a": Http}}, TypeError, r"The stream 'a' of Bad is the class Http; expected a class of a Web"),
        ({"streams": {"a": Http.as_asgi()}}, TypeError, r"The stream 'a' of Bad is the class Http; expected a class"),
        ({"streams": {"a": dict}}, TypeError, r"The stream 'a' of Bad is the class dict"),
        ({"streams": {"a": Chat()}}, TypeError, r"an instance of Chat, which would serve one connection only"),
        ({"streams": {"a": "chat"}}, TypeError, r"The stream 'a' of Bad is 'chat'"),
        ({"streams": {"a": Chat}, "open_on_connect": "a"}, TypeError, r"open_on_connect is 'a'; expected a list"),
        (
            {"streams": {"a": Chat}, "open_on_connect": ["b"]},
            ValueError,
            r"open_on_connect has \['b'\]; expected names",
        ),
        (
            {"streams": {"a": Chat, "b": Chat}, "open_on_connect": ["a", "b"], "max_streams": 1},
            ValueError,
            r"open_on_connect has 2 streams; expected 1 at most, as max_streams says",
        ),
        ({"max_streams": 0}, ValueError, r"Bad.max_streams is 0; expected a whole number of streams above 0"),
        ({"max_stream_queue": 1.5}, ValueError, r"Bad.max_stream_queue is 1.5; expected a whole number of bytes"),
        ({"max_stream_queue": None}, ValueError, r"Bad.max_stream_queue is None; expected a whole number of bytes"),
    ],
)
def test_a_class_that_cannot_be_is_refused_at_once(
    attributes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        type("Bad", (WebsocketDemultiplexer,), attributes)

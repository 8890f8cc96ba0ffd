"""Synchronous consumers."""

import threading

from asgiref.sync import async_to_sync
from channels.consumer import SyncConsumer
from channels.exceptions import AcceptConnection, DenyConnection, StopConsumer
from channels.generic.websocket import JsonWebsocketConsumer, WebsocketConsumer
from channels.layers import get_channel_layer
from channels.testing import ApplicationCommunicator

from tests.compat.programs.consumers import CONNECT, LEAVE, bad_frame, ended, frame, socket, still_echoes
from tests.compat.transcripts import WAIT, Transcript, case, failing

__all__ = ["bad_frame"]


@case
async def handlers_by_type(out: Transcript) -> None:
    class Consumer(SyncConsumer):
        def test_one(self, message):
            out.say("test_one", message, threading.current_thread() is threading.main_thread())
            self.send({"type": "reply", "name": self.channel_name[:9]})

        def test_two_more(self, message):
            raise StopConsumer

    communicator = ApplicationCommunicator(Consumer.as_asgi(), {"type": "test"})
    await communicator.send_input({"type": "test.one", "n": 1})
    out.say(await communicator.receive_output(WAIT))
    await communicator.send_input({"type": "test.two.more"})
    await ended(out, communicator)


@case
async def echo(out: Transcript) -> None:
    class Echo(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            out.say("receive", text_data, bytes_data)
            self.send(text_data=text_data, bytes_data=bytes_data)

        def disconnect(self, close_code):
            out.say("disconnect", close_code)

    communicator = socket(Echo)
    await communicator.send_input(CONNECT)
    out.say(await communicator.receive_output(WAIT))
    for event in (frame("hello"), frame(None, b"\x00\xff")):
        await communicator.send_input(event)
        out.say(await communicator.receive_output(WAIT))
    await communicator.send_input(LEAVE)
    await ended(out, communicator)


@case
async def accepting_and_refusing(out: Transcript) -> None:
    class Consumer(WebsocketConsumer):
        def connect(self):
            match self.scope["path"]:
                case "/accept":
                    self.accept("v2", [(b"x-room", b"1")])
                case "/accept by exception":
                    raise AcceptConnection
                case "/deny":
                    raise DenyConnection
                case "/close":
                    self.close(4403)

    for path in ("/accept", "/accept by exception", "/deny", "/close"):
        communicator = socket(Consumer, path=path)
        await communicator.send_input(CONNECT)
        out.say(path, await communicator.receive_output(WAIT))
        await communicator.send_input({"type": "websocket.disconnect", "code": 1006})
        await ended(out, communicator)


@case
async def closing(out: Transcript) -> None:
    class Consumer(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            if text_data == "send":
                self.send("last", close=4003)
            else:
                self.close(code=4002, reason="enough")

    for text in ("send", "close"):
        communicator = socket(Consumer)
        await communicator.send_input(CONNECT)
        await communicator.receive_output(WAIT)
        await communicator.send_input(frame(text))
        event = await communicator.receive_output(WAIT)
        out.say(text, event)
        if event["type"] == "websocket.send":
            out.say(await communicator.receive_output(WAIT))


@case
async def chat(out: Transcript) -> None:
    class Chat(WebsocketConsumer):
        def connect(self):
            async_to_sync(self.channel_layer.group_add)("room", self.channel_name)
            self.accept()

        def disconnect(self, close_code):
            async_to_sync(self.channel_layer.group_discard)("room", self.channel_name)

        def receive(self, text_data):
            async_to_sync(self.channel_layer.group_send)("room", {"type": "chat.message", "text": text_data})

        def chat_message(self, event):
            self.send(text_data=event["text"])

    first, second = socket(Chat), socket(Chat)
    for communicator in (first, second):
        await communicator.send_input(CONNECT)
        out.say(await communicator.receive_output(WAIT))
    await first.send_input(frame("hi"))
    out.say(await first.receive_output(WAIT), await second.receive_output(WAIT))
    for communicator in (first, second):
        await communicator.send_input(LEAVE)
        await ended(out, communicator)
    out.say(get_channel_layer().groups)


@case
async def groups(out: Transcript) -> None:
    class Consumer(WebsocketConsumer):
        groups = ["news"]

        def news_item(self, message):
            self.send(text_data=message["text"])

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await get_channel_layer().group_send("news", {"type": "news.item", "text": "one"})
    out.say(await communicator.receive_output(WAIT))
    await communicator.send_input(LEAVE)
    await ended(out, communicator)


@case
async def json_frames(out: Transcript) -> None:
    class Consumer(JsonWebsocketConsumer):
        def receive_json(self, content, **kwargs):
            self.send_json(content, close=content == "last")

        def send(self, text_data=None, bytes_data=None, close=False):
            raise AssertionError("send_json() goes past it")

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await communicator.send_input(frame('{"a": [1, 2.5, null]}'))
    out.say(await communicator.receive_output(WAIT))
    await communicator.send_input(frame('"last"'))
    out.say(await communicator.receive_output(WAIT), await communicator.receive_output(WAIT))


@case
async def an_error_in_a_handler(out: Transcript) -> None:
    class Consumer(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            raise LookupError("no such room")

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await communicator.send_input(frame("x"))
    await ended(out, communicator)


@case
async def an_unknown_type_from_the_layer(out: Transcript) -> None:
    class Consumer(WebsocketConsumer):
        groups = ["news"]

        def receive(self, text_data=None, bytes_data=None):
            self.send(text_data)

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await get_channel_layer().group_send("news", {"type": "nobody.knows"})
    await communicator.receive_nothing()
    await failing(out, "then", lambda: still_echoes(communicator), text=False)


@case
async def order_of_slow_handlers(out: Transcript) -> None:
    wait = threading.Event()

    class Consumer(WebsocketConsumer):
        def receive(self, text_data=None, bytes_data=None):
            out.say("begin", text_data)
            wait.wait(0.01)
            out.say("end", text_data)

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    for text in ("1", "2"):
        await communicator.send_input(frame(text))
    await communicator.send_input(LEAVE)
    await ended(out, communicator)


@case
async def overriding_the_events(out: Transcript) -> None:
    class Consumer(WebsocketConsumer):
        def websocket_connect(self, message):
            out.say("websocket_connect", message)
            super().websocket_connect(message)

        def websocket_receive(self, message):
            out.say("websocket_receive", message)
            super().websocket_receive(message)

        def websocket_disconnect(self, message):
            out.say("websocket_disconnect", message)
            super().websocket_disconnect(message)

        def disconnect(self, code):
            out.say("disconnect", code)

    communicator = socket(Consumer)
    for event in (CONNECT, frame("x"), LEAVE):
        await communicator.send_input(event)
    await ended(out, communicator)

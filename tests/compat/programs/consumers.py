"""Asynchronous consumers."""

import asyncio
import datetime

from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import AcceptConnection, DenyConnection, StopConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.testing import ApplicationCommunicator

from tests.compat.transcripts import WAIT, Transcript, case, failing

CONNECT = {"type": "websocket.connect"}
LEAVE = {"type": "websocket.disconnect", "code": 1001}


def socket(consumer, **scope):
    """A connection of a consumer class."""
    return ApplicationCommunicator(consumer.as_asgi(), {"type": "websocket", "path": "/", "headers": []} | scope)


def frame(text=None, data=None):
    """A frame of the client."""
    return {"type": "websocket.receive", "text": text, "bytes": data}


async def ended(out, communicator):
    """Say how the application ended."""
    try:
        await communicator.wait(WAIT)
    except Exception as error:
        names = [base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins"]
        out.say("ended with", names[0])
    else:
        out.say("ended")


@case
async def handlers_by_type(out: Transcript) -> None:
    class Consumer(AsyncConsumer):
        async def test_one(self, message):
            out.say("test_one", message)
            await self.send({"type": "reply", "scope": sorted(self.scope), "name": self.channel_name[:9]})

        async def test_two_more(self, message):
            out.say("test_two_more", message)
            raise StopConsumer

    communicator = ApplicationCommunicator(Consumer.as_asgi(), {"type": "test"})
    await communicator.send_input({"type": "test.one", "n": 1})
    out.say(await communicator.receive_output(WAIT))
    await communicator.send_input({"type": "test.two.more"})
    await ended(out, communicator)


@case
async def names_of_handlers(out: Transcript) -> None:
    async def name(message):
        return get_handler_name(message)

    await failing(out, "chat.message", lambda: name({"type": "chat.message"}))
    await failing(out, "nothing", lambda: name({}), text=False)
    await failing(out, "underscore", lambda: name({"type": "_private"}), text=False)


@case
async def as_asgi(out: Transcript) -> None:
    class Consumer(AsyncConsumer):
        """Its text."""

        def __init__(self, colour):
            self.colour = colour

        async def test_ask(self, message):
            await self.send({"type": "reply", "colour": self.colour})

    application = Consumer.as_asgi(colour="blue")
    out.say(application.consumer_class is Consumer, application.consumer_initkwargs)
    out.say(application.__name__, application.__doc__)
    communicator = ApplicationCommunicator(application, {"type": "test"})
    await communicator.send_input({"type": "test.ask"})
    out.say(await communicator.receive_output(WAIT))


@case
async def echo(out: Transcript) -> None:
    class Echo(AsyncWebsocketConsumer):
        async def receive(self, text_data=None, bytes_data=None):
            out.say("receive", text_data, bytes_data)
            await self.send(text_data=text_data, bytes_data=bytes_data)

    communicator = socket(Echo)
    await communicator.send_input(CONNECT)
    out.say(await communicator.receive_output(WAIT))
    for event in (frame("hello"), frame(""), frame(None, b"\x00\xff"), {"type": "websocket.receive", "text": "bare"}):
        await communicator.send_input(event)
        out.say(await communicator.receive_output(WAIT))
    await communicator.send_input(LEAVE)
    await ended(out, communicator)


@case
async def both_text_and_bytes(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            await self.accept()
            await self.send(text_data="text", bytes_data=b"bytes")
            await self.send("text by place")
            await failing(out, "neither", lambda: self.send(), text=False)

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    for _ in range(3):
        out.say(await communicator.receive_output(WAIT))


@case
async def accepting(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            await self.accept(subprotocol="v2", headers=[(b"x-room", b"1")])

    communicator = socket(Consumer, subprotocols=["v1", "v2"])
    await communicator.send_input(CONNECT)
    out.say(await communicator.receive_output(WAIT))


@case
async def accepting_by_exception(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            raise AcceptConnection

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    out.say(await communicator.receive_output(WAIT))


@case
async def refusing(out: Transcript) -> None:
    class Closes(AsyncWebsocketConsumer):
        async def connect(self):
            await self.close()

    class ClosesWithCode(AsyncWebsocketConsumer):
        async def connect(self):
            await self.close(code=4403)

    class Denies(AsyncWebsocketConsumer):
        async def connect(self):
            raise DenyConnection

    for consumer in (Closes, ClosesWithCode, Denies):
        communicator = socket(consumer)
        await communicator.send_input(CONNECT)
        out.say(consumer.__name__, await communicator.receive_output(WAIT))
        await communicator.send_input({"type": "websocket.disconnect", "code": 1006})
        await ended(out, communicator)


@case
async def neither_accepting_nor_refusing(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            out.say("connect")

        async def late(self, message):
            await self.accept()

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    out.say("nothing", await communicator.receive_nothing())
    await communicator.send_input({"type": "late"})
    out.say(await communicator.receive_output(WAIT))


@case
async def closing(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def receive(self, text_data=None, bytes_data=None):
            match text_data:
                case "plain":
                    await self.close()
                case "code":
                    await self.close(4001)
                case "reason":
                    await self.close(code=4002, reason="enough")
                case "true":
                    await self.close(True)
                case "send":
                    await self.send("last", close=True)
                case "send code":
                    await self.send("last", close=4003)

        async def disconnect(self, code):
            out.say("disconnect", code)

    for text in ("plain", "code", "reason", "true", "send", "send code"):
        communicator = socket(Consumer)
        await communicator.send_input(CONNECT)
        await communicator.receive_output(WAIT)
        await communicator.send_input(frame(text))
        event = await communicator.receive_output(WAIT)
        out.say(text, event)
        if event["type"] == "websocket.send":
            out.say(await communicator.receive_output(WAIT))
        await communicator.send_input({"type": "websocket.disconnect", "code": 4999})
        await ended(out, communicator)


@case
async def leaving(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        groups = ["news"]

        async def disconnect(self, close_code):
            out.say("disconnect", close_code)

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    out.say("members", len(get_channel_layer().groups["news"]))
    await communicator.send_input(LEAVE)
    await ended(out, communicator)
    out.say("groups", get_channel_layer().groups)


@case
async def groups(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        groups = ["news"]

        async def news_item(self, message):
            if self.scope["path"] == "/first":
                out.say("news_item", message)
            await self.send(text_data=message["text"])

    first, second = socket(Consumer, path="/first"), socket(Consumer, path="/second")
    for communicator in (first, second):
        await communicator.send_input(CONNECT)
        await communicator.receive_output(WAIT)
    await get_channel_layer().group_send("news", {"type": "news.item", "text": "one", "list": [1, {"a": None}]})
    await get_channel_layer().group_send("news", {"type": "news.item", "text": "two"})
    for communicator in (first, second):
        out.say(await communicator.receive_output(WAIT), await communicator.receive_output(WAIT))
    await first.send_input(LEAVE)
    await ended(out, first)
    await get_channel_layer().group_send("news", {"type": "news.item", "text": "three"})
    out.say(await second.receive_output(WAIT))


@case
async def joining_in_a_handler(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            await self.channel_layer.group_add("room", self.channel_name)
            await self.accept()

        async def receive(self, text_data):
            await self.channel_layer.group_send("room", {"type": "chat.message", "text": text_data})

        async def chat_message(self, event):
            await self.send(text_data=event["text"])

        async def disconnect(self, close_code):
            await self.channel_layer.group_discard("room", self.channel_name)
            out.say("left", close_code)

    first, second = socket(Consumer), socket(Consumer)
    for communicator in (first, second):
        await communicator.send_input(CONNECT)
        out.say(await communicator.receive_output(WAIT))
    await first.send_input(frame("hi"))
    out.say(await first.receive_output(WAIT), await second.receive_output(WAIT))
    await second.send_input(LEAVE)
    await ended(out, second)
    await first.send_input(frame("alone"))
    out.say(await first.receive_output(WAIT))
    await first.send_input(LEAVE)
    await ended(out, first)


@case
async def order_of_a_slow_handler(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def receive(self, text_data=None, bytes_data=None):
            out.say("begin", text_data)
            await asyncio.sleep(0.01)
            out.say("end", text_data)

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    for text in ("1", "2", "3"):
        await communicator.send_input(frame(text))
    await communicator.send_input(LEAVE)
    await ended(out, communicator)


@case
async def to_a_single_channel(out: Transcript) -> None:
    names = []

    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            names.append(self.channel_name)
            await self.accept()

        async def whisper(self, message):
            await self.send(text_data=message["text"])

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await get_channel_layer().send(names[0], {"type": "whisper", "text": "psst"})
    out.say(await communicator.receive_output(WAIT))


@case
async def without_a_layer(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        channel_layer_alias = "other"

        async def connect(self):
            out.say(self.channel_layer, hasattr(self, "channel_name"))
            await self.accept()

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    out.say(await communicator.receive_output(WAIT))


@case
async def groups_without_a_layer(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        channel_layer_alias = "other"
        groups = ["news"]

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await failing(out, "connect", lambda: communicator.receive_output(WAIT), text=False)


@case
async def stop_consumer_in_connect(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            await self.accept()
            raise StopConsumer

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    out.say(await communicator.receive_output(WAIT))
    await ended(out, communicator)


@case
async def an_error_in_a_handler(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def receive(self, text_data=None, bytes_data=None):
            raise LookupError("no such room")

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await communicator.send_input(frame("x"))
    await ended(out, communicator)


@case
async def disconnect_after_an_error(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        groups = ["news"]

        async def receive(self, text_data=None, bytes_data=None):
            raise LookupError("no such room")

        async def disconnect(self, code):
            out.say("disconnect", code)

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await communicator.send_input(frame("x"))
    await ended(out, communicator)
    out.say("members", len(get_channel_layer().groups.get("news", ())))


@case
async def an_unknown_type_from_the_client(out: Transcript) -> None:
    communicator = ApplicationCommunicator(AsyncConsumer.as_asgi(), {"type": "test"})
    await communicator.send_input({"type": "nobody.knows"})
    await failing(out, "unknown type", lambda: communicator.wait(WAIT), text=False)


@case
async def an_unknown_type_from_the_layer(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        groups = ["news"]

        async def receive(self, text_data=None, bytes_data=None):
            await self.send(text_data)

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await get_channel_layer().group_send("news", {"type": "nobody.knows"})
    await communicator.receive_nothing()
    await failing(out, "then", lambda: still_echoes(communicator), text=False)


async def still_echoes(communicator):
    """Whether a frame comes back."""
    await communicator.send_input(frame("still there"))
    return await communicator.receive_output(WAIT)


@case
async def a_method_of_the_framework_from_the_layer(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        groups = ["news"]

        async def receive(self, text_data=None, bytes_data=None):
            await self.send(text_data)

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await get_channel_layer().group_send("news", {"type": "close"})
    await communicator.receive_nothing()
    await failing(out, "then", lambda: still_echoes(communicator), text=False)


@case
async def frames_from_the_layer(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        groups = ["news"]

        async def websocket_send(self, message):
            out.say("websocket_send", message)
            await self.send(text_data=message["text"])

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await get_channel_layer().group_send("news", {"type": "websocket.send", "text": "ready"})
    out.say(await communicator.receive_output(WAIT))


@case
async def sending_after_the_end(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def receive(self, text_data=None, bytes_data=None):
            await self.close()
            await self.send("too late")

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await communicator.send_input(frame("x"))
    out.say(await communicator.receive_output(WAIT))
    out.say("nothing more", await communicator.receive_nothing())


@case
async def json_frames(out: Transcript) -> None:
    class Consumer(AsyncJsonWebsocketConsumer):
        async def receive_json(self, content, **kwargs):
            out.say("receive_json", content, kwargs)
            await self.send_json(content)
            if content == "last":
                await self.send_json({"bye": 1}, close=True)

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    for text in ('{"a": [1, 2.5, null, "\\u00e9"]}', '"last"'):
        await communicator.send_input(frame(text))
        out.say(await communicator.receive_output(WAIT))
    out.say(await communicator.receive_output(WAIT), await communicator.receive_output(WAIT))


@case
async def json_of_ones_own(out: Transcript) -> None:
    class Consumer(AsyncJsonWebsocketConsumer):
        @classmethod
        async def decode_json(cls, text_data):
            return text_data.split(",")

        @classmethod
        async def encode_json(cls, content):
            return "|".join(content)

        async def receive_json(self, content, **kwargs):
            await self.send_json(content)

        async def receive(self, text_data=None, bytes_data=None, **kwargs):
            await super().receive(text_data=text_data, bytes_data=bytes_data, extra=1)

        async def send(self, text_data=None, bytes_data=None, close=False):
            await super().send(text_data=text_data.upper(), bytes_data=bytes_data, close=close)

    class Accepting(Consumer):
        async def receive_json(self, content, extra=0):
            await self.send_json([*content, str(extra)])

    communicator = socket(Accepting)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await communicator.send_input(frame("a,b"))
    out.say(await communicator.receive_output(WAIT))


async def bad_frame(out, event):
    """Say what comes of a frame that a JSON consumer cannot read."""
    communicator = socket(AsyncJsonWebsocketConsumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await communicator.send_input(event)
    await failing(out, "bad frame", lambda: communicator.receive_output(WAIT), text=False)


@case
async def a_frame_that_is_not_json(out: Transcript) -> None:
    await bad_frame(out, frame("{"))


@case
async def a_binary_frame_for_json(out: Transcript) -> None:
    await bad_frame(out, frame(None, b"{}"))


@case
async def json_of_a_datetime(out: Transcript) -> None:
    async def encode():
        return await AsyncJsonWebsocketConsumer.encode_json({"at": datetime.datetime(2020, 1, 2)})

    await failing(out, "encode", encode, text=False)
    out.say(await AsyncJsonWebsocketConsumer.encode_json({"é": [1, "ü"]}))


@case
async def overriding_dispatch(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        groups = ["news"]

        async def dispatch(self, message):
            out.say("dispatch", message["type"])
            await super().dispatch(message)

        async def news_item(self, message):
            await self.send(text_data="news")

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await get_channel_layer().group_send("news", {"type": "news.item"})
    out.say(await communicator.receive_output(WAIT))
    await communicator.send_input(LEAVE)
    await ended(out, communicator)


@case
async def overriding_the_events(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def websocket_connect(self, message):
            out.say("websocket_connect", message)
            await super().websocket_connect(message)

        async def websocket_receive(self, message):
            out.say("websocket_receive", message)
            await super().websocket_receive(message)

        async def websocket_disconnect(self, message):
            out.say("websocket_disconnect", message)
            await super().websocket_disconnect(message)

        async def disconnect(self, code):
            out.say("disconnect", code)

    communicator = socket(Consumer)
    for event in (CONNECT, frame("x"), LEAVE):
        await communicator.send_input(event)
    await ended(out, communicator)


@case
async def a_consumer_that_is_called_directly(out: Transcript) -> None:
    sent = []

    async def receive():
        return CONNECT if not sent else LEAVE

    async def send(event):
        sent.append(event)

    await AsyncWebsocketConsumer()({"type": "websocket", "path": "/"}, receive, send)
    out.say(sent)


@case
async def a_tuple_in_a_message(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        groups = ["news"]

        async def news_item(self, message):
            await self.send(text_data=repr(message["pair"]))

    communicator = socket(Consumer)
    await communicator.send_input(CONNECT)
    await communicator.receive_output(WAIT)
    await get_channel_layer().group_send("news", {"type": "news.item", "pair": (1, 2)})
    out.say(await communicator.receive_output(WAIT))

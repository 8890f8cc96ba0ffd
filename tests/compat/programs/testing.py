"""The test tools."""

import asyncio

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from channels.testing import ApplicationCommunicator, HttpCommunicator, WebsocketCommunicator
from django.urls import path

from tests.compat.transcripts import WAIT, Transcript, case, failing


class Chat(AsyncWebsocketConsumer):
    """Refuses, accepts, answers."""

    async def connect(self):
        if self.scope["path"] == "/closed/":
            await self.close(code=4403)
        else:
            await self.accept(subprotocol=(self.scope["subprotocols"] or [None])[-1], headers=[(b"a", b"b")])

    async def receive(self, text_data=None, bytes_data=None):
        if text_data == "error":
            raise LookupError("asked for")
        await self.send(text_data, bytes_data)


@case
async def connecting(out: Transcript) -> None:
    communicator = WebsocketCommunicator(Chat.as_asgi(), "/open/%C3%A9/?a=1", subprotocols=["v1", "v2"])
    out.say(communicator.scope["path"], communicator.scope["query_string"], communicator.scope["type"])
    out.say(await communicator.connect(WAIT), communicator.response_headers)
    await communicator.disconnect(timeout=WAIT)
    communicator = WebsocketCommunicator(Chat.as_asgi(), "/closed/")
    out.say(await communicator.connect(WAIT))


@case
async def arguments_of_a_route(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            out.say(self.scope["url_route"]["kwargs"], self.scope["headers"])
            await self.accept()

    router = URLRouter([path("room/<slug:name>/", Consumer.as_asgi())])
    communicator = WebsocketCommunicator(router, "/room/lobby/", headers=[(b"x", b"y")])
    out.say(await communicator.connect(WAIT))
    await communicator.disconnect(timeout=WAIT)


@case
async def frames(out: Transcript) -> None:
    communicator = WebsocketCommunicator(Chat.as_asgi(), "/")
    await communicator.connect(WAIT)
    await communicator.send_to(text_data="hello")
    out.say(await communicator.receive_from(WAIT))
    await communicator.send_to(bytes_data=b"\x00")
    out.say(await communicator.receive_from(WAIT))
    await communicator.send_json_to({"a": [1]})
    out.say(await communicator.receive_json_from(WAIT))
    out.say(await communicator.receive_nothing())
    await communicator.send_to(text_data="waits")
    out.say(await communicator.receive_nothing())
    out.say(await communicator.receive_from(WAIT))
    await communicator.disconnect(code=1001, timeout=WAIT)


@case
async def wrong_use(out: Transcript) -> None:
    communicator = WebsocketCommunicator(Chat.as_asgi(), "/")
    await communicator.connect(WAIT)
    await failing(out, "nothing", lambda: communicator.send_to(), text=False)
    await failing(out, "both", lambda: communicator.send_to(text_data="a", bytes_data=b"b"), text=False)
    await failing(out, "wrong type", lambda: communicator.send_to(text_data=b"a"), text=False)
    await communicator.send_to(bytes_data=b"{}")
    await failing(out, "json of bytes", lambda: communicator.receive_json_from(WAIT), text=False)
    try:
        WebsocketCommunicator(Chat.as_asgi(), b"/")
    except TypeError:
        out.say("TypeError")


@case
async def another_event_than_a_frame(out: Transcript) -> None:
    class Consumer(AsyncWebsocketConsumer):
        async def connect(self):
            await self.accept()
            await self.close()

    communicator = WebsocketCommunicator(Consumer.as_asgi(), "/")
    await communicator.connect(WAIT)
    await failing(out, "receive_from", lambda: communicator.receive_from(WAIT), text=False)


@case
async def the_error_of_the_application(out: Transcript) -> None:
    communicator = WebsocketCommunicator(Chat.as_asgi(), "/")
    await communicator.connect(WAIT)
    await communicator.send_to(text_data="error")
    await failing(out, "receive_from", lambda: communicator.receive_from(WAIT))


@case
async def waiting_in_vain(out: Transcript) -> None:
    communicator = WebsocketCommunicator(Chat.as_asgi(), "/")
    await communicator.connect(WAIT)
    try:
        await communicator.receive_from(timeout=0.05)
    except TimeoutError:
        out.say("TimeoutError")


@case
async def after_waiting_in_vain(out: Transcript) -> None:
    communicator = WebsocketCommunicator(Chat.as_asgi(), "/")
    await communicator.connect(WAIT)
    try:
        await communicator.receive_from(timeout=0.05)
    except TimeoutError:
        pass
    try:
        await communicator.send_to(text_data="still there")
        out.say(await communicator.receive_from(WAIT))
    except (Exception, asyncio.CancelledError):
        out.say("the application is gone")


@case
async def a_bare_application(out: Transcript) -> None:
    async def application(scope, receive, send):
        while True:
            event = await receive()
            if event["type"] == "stop":
                return
            await send({"type": "reply", "to": event["type"], "scope": scope["name"]})

    communicator = ApplicationCommunicator(application, {"type": "test", "name": "n"})
    out.say(await communicator.receive_nothing(timeout=0.01, interval=0.005))
    await communicator.send_input({"type": "one"})
    await communicator.send_input({"type": "two"})
    out.say(await communicator.receive_output(WAIT), await communicator.receive_output(timeout=WAIT))
    await communicator.send_input({"type": "stop"})
    out.say(await communicator.wait(WAIT))
    out.say(communicator.output_queue.empty(), communicator.input_queue.empty(), communicator.future.done())


@case
async def an_application_that_does_not_end(out: Transcript) -> None:
    async def application(scope, receive, send):
        await receive()
        await receive()

    communicator = ApplicationCommunicator(application, {"type": "test"})
    await communicator.send_input({"type": "one"})
    try:
        out.say("wait returned", await communicator.wait(0.05))
    except TimeoutError:
        out.say("wait raised TimeoutError")
    await asyncio.sleep(0)
    communicator.stop(exceptions=False)
    out.say(communicator.future.done())


@case
async def a_request(out: Transcript) -> None:
    async def application(scope, receive, send):
        event = await receive()
        out.say(event.get("body"), scope["method"], scope["path"], scope["query_string"], scope["headers"])
        await send({"type": "http.response.start", "status": 404, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    communicator = HttpCommunicator(application, "put", "/a/%20b?q=%20", body=b"x", headers=[(b"h", b"1")])
    response = await communicator.get_response(WAIT)
    out.say(response["status"], response["headers"], response["body"])


@case
async def a_response_without_headers(out: Transcript) -> None:
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body", "body": b""})

    response = await HttpCommunicator(application, "GET", "/").get_response(WAIT)
    out.say(response["status"], response["headers"], response["body"])

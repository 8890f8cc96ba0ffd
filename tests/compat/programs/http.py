"""HTTP consumers."""

from channels.generic.http import AsyncHttpConsumer
from channels.testing import ApplicationCommunicator, HttpCommunicator

from tests.compat.transcripts import WAIT, Transcript, case, failing


@case
async def a_response(out: Transcript) -> None:
    class Consumer(AsyncHttpConsumer):
        async def handle(self, body):
            out.say("handle", body, self.scope["method"], self.scope["path"], self.scope["query_string"])
            await self.send_response(201, b"made", headers=[(b"content-type", b"text/plain")])

        async def disconnect(self):
            out.say("disconnect")

    communicator = HttpCommunicator(
        Consumer.as_asgi(), "post", "/rooms/%C3%A9?a=1", body=b"name", headers=[(b"x", b"y")]
    )
    response = await communicator.get_response(WAIT)
    await communicator.wait(WAIT)
    out.say(response)


@case
async def headers_as_a_dict(out: Transcript) -> None:
    class Consumer(AsyncHttpConsumer):
        async def handle(self, body):
            await self.send_headers(headers={b"content-type": b"text/plain", b"x": b"y"})
            await self.send_body(b"one ", more_body=True)
            await self.send_body(b"two")

    out.say(await HttpCommunicator(Consumer.as_asgi(), "GET", "/").get_response(WAIT))


@case
async def the_events(out: Transcript) -> None:
    class Consumer(AsyncHttpConsumer):
        async def handle(self, body):
            await self.send_response(200, body)

    communicator = ApplicationCommunicator(Consumer.as_asgi(), {"type": "http", "method": "POST", "path": "/"})
    await communicator.send_input({"type": "http.request", "body": b"a", "more_body": True})
    await communicator.send_input({"type": "http.request", "body": b"b", "more_body": True})
    await communicator.send_input({"type": "http.request"})
    out.say(await communicator.receive_output(WAIT))
    out.say(await communicator.receive_output(WAIT))
    await communicator.wait(WAIT)


@case
async def a_body_that_is_a_text(out: Transcript) -> None:
    class Consumer(AsyncHttpConsumer):
        async def handle(self, body):
            await failing(out, "text", lambda: self.send_body("text"), text=False)
            await self.send_response(200, b"")

    await HttpCommunicator(Consumer.as_asgi(), "GET", "/").get_response(WAIT)


@case
async def without_handle(out: Transcript) -> None:
    communicator = HttpCommunicator(AsyncHttpConsumer.as_asgi(), "GET", "/")
    await failing(out, "get_response", lambda: communicator.get_response(WAIT), text=False)


@case
async def an_error_in_handle(out: Transcript) -> None:
    class Consumer(AsyncHttpConsumer):
        async def handle(self, body):
            raise LookupError("no such room")

        async def disconnect(self):
            out.say("disconnect")

    communicator = HttpCommunicator(Consumer.as_asgi(), "GET", "/")
    await failing(out, "get_response", lambda: communicator.get_response(WAIT))


@case
async def leaving_before_the_end_of_the_request(out: Transcript) -> None:
    class Consumer(AsyncHttpConsumer):
        async def handle(self, body):
            out.say("handle")

        async def disconnect(self):
            out.say("disconnect")

    communicator = ApplicationCommunicator(Consumer.as_asgi(), {"type": "http", "method": "POST", "path": "/"})
    await communicator.send_input({"type": "http.request", "body": b"a", "more_body": True})
    await communicator.send_input({"type": "http.disconnect"})
    await communicator.wait(WAIT)

"""A site whose page uses the multiplexer of the package's static files; run by uvicorn in a process of its own."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings

settings.configure(
    SECRET_KEY="for the tests only",
    DEBUG=True,  # the static files are served from where they lie
    ALLOWED_HOSTS=["127.0.0.1"],
    INSTALLED_APPS=["sealane", "django.contrib.staticfiles"],
    ROOT_URLCONF=__name__,
    STATIC_URL="/static/",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    CHANNEL_LAYERS={"default": {"BACKEND": "sealane.layers.InMemoryChannelLayer"}},
)

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.template import Context, Template  # noqa: E402
from django.urls import path  # noqa: E402

from tests.docs.reading import Reading  # noqa: E402
from tests.docs.snippets import DOCS, blocks_of  # noqa: E402

pages: Any = ASGIStaticFilesHandler(get_asgi_application())

from sealane.consumers import AsyncJsonWebsocketConsumer, WebsocketConsumer, WebsocketDemultiplexer  # noqa: E402
from sealane.layers import get_channel_layer  # noqa: E402
from sealane.routing import AllowedHostsOriginValidator, Drain, ProtocolTypeRouter, URLRouter  # noqa: E402
from sealane.types import Message  # noqa: E402

PAGE = """{% load static %}<!doctype html><title>Streams</title>
<script type="module">
import { Multiplexer } from "{% static 'sealane/multiplexer.js' %}";
window.got = [];
window.socket = new Multiplexer("/socket/");
socket.onclose = (event) => got.push(["socket", "close", event]);
for (const name of ["chat", "terminal"]) {
  const stream = socket.stream(name);
  for (const kind of ["open", "message", "close", "error"])
    stream[`on${kind}`] = (event) => got.push([name, kind, event]);
}
</script>"""


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(Template(PAGE).render(Context()))


#: The guide, whose page is served with the consumers that it shows.
GUIDE = DOCS / "how-to" / "multiplex.md"


def guide(request: HttpRequest) -> HttpResponse:
    [template] = [block.text for block in blocks_of(GUIDE) if block.language == "html"]
    return HttpResponse(Template(template).render(Context()))


urlpatterns = [path("", page), path("guide/", guide)]


class Chat(AsyncJsonWebsocketConsumer):
    groups = ["chat"]

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"close": int(code)}:
                await self.close(code, "as you wish")
            case {"end": int(code)}:
                await self.channel_layer.group_send("sockets", {"type": "end", "code": code})
            case _:
                layer: Any = get_channel_layer()
                await layer.group_send("chat", {"type": "chat.message", "text": content})

    async def chat_message(self, message: Message) -> None:
        await self.send_json({"said": message["text"]})


class Terminal(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data, bytes_data)


class Demultiplexer(WebsocketDemultiplexer):
    groups = ["sockets"]
    streams = {"chat": Chat, "terminal": Terminal}

    async def end(self, message: Message) -> None:
        await self.close(message["code"])


names = asyncio.run(Reading(Path(tempfile.mkdtemp(dir="."))).read(GUIDE))
routes: list[Any] = [path("socket/", Demultiplexer.as_asgi()), path("ws/", names["Demultiplexer"].as_asgi())]
application = Drain(
    ProtocolTypeRouter({"http": pages, "websocket": AllowedHostsOriginValidator(URLRouter(routes))}), spread=0
)

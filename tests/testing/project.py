"""A small Django project for the live servers: views and consumers that use the database in every kind of thread."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path

from sealane.consumers import AsyncWebsocketConsumer, WebsocketConsumer
from sealane.db import database_sync_to_async
from sealane.layers import get_channel_layer
from sealane.routing import AuthMiddlewareStack, ProtocolTypeRouter, URLRouter

__all__ = ["application", "urlpatterns"]


def create(request: HttpRequest, name: str) -> HttpResponse:
    """Create a user, and tell how many there are."""
    User.objects.create(username=name)
    return HttpResponse(str(User.objects.count()))


def broadcast(request: HttpRequest, text: str) -> HttpResponse:
    """Send every WebSocket a text."""
    get_channel_layer().sync.group_send("everyone", {"type": "text", "text": text})  # type: ignore[union-attr]
    return HttpResponse("sent")


urlpatterns: list[URLPattern] = [
    path("create/<name>/", create),
    path("broadcast/<text>/", broadcast),
]


class AsyncUsers(AsyncWebsocketConsumer):
    """Create the user that a frame names, and tell how many there are. Note the disconnect as a user, too."""

    groups = ["everyone"]

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await User.objects.acreate(username=text_data or "")
        await self.send(text_data=await self.count())

    @database_sync_to_async
    def count(self) -> str:
        return str(User.objects.count())

    async def text(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])

    async def disconnect(self, code: int) -> None:
        await User.objects.acreate(username=f"disconnected {code}")


class SyncUsers(WebsocketConsumer):
    """The same, in a synchronous consumer."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        User.objects.create(username=text_data or "")
        self.send(text_data=str(User.objects.count()))


class WhoAmI(AsyncWebsocketConsumer):
    """Tell the name of the user."""

    async def connect(self) -> None:
        await self.accept()
        await self.send(text_data=str(self.scope["user"]))


# Made once, as a project's asgi.py does it.
_websocket = AuthMiddlewareStack(
    URLRouter(
        [
            path("async/", AsyncUsers.as_asgi()),
            path("sync/", SyncUsers.as_asgi()),
            path("who/", WhoAmI.as_asgi()),
        ]
    )
)


def make_application(**hooks: list[Callable[..., Any]]) -> ProtocolTypeRouter:
    """Make the project's application, with lifespan hooks."""
    return ProtocolTypeRouter({"http": get_asgi_application(), "websocket": _websocket}, **hooks)


application = make_application()

"""A program that is drained on a real server: it notes what it sees of its end in a file."""

__all__ = ["PROGRAM"]

PROGRAM = """
import asyncio, os, sys
from django.conf import settings
settings.configure(
    SECRET_KEY="for this test",
    CHANNEL_LAYERS={"default": {"BACKEND": "sealane.layers.InMemoryChannelLayer"}},
    LOGGING_CONFIG=None,
)
import django
django.setup()
from django.urls import path
from sealane.consumers import AsyncEventStreamConsumer, AsyncWebsocketConsumer
from sealane.layers import channel_layers
from sealane.routing import Drain, ProtocolTypeRouter, URLRouter, health

def note(*words):
    with open(os.environ["NOTES"], "a") as notes:
        print(*words, file=notes)

class Socket(AsyncWebsocketConsumer):
    async def connect(self):
        self.number = self.scope["url_route"]["kwargs"]["number"]
        self.spawn(self.work())
        await self.accept()

    async def work(self):
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)
            note("task", self.number)

    async def disconnect(self, code):
        await asyncio.sleep(0)
        note("disconnect", self.number, code)

async def shutdown():
    note("shutdown", len(channel_layers.created()))

application = Drain(
    ProtocolTypeRouter(
        {
            "http": URLRouter([path("ready", health.ready), path("events", AsyncEventStreamConsumer.as_asgi())]),
            "websocket": URLRouter([path("<int:number>", Socket.as_asgi())]),
        },
        on_shutdown=[shutdown],
    ),
    spread=4.0,
    timeout=20,
)
"""

"""Consumers of every kind."""

import json

import channels.layers as layers
from asgiref.sync import async_to_sync
from channels import exceptions
from channels.consumer import SyncConsumer, get_handler_name
from channels.generic import http, websocket
from channels.generic.websocket import (  # the two of the pages
    AsyncConsumer,  # for isinstance
    AsyncJsonWebsocketConsumer,
    # raised below
    StopConsumer,
    WebsocketConsumer,
)


class Ship(AsyncJsonWebsocketConsumer):
    """A page about one ship: all pages about it hear each other, and what the harbour calls."""

    async def connect(self):
        self.group = f"ship_{self.scope['url_route']['kwargs']['ship']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send_json({"accounts": self.scope["accounts"], "user": str(self.scope["user"])})

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content, **kwargs):
        await self.channel_layer.group_send(self.group, {"type": "ship.said", "words": (content["words"], 1)})

    async def ship_said(self, event):
        assert get_handler_name(event) == "ship_said"
        await self.send_json({"words": event["words"]})


class Log(WebsocketConsumer):
    """The log of the harbour, synchronous."""

    groups = ["log"]

    def receive(self, text_data=None, bytes_data=None):
        async_to_sync(self.channel_layer.group_send)("log", {"type": "log.line", "line": text_data})

    def log_line(self, event):
        self.send(text_data=event["line"].upper())
        if event["line"] == "end":
            raise StopConsumer


class Lock(websocket.WebsocketConsumer):
    def connect(self):
        raise exceptions.DenyConnection


class Tide(http.AsyncHttpConsumer):
    async def handle(self, body):
        layer = layers.get_channel_layer()
        text = json.dumps({"layer": type(layer).__name__, "consumer": isinstance(self, AsyncConsumer)})
        await self.send_response(200, text.encode(), headers=[(b"Content-Type", b"application/json")])


class Crane(SyncConsumer):
    """A worker: it lifts what it is told to, and tells the log."""

    def crane_lift(self, message):
        async_to_sync(self.channel_layer.group_send)("log", {"type": "log.line", "line": f"lifted {message['load']}"})

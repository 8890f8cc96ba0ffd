"""What one says in a room, all in that room hear."""

import json

from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer


class ChatConsumer(AsyncWebsocketConsumer):
    async def connect(self):
        self.room_group = f"room_{self.scope['url_route']['kwargs']['room']}"
        await self.channel_layer.group_add(self.room_group, self.channel_name)
        await self.accept()

    async def disconnect(self, close_code):
        await self.channel_layer.group_discard(self.room_group, self.channel_name)

    async def receive(self, text_data=None, bytes_data=None):
        said = json.loads(text_data)["said"]
        await self.channel_layer.group_send(
            self.room_group, {"type": "chat.message", "said": said, "by": str(self.scope["user"])}
        )

    async def chat_message(self, event):
        await self.send(text_data=json.dumps({"said": event["said"], "by": event["by"]}))


class SyncChatConsumer(WebsocketConsumer):
    def connect(self):
        self.room_group = f"room_{self.scope['url_route']['kwargs']['room']}"
        async_to_sync(self.channel_layer.group_add)(self.room_group, self.channel_name)
        self.accept()

    def disconnect(self, close_code):
        async_to_sync(self.channel_layer.group_discard)(self.room_group, self.channel_name)

    def receive(self, text_data=None, bytes_data=None):
        said = json.loads(text_data)["said"]
        async_to_sync(self.channel_layer.group_send)(
            self.room_group, {"type": "chat.message", "said": said, "by": str(self.scope["user"])}
        )

    def chat_message(self, event):
        self.send(text_data=json.dumps({"said": event["said"], "by": event["by"]}))

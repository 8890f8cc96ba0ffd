"""chanx: typed messages between the pages of a room."""

from typing import Literal

from chanx.channels.websocket import AsyncJsonWebsocketConsumer
from chanx.core.decorators import event_handler, ws_handler
from chanx.messages.base import BaseMessage
from pydantic import BaseModel


class Words(BaseModel):
    words: str


class Say(BaseMessage):
    action: Literal["say"] = "say"
    payload: Words


class Heard(BaseMessage):
    action: Literal["heard"] = "heard"
    payload: Words


class Said(BaseMessage):
    action: Literal["said"] = "said"
    payload: Words


class Ping(BaseMessage):
    action: Literal["ping"] = "ping"
    payload: None = None


class Pong(BaseMessage):
    action: Literal["pong"] = "pong"
    payload: None = None


class RoomConsumer(AsyncJsonWebsocketConsumer):
    @property
    def room(self) -> str:
        return f"room_{self.scope['url_route']['kwargs']['room']}"

    async def post_authentication(self) -> None:
        await self.join_group(self.room)

    @ws_handler(summary="Answer")
    async def handle_ping(self, message: Ping) -> Pong:
        return Pong()

    @ws_handler(summary="Tell the room", output_type=Heard)
    async def handle_say(self, message: Say) -> None:
        await self.broadcast_message(Heard(payload=message.payload), groups=[self.room], exclude_current=False)
        await self.broadcast_event(Said(payload=message.payload), groups=[self.room])

    @event_handler(output_type=Heard)
    async def handle_said(self, event: Said) -> Heard:
        return Heard(payload=Words(words=f"event: {event.payload.words}"))

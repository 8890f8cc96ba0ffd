"""The chat's socket and the ticker's event stream. README.md lists what goes over the wire."""

import asyncio
from typing import Any

from django.core.exceptions import ValidationError
from django.forms import Form
from django.utils import timezone

from chat.forms import JoinForm, SayForm
from chat.models import Message, Room
from chat.presence import presence
from sealane.consumers import AsyncEventStreamConsumer, AsyncJsonWebsocketConsumer
from sealane.exceptions import DenyConnection, FrameError
from sealane.layers import BaseChannelLayer


class RoomConsumer(AsyncJsonWebsocketConsumer):
    """One window that looks into one room."""

    # Joined for every connection, before connect() runs. Views post notices there.
    groups = ["notices"]

    channel_layer: BaseChannelLayer  # never None: settings.CHANNEL_LAYERS has it
    room: Room
    name = ""  # until the window has joined

    async def connect(self) -> None:
        try:
            self.room = await Room.objects.aget(slug=self.scope["url_route"]["kwargs"]["slug"])
        except Room.DoesNotExist:
            raise DenyConnection(404, "There is no such room.") from None
        await self.accept()

    async def disconnect(self, code: int) -> None:
        # Runs once, however the connection ended. The groups are left without being asked for.
        if self.name and presence.leave(self.room.slug, self.name):
            await self.tell_presence("left")

    # What the page asks for

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        try:
            match content:
                case {"action": "join"} if not self.name:
                    await self.join(**cleaned(JoinForm(content)))
                case {"action": "say"} if self.name:
                    await self.say(**cleaned(SayForm(content)))
                case {"action": "join" | "say"}:
                    raise ValidationError("Join once, then say something.")
                case _:
                    raise ValidationError('Expected an object whose "action" is "join" or "say".')
        except ValidationError as error:
            # The sender is told and stays connected: one bad message is no reason to lose the good ones.
            key = content.get("key") if isinstance(content, dict) else None
            key = key if isinstance(key, str) else None
            await self.send_json({"type": "error", "message": " ".join(error.messages), "key": key})

    async def join(self, name: str, after: int | None) -> None:
        # The group first, the history second: what is said between the two arrives twice, and the page knows
        # it by its id. The other way round it would be lost.
        await self.channel_layer.group_add(self.room.group, self.channel_name)
        messages, more = await Message.recent(self.room, after=after or 0)
        self.name = name
        is_new = presence.enter(self.room.slug, name)
        await self.send_json(
            {
                "type": "welcome",
                "messages": [message.for_page() for message in messages],
                "more": more,
                "people": presence.people(self.room.slug),
            }
        )
        if is_new:
            await self.tell_presence("joined")

    async def say(self, text: str, key: str) -> None:
        message, _ = await Message.objects.aget_or_create(
            room=self.room, key=key, defaults={"name": self.name, "text": text}
        )
        # A repeated key is told to the room again: the first try may have ended between the two calls.
        await self.channel_layer.group_send(self.room.group, {"type": "chat.message", **message.for_page()})

    async def tell_presence(self, change: str) -> None:
        await self.channel_layer.group_send(
            self.room.group,
            {
                "type": "chat.presence",
                "name": self.name,
                "change": change,
                "people": presence.people(self.room.slug),
            },
        )

    async def on_error(self, error: Exception, message: dict[str, Any] | None) -> None:
        # By default a frame that is not JSON closes the socket. Here it is one more thing to complain about.
        if isinstance(error, FrameError):
            await self.send_json({"type": "error", "message": str(error), "key": None})
        else:
            await super().on_error(error, message)

    # What the channel layer brings: a message's type names its handler

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({**event, "type": "message"})

    async def chat_presence(self, event: dict[str, Any]) -> None:
        await self.send_json({**event, "type": "presence"})

    async def notice_posted(self, event: dict[str, Any]) -> None:
        await self.send_json({**event, "type": "notice"})


class TickerConsumer(AsyncEventStreamConsumer):
    """Tell a page once a second what time it is here, and how much company it has."""

    async def stream(self) -> None:
        # Without an end: a client that leaves cancels it.
        while True:
            people, rooms = presence.total()
            await self.send_event({"at": timezone.now(), "people": people, "rooms": rooms}, event="tick")
            await asyncio.sleep(1)


def cleaned(form: Form) -> dict[str, Any]:
    """Return a form's checked values, or raise ValidationError with all that is wrong, fields named."""
    if form.is_valid():
        return form.cleaned_data
    raise ValidationError([f"{field}: {text}" for field, texts in form.errors.items() for text in texts])

"""The chat's socket and the ticker's event stream. README.md lists what goes over the wire."""

import asyncio
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.forms import Form
from django.utils import timezone

from chat import presence
from chat.forms import JoinForm, SayForm
from chat.models import Message, Room, Visit
from sealane.consumers import AsyncEventStreamConsumer, AsyncJsonWebsocketConsumer
from sealane.exceptions import DenyConnection, FrameError
from sealane.layers import BaseChannelLayer, Gap


class RoomConsumer(AsyncJsonWebsocketConsumer):
    """One window that looks into one room."""

    # Joined for every connection, before connect() runs. Views post notices there.
    groups = ["notices"]

    channel_layer: BaseChannelLayer  # never None: settings.CHANNEL_LAYERS has it
    room: Room
    visit: Visit | None = None  # until the window has joined

    async def connect(self) -> None:
        try:
            self.room = await Room.objects.aget(slug=self.scope["url_route"]["kwargs"]["slug"])
        except Room.DoesNotExist:
            raise DenyConnection(404, "There is no such room.") from None
        await self.accept()

    async def disconnect(self, code: int) -> None:
        # Runs once, however the connection ended. The groups are left without being asked for.
        if self.visit and await presence.leave(self.visit):
            await self.tell_presence(self.visit, "left")

    # What the page asks for

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        try:
            match content:
                case {"action": "join"} if self.visit is None:
                    await self.join(**cleaned(JoinForm(content)))
                case {"action": "say"} if self.visit is not None:
                    await self.say(self.visit.name, **cleaned(SayForm(content)))
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
        self.visit, is_new = await presence.enter(self.room, name)
        self.spawn(self.stay(self.visit))
        await self.welcome(after or 0)
        if is_new:
            await self.tell_presence(self.visit, "joined")

    async def welcome(self, after: int = 0) -> None:
        messages, more = await Message.recent(self.room, after=after)
        await self.send_json(
            {
                "type": "welcome",
                "messages": [message.for_page() for message in messages],
                "more": more,
                "people": await presence.people(self.room),
            }
        )

    async def say(self, name: str, text: str, key: str) -> None:
        message, _ = await Message.objects.aget_or_create(
            room=self.room, key=key, defaults={"name": name, "text": text}
        )
        # A repeated key is told to the room again: the first try may have ended between the two calls.
        await self.channel_layer.group_send(self.room.group, {"type": "chat.message", **message.for_page()})

    async def stay(self, visit: Visit) -> None:
        """Keep a visit alive, and end those of processes that were killed. Cancelled when the connection ends."""
        while True:
            await asyncio.sleep(presence.REFRESH)
            await visit.asave()
            for other in await presence.sweep():
                await self.tell_presence(other, "left")

    async def tell_presence(self, visit: Visit, change: str) -> None:
        await self.channel_layer.group_send(
            visit.room.group,
            {
                "type": "chat.presence",
                "name": visit.name,
                "change": change,
                "people": await presence.people(visit.room),
            },
        )

    async def on_gap(self, gap: Gap) -> None:
        # The layer may have lost messages, as where its server came back without its data. What was said is in the
        # database, so the page gets it from there.
        if self.visit:
            await self.welcome()

    async def on_error(self, error: Exception, message: dict[str, Any] | None) -> None:
        # By default a frame that is not JSON closes the socket. Here it is one more thing to complain about.
        if isinstance(error, FrameError):
            await self.send_json({"type": "error", "message": str(error), "key": None})
        elif isinstance(error, IntegrityError):
            # The room was removed under the window, which comes back and is told so.
            await self.close(4404)
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
            people, rooms = await presence.total()
            await self.send_event({"at": timezone.now(), "people": people, "rooms": rooms}, event="tick")
            await asyncio.sleep(1)


def cleaned(form: Form) -> dict[str, Any]:
    """Return a form's checked values, or raise ValidationError with all that is wrong, fields named."""
    if form.is_valid():
        return form.cleaned_data
    raise ValidationError([f"{field}: {text}" for field, texts in form.errors.items() for text in texts])

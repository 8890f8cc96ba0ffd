"""Rooms, what was said in them, and who is there."""

# The fields' annotations are for type checkers: at run time Django's field classes take no parameters.
from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models
from django.urls import reverse

NAME_LENGTH = 24
TEXT_LENGTH = 1000

#: How many messages a window that returns is told once more.
OVERLAP = 20


class Room(models.Model):
    """A place to talk. Its slug stands in the address of its page and of its socket."""

    name: models.CharField[str, str] = models.CharField(max_length=40)
    slug: models.SlugField[str, str] = models.SlugField(max_length=40, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("room", args=[self.slug])

    @property
    def group(self) -> str:
        """The channel layer group that every window in this room is a member of."""
        return f"room.{self.pk}"


class Message(models.Model):
    """One thing that somebody said in a room."""

    room: models.ForeignKey[Room, Room] = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    name: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    text: models.TextField[str, str] = models.TextField(max_length=TEXT_LENGTH)
    at: models.DateTimeField[datetime, datetime] = models.DateTimeField(auto_now_add=True)
    # Chosen by the page. A page that lost its connection cannot know whether a message arrived, so it sends
    # it again under the same key: the second copy finds the first one here.
    key: models.UUIDField[UUID | str, UUID] = models.UUIDField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["room", "key"], name="message_key_once")]
        indexes = [models.Index(fields=["room", "id"], name="message_room_id")]

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"

    @classmethod
    async def recent(cls, room: Room, *, after: int = 0, limit: int = 50) -> tuple[list[Message], bool]:
        """Return a room's newest messages, oldest first, and whether the limit left older ones out.

        With ``after``, the id of a message, only what was said since then, and a little of what was said before: a
        message has its id when it is stored, and another one may be told earlier than it.
        """
        newest = cls.objects.filter(room=room, id__gt=after - OVERLAP).order_by("-id")[: limit + 1]
        found = [message async for message in newest]
        return found[:limit][::-1], len(found) > limit

    def for_page(self) -> dict[str, Any]:
        """Return what a page is told of this message."""
        return {"id": self.pk, "name": self.name, "text": self.text, "at": self.at, "key": self.key.hex}


class Visit(models.Model):
    """One window that looks into a room. It counts as long as the server process that has it refreshes it."""

    room: models.ForeignKey[Room, Room] = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="visits")
    name: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    seen: models.DateTimeField[datetime, datetime] = models.DateTimeField(auto_now=True)

    class Meta:
        indexes = [models.Index(fields=["seen"], name="visit_seen")]

    def __str__(self) -> str:
        return f"{self.name} in {self.room}"

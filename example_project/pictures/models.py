"""Pictures, whose they are, and how far the worker is with them."""

# The fields' annotations are for type checkers: at run time Django's field classes take no parameters.
from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import models, transaction
from django.urls import reverse

import sealane
from pictures.resizing import WIDTHS
from sealane.layers import channel_layers

NAME_LENGTH = 80

#: How many pictures a visitor may have. One more, and the oldest goes.
KEPT = 12


def original_path(picture: Picture, name: str) -> str:
    """Name a file by its key alone: what a stranger calls it does not get into the file system."""
    return f"pictures/{picture.pk}/original"


class Picture(models.Model):
    """One picture that somebody sent."""

    class State(models.TextChoices):
        WAITING = "waiting"
        RESIZING = "resizing"
        DONE = "done"
        FAILED = "failed"

    key: models.UUIDField[UUID | str, UUID] = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    # A visitor is known by a random number in the session. Whoever does not have it finds no picture.
    owner: models.UUIDField[UUID | str, UUID] = models.UUIDField()
    name: models.CharField[str, str] = models.CharField(max_length=NAME_LENGTH)
    original: models.FileField = models.FileField(upload_to=original_path)
    state: models.CharField[str, str] = models.CharField(max_length=8, choices=State, default=State.WAITING)
    percent: models.PositiveSmallIntegerField[int, int] = models.PositiveSmallIntegerField(default=0)
    problem: models.CharField[str, str] = models.CharField(max_length=200, blank=True)
    at: models.DateTimeField[datetime, datetime] = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["owner", "-at"], name="picture_owner_at")]

    def __str__(self) -> str:
        return self.name

    @classmethod
    def take(cls, owner: UUID, file: Any) -> Picture:
        """Store a file that was checked, and have a worker make small pictures of it."""
        with transaction.atomic():
            picture = cls.objects.create(owner=owner, name=file.name[-NAME_LENGTH:], original=file)
            for old in cls.objects.filter(owner=owner)[KEPT:]:
                old.remove()
            # After the commit: a worker that is quick would look for a picture that is not there yet.
            channel_layers["default"].sync.send(
                "pictures", {"type": "picture.resize", "key": picture.pk}, on_commit=True
            )
        return picture

    @property
    def directory(self) -> Path:
        """Where its files are. No address leads there: a view shows them to their owner."""
        return Path(settings.MEDIA_ROOT) / "pictures" / str(self.pk)

    def note(self, state: State, percent: int, problem: str = "") -> None:
        """Store how far it is, and tell its owner's windows."""
        self.state, self.percent, self.problem = state, percent, problem
        # update(): where the picture was removed meanwhile, save() would bring it back.
        Picture.objects.filter(pk=self.pk).update(state=state, percent=percent, problem=problem)
        sealane.broadcast(group_of(self.owner), {"type": "picture.changed", **self.for_page()})

    def remove(self) -> None:
        """Remove it, and its files when that is certain."""
        directory = self.directory
        self.delete()
        transaction.on_commit(lambda: shutil.rmtree(directory, ignore_errors=True))

    def for_page(self) -> dict[str, Any]:
        """Return what a page is told of this picture."""
        sizes = {str(width): reverse("picture", args=[self.pk, width]) for width in WIDTHS}
        return {
            "key": str(self.pk),
            "name": self.name,
            "state": str(self.state),
            "percent": self.percent,
            "problem": self.problem,
            "sizes": sizes if self.state == self.State.DONE else {},
        }


def group_of(owner: UUID) -> str:
    """The channel layer group that every window of a visitor is a member of."""
    return f"pictures.{owner.hex}"

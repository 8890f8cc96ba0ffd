"""The worker's job, and the socket that tells a page how far it is. README.md lists what goes over the wire."""

import time
from typing import Any
from uuid import UUID

from django.conf import settings

from pictures.models import Picture, group_of
from pictures.resizing import UnreadablePicture, resize
from sealane.consumers import AsyncJsonWebsocketConsumer, DeliveredMessage, SyncConsumer
from sealane.db import database_sync_to_async
from sealane.exceptions import DenyConnection
from sealane.layers import BaseChannelLayer, Gap


class ResizeConsumer(SyncConsumer):
    """Makes small pictures, in a worker. A synchronous consumer: it computes, and its thread may be held up.

    A job may come twice, as when its worker was killed in the midst of it. So it looks what is there, and goes on.
    """

    def picture_resize(self, message: DeliveredMessage) -> None:
        picture = Picture.objects.filter(pk=message["key"]).first()
        if picture is None:
            return  # it was removed while the job waited
        try:
            for percent in resize(picture.directory / "original", picture.directory):
                picture.note(Picture.State.RESIZING, percent)
                time.sleep(settings.PICTURES_PAUSE)
        except UnreadablePicture as error:
            # To try again would not help.
            picture.note(Picture.State.FAILED, picture.percent, str(error))
            self.reject(str(error))
        picture.note(Picture.State.DONE, 100)

    def on_error(self, error: Exception, message: Any) -> None:  # type: ignore[override]
        # The worker delivers the job again. After the last delivery somebody has to be told.
        delivery = message and message.delivery
        if delivery and delivery.max_deliveries is not None and delivery.attempt >= delivery.max_deliveries:
            picture = Picture.objects.filter(pk=message.get("key")).first()
            if picture is not None:
                picture.note(Picture.State.FAILED, picture.percent, "It could not be resized, for a reason of ours.")
        super().on_error(error, message)


class PicturesConsumer(AsyncJsonWebsocketConsumer):
    """One window that looks at its visitor's pictures."""

    channel_layer: BaseChannelLayer  # never None: settings.CHANNEL_LAYERS has it
    owner: UUID

    async def connect(self) -> None:
        owner = await database_sync_to_async(self.scope["session"].get)("owner")
        if owner is None:
            raise DenyConnection(403, "Open the page first: it gives you a session.")
        self.owner = UUID(owner)
        # The group first, the pictures second: what changes between the two is told twice, and never missed.
        await self.channel_layer.group_add(group_of(self.owner), self.channel_name)
        await self.accept()
        await self.tell_all()

    async def tell_all(self) -> None:
        pictures = [picture.for_page() async for picture in Picture.objects.filter(owner=self.owner)]
        await self.send_json({"type": "pictures", "pictures": pictures})

    async def on_gap(self, gap: Gap) -> None:
        # The layer may have lost messages. How far everything is stands in the database.
        await self.tell_all()

    async def picture_changed(self, event: dict[str, Any]) -> None:
        await self.send_json({**event, "type": "picture"})

"""The ASGI application: sockets, the ticker and the worker's jobs go to consumers, everything else to Django."""

import os
from typing import Any

from django.core.asgi import get_asgi_application
from django.urls import path, re_path

from sealane.routing import (
    AllowedHostsOriginValidator,
    ChannelNameRouter,
    ProtocolTypeRouter,
    SessionMiddlewareStack,
    URLRouter,
    not_found,
)

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

# Any, because type stubs for Django expect views in path(), and these are ASGI applications. This line sets Django up,
# so it comes before the consumers, which import models.
pages: Any = get_asgi_application()

from chat.consumers import RoomConsumer, TickerConsumer  # noqa: E402
from pictures.consumers import PicturesConsumer, ResizeConsumer  # noqa: E402

room: Any = RoomConsumer.as_asgi()
ticker: Any = TickerConsumer.as_asgi()
pictures: Any = SessionMiddlewareStack(PicturesConsumer.as_asgi())

application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                path("ticker/", ticker),
                re_path(r"", pages),
            ]
        ),
        # A page of another site may not use its visitor's browser to speak here.
        "websocket": AllowedHostsOriginValidator(
            URLRouter(
                [
                    path("ws/rooms/<slug:slug>/", room),
                    path("ws/pictures/", pictures),
                ],
                not_found=not_found,
            )
        ),
        # What a worker takes from the channel layer: runworker pictures, or runserver --worker pictures.
        "channel": ChannelNameRouter({"pictures": ResizeConsumer.as_asgi()}),
    }
)

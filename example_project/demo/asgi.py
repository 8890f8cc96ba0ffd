"""The ASGI application: sockets and the ticker go to consumers, everything else to Django."""

import os
from typing import Any

from django.core.asgi import get_asgi_application
from django.urls import path, re_path

from sealane.routing import AllowedHostsOriginValidator, ProtocolTypeRouter, URLRouter, not_found

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo.settings")

# Any, because type stubs for Django expect views in path(), and these are ASGI applications. This line sets Django up,
# so it comes before the consumers, which import models.
pages: Any = get_asgi_application()

from chat.consumers import RoomConsumer, TickerConsumer  # noqa: E402

room: Any = RoomConsumer.as_asgi()
ticker: Any = TickerConsumer.as_asgi()

application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                path("ticker/", ticker),
                re_path(r"", pages),
            ]
        ),
        # A page of another site may not use its visitor's browser to speak here.
        "websocket": AllowedHostsOriginValidator(URLRouter([path("ws/rooms/<slug:slug>/", room)], not_found=not_found)),
    }
)

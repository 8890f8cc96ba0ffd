"""A WebSocket for each package, and GraphQL over HTTP too."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path, re_path  # noqa: E402
from port.api import ShipConsumer  # noqa: E402
from port.rooms import RoomConsumer  # noqa: E402
from port.schema import schema  # noqa: E402
from strawberry.channels import GraphQLHTTPConsumer, GraphQLWSConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": URLRouter([path("graphql", GraphQLHTTPConsumer.as_asgi(schema=schema)), re_path("", django)]),
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    path("ws/ships/", ShipConsumer.as_asgi()),
                    path("ws/rooms/<str:room>/", RoomConsumer.as_asgi()),
                    path("graphql", GraphQLWSConsumer.as_asgi(schema=schema)),
                ]
            )
        ),
    }
)

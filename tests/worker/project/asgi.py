"""The ASGI application of the sample project: Django, and two channels."""

import os

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

from django.core.asgi import get_asgi_application

from sealane.routing import ChannelNameRouter, ProtocolTypeRouter

pages = get_asgi_application()

from work import Blocking, Jobs  # type: ignore[import-not-found]  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": pages,
        "channel": ChannelNameRouter({"jobs": Jobs.as_asgi(), "blocking": Blocking.as_asgi()}),
    }
)

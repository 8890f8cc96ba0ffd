import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "harbour.settings")
http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from quay.middleware import FlagMiddleware  # noqa: E402
from quay.routing import http_urlpatterns, websocket_urlpatterns, workers  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": URLRouter(http_urlpatterns(http)),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(FlagMiddleware(URLRouter(websocket_urlpatterns)))
        ),
        "channel": ChannelNameRouter(workers),
    }
)

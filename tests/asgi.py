"""The ASGI application of the test project: plain Django."""

from django.core.asgi import get_asgi_application

__all__ = ["application"]

application = get_asgi_application()

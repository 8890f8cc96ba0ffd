"""Routers, and the ASGI middleware that is composed with them."""

from sealane.routing.application import get_default_application
from sealane.routing.auth import AuthMiddleware, AuthMiddlewareStack, get_user, login, logout
from sealane.routing.channel import ChannelNameRouter
from sealane.routing.cookies import CookieMiddleware
from sealane.routing.drain import Drain
from sealane.routing.middleware import BaseMiddleware
from sealane.routing.not_found import not_found
from sealane.routing.origin import AllowedHostsOriginValidator, OriginValidator
from sealane.routing.protocol import ProtocolTypeRouter
from sealane.routing.sessions import SessionMiddleware, SessionMiddlewareStack
from sealane.routing.token import TokenAuthMiddleware
from sealane.routing.url import URLRouter

__all__ = [
    "AllowedHostsOriginValidator",
    "AuthMiddleware",
    "AuthMiddlewareStack",
    "BaseMiddleware",
    "ChannelNameRouter",
    "CookieMiddleware",
    "Drain",
    "OriginValidator",
    "ProtocolTypeRouter",
    "SessionMiddleware",
    "SessionMiddlewareStack",
    "TokenAuthMiddleware",
    "URLRouter",
    "get_default_application",
    "get_user",
    "login",
    "logout",
    "not_found",
]

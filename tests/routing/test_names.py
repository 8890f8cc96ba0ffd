"""The public names of sealane.routing, and that importing them needs nothing."""

import subprocess
import sys
from pathlib import Path

import sealane
import sealane.routing

PUBLIC = {
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
}


def test_all_of_them_are_there() -> None:
    assert set(sealane.routing.__all__) == PUBLIC
    assert all(callable(getattr(sealane.routing, name)) for name in PUBLIC)


def test_they_can_be_imported_before_django_is_set_up() -> None:
    # As in an asgi.py that imports its routing above get_asgi_application().
    source = str(Path(sealane.__file__).parents[1])
    program = (
        f"import sys; sys.path.insert(0, {source!r})\n"
        "from sealane.routing import *\n"
        "from django.conf import settings\n"
        "from django.apps import apps\n"
        "print(settings.configured, apps.ready)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True, env={}
    )
    assert result.stdout.split() == ["False", "False"]

"""Test tools: communicators that are the client of an application, and live servers for real clients.

The names are imported when they are first used, since pytest loads this package, for its plugin, in every
run.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sealane.testing.application import ApplicationCommunicator
    from sealane.testing.http import HttpCommunicator
    from sealane.testing.live import LiveServerTestCase
    from sealane.testing.server import LiveServer
    from sealane.testing.websocket import WebsocketCommunicator

__all__ = [
    "ApplicationCommunicator",
    "HttpCommunicator",
    "LiveServer",
    "LiveServerTestCase",
    "WebsocketCommunicator",
]

_MODULES = {
    "ApplicationCommunicator": "sealane.testing.application",
    "HttpCommunicator": "sealane.testing.http",
    "LiveServer": "sealane.testing.server",
    "LiveServerTestCase": "sealane.testing.live",
    "WebsocketCommunicator": "sealane.testing.websocket",
}


def __getattr__(name: str) -> Any:
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

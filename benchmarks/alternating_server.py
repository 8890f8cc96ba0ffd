"""The server of the alternating broadcasts: one process, with members of each kind, and a control socket.

Started as `python -m benchmarks.alternating_server REDIS`. It writes its port on its standard output and serves until
it is terminated.
"""

import sys
from collections.abc import Awaitable
from typing import Any

import django
from django.conf import settings

from benchmarks.applications import limit
from benchmarks.layers import setting
from benchmarks.processor import pin, server_core
from benchmarks.server import serve
from benchmarks.store import Store
from benchmarks.workload import CAPACITY, GROUP, TEXT
from sealane.consumers import AsyncWebsocketConsumer
from sealane.layers import channel_layers
from sealane.types import ASGIApplication, Message, Receive, Scope, Send

__all__ = ["KINDS", "main"]

#: What is broadcast to, in the order of a round: the bare application, and the consumers of each layer.
KINDS = ("limit", "memory", "streams", "pubsub")


def _configure(store: Store) -> None:
    layers: dict[str, dict[str, Any]] = {
        "memory": {"BACKEND": "sealane.layers.InMemoryChannelLayer", "CONFIG": {"capacity": CAPACITY}}
    }
    for alias in ("streams", "pubsub"):
        layers[alias] = setting(f"sealane-{alias}", store)
        # They share the server, and would serve each other's members.
        layers[alias]["CONFIG"]["prefix"] = alias
    settings.configure(SECRET_KEY="for measuring only", INSTALLED_APPS=[], DATABASES={}, CHANNEL_LAYERS=layers)
    django.setup()


def _member(alias: str) -> ASGIApplication:
    class Member(AsyncWebsocketConsumer):
        groups = [GROUP]
        channel_layer_alias = alias

        async def bench_text(self, event: Message) -> None:
            await self.send(text_data=event["text"])

    return Member.as_asgi()


async def _control(scope: Scope, receive: Receive, send: Send) -> None:
    """Broadcast to the members of the kind that each text names."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        if event["text"] == "limit":
            await limit.broadcast(TEXT, encoded=False)
        else:
            await channel_layers[event["text"]].group_send(GROUP, {"type": "bench.text", "text": TEXT})


def main(store: str) -> None:
    """Serve until a signal says stop."""
    pin(server_core())
    running = Store.load(store)
    assert running is not None
    _configure(running)
    applications = {"/control": _control, "/limit": limit.member()}
    applications |= {f"/{kind}": _member(kind) for kind in KINDS if kind != "limit"}

    def application(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return applications[scope["path"]](scope, receive, send)

    serve(application)


if __name__ == "__main__":
    main(sys.argv[1])

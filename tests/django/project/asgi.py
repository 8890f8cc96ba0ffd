"""A plain ASGI application, with the kinds of behaviour that a server has to cope with, beside Django."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"

django_application = get_asgi_application()

#: One line per WebSocket whose end the application has seen.
NOTES = Path(__file__).parent / "notes.txt"


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve WebSockets and streams by path, and Django for the rest."""
    if scope["type"] == "websocket":
        await websocket(scope["path"], receive, send)
    elif scope["type"] == "http" and scope["path"] == "/events":
        await stream(send, first=b"data: hello\n\n", pause=0.05)
    elif scope["type"] == "http" and scope["path"] == "/partial":
        await stream(send, first=b"part", pause=3600)
    elif scope["type"] == "http" and scope["path"] == "/never":
        await asyncio.sleep(3600)
    else:
        await django_application(scope, receive, send)


async def websocket(path: str, receive: Any, send: Any) -> None:
    """Echo, refuse, or hang."""
    await receive()
    if path == "/ws/refused":
        await send({"type": "websocket.close"})
        return
    if path == "/ws/undecided":
        await receive()
        return
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
        if path == "/ws/blocked":
            await sync_to_async(time.sleep, thread_sensitive=False)(3600)
    with NOTES.open("a") as notes:
        notes.write(f"{path} {event['code']}\n")


async def stream(send: Any, *, first: bytes, pause: float) -> None:
    """Begin a response that does not end."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    while True:
        await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": b": alive\n\n", "more_body": True})

"""An application that sends 400 MB to clients which may not read, and reports what that costs its process.

Servers run it, with ``DJANGO_SETTINGS_MODULE=tests.settings``: ``python -m uvicorn tests.consumers.flood:application``.
"""

import asyncio
from pathlib import Path
from typing import Any

from django.urls import path

from sealane.consumers import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer
from sealane.layers import get_channel_layer
from sealane.routing import ProtocolTypeRouter, URLRouter
from sealane.types import Message

__all__ = ["FRAME", "FRAMES", "application", "frame"]

#: Bytes of a frame, and how many are sent: 400 MiB together.
FRAME = 64 * 1024
FRAMES = 6400


def frame(number: int) -> str:
    """The content of a frame: each is a string of its own, so that one which is kept is seen in the memory."""
    return f"{number:08d}" + "x" * (FRAME - 8)


class Flooded(AsyncWebsocketConsumer):
    """It has no limits. What is sent to its group goes to the client by a handler."""

    sent = 0
    #: When the last one was sent, by the clock of the event loop.
    at = 0.0
    codes: list[int]

    def __init_subclass__(cls) -> None:
        cls.sent, cls.codes = 0, []
        super().__init_subclass__()

    async def flood_frame(self, message: Message) -> None:
        await self.send(text_data=message["text"])
        type(self).sent += 1

    async def disconnect(self, code: int) -> None:
        type(self).codes.append(code)


class Waits(Flooded):
    """A task of its own sends everything."""

    async def connect(self) -> None:
        await self.accept()
        self.spawn(self.flood())

    async def flood(self) -> None:
        for number in range(FRAMES):
            await self.send(text_data=frame(number))
            type(self).sent += 1
            type(self).at = asyncio.get_running_loop().time()


class Group(Flooded):
    groups = ["group"]


class Drops(Flooded):
    groups = ["drops"]
    max_send_queue = 1024 * 1024
    slow_client = "drop_oldest"


class Closes(Flooded):
    groups = ["closes"]
    max_send_queue = 1024 * 1024


class Deadline(Waits):
    send_timeout = 0.5


VICTIMS: dict[str, type[Flooded]] = {
    "waits": Waits,
    "group": Group,
    "drops": Drops,
    "closes": Closes,
    "deadline": Deadline,
}


def memory(name: str) -> int:
    """The bytes of ``VmRSS`` or ``VmHWM``, the most that it ever was, of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"the system does not say {name}")


class Control(AsyncJsonWebsocketConsumer):
    """Floods a group when it is told to, and reports on one kind of consumer."""

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        victim = VICTIMS[content["victim"]]
        if "type" in content:
            layer = get_channel_layer()
            assert layer is not None
            for number in range(FRAMES):
                await layer.group_send(content["victim"], {"type": content["type"], "text": frame(number)})
                await asyncio.sleep(0)
        await self.send_json(
            {
                "rss": memory("VmRSS"),
                "peak": memory("VmHWM"),
                "sent": victim.sent,
                "stands": bool(victim.sent) and asyncio.get_running_loop().time() - victim.at > 0.3,
                "codes": victim.codes,
                "counters": victim.limit_counters.as_dict(),
            }
        )


application = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [path("control", Control.as_asgi())]
            + [path(name, consumer.as_asgi()) for name, consumer in VICTIMS.items()]
        )
    }
)

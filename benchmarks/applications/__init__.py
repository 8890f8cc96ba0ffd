"""The same applications three times: bare, on Channels and on Sealane. `load` gives one side's."""

import importlib
import importlib.util
from typing import Any, Protocol, cast

from sealane.types import ASGIApplication, Message

__all__ = ["Applications", "MessageLayer", "available", "load"]


class MessageLayer(Protocol):
    """What the receive workload asks of a channel layer."""

    async def new_channel(self) -> str: ...
    async def send(self, channel: str, message: Message) -> None: ...
    async def receive(self, channel: str) -> Message: ...


class Applications(Protocol):
    """One side's module: what each workload runs.

    `backend` is what CHANNEL_LAYERS names where a workload has a layer. The others are made after Django is
    configured.
    """

    backend: str | None

    def dispatch(self) -> ASGIApplication:
        """Do nothing on `bench.event`, call the scope's `count` on `bench.count`, end after `bench.stop`."""

    def ping_pong(self) -> ASGIApplication:
        """Answer each `bench.ping` with the scope's `pong`, end after `bench.stop`."""

    def echo(self) -> ASGIApplication:
        """Send back each text."""

    def member(self) -> ASGIApplication:
        """Accept, be a member of the one group, and send its broadcasts on."""

    def joiner(self) -> ASGIApplication:
        """Accept; wait on "wait", join groups that others join too on "groups", one of its own on "channel"; answer."""

    async def broadcast(self, text: str, *, encoded: bool) -> None:
        """Send `text` to all members, by a handler of theirs or (`encoded`) as the event that it becomes."""

    def layer(self) -> MessageLayer:
        """Return a new layer."""

    async def join(self, layer: Any, group: str, channel: str) -> None:
        """Make `channel` a member of `group`, alive as far as that can be had for 100,000 members."""


def load(side: str) -> Applications:
    """Import one side's applications, whatever layer they have. Django must be configured by then."""
    module: Any = importlib.import_module(f"benchmarks.applications.{side.partition('-')[0]}")
    return cast(Applications, module)


def available(side: str) -> bool:
    """Tell whether what a side needs is installed."""
    family, _, layer = side.partition("-")
    return family != "channels" or importlib.util.find_spec("channels_redis" if layer else "channels") is not None

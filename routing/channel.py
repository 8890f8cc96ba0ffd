"""Route what arrives on named channels, in a worker, to applications."""

from collections.abc import Mapping

from sealane.exceptions import UnknownChannel
from sealane.routing.application import application_name
from sealane.types import ASGIApplication, Receive, Scope, Send

__all__ = ["ChannelNameRouter"]


class ChannelNameRouter:
    """Hand a scope to the application for its ``channel``: the names are those that a worker listens to.

    ::

        ChannelNameRouter({"thumbnails": ThumbnailConsumer.as_asgi()})

    The mapping is copied; the copy is ``application_mapping``. Calling the router costs one look into it;
    errors and cancellation of the application pass through.

    Raises UnknownChannel, a ValueError naming the channels that are known, for any other channel, and
    ValueError for a scope without a ``channel``.
    """

    def __init__(self, application_mapping: Mapping[str, ASGIApplication]) -> None:
        self.application_mapping = dict(application_mapping)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        channel = scope.get("channel")
        if channel is None:
            raise ValueError(
                f"ChannelNameRouter got a scope of type {scope.get('type')!r} without a 'channel' key. Use "
                "it for the type 'channel' only: ProtocolTypeRouter({'channel': ChannelNameRouter(...)})"
            )
        application = self.application_mapping.get(channel)
        if application is None:
            raise UnknownChannel(channel, sorted(self.application_mapping))
        await application(scope, receive, send)

    def __repr__(self) -> str:
        known = ", ".join(f"{name!r}: {application_name(app)}" for name, app in self.application_mapping.items())
        return f"{type(self).__name__}({{{known}}})"

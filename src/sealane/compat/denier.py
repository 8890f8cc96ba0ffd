"""The consumer that refuses every WebSocket."""

from sealane.consumers import AsyncWebsocketConsumer

__all__ = ["WebsocketDenier"]


class WebsocketDenier(AsyncWebsocketConsumer):
    """Refuse the connection, whatever it asks for. An ASGI application: ``WebsocketDenier()`` serves one connection."""

    async def connect(self) -> None:
        await self.close()

"""JSON over WebSockets, by the rules of Django's encoder."""

import json
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder

from sealane.consumers.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from sealane.exceptions import InvalidJSON, UnexpectedBinary

__all__ = ["AsyncJsonWebsocketConsumer", "JsonWebsocketConsumer", "decode", "encode"]

# Made once: json.dumps() with an encoder class makes one per call.
_ENCODER = DjangoJSONEncoder()


def encode(content: Any) -> str:
    """Return content as JSON.

    Beyond what JSON has: datetime, date, time and timedelta in ISO 8601, Decimal and UUID as strings, lazy
    translations as text, as :class:`django.core.serializers.json.DjangoJSONEncoder` writes them. Raises TypeError for
    anything else.
    """
    return _ENCODER.encode(content)


def decode(text_data: str) -> Any:
    """Return what a JSON text says. Raises :exc:`~sealane.exceptions.InvalidJSON`."""
    try:
        return json.loads(text_data)
    except json.JSONDecodeError as error:
        raise InvalidJSON(f"Text frame is not JSON: {error}") from None
    except RecursionError:
        raise InvalidJSON("Text frame is not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise InvalidJSON(f"Text frame is not JSON that can be read: {error}") from None


def _text(text_data: str | None) -> str:
    if text_data is None:
        raise UnexpectedBinary("No text section for incoming WebSocket frame: a JSON consumer takes text frames only")
    return text_data


class JsonWebsocketConsumer(WebsocketConsumer):
    """A WebSocket consumer whose text frames are JSON. A frame that is not closes the connection (1007, 1003)."""

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """Decode a frame and hand it to ``receive_json()``."""
        self.receive_json(self.decode_json(_text(text_data)), **kwargs)

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Handle what a frame says."""

    def send_json(self, content: Any, close: bool | int = False) -> None:
        """Send content as a JSON text frame. For what is encoded, see :func:`encode`.

        Not by way of a ``send()`` of a subclass, which may well call this.
        """
        super().send(text_data=self.encode_json(content), close=close)

    @classmethod
    def decode_json(cls, text_data: str) -> Any:
        """Decode a frame. Override it for another decoder."""
        return decode(text_data)

    @classmethod
    def encode_json(cls, content: Any) -> str:
        """Encode a frame. Override it for another encoder."""
        return encode(content)


class AsyncJsonWebsocketConsumer(AsyncWebsocketConsumer):
    """A WebSocket consumer whose text frames are JSON. A frame that is not closes the connection (1007, 1003)."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """Decode a frame and hand it to ``receive_json()``."""
        await self.receive_json(await self.decode_json(_text(text_data)), **kwargs)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Handle what a frame says."""

    async def send_json(self, content: Any, close: bool | int = False) -> None:
        """Send content as a JSON text frame. For what is encoded, see :func:`encode`.

        Not by way of a ``send()`` of a subclass, which may well call this.
        """
        await super().send(text_data=await self.encode_json(content), close=close)

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        """Decode a frame. Override it for another decoder."""
        return decode(text_data)

    @classmethod
    async def encode_json(cls, content: Any) -> str:
        """Encode a frame. Override it for another encoder."""
        return encode(content)

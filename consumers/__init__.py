"""Consumers: classes whose methods handle the messages of one connection."""

from sealane.consumers.admission import login_required, permission_required, user_passes_test
from sealane.consumers.base import AsyncConsumer
from sealane.consumers.delivered import DeliveredMessage, MessageDelivery
from sealane.consumers.demultiplexer import WebsocketDemultiplexer
from sealane.consumers.event_stream import AsyncEventStreamConsumer
from sealane.consumers.handlers import get_handler_name
from sealane.consumers.http import AsyncHttpConsumer
from sealane.consumers.json import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer
from sealane.consumers.pull import await_many_dispatch
from sealane.consumers.sync import SyncConsumer
from sealane.consumers.websocket import AsyncWebsocketConsumer, WebsocketConsumer

__all__ = [
    "AsyncConsumer",
    "AsyncEventStreamConsumer",
    "AsyncHttpConsumer",
    "AsyncJsonWebsocketConsumer",
    "AsyncWebsocketConsumer",
    "DeliveredMessage",
    "JsonWebsocketConsumer",
    "MessageDelivery",
    "SyncConsumer",
    "WebsocketConsumer",
    "WebsocketDemultiplexer",
    "await_many_dispatch",
    "get_handler_name",
    "login_required",
    "permission_required",
    "user_passes_test",
]

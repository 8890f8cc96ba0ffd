"""Channel layers: messages between consumers, and from any code to consumers."""

from sealane.layers.base import BaseChannelLayer
from sealane.layers.blocking import SyncChannelLayer
from sealane.layers.gap import Gap
from sealane.layers.inbox import Inbox
from sealane.layers.memory import InMemoryChannelLayer
from sealane.layers.registry import DEFAULT_CHANNEL_LAYER, ChannelLayerManager, channel_layers, get_channel_layer

__all__ = [
    "DEFAULT_CHANNEL_LAYER",
    "BaseChannelLayer",
    "ChannelLayerManager",
    "Gap",
    "InMemoryChannelLayer",
    "Inbox",
    "SyncChannelLayer",
    "channel_layers",
    "get_channel_layer",
]

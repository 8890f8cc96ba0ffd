"""Channel layers: messages between consumers, and from any code to consumers.

The layers over Redis are imported when they are first used, since not every project has redis-py.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sealane.layers.base import BaseChannelLayer
from sealane.layers.blocking import SyncChannelLayer
from sealane.layers.delivery import Delivery
from sealane.layers.gap import Gap
from sealane.layers.inbox import Inbox
from sealane.layers.memory import InMemoryChannelLayer
from sealane.layers.registry import DEFAULT_CHANNEL_LAYER, ChannelLayerManager, channel_layers, get_channel_layer

if TYPE_CHECKING:
    from sealane.layers.redis.pubsub import RedisPubSubChannelLayer
    from sealane.layers.redis.streams import RedisChannelLayer

__all__ = [
    "DEFAULT_CHANNEL_LAYER",
    "BaseChannelLayer",
    "ChannelLayerManager",
    "Delivery",
    "Gap",
    "InMemoryChannelLayer",
    "Inbox",
    "RedisChannelLayer",
    "RedisPubSubChannelLayer",
    "SyncChannelLayer",
    "channel_layers",
    "get_channel_layer",
]

_MODULES = {
    "RedisChannelLayer": "sealane.layers.redis.streams",
    "RedisPubSubChannelLayer": "sealane.layers.redis.pubsub",
}


def __getattr__(name: str) -> Any:
    try:
        module = _MODULES[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    try:
        value = globals()[name] = getattr(import_module(module), name)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] != "redis":
            raise
        raise ImportError(f'{name} needs redis-py: pip install "sealane[redis]"', name="redis") from exc
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

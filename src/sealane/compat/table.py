"""Which module of Sealane has what a module of Channels has."""

from collections.abc import Mapping
from typing import Final

__all__ = ["COMMANDS", "MODULES", "PACKAGES", "RELEASES", "Home"]

#: The versions whose names these are, by package.
RELEASES: Final = {"channels": "4.3.2", "channels_redis": "4.3.0"}

#: Where a name is at home: a module of Sealane, or of others, and the name that it has there.
Home = tuple[str, str]


def _same(module: str, *names: str) -> dict[str, Home]:
    return {name: (module, name) for name in names}


_WEBSOCKETS = {
    **_same("sealane.consumers.websocket", "AsyncWebsocketConsumer", "WebsocketConsumer"),
    **_same("sealane.consumers.json", "AsyncJsonWebsocketConsumer", "JsonWebsocketConsumer"),
}
_ENDS = _same("sealane.exceptions", "AcceptConnection", "DenyConnection", "StopConsumer", "InvalidChannelLayerError")
_ASYNC_CONSUMER = _same("sealane.consumers.base", "AsyncConsumer")
_SYNC_CONSUMER = _same("sealane.consumers.sync", "SyncConsumer")
_TO_ASYNC = _same("sealane.db", "database_sync_to_async")
_OLD_CONNECTIONS = _same("sealane.db", "aclose_old_connections")
_ALIAS = _same("sealane.layers.registry", "DEFAULT_CHANNEL_LAYER")
_DISPATCH = _same("sealane.consumers.pull", "await_many_dispatch")
_COOKIES = _same("sealane.routing.cookies", "CookieMiddleware")
_SESSIONS = _same("sealane.routing.sessions", "SessionMiddleware")
_BASE_MIDDLEWARE = _same("sealane.routing.middleware", "BaseMiddleware")
_BASE_LAYER = _same("sealane.layers.base", "BaseChannelLayer")
_FULL = _same("sealane.exceptions", "ChannelFull")
_APPLICATION = _same("sealane.routing.application", "get_default_application")
_APPLICATION_COMMUNICATOR = _same("sealane.testing.application", "ApplicationCommunicator")
_HTTP_COMMUNICATOR = _same("sealane.testing.http", "HttpCommunicator")
_WEBSOCKET_COMMUNICATOR = _same("sealane.testing.websocket", "WebsocketCommunicator")
_LIVE = {"ChannelsLiveServerTestCase": ("sealane.testing.live", "LiveServerTestCase")}
_REGISTRY = _same("sealane.compat.redis_serializers", "registry")
_HOSTS = _same("sealane.compat.redis_hosts", "create_pool", "decode_hosts")

#: The names of each module, those that it imports from its neighbours among them, since tests patch them there.
MODULES: Final[Mapping[str, Mapping[str, Home]]] = {
    "channels": _ALIAS,
    "channels.apps": _same("sealane.compat.apps", "ChannelsConfig"),
    "channels.auth": {
        **_same(
            "sealane.routing.auth",
            "AuthMiddleware",
            "AuthMiddlewareStack",
            "UserLazyObject",
            "get_user",
            "login",
            "logout",
        ),
        **_TO_ASYNC,
        **_BASE_MIDDLEWARE,
        **_COOKIES,
        **_SESSIONS,
        **_same("django.contrib.auth", "BACKEND_SESSION_KEY", "HASH_SESSION_KEY", "SESSION_KEY"),
    },
    "channels.consumer": {
        **_ASYNC_CONSUMER,
        **_SYNC_CONSUMER,
        **_same("sealane.consumers.handlers", "get_handler_name"),
        **_same("sealane.consumers.base", "get_channel_layer"),
        **_same("sealane.exceptions", "StopConsumer"),
        **_ALIAS,
        **_TO_ASYNC,
        **_OLD_CONNECTIONS,
        **_DISPATCH,
    },
    "channels.db": {
        **_same("sealane.db", "DatabaseSyncToAsync", "close_old_connections"),
        **_TO_ASYNC,
        **_OLD_CONNECTIONS,
    },
    "channels.exceptions": {
        **_ENDS,
        **_FULL,
        **_same("sealane.exceptions", "MessageTooLarge", "RequestAborted", "RequestTimeout"),
    },
    "channels.generic": {},
    "channels.generic.http": {
        **_same("sealane.consumers.http", "AsyncHttpConsumer"),
        **_ASYNC_CONSUMER,
        **_OLD_CONNECTIONS,
        **_same("sealane.exceptions", "StopConsumer"),
    },
    "channels.generic.websocket": {
        **_WEBSOCKETS,
        **_ASYNC_CONSUMER,
        **_SYNC_CONSUMER,
        **_OLD_CONNECTIONS,
        **_ENDS,
    },
    "channels.layers": {
        **_BASE_LAYER,
        **_same("sealane.layers.memory", "InMemoryChannelLayer"),
        **_same("sealane.layers.registry", "ChannelLayerManager", "channel_layers", "get_channel_layer"),
        **_ALIAS,
        **_FULL,
        **_same("sealane.exceptions", "InvalidChannelLayerError"),
    },
    "channels.management": {},
    "channels.management.commands": {},
    "channels.management.commands.runworker": {
        **_same("sealane.management.commands.runworker", "Command", "Worker"),
        **_same("sealane.layers.registry", "get_channel_layer"),
        **_APPLICATION,
        **_ALIAS,
    },
    "channels.middleware": _BASE_MIDDLEWARE,
    "channels.routing": {
        **_APPLICATION,
        **_same("sealane.routing.protocol", "ProtocolTypeRouter"),
        **_same("sealane.routing.url", "URLRouter"),
        **_same("sealane.routing.channel", "ChannelNameRouter"),
    },
    "channels.security": {},
    "channels.security.websocket": {
        **_same("sealane.routing.origin", "AllowedHostsOriginValidator", "OriginValidator"),
        **_same("sealane.compat.denier", "WebsocketDenier"),
        **_same("sealane.consumers.websocket", "AsyncWebsocketConsumer"),
    },
    "channels.sessions": {
        **_COOKIES,
        **_SESSIONS,
        **_same("sealane.routing.sessions", "SessionMiddlewareStack"),
        **_same("sealane.compat.sessions", "InstanceSessionWrapper"),
        **_TO_ASYNC,
    },
    "channels.testing": {**_APPLICATION_COMMUNICATOR, **_HTTP_COMMUNICATOR, **_WEBSOCKET_COMMUNICATOR, **_LIVE},
    "channels.testing.application": _APPLICATION_COMMUNICATOR,
    "channels.testing.http": {**_APPLICATION_COMMUNICATOR, **_HTTP_COMMUNICATOR},
    "channels.testing.live": {
        **_LIVE,
        **_APPLICATION,
        **_same("django.db.backends.base.creation", "TEST_DATABASE_PREFIX"),
    },
    "channels.testing.websocket": {**_APPLICATION_COMMUNICATOR, **_WEBSOCKET_COMMUNICATOR},
    "channels.utils": {**_same("sealane.compat.naming", "name_that_thing"), **_DISPATCH},
    "channels.worker": _same("sealane.worker.worker", "Worker"),
    "channels_redis": {},
    "channels_redis.core": {
        **_same("sealane.layers.redis.streams", "RedisChannelLayer"),
        **_BASE_LAYER,
        **_FULL,
        **_REGISTRY,
        **_HOSTS,
    },
    "channels_redis.pubsub": {
        **_same("sealane.layers.redis.pubsub", "RedisPubSubChannelLayer"),
        **_REGISTRY,
        **_HOSTS,
    },
    "channels_redis.serializers": {
        **_REGISTRY,
        **_same(
            "sealane.compat.redis_serializers",
            "BaseMessageSerializer",
            "JSONSerializer",
            "MissingSerializer",
            "MsgPackSerializer",
            "SerializerDoesNotExist",
            "SerializersRegistry",
        ),
    },
    "channels_redis.utils": _HOSTS,
    # Only what Django looks for where the application is installed, and only where the real one is not.
    "daphne": {},
    "daphne.apps": _same("sealane.compat.apps", "DaphneConfig"),
    "daphne.management": {},
    "daphne.management.commands": {},
}

#: Packages in which Django finds the commands of an application by their place: those of Sealane.
COMMANDS: Final = ("channels.management.commands", "daphne.management.commands")

#: The modules above that have others below them.
PACKAGES: Final = frozenset(name.rpartition(".")[0] for name in MODULES) | {*RELEASES, *COMMANDS}

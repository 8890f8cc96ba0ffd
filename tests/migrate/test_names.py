"""The names that the codemod writes are the objects that the compatibility layer gives."""

from importlib import import_module

import pytest

from sealane.compat.table import MODULES
from sealane.migrate.names import Target, names

HOMES = {f"{module}.{name}": home for module, members in MODULES.items() for name, home in members.items()}


@pytest.mark.parametrize("old", HOMES)
def test_every_name_of_the_table_is_there(old: str) -> None:
    target = names().find(old)
    if old.startswith(("channels.apps.", "daphne.apps.")):
        assert target is None, "a name of an application belongs into INSTALLED_APPS"
        return
    assert target is not None
    assert target.name is not None
    module, name = HOMES[old]
    assert getattr(import_module(target.module), target.name) is getattr(import_module(module), name)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_that_takes_a_place_is_there(module: str) -> None:
    target = names().find(module)
    if target is not None:
        assert target.name is None
        import_module(target.module)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("channels.consumer.AsyncConsumer", "sealane.consumers.AsyncConsumer"),
        ("channels.generic.websocket.AsyncWebsocketConsumer", "sealane.consumers.AsyncWebsocketConsumer"),
        ("channels.auth.AuthMiddlewareStack", "sealane.routing.AuthMiddlewareStack"),
        ("channels.security.websocket.OriginValidator", "sealane.routing.OriginValidator"),
        ("channels.layers.get_channel_layer", "sealane.layers.get_channel_layer"),
        ("channels.testing.live.ChannelsLiveServerTestCase", "sealane.testing.LiveServerTestCase"),
        ("channels.exceptions.ChannelFull", "sealane.exceptions.ChannelFull"),
        ("channels_redis.pubsub.RedisPubSubChannelLayer", "sealane.layers.RedisPubSubChannelLayer"),
        ("channels.worker.Worker", "sealane.worker.Worker"),
        ("channels.sessions", "sealane.routing"),
        ("channels.db", "sealane.db"),
        ("channels", "sealane"),
        ("channels.generic", "None"),
        ("daphne.server", "None"),
    ],
)
def test_names_come_from_where_they_are_public(old: str, new: str) -> None:
    assert str(names().find(old)) == new


def test_what_follows_a_name() -> None:
    assert names().find_prefix("channels.layers.InMemoryChannelLayer.send") == (
        3,
        Target("sealane.layers", "InMemoryChannelLayer"),
    )
    assert names().find_prefix("channels.layers.missing") is None
    assert names().find_prefix("channels.missing.A") is None


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("channels.layers.missing", True),
        ("channels.Channel", False),
        ("channels", False),
        ("channels_redis.missing", True),
        ("daphne.server", True),
        ("other.layers", False),
    ],
)
def test_what_is_surely_meant(text: str, meant: bool) -> None:
    assert names().is_meant(text) is meant

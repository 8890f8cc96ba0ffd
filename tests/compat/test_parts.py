"""The smaller parts that Channels has and Sealane has for it."""

from typing import Any

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.test import override_settings
from redis.asyncio import SentinelConnectionPool

from sealane.compat.denier import WebsocketDenier
from sealane.compat.distribution import ReleaseInfo
from sealane.compat.naming import name_that_thing
from sealane.compat.redis_hosts import create_pool, decode_hosts
from sealane.compat.sessions import InstanceSessionWrapper
from sealane.consumers import AsyncConsumer, AsyncWebsocketConsumer
from sealane.layers import ChannelLayerManager, InMemoryChannelLayer, channel_layers
from sealane.testing import ApplicationCommunicator, WebsocketCommunicator
from sealane.types import Message
from tests.compat.former_layer import FormerLayer


def test_names_of_things() -> None:
    class Thing:
        def method(self) -> None: ...

        @classmethod
        def of_the_class(cls) -> None: ...

    here = __name__
    assert name_that_thing(AsyncConsumer) == "sealane.consumers.base.AsyncConsumer"
    assert name_that_thing(name_that_thing) == "sealane.compat.naming.name_that_thing"
    assert name_that_thing(Thing()) == name_that_thing(Thing) == f"{here}.Thing"
    assert name_that_thing(Thing().method) == name_that_thing(Thing.of_the_class) == f"{here}.Thing"
    assert name_that_thing(1) == "builtins.int"


def test_a_release_has_no_files() -> None:
    release = ReleaseInfo("channels")
    assert release.version == "4.3.2"
    assert release.read_text("RECORD") is None
    assert list(release.entry_points) == []
    with pytest.raises(FileNotFoundError, match=r"channels is Sealane here, and has no file 'channels/apps\.py'"):
        release.locate_file("channels/apps.py")


@pytest.mark.parametrize(
    ("hosts", "decoded"),
    [
        (None, [{"address": "redis://localhost:6379"}]),
        ([], [{"address": "redis://localhost:6379"}]),
        (["redis://a", ("b", 1)], [{"address": "redis://a"}, {"host": "b", "port": 1}]),
        ([{"host": "c", "db": 2}], [{"host": "c", "db": 2}]),
    ],
)
def test_decode_hosts(hosts: Any, decoded: list[dict[str, Any]]) -> None:
    assert decode_hosts(hosts) == decoded


def test_a_text_for_hosts_is_refused() -> None:
    with pytest.raises(ValueError, match="hosts is of type str; expected a list of Redis hosts"):
        decode_hosts("redis://a")


def test_pools() -> None:
    pool = create_pool({"address": "redis://a:7/2", "max_connections": 3})
    assert pool.connection_kwargs["host"] == "a"
    assert pool.connection_kwargs["db"] == 2
    assert pool.max_connections == 3
    assert create_pool({"host": "b", "port": 8}).connection_kwargs["port"] == 8
    options = {"master_name": "main", "sentinels": [("s", 26379)], "sentinel_kwargs": {"password": "p"}, "db": 1}
    guarded = create_pool(options)
    assert isinstance(guarded, SentinelConnectionPool)
    assert guarded.service_name == "main"
    assert guarded.connection_kwargs["db"] == 1
    assert "sentinels" in options  # what came is left alone


async def test_the_denier_refuses() -> None:
    async with ApplicationCommunicator(WebsocketDenier(), {"type": "websocket", "path": "/"}) as communicator:
        await communicator.send_input({"type": "websocket.connect"})
        assert await communicator.receive_output(10) == {"type": "websocket.close"}


# The thread that saves may have a connection from another test, and looks whether it is old.
@pytest.mark.django_db
@override_settings(SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies")
async def test_a_session_wrapper() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "cookies": {}}
    wrapper = InstanceSessionWrapper(scope, send)
    await wrapper.resolve_session()
    assert wrapper.activated
    assert "session" not in scope
    wrapper.scope["session"]["colour"] = "blue"
    await wrapper.save_session()
    await wrapper.send({"type": "http.response.start", "status": 200, "headers": []})
    assert b"sessionid=" in dict(sent[0]["headers"])[b"set-cookie"]

    inner = InstanceSessionWrapper(wrapper.scope, send)
    assert not inner.activated
    await inner.send({"type": "http.response.start", "status": 200, "headers": []})
    assert sent[1]["headers"] == []
    with pytest.raises(ValueError, match="InstanceSessionWrapper found no 'cookies' in the scope"):
        InstanceSessionWrapper({"type": "http"}, send)
    assert issubclass(wrapper.session_store, SessionStore)


# What layers have for tests that were written for Channels


async def test_the_groups_and_channels_of_the_layer_in_memory() -> None:
    layer = InMemoryChannelLayer()
    assert layer.groups == {}
    channel = await layer.new_channel()
    await layer.group_add("room", channel)
    assert layer.groups == {"room": {channel: None}}
    assert layer.channels == {}
    await layer.group_send("room", {"type": "x"})
    await layer.send("queue", {"type": "x"})
    await layer.send("queue", {"type": "x"})
    assert layer.channels == {channel: 1, "queue": 2}
    layer.groups.clear()  # a copy
    assert list(layer.groups["room"]) == [channel]
    await layer.group_discard("room", channel)
    assert layer.groups == {}


async def test_names_that_are_checked_under_their_former_names() -> None:
    layer = InMemoryChannelLayer()
    with pytest.warns(
        DeprecationWarning, match=r"valid_group_name\(\) is deprecated: call require_valid_group_name\(\)"
    ):
        assert layer.valid_group_name("room")
    with pytest.warns(DeprecationWarning, match=r"call require_valid_channel_name\(\)") as warned:
        assert layer.valid_channel_name("queue")
    assert warned[0].filename == __file__
    assert layer.valid_channel_names(["a", "b!"], receive=True)
    with pytest.raises(TypeError, match="names must be a non-empty list of channel names, not str"):
        layer.valid_channel_names("ab")
    with pytest.raises(ValueError, match="and is empty"):
        layer.valid_channel_names([])
    with pytest.raises(TypeError, match="Channel name 'a b' is not valid"):
        layer.valid_channel_names(["a b"])


def test_the_backends_of_the_registry() -> None:
    layers = ChannelLayerManager()
    first = layers["default"]
    assert layers.backends == {"default": first}
    layers.backends = {}
    assert layers["default"] is not first


async def test_a_layer_that_was_written_for_channels() -> None:
    class Consumer(AsyncWebsocketConsumer):
        groups = ["news"]

        async def news_item(self, message: Message) -> None:
            await self.send(text_data=message["text"])

    settings = {"default": {"BACKEND": "tests.compat.former_layer.FormerLayer", "CONFIG": {"capacity": 5}}}
    with override_settings(CHANNEL_LAYERS=settings):
        layer = channel_layers["default"]
        assert isinstance(layer, FormerLayer)
        communicator = WebsocketCommunicator(Consumer.as_asgi(), "/")
        assert await communicator.connect(10) == (True, None)
        await layer.group_send("news", {"type": "news.item", "text": "one"})
        assert await communicator.receive_from(10) == "one"
        await communicator.disconnect(timeout=10)
        assert layer.members["news"] == set()
        await layer.close()
        with pytest.raises(NotImplementedError, match=r"flush\(\) is not implemented by FormerLayer"):
            await layer.flush()

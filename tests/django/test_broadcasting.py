"""broadcast() and abroadcast(): what they take, where they may be called, and what they import."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.utils.connection import ConnectionDoesNotExist

import sealane
from sealane import abroadcast, broadcast
from sealane.consumers import AsyncJsonWebsocketConsumer
from sealane.db import database_sync_to_async
from sealane.exceptions import InvalidName, UnknownChannelLayer, UnserializableMessage
from sealane.layers import InMemoryChannelLayer, channel_layers
from sealane.testing import WebsocketCommunicator


class Listener(AsyncJsonWebsocketConsumer):
    groups = ["news"]

    async def news_item(self, message: Any) -> None:
        await self.send_json(message["text"])


class OtherListener(Listener):
    channel_layer_alias = "other"


@pytest.fixture(autouse=True)
def layers() -> Iterator[dict[str, InMemoryChannelLayer]]:
    """Two layers, for this test alone."""
    made = {alias: InMemoryChannelLayer() for alias in ("default", "other")}
    before = channel_layers.set("default", made["default"])
    channel_layers.set("other", made["other"])
    yield made
    channel_layers.set("default", before)
    del channel_layers._layers["other"]


def news(text: Any) -> dict[str, Any]:
    return {"type": "news.item", "text": text}


async def test_the_layer_is_the_default_one_or_that_of_the_alias() -> None:
    in_thread = database_sync_to_async(broadcast)
    async with (
        WebsocketCommunicator(Listener.as_asgi(), "/") as here,
        WebsocketCommunicator(OtherListener.as_asgi(), "/") as there,
    ):
        await in_thread("news", news("here"))
        await in_thread("news", news("there"), layer="other")
        await abroadcast("news", news("here, too"))
        await abroadcast("news", news("there, too"), layer="other")
        assert [await here.receive_json_from() for _ in range(2)] == ["here", "here, too"]
        assert [await there.receive_json_from() for _ in range(2)] == ["there", "there, too"]


async def test_in_an_event_loop_it_says_what_to_write(layers: dict[str, InMemoryChannelLayer]) -> None:
    for on_commit in (False, True):
        with pytest.raises(SynchronousOnlyOperation) as caught:
            broadcast("news", news("x"), on_commit=on_commit)
        assert str(caught.value) == (
            "sealane.broadcast() was called in a thread that runs an event loop, which it would block. Write 'await "
            "sealane.abroadcast(...)' there, or call it in a thread of its own with sync_to_async"
        )
    assert layers["default"].stats()["group_sent"] == 0


def call(how: str, *args: Any, **options: Any) -> None:
    if how == "abroadcast":
        async_to_sync(abroadcast)(*args, **options)
    else:
        broadcast(*args, **options)


both = pytest.mark.parametrize("how", ["broadcast", "abroadcast"])


@both
@pytest.mark.django_db(transaction=True)
def test_it_waits_for_the_commit(how: str, layers: dict[str, InMemoryChannelLayer]) -> None:
    sent = layers["other"]
    event = news(["as it was"])
    with transaction.atomic():
        call(how, "news", event, on_commit=True, using="default", layer="other")
        event["text"].append("changed")
        sent.sync.group_add("news", "channel")
        assert sent.stats()["group_sent"] == 0
    assert sent.sync.receive("channel", timeout=10) == news(["as it was"])
    with transaction.atomic():
        call(how, "news", event, on_commit=True, layer="other")
        transaction.set_rollback(True)
    assert sent.stats()["group_sent"] == 1
    # Without a transaction.
    call(how, "news", event, on_commit=True, layer="other")
    assert sent.stats()["group_sent"] == 2


@both
@pytest.mark.django_db(transaction=True)
def test_what_is_wrong_is_told_at_once(how: str, layers: dict[str, InMemoryChannelLayer]) -> None:
    with pytest.raises(UnknownChannelLayer, match="No channel layer is configured as 'third'"):
        call(how, "news", news("x"), layer="third")
    with pytest.raises(TypeError, match=r"^using='default' names the database .*; it needs on_commit=True$"):
        call(how, "news", news("x"), using="default")
    with pytest.raises(ConnectionDoesNotExist, match="The connection 'archive' doesn't exist"):
        call(how, "news", news("x"), on_commit=True, using="archive")
    for options in ({}, {"on_commit": True}):
        with pytest.raises(InvalidName, match="Group name"):
            call(how, "no group", news("x"), **options)
        with pytest.raises(UnserializableMessage, match=r"at message\['text'\]"):
            call(how, "news", news(object()), **options)
    with pytest.raises(TypeError, match="positional argument"):
        call(how, "news", news("x"), True)
    assert layers["default"].stats()["group_sent"] == 0


#: Run in an interpreter of its own, without any settings.
IMPORTS = """
import sys
import sealane
assert not {name.partition(".")[0] for name in sys.modules} & {"django", "asgiref", "msgpack"}
from sealane import abroadcast, broadcast
from django.conf import settings
assert not settings.configured
assert "django.db" not in sys.modules
"""


def test_importing_them_needs_no_settings() -> None:
    run = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=30, check=False)
    assert run.stderr == ""


def test_the_package_knows_its_names() -> None:
    assert {"__version__", "abroadcast", "broadcast"} <= {*dir(sealane)}
    with pytest.raises(AttributeError, match=r"^module 'sealane' has no attribute 'shout'$"):
        sealane.shout  # type: ignore[attr-defined]  # noqa: B018

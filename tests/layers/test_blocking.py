"""The synchronous face that every layer has."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.utils.connection import ConnectionDoesNotExist

from sealane.exceptions import InvalidName, MessageTooLarge, UnserializableMessage
from sealane.layers import BaseChannelLayer, InMemoryChannelLayer, SyncChannelLayer
from sealane.layers.blocking import BridgedSyncChannelLayer
from tests.layers.test_contract import ThirdPartyLayer


def test_a_layer_without_synchronous_calls_gets_a_bridge() -> None:
    layer = ThirdPartyLayer(inner=InMemoryChannelLayer())
    assert isinstance(layer.sync, BridgedSyncChannelLayer)
    assert isinstance(layer.sync, SyncChannelLayer)
    assert layer.sync is layer.sync
    assert repr(layer.sync) == "<BridgedSyncChannelLayer of <ThirdPartyLayer>>"
    layer.sync.send("channel", {"type": "x"})
    assert layer.sync.receive("channel") == {"type": "x"}


def test_repr_of_a_layer_shows_what_is_not_zero() -> None:
    layer = ThirdPartyLayer(inner=InMemoryChannelLayer())
    layer.sync.send("channel", {"type": "x"})
    assert repr(layer) == "<ThirdPartyLayer sent=1 addressed=1 waiting=1 channels=1>"


def test_a_layer_that_counts_nothing_shows_its_class() -> None:
    class Silent(ThirdPartyLayer):
        def stats(self) -> Mapping[str, int]:
            return BaseChannelLayer.stats(self)

    assert repr(Silent(inner=InMemoryChannelLayer())) == "<Silent>"


def test_the_in_memory_layer_needs_no_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_loop() -> asyncio.AbstractEventLoop:
        raise AssertionError("an event loop was made")

    monkeypatch.setattr(asyncio, "new_event_loop", no_loop)
    layer = InMemoryChannelLayer()
    assert layer.sync is layer.sync
    channel = layer.sync.new_channel("mine")
    assert channel.startswith("mine.inmemory!")
    layer.sync.group_add("group", channel)
    layer.sync.group_send("group", {"type": "x"})
    assert layer.sync.receive(channel) == {"type": "x"}
    layer.sync.group_discard("group", channel)
    layer.sync.close_channel(channel)
    layer.sync.flush()
    layer.sync.close()


async def test_the_error_in_an_event_loop_says_what_to_do() -> None:
    with pytest.raises(SynchronousOnlyOperation) as caught:
        InMemoryChannelLayer().sync.group_send("group", {"type": "x"})
    assert str(caught.value) == (
        "channel_layer.sync.group_send() was called in a thread that runs an event loop, which it would block. Write "
        "'await channel_layer.group_send(...)' there, or call it in a thread of its own with sync_to_async"
    )


def test_what_channels_users_write_in_a_view_works_too() -> None:
    layer = InMemoryChannelLayer()
    async_to_sync(layer.group_add)("group", "channel")
    async_to_sync(layer.group_send)("group", {"type": "x"})
    assert async_to_sync(layer.receive)("channel") == {"type": "x"}


def test_the_size_limit_is_the_most_that_is_taken() -> None:
    size = len(InMemoryChannelLayer().pack({"type": "x"}))
    assert len(InMemoryChannelLayer(max_message_size=size).pack({"type": "x"})) == size
    with pytest.raises(MessageTooLarge, match=rf"Message is {size} bytes when serialized; the limit is {size - 1}"):
        InMemoryChannelLayer(max_message_size=size - 1).pack({"type": "x"})


# After the commit


@pytest.fixture(params=["memory", "bridge"])
def layer(request: pytest.FixtureRequest) -> BaseChannelLayer:
    """A layer in which channel "member" is in group "group", and one message fits into each channel."""
    layer: BaseChannelLayer = InMemoryChannelLayer(capacity=1)
    if request.param == "bridge":
        layer = ThirdPartyLayer(inner=layer)
    layer.sync.group_add("group", "member")
    return layer


def waiting(layer: BaseChannelLayer) -> int:
    return layer.stats()["waiting"]


@pytest.mark.django_db(transaction=True)
def test_a_message_is_sent_after_the_commit(layer: BaseChannelLayer) -> None:
    message: dict[str, Any] = {"type": "x", "values": [1]}
    with transaction.atomic():
        User.objects.create(username="ada")
        layer.sync.group_send("group", message, on_commit=True)
        layer.sync.send("channel", message, on_commit=True, using="default")
        message["values"].append(2)
        assert waiting(layer) == 0
    # As it was when it was given.
    assert layer.sync.receive("member", timeout=10) == {"type": "x", "values": [1]}
    assert layer.sync.receive("channel", timeout=10) == {"type": "x", "values": [1]}


@pytest.mark.django_db(transaction=True)
def test_a_message_is_not_sent_where_the_transaction_is_rolled_back(layer: BaseChannelLayer) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        layer.sync.group_send("group", {"type": "x"}, on_commit=True)
        layer.sync.send("channel", {"type": "x"}, on_commit=True)
        raise ZeroDivisionError
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            layer.sync.send("channel", {"type": "of a savepoint"}, on_commit=True)
            raise ZeroDivisionError
        layer.sync.send("channel", {"type": "sent"}, on_commit=True)
    assert waiting(layer) == 1
    assert layer.sync.receive("channel", timeout=10) == {"type": "sent"}


@pytest.mark.django_db(transaction=True)
def test_a_message_is_sent_at_once_where_there_is_no_transaction(layer: BaseChannelLayer) -> None:
    layer.sync.group_send("group", {"type": "x"}, on_commit=True)
    layer.sync.send("channel", {"type": "x"}, on_commit=True)
    assert waiting(layer) == 2


@pytest.mark.django_db(transaction=True)
def test_the_rules_of_django_hold_for_manual_transactions_and_unknown_databases(layer: BaseChannelLayer) -> None:
    with pytest.raises(ConnectionDoesNotExist, match="elsewhere"):
        layer.sync.group_send("group", {"type": "x"}, on_commit=True, using="elsewhere")
    transaction.set_autocommit(False)
    try:
        with pytest.raises(TransactionManagementError, match="manual transaction management"):
            layer.sync.send("channel", {"type": "x"}, on_commit=True)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert waiting(layer) == 0


@pytest.mark.django_db(transaction=True)
def test_a_message_for_after_the_commit_is_checked_at_once(layer: BaseChannelLayer) -> None:
    with transaction.atomic():
        for call in (layer.sync.send, layer.sync.group_send):
            with pytest.raises(InvalidName):
                call("not valid", {"type": "x"}, on_commit=True)
            with pytest.raises(UnserializableMessage):
                call("name", {"type": "x", "value": object()}, on_commit=True)
    assert waiting(layer) == 0


@pytest.mark.django_db(transaction=True)
def test_an_error_of_sending_does_not_fail_what_was_committed(
    layer: BaseChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    ran = []
    with transaction.atomic():
        User.objects.create(username="ada")
        for number in range(2):
            layer.sync.send("channel", {"type": "x", "number": number}, on_commit=True)
        transaction.on_commit(lambda: ran.append(True))
    assert User.objects.filter(username="ada").exists()
    assert ran == [True]
    (record,) = [record for record in caplog.records if record.name == "sealane.layers"]
    assert record.levelname == "ERROR"
    assert record.getMessage() == (
        "A message to channel 'channel' was not sent after the commit: Channel 'channel' is full: 1 messages wait there"
    )
    assert record.exc_info is not None
    assert layer.sync.receive("channel", timeout=10) == {"type": "x", "number": 0}


def test_a_database_without_on_commit_is_refused(layer: BaseChannelLayer) -> None:
    for call in (layer.sync.send, layer.sync.group_send):
        with pytest.raises(TypeError, match=r"using='default' names the database .*; it needs on_commit=True"):
            call("name", {"type": "x"}, using="default")
    assert waiting(layer) == 0

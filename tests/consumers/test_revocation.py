"""What is told of the end of a login: nothing that a stranger could use, and nothing for strangers' messages."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction
from django.utils.functional import SimpleLazyObject

from sealane.consumers.revocation import REVOKED, announce, judge, revoked_message, user_group
from sealane.exceptions import ChannelLayerUnavailable
from sealane.layers import InMemoryChannelLayer, channel_layers

KEY = "k3y0fAs3ss10nth4tN0b0dyMayLearn0"
ADA = User(pk=7, username="ada")


class Proxy(User):
    class Meta:
        proxy = True
        app_label = "auth"


def test_the_group_is_of_the_account_however_it_is_written() -> None:
    group = user_group(ADA)
    assert group is not None
    assert group.startswith("sealane-user")
    for same in (Proxy(pk=7), SimpleLazyObject(lambda: ADA)):
        assert same.pk == 7
        assert user_group(same) == group
    assert user_group(User(pk=8)) != group
    assert user_group(SimpleNamespace(is_authenticated=True, pk=7)) not in (None, group)
    for nobody in (None, AnonymousUser(), User()):
        assert user_group(nobody) is None


def test_a_message_holds_no_key() -> None:
    message = revoked_message(KEY)
    assert KEY not in str(message)
    assert judge(message, KEY) == "close"
    assert judge(message, KEY[:-1] + "x") is None
    assert judge(message, None) is None
    assert judge(revoked_message(None), None) == judge(revoked_message(None), KEY) == "check"


@pytest.mark.parametrize("session", [KEY, "", 7, [], {}, b"", True, "é"])
def test_a_forged_message_means_nothing(session: Any) -> None:
    assert judge({"type": REVOKED, "session": session}, KEY) is None
    assert judge({"type": REVOKED}, KEY) is None


async def test_it_goes_through_every_layer_with_groups(layer: InMemoryChannelLayer, settings: Any) -> None:
    class Plain(InMemoryChannelLayer):
        extensions = []

    backend = {"BACKEND": "sealane.layers.InMemoryChannelLayer"}
    settings.CHANNEL_LAYERS = {"default": backend, "second": backend, "plain": backend}
    group = user_group(ADA) or ""
    layers = {"default": InMemoryChannelLayer(), "second": InMemoryChannelLayer(), "plain": Plain()}
    for alias, used in layers.items():
        channel_layers.set(alias, used)
        await used.group_add(group, "listener")
    await asyncio.to_thread(announce, ADA, KEY)
    for alias in ("default", "second"):
        assert judge(await layers[alias].receive("listener"), KEY) == "close"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await layers["plain"].receive("listener")


async def test_an_event_loop_is_not_blocked(layer: InMemoryChannelLayer) -> None:
    group = user_group(ADA) or ""
    await layer.group_add(group, "listener")
    announce(ADA, KEY)
    assert judge(await layer.receive("listener"), KEY) == "close"
    await layer.close_channel("listener")


def test_a_layer_that_is_away_stops_nobody_from_logging_out(
    layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(group: str, message: Any) -> None:
        raise ChannelLayerUnavailable("redis://somewhere", "did not answer", 5.0)

    monkeypatch.setattr(layer.sync, "group_send", fail)
    announce(ADA, KEY)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("The sockets of a user were not told that a login has ended: ")
    assert KEY not in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("commits", [True, False])
def test_in_a_transaction_it_waits_for_the_commit(layer: InMemoryChannelLayer, commits: bool) -> None:
    told: list[Any] = []
    layer.sync.group_send = lambda *args: told.append(args)  # type: ignore[method-assign]
    try:
        with transaction.atomic():
            announce(ADA, KEY)
            assert told == []
            if not commits:
                raise RuntimeError("rolled back")
    except RuntimeError:
        pass
    assert len(told) == commits


@pytest.mark.django_db(transaction=True)
def test_what_is_saved_of_an_account_is_told_where_it_ends_logins(layer: InMemoryChannelLayer) -> None:
    told: list[Any] = []
    layer.sync.group_send = lambda *args: told.append(args)  # type: ignore[method-assign]
    ada = User.objects.create_user("ada", password="difference engine")
    inactive = User.objects.create_user("bob", is_active=False)
    ada.first_name = "Ada"
    ada.save()
    inactive.save(update_fields=["last_login"])
    assert told == []
    ada.set_password("analytical engine")
    ada.save()
    assert len(told) == 1
    ada.save()
    assert len(told) == 1
    ada.is_active = False
    ada.save(update_fields=["is_active"])
    assert len(told) == 2
    group = user_group(ada)
    ada.delete()
    assert told == [(group, {"type": REVOKED, "session": None})] * 3

"""The system checks, as ``manage.py check`` runs them."""

import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core import checks, mail
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from sealane.layers import InMemoryChannelLayer

MEMORY = "sealane.layers.InMemoryChannelLayer"


def found(**changes: Any) -> list[checks.CheckMessage]:
    """What Sealane's checks say with these settings, by id."""
    with override_settings(**changes):
        messages = checks.run_checks(tags=["sealane"])
    return sorted(messages, key=lambda message: message.id or "")


def ids(messages: list[checks.CheckMessage]) -> list[str | None]:
    return [message.id for message in messages]


def only(messages: list[checks.CheckMessage]) -> checks.CheckMessage:
    assert len(messages) == 1, messages
    return messages[0]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The path of a module that ASGI_APPLICATION may name: broken_asgi."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "broken_asgi.py"
    sys.modules.pop("broken_asgi", None)


def test_a_project_that_is_set_up_well_has_nothing_to_hear() -> None:
    assert found() == []

    output = StringIO()
    call_command("check", tags=["sealane"], stdout=output)
    assert "no issues" in output.getvalue()


def test_the_command_fails_on_an_error_and_prints_it_with_its_hint() -> None:
    with (
        override_settings(ASGI_APPLICATION=None),
        pytest.raises(SystemCheckError, match=r"\(sealane\.E001\) The ASGI_APPLICATION setting is missing\.") as error,
    ):
        call_command("check")

    assert "HINT: Set it to the dotted name of your ASGI application" in str(error.value)


def test_the_command_prints_a_warning_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(mail, "outbox", raising=False)
    errors = StringIO()

    call_command("check", stderr=errors)

    assert "(sealane.W001)" in errors.getvalue()


@pytest.mark.parametrize("value", [None, ""])
def test_asgi_application_is_missing(value: str | None) -> None:
    assert ids(found(ASGI_APPLICATION=value)) == ["sealane.E001"]


def test_asgi_application_is_not_there_at_all() -> None:
    with override_settings():
        del settings.ASGI_APPLICATION
        assert ids(checks.run_checks(tags=["sealane"])) == ["sealane.E001"]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("application", "expected the dotted name"),
        (7, "expected the dotted name"),
        ("nowhere.asgi.application", "there is no module 'nowhere'"),
        ("tests.asgi.nothing", "module 'tests.asgi' has no attribute 'nothing'"),
        ("tests.settings.SECRET_KEY", "cannot be called"),
    ],
)
def test_asgi_application_does_not_name_an_application(value: object, problem: str) -> None:
    message = only(found(ASGI_APPLICATION=value))

    assert message.id == "sealane.E002"
    assert problem in message.msg
    assert message.hint == "Correct the name, or the module that it names."


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import json\nimport nowhere\n", "ModuleNotFoundError: No module named 'nowhere'"),
        ("import json\n1 / 0\n", "ZeroDivisionError: division by zero"),
        ("import json\napplication = (\n", "SyntaxError: '(' was never closed"),
        (
            "from django.core.exceptions import ImproperlyConfigured\nraise ImproperlyConfigured('not today')\n",
            "'broken_asgi.application', but importing it failed: ImproperlyConfigured: not today",
        ),
    ],
)
def test_an_error_inside_the_module_is_shown_with_its_place(module: Path, source: str, problem: str) -> None:
    module.write_text(source)

    message = only(found(ASGI_APPLICATION="broken_asgi.application"))

    assert message.id == "sealane.E002"
    assert problem in message.msg
    assert message.hint == f"It was raised in {module}, line 2."


def test_without_channel_layers_there_is_nothing_to_check() -> None:
    assert found(CHANNEL_LAYERS={}) == []


def test_channel_layers_is_not_a_dict() -> None:
    message = only(found(CHANNEL_LAYERS=["default"]))

    assert message.id == "sealane.E003"
    assert "CHANNEL_LAYERS is of type list; expected a dict of aliases" in message.msg
    assert message.hint is not None
    assert "Map each alias to a dict" in message.hint


@pytest.mark.parametrize(
    ("layer", "problem"),
    [
        (MEMORY, "expected a dict"),
        ({"BACKEND": MEMORY, "OPTIONS": {}}, "unknown key 'OPTIONS'"),
        ({"CONFIG": {}}, "has no BACKEND"),
        ({"BACKEND": InMemoryChannelLayer}, "expected the path of a class"),
        ({"BACKEND": "nowhere.Layer"}, "cannot be imported: No module named 'nowhere'"),
        ({"BACKEND": "sealane.layers.Nothing"}, "cannot be imported"),
        ({"BACKEND": "json.JSONDecoder"}, "expected a subclass"),
        ({"BACKEND": MEMORY, "CONFIG": {"hosts": []}}, "unknown option 'hosts'; InMemoryChannelLayer accepts"),
        ({"BACKEND": MEMORY, "CONFIG": [1]}, "expected a dict of options"),
        ({"BACKEND": MEMORY, "CONFIG": {"capacity": "many"}}, "capacity"),
    ],
)
def test_a_channel_layer_is_configured_wrongly(layer: object, problem: str) -> None:
    message = only(found(CHANNEL_LAYERS={"chat": layer}))

    assert message.id == "sealane.E004"
    assert message.msg.startswith("CHANNEL_LAYERS['chat']")
    assert problem in message.msg
    assert message.hint is not None
    assert message.hint.startswith("A channel layer is a dict with BACKEND")


@pytest.mark.parametrize(
    ("backend", "successors"),
    [
        ("channels.layers.InMemoryChannelLayer", "sealane.layers.InMemoryChannelLayer"),
        ("channels_redis.core.RedisChannelLayer", "sealane.layers.RedisChannelLayer"),
        ("channels_redis.pubsub.RedisPubSubChannelLayer", "sealane.layers.RedisPubSubChannelLayer"),
        (
            "channels_redis.another.Layer",
            "sealane.layers.InMemoryChannelLayer or sealane.layers.RedisChannelLayer or "
            "sealane.layers.RedisPubSubChannelLayer",
        ),
    ],
)
def test_a_layer_of_channels_has_its_successor_named(
    backend: str, successors: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in "channels", "channels_redis":
        monkeypatch.setitem(sys.modules, package, None)  # not to be imported, installed or not
    message = only(found(CHANNEL_LAYERS={"chat": {"BACKEND": backend}}))

    assert message.id == "sealane.E004"
    assert f"CHANNEL_LAYERS['chat']['BACKEND'] is {backend!r}, which cannot be imported" in message.msg
    assert message.hint == f"A layer of Channels has its successor here: {successors}."


class ExplosiveLayer(InMemoryChannelLayer):
    """A layer whose constructor fails in a way of its own."""

    def __init__(self) -> None:
        raise OSError("no such host")


def test_whatever_a_layer_raises_is_reported() -> None:
    message = only(found(CHANNEL_LAYERS={"chat": {"BACKEND": f"{__name__}.ExplosiveLayer"}}))

    assert message.id == "sealane.E004"
    assert message.msg == "CHANNEL_LAYERS['chat'] cannot be made: OSError: no such host."


def test_each_channel_layer_is_checked_and_its_test_config_too() -> None:
    messages = found(
        CHANNEL_LAYERS={
            "default": {"BACKEND": MEMORY, "TEST_CONFIG": {"color": "red"}},
            "other": {},
        }
    )

    assert ids(messages) == ["sealane.E004", "sealane.E005"]
    assert "CHANNEL_LAYERS['other'] has no BACKEND" in messages[0].msg
    assert "CHANNEL_LAYERS['default']['TEST_CONFIG'] has the unknown option 'color'" in messages[1].msg


class SharedMemoryLayer(InMemoryChannelLayer):
    """A subclass, to which the same applies."""


@pytest.mark.parametrize("backend", [MEMORY, f"{__name__}.SharedMemoryLayer"])
def test_an_in_memory_layer_with_debug_off_is_a_warning(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = {"default": {"BACKEND": backend}}
    assert found(CHANNEL_LAYERS=layers, DEBUG=False) == [], "a test run, where Django itself turns DEBUG off"
    monkeypatch.delattr(mail, "outbox", raising=False)

    message = only(found(CHANNEL_LAYERS=layers, DEBUG=False))

    assert (message.id, message.level) == ("sealane.W001", checks.WARNING)
    assert message.msg == "CHANNEL_LAYERS['default'] is an in-memory layer, and DEBUG is off."
    assert message.hint is not None
    assert "one process only" in message.hint
    assert found(CHANNEL_LAYERS=layers, DEBUG=True) == []


@pytest.fixture
def rivals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applications named daphne and channels, installed or not where the tests run."""
    for name in ("daphne", "channels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        for known in [module for module in sys.modules if module.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, known)
        # Absent before, or put back: either way the empty package is gone afterwards.
        monkeypatch.setitem(sys.modules, name, sys)
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)


def apps_found(*names: str) -> list[checks.CheckMessage]:
    rest = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions"]
    return found(INSTALLED_APPS=[*names, *rest])


def test_sealane_after_staticfiles() -> None:
    message = only(apps_found("django.contrib.staticfiles", "sealane"))

    assert (message.id, message.level) == ("sealane.E006", checks.ERROR)
    assert "'sealane' is listed after 'django.contrib.staticfiles'" in message.msg
    assert message.hint == "Move 'sealane' to the top of INSTALLED_APPS."


def test_sealane_before_staticfiles_or_without_it() -> None:
    assert apps_found("sealane", "django.contrib.staticfiles") == []
    assert apps_found("sealane") == []


@pytest.mark.usefixtures("rivals")
@pytest.mark.parametrize("rival", ["daphne", "channels"])
def test_sealane_beside_a_rival(rival: str) -> None:
    after = only(apps_found(rival, "sealane"))
    assert (after.id, after.level) == ("sealane.E007", checks.ERROR)
    assert f"'sealane' is listed after '{rival}'" in after.msg

    before = only(apps_found("sealane", rival))
    assert (before.id, before.level) == ("sealane.W002", checks.WARNING)
    assert f"'{rival}' is listed beside 'sealane'" in before.msg

    assert before.hint == after.hint == f"Remove '{rival}' from INSTALLED_APPS: 'sealane' takes its place."


def test_without_sealane_installed_its_order_is_nobodys_business() -> None:
    assert apps_found("django.contrib.staticfiles") == []

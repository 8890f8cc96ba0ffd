"""The layers of a project, from settings.CHANNEL_LAYERS."""

import os
import threading
from typing import Any

import pytest
from django.test import override_settings

from sealane.exceptions import InvalidChannelLayerError, UnknownChannelLayer
from sealane.layers import (
    DEFAULT_CHANNEL_LAYER,
    BaseChannelLayer,
    ChannelLayerManager,
    InMemoryChannelLayer,
    channel_layers,
    get_channel_layer,
)

MEMORY = "sealane.layers.InMemoryChannelLayer"


class Slow(InMemoryChannelLayer):
    """Takes its time to be made, so that two threads meet there."""

    made: list["Slow"] = []
    meeting = threading.Barrier(2)

    def __init__(self) -> None:
        super().__init__()
        Slow.made.append(self)
        try:
            Slow.meeting.wait(0.2)
        except threading.BrokenBarrierError:
            pass


class Nested(InMemoryChannelLayer):
    """Asks for another layer while it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.other = get_channel_layer("other")


class Raising(InMemoryChannelLayer):
    def __init__(self) -> None:
        raise KeyError("inside")


class Anything(InMemoryChannelLayer):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options


class Demanding(InMemoryChannelLayer):
    def __init__(self, hosts: list[str], *, password: str) -> None:
        super().__init__()


def not_a_class() -> None:
    """Stand where a class is expected."""


def configured(**layers: Any) -> override_settings:
    return override_settings(CHANNEL_LAYERS=layers)


def test_the_default_layer_is_made_once() -> None:
    with configured(default={"BACKEND": MEMORY}):
        assert channel_layers.created() == {}
        layer = get_channel_layer()
        assert isinstance(layer, InMemoryChannelLayer)
        assert get_channel_layer() is layer
        assert get_channel_layer(DEFAULT_CHANNEL_LAYER) is layer
        assert channel_layers["default"] is layer
        assert channel_layers.created() == {"default": layer}


def test_options_reach_the_layer() -> None:
    config = {
        "expiry": 5,
        "group_expiry": 3600,
        "capacity": 7,
        "channel_capacity": {"http.*": 1},
        "overflow": "drop_oldest",
        "serializer_format": "json",
        "max_message_size": 1000,
    }
    with configured(default={"BACKEND": MEMORY, "CONFIG": config}):
        layer = get_channel_layer()
        assert isinstance(layer, InMemoryChannelLayer)
        assert (layer.expiry, layer.capacity, layer.get_capacity("http.x")) == (5, 7, 1)
        assert (layer.overflow, layer.serializer_format, layer.max_message_size) == ("drop_oldest", "json", 1000)


def test_a_change_of_settings_makes_new_layers() -> None:
    with configured(default={"BACKEND": MEMORY}):
        before = get_channel_layer()
        with configured(default={"BACKEND": MEMORY, "CONFIG": {"capacity": 3}}):
            within = get_channel_layer()
            assert within is not None
            assert within is not before
            assert within.capacity == 3
        assert get_channel_layer() is not before
        with override_settings(DEBUG=True):
            after = get_channel_layer()
        assert get_channel_layer() is after


def test_an_alias_that_is_not_configured_is_none() -> None:
    with configured(default={"BACKEND": MEMORY}):
        assert get_channel_layer("other") is None
        assert "other" not in channel_layers
        assert "default" in channel_layers
        with pytest.raises(UnknownChannelLayer, match=r"configured as 'other'. Aliases in CHANNEL_LAYERS: 'default'$"):
            channel_layers["other"]
        with pytest.raises(KeyError):
            channel_layers["other"]


def test_without_the_setting_there_is_no_layer() -> None:
    with override_settings():
        from django.conf import settings

        if hasattr(settings, "CHANNEL_LAYERS"):
            del settings.CHANNEL_LAYERS
        manager = ChannelLayerManager()
        assert manager.configs == {}
        assert "default" not in manager
        with pytest.raises(UnknownChannelLayer, match="Aliases in CHANNEL_LAYERS: none"):
            manager["default"]


def test_an_error_inside_a_layer_is_not_taken_for_a_missing_alias() -> None:
    with configured(default={"BACKEND": f"{__name__}.Raising"}), pytest.raises(KeyError, match="inside"):
        get_channel_layer()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            [],
            r"CHANNEL_LAYERS\['default'\] is of type list; expected a dict with the keys 'BACKEND', 'CONFIG', "
            r"'TEST_CONFIG'",
        ),
        ({}, r"CHANNEL_LAYERS\['default'\] has no BACKEND; expected the path of a class, such as 'sealane\.layers\."),
        (
            {"BACKNED": MEMORY, "ROUTING": "x"},
            r"has the unknown key 'BACKNED', 'ROUTING'; expected 'BACKEND', 'CONFIG', 'TEST_CONFIG'",
        ),
        ({"BACKEND": InMemoryChannelLayer}, r"\['BACKEND'\] is <class .*>; expected the path of a class, as a str"),
        ({"BACKEND": "nowhere.Layer"}, r"is 'nowhere\.Layer', which cannot be imported: No module named 'nowhere'"),
        ({"BACKEND": "sealane.layers.Nothing"}, r"cannot be imported: .*does not define a \"Nothing\""),
        ({"BACKEND": "plain"}, r"is 'plain', which cannot be imported: plain doesn't look like a module path"),
        (
            {"BACKEND": f"{__name__}.not_a_class"},
            r"which is <function .*; expected a subclass of sealane\.layers\.Base",
        ),
        ({"BACKEND": "builtins.dict"}, r"which is <class 'dict'>; expected a subclass"),
        ({"BACKEND": MEMORY, "CONFIG": None}, r"\['CONFIG'\] is of type NoneType; expected a dict of options"),
        (
            {"BACKEND": MEMORY, "CONFIG": {"capcity": 3, "hosts": []}},
            r"\['CONFIG'\] has the unknown option 'capcity', 'hosts'; InMemoryChannelLayer accepts 'expiry', "
            r"'group_expiry', 'capacity', 'channel_capacity', 'channel_expiry', 'overflow', 'serializer_format', "
            r"'max_message_size', 'clock'",
        ),
        (
            {"BACKEND": f"{__name__}.Demanding", "CONFIG": {"hosts": []}},
            r"lacks the option 'password', which Demanding needs",
        ),
        (
            {"BACKEND": MEMORY, "CONFIG": {"capacity": 0}},
            r"CHANNEL_LAYERS\['default'\]\['CONFIG'\] is not right: capacity is 0; expected a whole number of messages",
        ),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(config: Any, message: str) -> None:
    with configured(default=config), pytest.raises(InvalidChannelLayerError, match=message):
        get_channel_layer()


def test_a_layer_that_cannot_be_imported_tells_why() -> None:
    with (
        configured(default={"BACKEND": "nowhere.Layer"}),
        pytest.raises(InvalidChannelLayerError) as caught,
    ):
        get_channel_layer()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_the_setting_must_be_a_dict() -> None:
    with (
        override_settings(CHANNEL_LAYERS=["default"]),
        pytest.raises(InvalidChannelLayerError, match=r"CHANNEL_LAYERS is of type list; expected a dict of aliases"),
    ):
        get_channel_layer()


def test_a_layer_may_take_any_option() -> None:
    with configured(default={"BACKEND": f"{__name__}.Anything", "CONFIG": {"x": 1}}):
        layer = get_channel_layer()
        assert isinstance(layer, Anything)
        assert layer.options == {"x": 1}


def test_backends_for_tests() -> None:
    config = {"BACKEND": MEMORY, "CONFIG": {"capacity": 2}, "TEST_CONFIG": {"capacity": 3}}
    with configured(default=config, bare={"BACKEND": MEMORY}):
        assert channel_layers.make_backend("default").capacity == 2
        assert channel_layers.make_test_backend("default").capacity == 3
        assert channel_layers.make_backend("default") is not channel_layers.make_backend("default")
        assert channel_layers.created() == {}
        with pytest.raises(InvalidChannelLayerError, match=r"CHANNEL_LAYERS\['bare'\] has no TEST_CONFIG"):
            channel_layers.make_test_backend("bare")
        with pytest.raises(UnknownChannelLayer):
            channel_layers.make_test_backend("missing")


def test_a_wrong_test_config_is_named() -> None:
    with (
        configured(default={"BACKEND": MEMORY, "TEST_CONFIG": {"wrong": 1}}),
        pytest.raises(InvalidChannelLayerError, match=r"CHANNEL_LAYERS\['default'\]\['TEST_CONFIG'\] has the unknown"),
    ):
        channel_layers.make_test_backend("default")


def test_a_layer_can_be_put_in_place() -> None:
    with configured(default={"BACKEND": MEMORY}):
        ours = InMemoryChannelLayer()
        assert channel_layers.set("default", ours) is None
        assert get_channel_layer() is ours
        assert channel_layers.set("extra", ours) is None
        assert get_channel_layer("extra") is ours
        assert "extra" in channel_layers
        assert channel_layers.created() == {"default": ours, "extra": ours}
        assert channel_layers.set("extra", None) is ours
        assert get_channel_layer("extra") is None
        assert channel_layers.set("default", None) is ours
        assert get_channel_layer() is not ours


def test_two_threads_get_one_layer() -> None:
    Slow.made.clear()
    Slow.meeting.reset()
    got: list[BaseChannelLayer | None] = []
    with configured(default={"BACKEND": f"{__name__}.Slow"}):
        threads = [threading.Thread(target=lambda: got.append(get_channel_layer())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(Slow.made) == 1
    assert got == [Slow.made[0], Slow.made[0]]


def test_a_layer_may_ask_for_another_while_it_is_made() -> None:
    with configured(default={"BACKEND": f"{__name__}.Nested"}, other={"BACKEND": MEMORY}):
        layer = get_channel_layer()
        assert isinstance(layer, Nested)
        assert layer.other is get_channel_layer("other")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork()")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_thread_of_the_parent() -> None:
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        with channel_layers._lock:
            holding.set()
            done.wait(20)

    with configured(default={"BACKEND": MEMORY}):
        thread = threading.Thread(target=hold)
        thread.start()
        assert holding.wait(10)
        try:
            child = os.fork()
            if child == 0:
                os._exit(0 if isinstance(get_channel_layer(), InMemoryChannelLayer) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            done.set()
            thread.join()


def test_repr_lists_the_layers() -> None:
    with configured(default={"BACKEND": MEMORY}):
        assert repr(channel_layers) == "<ChannelLayerManager no layer made yet>"
        get_channel_layer()
        assert repr(channel_layers) == (
            "<ChannelLayerManager default=<InMemoryChannelLayer channels=0 groups=0 waiting=0 dropped=0>>"
        )

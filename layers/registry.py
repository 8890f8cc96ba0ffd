"""The channel layers of a project: made from ``settings.CHANNEL_LAYERS`` when they are first asked for."""

import inspect
import os
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from sealane.exceptions import InvalidChannelLayerError, UnknownChannelLayer
from sealane.layers.base import BaseChannelLayer

__all__ = ["DEFAULT_CHANNEL_LAYER", "ChannelLayerManager", "channel_layers", "get_channel_layer"]

#: The alias that is meant where none is given.
DEFAULT_CHANNEL_LAYER: Final = "default"

_KEYS: Final = ("BACKEND", "CONFIG", "TEST_CONFIG")


class ChannelLayerManager:
    """The layers by alias: one instance per alias and process, made at the first use, from any thread.

    A change of CHANNEL_LAYERS by ``override_settings`` forgets them all; they are made anew when they are asked for.
    """

    def __init__(self) -> None:
        self._layers: dict[str, BaseChannelLayer] = {}
        # A layer's constructor is foreign code, which may ask for another layer.
        self._lock = threading.RLock()
        setting_changed.connect(self._reset)

    def _after_fork_in_child(self) -> None:
        self._lock = threading.RLock()

    def _reset(self, *, setting: str, **kwargs: Any) -> None:
        if setting == "CHANNEL_LAYERS":
            with self._lock:
                self._layers = {}

    @property
    def configs(self) -> Mapping[str, Any]:
        """CHANNEL_LAYERS, or an empty dict; raise InvalidChannelLayerError where it is not a dict."""
        configs = getattr(settings, "CHANNEL_LAYERS", {})
        if not isinstance(configs, Mapping):
            raise InvalidChannelLayerError(
                f"CHANNEL_LAYERS is of type {_kind(configs)}; expected a dict of aliases, such as "
                "{'default': {'BACKEND': 'sealane.layers.InMemoryChannelLayer'}}"
            )
        return configs

    @property
    def backends(self) -> dict[str, BaseChannelLayer]:
        """The layers that exist by now, by alias. Tests set it to ``{}`` to have all made anew."""
        return self._layers

    @backends.setter
    def backends(self, layers: dict[str, BaseChannelLayer]) -> None:
        with self._lock:
            self._layers = layers

    def make_backend(self, name: str) -> BaseChannelLayer:
        """Make a new layer from an alias's CONFIG. It is the caller's own: the next call makes another."""
        return self._make(name, "CONFIG", self._config(name).get("CONFIG", {}))

    def make_test_backend(self, name: str) -> BaseChannelLayer:
        """Make a new layer from an alias's TEST_CONFIG."""
        config = self._config(name)
        if "TEST_CONFIG" not in config:
            raise InvalidChannelLayerError(
                f"CHANNEL_LAYERS[{name!r}] has no TEST_CONFIG; expected a dict of options for the layer in tests"
            )
        return self._make(name, "TEST_CONFIG", config["TEST_CONFIG"])

    def _config(self, name: str) -> Mapping[str, Any]:
        configs = self.configs
        if name not in configs:
            raise UnknownChannelLayer(name, list(configs))
        config = configs[name]
        if not isinstance(config, Mapping):
            raise InvalidChannelLayerError(
                f"CHANNEL_LAYERS[{name!r}] is of type {_kind(config)}; expected a dict with the keys {_list(_KEYS)}"
            )
        unknown = [key for key in config if key not in _KEYS]
        if unknown:
            raise InvalidChannelLayerError(
                f"CHANNEL_LAYERS[{name!r}] has the unknown key {_list(unknown)}; expected {_list(_KEYS)}"
            )
        return config

    def _make(self, name: str, key: str, options: object) -> BaseChannelLayer:
        backend = self._backend(name)
        where = f"CHANNEL_LAYERS[{name!r}][{key!r}]"
        if not isinstance(options, Mapping):
            raise InvalidChannelLayerError(f"{where} is of type {_kind(options)}; expected a dict of options")
        _check_options(where, backend, options)
        try:
            return backend(**options)
        except InvalidChannelLayerError as exc:
            raise InvalidChannelLayerError(f"{where} is not right: {exc}") from exc

    def _backend(self, name: str) -> type[BaseChannelLayer]:
        config = self._config(name)
        where = f"CHANNEL_LAYERS[{name!r}]"
        if "BACKEND" not in config:
            raise InvalidChannelLayerError(
                f"{where} has no BACKEND; expected the path of a class, such as 'sealane.layers.InMemoryChannelLayer'"
            )
        path = config["BACKEND"]
        if not isinstance(path, str):
            raise InvalidChannelLayerError(f"{where}['BACKEND'] is {path!r}; expected the path of a class, as a str")
        try:
            backend = import_string(path)
        except ImportError as exc:
            raise InvalidChannelLayerError(f"{where}['BACKEND'] is {path!r}, which cannot be imported: {exc}") from exc
        if not (isinstance(backend, type) and issubclass(backend, BaseChannelLayer)):
            raise InvalidChannelLayerError(
                f"{where}['BACKEND'] is {path!r}, which is {backend!r}; expected a subclass of "
                "sealane.layers.BaseChannelLayer"
            )
        return backend

    def __getitem__(self, key: str) -> BaseChannelLayer:
        """Return the layer of an alias; raise UnknownChannelLayer, a KeyError, where there is none of that name."""
        layer = self._layers.get(key)
        if layer is not None:
            return layer
        with self._lock:
            layer = self._layers.get(key)
            if layer is None:
                layer = self._layers[key] = self.make_backend(key)
            return layer

    def __contains__(self, key: object) -> bool:
        """Return whether an alias is configured, or was given a layer by ``set()``."""
        return key in self._layers or key in self.configs

    def set(self, key: str, layer: BaseChannelLayer | None) -> BaseChannelLayer | None:
        """Put a layer in place of an alias's own, for tests, and return the one that was there before.

        With None, what was there is forgotten, and the next to ask gets a new one from the settings.
        """
        with self._lock:
            old = self._layers.pop(key, None)
            if layer is not None:
                self._layers[key] = layer
            return old

    def created(self) -> dict[str, BaseChannelLayer]:
        """Return the layers that exist by now, by alias, without making any."""
        with self._lock:
            return dict(self._layers)

    def __repr__(self) -> str:
        layers = ", ".join(f"{alias}={layer!r}" for alias, layer in self.created().items())
        return f"<{type(self).__name__} {layers or 'no layer made yet'}>"


def _check_options(where: str, backend: type[BaseChannelLayer], options: Mapping[str, Any]) -> None:
    """Raise InvalidChannelLayerError for options that a layer's constructor does not have, or lacks."""
    parameters = inspect.signature(backend).parameters.values()
    named = [item for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)]
    accepted = [item.name for item in named]
    unknown = [option for option in options if option not in accepted]
    if unknown and not any(item.kind is item.VAR_KEYWORD for item in parameters):
        raise InvalidChannelLayerError(
            f"{where} has the unknown option {_list(unknown)}; {backend.__name__} accepts {_list(accepted)}"
        )
    missing = [item.name for item in named if item.default is item.empty and item.name not in options]
    if missing:
        raise InvalidChannelLayerError(f"{where} lacks the option {_list(missing)}, which {backend.__name__} needs")


def _kind(value: object) -> str:
    """The type alone: the value may hold a password."""
    return type(value).__name__


def _list(names: Iterable[object]) -> str:
    return ", ".join(repr(name) for name in names)


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> BaseChannelLayer | None:
    """Return the channel layer of an alias, or None where CHANNEL_LAYERS does not have it.

    Raises InvalidChannelLayerError where it is configured wrongly.
    """
    if alias not in channel_layers:
        return None
    return channel_layers[alias]


#: The layers of this project, by alias.
channel_layers = ChannelLayerManager()

if hasattr(os, "register_at_fork"):
    # The lock may be held by a thread that the child does not have.
    os.register_at_fork(after_in_child=channel_layers._after_fork_in_child)

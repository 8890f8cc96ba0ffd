"""Django's system checks for what a project has to set up: the application, the channel layers, INSTALLED_APPS.

==== =======================================================================
E001 ASGI_APPLICATION is missing
E002 ASGI_APPLICATION cannot be loaded
E003 CHANNEL_LAYERS is not a dict
E004 a channel layer is configured wrongly
E005 the TEST_CONFIG of a channel layer is wrong
E006 django.contrib.staticfiles is listed before sealane
E007 daphne or channels is listed before sealane
W001 an in-memory channel layer is used with DEBUG off
W002 daphne or channels is listed beside sealane
W003 to W005, with --deploy: see sealane.deployment
==== =======================================================================
"""

import traceback
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core import checks, mail
from django.core.exceptions import ImproperlyConfigured

from sealane.apps import SealaneConfig
from sealane.exceptions import InvalidChannelLayerError

__all__ = ["check_application", "check_channel_layers", "check_deployment", "check_installed_apps"]

#: Applications that bring commands of the same names.
_RIVALS = ("daphne", "channels")


def check_application(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that ASGI_APPLICATION names an application that can be imported. It imports it."""
    from sealane.routing import get_default_application

    if not getattr(settings, "ASGI_APPLICATION", None):
        if not apps.is_installed("sealane"):
            return []  # it is here as "channels", which does without
        return [
            checks.Error(
                "The ASGI_APPLICATION setting is missing.",
                hint="Set it to the dotted name of your ASGI application, such as 'mysite.asgi.application'.",
                id="sealane.E001",
            )
        ]
    try:
        get_default_application()
    except Exception as error:
        # Whatever the project's module raises: a check reports, it never breaks the command.
        return [_unloadable(error)]
    return []


def check_channel_layers(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check CHANNEL_LAYERS by making each layer once; nothing is sent or received, and no layer in use is touched."""
    from sealane.layers import channel_layers

    try:
        aliases = list(channel_layers.configs)
    except InvalidChannelLayerError as error:
        hint = "Map each alias to a dict with the layer's BACKEND: {'default': {'BACKEND': ...}}."
        return [checks.Error(_sentence(error), hint=hint, id="sealane.E003")]
    return [message for alias in aliases for message in _check_layer(alias)]


def check_installed_apps(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check that Sealane's runserver is the one that ``manage.py runserver`` finds: the first application's."""
    # Sealane under the names of others has the same commands, wherever it stands.
    configs = [config for config in apps.get_app_configs() if config.name == "sealane" or not _is_ours(config)]
    names = [config.name for config in configs]
    if "sealane" not in names:
        return []
    place = names.index("sealane")
    found: list[checks.CheckMessage] = []
    if "django.contrib.staticfiles" in names[:place]:
        found.append(
            checks.Error(
                "'sealane' is listed after 'django.contrib.staticfiles' in INSTALLED_APPS, so that application's "
                "runserver is used, which serves no WebSockets.",
                hint="Move 'sealane' to the top of INSTALLED_APPS.",
                id="sealane.E006",
            )
        )
    for name in _RIVALS:
        if name in names[:place]:
            found.append(
                checks.Error(
                    f"'sealane' is listed after {name!r} in INSTALLED_APPS, and the commands of both have the same "
                    f"names, so those of {name!r} are used.",
                    hint=f"Remove {name!r} from INSTALLED_APPS: 'sealane' takes its place.",
                    id="sealane.E007",
                )
            )
        elif name in names:
            found.append(
                checks.Warning(
                    f"{name!r} is listed beside 'sealane' in INSTALLED_APPS; its commands of the same names are "
                    "hidden.",
                    hint=f"Remove {name!r} from INSTALLED_APPS: 'sealane' takes its place.",
                    id="sealane.W002",
                )
            )
    return found


def check_deployment(app_configs: Sequence[AppConfig] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Check what matters where others can reach the site: see sealane.deployment. It imports ASGI_APPLICATION."""
    from sealane.deployment import check_origins, check_processes

    return [*check_processes(), *check_origins()]


def _is_ours(config: AppConfig) -> bool:
    return isinstance(config, SealaneConfig)


def _check_layer(alias: str) -> list[checks.CheckMessage]:
    from sealane.layers import InMemoryChannelLayer, channel_layers

    try:
        layer = channel_layers.make_backend(alias)
    except Exception as error:
        return [checks.Error(_layer_problem(alias, error), hint=_layer_hint(alias), id="sealane.E004")]
    found: list[checks.CheckMessage] = []
    if "TEST_CONFIG" in channel_layers.configs[alias]:
        try:
            channel_layers.make_test_backend(alias)
        except Exception as error:
            found.append(checks.Error(_layer_problem(alias, error), hint=_LAYER_HINT, id="sealane.E005"))
    if isinstance(layer, InMemoryChannelLayer) and not settings.DEBUG and not _is_test_run():
        found.append(
            checks.Warning(
                f"CHANNEL_LAYERS[{alias!r}] is an in-memory layer, and DEBUG is off.",
                hint="It reaches one process only. Unless a single process serves this site, use a layer that "
                "carries messages between processes; otherwise silence this warning.",
                id="sealane.W001",
            )
        )
    return found


_LAYER_HINT = (
    "A channel layer is a dict with BACKEND, the dotted name of its class, and perhaps CONFIG and TEST_CONFIG, the "
    "options of that class."
)


# The layers of Channels and channels_redis, and Sealane's own of the same kind.
_SUCCESSORS = {
    "channels.layers.InMemoryChannelLayer": "InMemoryChannelLayer",
    "channels_redis.core.RedisChannelLayer": "RedisChannelLayer",
    "channels_redis.pubsub.RedisPubSubChannelLayer": "RedisPubSubChannelLayer",
}


def _layer_hint(alias: str) -> str:
    from sealane.layers import channel_layers

    config = channel_layers.configs[alias]
    path = config.get("BACKEND") if isinstance(config, dict) else None
    if not isinstance(path, str) or path.partition(".")[0] not in ("channels", "channels_redis"):
        return _LAYER_HINT
    names = [_SUCCESSORS[path]] if path in _SUCCESSORS else list(_SUCCESSORS.values())
    return f"A layer of Channels has its successor here: {' or '.join(f'sealane.layers.{name}' for name in names)}."


def _layer_problem(alias: str, error: Exception) -> str:
    if isinstance(error, InvalidChannelLayerError):
        return _sentence(error)
    # The constructor of a layer, or its module, is foreign code.
    return _sentence(f"CHANNEL_LAYERS[{alias!r}] cannot be made: {_text(error)}")


def _unloadable(error: Exception) -> checks.Error:
    place = _place(error)
    if isinstance(error, ImproperlyConfigured) and place is None:
        problem = str(error)
        place = _place(error.__cause__) if error.__cause__ is not None else None
    else:
        problem = (
            f"The ASGI_APPLICATION setting is {settings.ASGI_APPLICATION!r}, but importing it failed: {_text(error)}"
        )
    hint = "Correct the name, or the module that it names." if place is None else f"It was raised in {place}."
    return checks.Error(_sentence(problem), hint=hint, id="sealane.E002")


def _place(error: BaseException) -> str | None:
    """Where a module's own code raised an error while it was imported; None where no such code was running."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    running = [index for index, frame in enumerate(frames) if frame.name == "exec_module"]
    if not running:
        return None
    own = [frame for frame in frames[running[0] :] if not frame.filename.startswith("<frozen ")]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else None


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _sentence(problem: object) -> str:
    text = str(problem)
    return text if text.endswith(".") else f"{text}."


def _is_test_run() -> bool:
    # Django's test environment turns DEBUG off, and gives mail an outbox: the one trace of it that is documented.
    return hasattr(mail, "outbox")

"""Workers for the management commands: made from what somebody typed, or refused with a text that says why."""

import argparse
from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandError

from sealane.exceptions import AcknowledgementsUnsupported, SealaneError
from sealane.layers import BaseChannelLayer, InMemoryChannelLayer, channel_layers
from sealane.routing import BaseMiddleware, ChannelNameRouter, ProtocolTypeRouter, get_default_application
from sealane.types import ASGIApplication
from sealane.worker import Worker

__all__ = ["channels_of", "make_worker", "positive_seconds", "seconds", "whole"]


def make_worker(channels: Iterable[str], alias: str, *, shares_process: bool = False, **options: Any) -> Worker:
    """Return a worker on the channels of ASGI_APPLICATION, over the layer of this alias.

    ``shares_process``: whoever sends to it is in the same process, so that an in-memory layer will do. ``options`` are
    those of Worker. Raises CommandError for all that cannot work.
    """
    names = list(channels)
    application = _application()
    _require_known(names, application)
    layer = _layer(alias)
    if isinstance(layer, InMemoryChannelLayer) and not shares_process:
        raise CommandError(
            f"CHANNEL_LAYERS[{alias!r}] is an in-memory layer, which reaches no other process, so nothing would ever "
            "come to this worker. Use a layer over Redis or Valkey (sealane.layers.RedisChannelLayer), or in "
            f"development run the worker inside the server: manage.py runserver --worker {names[0]}"
        )
    try:
        return Worker(application, names, layer, **options)
    except AcknowledgementsUnsupported as error:
        raise CommandError(
            f"CHANNEL_LAYERS[{alias!r}] cannot acknowledge messages ({type(layer).__name__} lacks the extension "
            "'acknowledgements'). Use a layer that can, such as sealane.layers.RedisChannelLayer, or run the worker "
            "without --ack, which handles each message at most once"
        ) from error
    except (SealaneError, ValueError) as error:
        raise CommandError(str(error)) from error


def channels_of(application: object) -> list[str] | None:
    """Return the names of the channels that an application has consumers for; None where that does not show."""
    inner = _unwrapped(application)
    if isinstance(inner, ProtocolTypeRouter):
        if "channel" not in inner.application_mapping:
            return []
        inner = _unwrapped(inner.application_mapping["channel"])
    return sorted(inner.application_mapping) if isinstance(inner, ChannelNameRouter) else None


def _application() -> ASGIApplication:
    if not getattr(settings, "ASGI_APPLICATION", None):
        raise CommandError(
            "The ASGI_APPLICATION setting is missing. Set it to the dotted name of your ASGI application, such as "
            "'mysite.asgi.application'"
        )
    try:
        return get_default_application()
    except ImproperlyConfigured as error:
        raise CommandError(str(error)) from error


def _require_known(names: list[str], application: ASGIApplication) -> None:
    known = channels_of(application)
    if known is None:
        return
    if not known:
        raise CommandError(
            "ASGI_APPLICATION has no consumers for channels. Add them to it: "
            f"ProtocolTypeRouter({{..., 'channel': ChannelNameRouter({{{names[0]!r}: YourConsumer.as_asgi()}})}})"
        )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise CommandError(
            f"ASGI_APPLICATION has no consumer for {_listed(unknown)}. The channels of its ChannelNameRouter are "
            f"{_listed(known)}"
        )


def _layer(alias: str) -> BaseChannelLayer:
    try:
        return channel_layers[alias]
    except SealaneError as error:
        raise CommandError(str(error)) from error


def _unwrapped(application: object) -> object:
    # A middleware of the project's own may do anything, so what is inside it is not for us to say.
    while isinstance(application, BaseMiddleware) and type(application).__module__.partition(".")[0] == "sealane":
        application = application.inner
    return application


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names)


# What is typed


def seconds(text: str) -> float:
    """Read a number of seconds, 0 or more."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds: expected a number, 0 or more")
    return number


def positive_seconds(text: str) -> float:
    """Read a number of seconds over 0."""
    number = seconds(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time in seconds over 0")
    return number


class whole:  # noqa: N801 it is used like a function: type=whole(1)
    """Read a whole number that is not less than ``least``."""

    def __init__(self, least: int) -> None:
        self._least = least

    def __call__(self, text: str) -> int:
        number = int(text) if text.isdecimal() else -1
        if number < self._least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, {self._least} or more")
        return number

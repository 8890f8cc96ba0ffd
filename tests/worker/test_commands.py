"""What runworker and runserver --worker refuse at their start, and what they read from the command line."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from sealane.consumers import AsyncConsumer
from sealane.layers import InMemoryChannelLayer, channel_layers
from sealane.management.commands import runworker
from sealane.management.workers import channels_of
from sealane.routing import AuthMiddlewareStack, BaseMiddleware, ChannelNameRouter, ProtocolTypeRouter
from sealane.types import Receive, Scope, Send
from sealane.worker import Worker


class Jobs(AsyncConsumer):
    pass


class Remote(InMemoryChannelLayer):
    """A layer that says of itself what one between processes would."""


class Plain(InMemoryChannelLayer):
    extensions = ["groups"]


application = ProtocolTypeRouter(
    {"channel": ChannelNameRouter({"jobs": Jobs.as_asgi(), "thumbnails": Jobs.as_asgi()})},
)
without_channels = ProtocolTypeRouter({})


async def plain_application(scope: Scope, receive: Receive, send: Send) -> None:
    pass


MEMORY = {"BACKEND": "sealane.layers.InMemoryChannelLayer"}
REDIS = {"BACKEND": "sealane.layers.RedisChannelLayer"}


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"ASGI_APPLICATION": None}, ["jobs"], r"^The ASGI_APPLICATION setting is missing\. Set it to the dotted name"),
        ({"ASGI_APPLICATION": "no.such.module"}, ["jobs"], r"^The ASGI_APPLICATION setting is 'no\.such\.module', but"),
        (
            {"ASGI_APPLICATION": f"{__name__}.without_channels"},
            ["jobs"],
            r"^ASGI_APPLICATION has no consumers for channels\. Add them to it: ProtocolTypeRouter\(\{\.\.\., "
            r"'channel': ChannelNameRouter\(\{'jobs': YourConsumer\.as_asgi\(\)\}\)\}\)$",
        ),
        (
            {},
            ["jobs", "sms"],
            r"^ASGI_APPLICATION has no consumer for 'sms'\. The channels of its ChannelNameRouter are 'jobs', "
            "'thumbnails'$",
        ),
        (
            {},
            ["jobs", "--layer=other"],
            r"^No channel layer is configured as 'other'\. Aliases in CHANNEL_LAYERS: 'default'$",
        ),
        (
            {"CHANNEL_LAYERS": {"default": MEMORY}},
            ["jobs"],
            r"^CHANNEL_LAYERS\['default'\] is an in-memory layer, which reaches no other process, so nothing would "
            r"ever come to this worker\. .* manage\.py runserver --worker jobs$",
        ),
        (
            {"CHANNEL_LAYERS": {"default": {**REDIS, "CONFIG": {"capacity": 0}}}},
            ["jobs"],
            r"^CHANNEL_LAYERS\['default'\]\['CONFIG'\] is not right: capacity is 0",
        ),
        ({}, ["jobs", "--ack", "--dead-letter-channel=jobs"], "^Channel name 'jobs' is not valid: the dead letters"),
        ({}, [], "the following arguments are required: CHANNEL"),
        ({}, ["jobs", "--concurrency=0"], "argument --concurrency: '0' is not a whole number, 1 or more"),
        ({}, ["jobs", "--prefetch=-1"], "argument --prefetch: '-1' is not a whole number, 0 or more"),
        (
            {},
            ["jobs", "--visibility-timeout=0"],
            "argument --visibility-timeout: '0' is not a time in seconds over 0",
        ),
        (
            {},
            ["jobs", "--shutdown-timeout=soon"],
            "argument --shutdown-timeout: 'soon' is not a time in seconds: expected a number, 0 or more",
        ),
        ({}, ["jobs", "--max-deliveries=x"], "argument --max-deliveries: 'x' is not a whole number, 1 or more"),
    ],
    ids=str,
)
def test_what_cannot_work_is_said_at_the_start(settings: dict[str, Any], arguments: list[str], message: str) -> None:
    defaults = {"ASGI_APPLICATION": f"{__name__}.application", "CHANNEL_LAYERS": {"default": REDIS}}
    with (
        override_settings(**{**defaults, **settings}),
        pytest.raises(CommandError, match=message),
    ):
        call_command("runworker", *arguments, "--noreload", skip_checks=True)


@pytest.mark.parametrize("command", [["runworker", "jobs", "--ack"], ["runserver", "--worker=jobs"]], ids=str)
def test_a_layer_without_acknowledgements_is_refused(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # Not an in-memory layer to runworker, which would refuse it for that.
    monkeypatch.setattr("sealane.management.workers.InMemoryChannelLayer", Remote)
    with (
        override_settings(
            ASGI_APPLICATION=f"{__name__}.application", CHANNEL_LAYERS={"default": {"BACKEND": f"{__name__}.Plain"}}
        ),
        pytest.raises(
            CommandError,
            match=r"^CHANNEL_LAYERS\['default'\] cannot acknowledge messages \(Plain lacks the extension "
            r"'acknowledgements'\)\. Use a layer that can",
        ),
    ):
        call_command(*command, "--noreload", skip_checks=True)


def test_runserver_refuses_an_unknown_channel() -> None:
    with (
        override_settings(ASGI_APPLICATION=f"{__name__}.application"),
        pytest.raises(CommandError, match=r"^ASGI_APPLICATION has no consumer for 'sms'\. The channels"),
    ):
        call_command("runserver", "--worker=jobs", "--worker=sms", "--noreload", skip_checks=True)


def test_a_worker_does_not_go_with_the_wsgi_server() -> None:
    with pytest.raises(CommandError, match=r"^--worker needs the ASGI server: it does not go with --noasgi$"):
        call_command("runserver", "--worker=jobs", "--noasgi", "--noreload", skip_checks=True)


class Watched(BaseMiddleware):
    pass


@pytest.mark.parametrize(
    ("made", "channels"),
    [
        (lambda: application, ["jobs", "thumbnails"]),
        (lambda: AuthMiddlewareStack(application), ["jobs", "thumbnails"]),
        (lambda: ProtocolTypeRouter({"channel": AuthMiddlewareStack(ChannelNameRouter({"a": Jobs.as_asgi()}))}), ["a"]),
        (lambda: without_channels, []),
        (lambda: plain_application, None),
        (lambda: Watched(application), None),
        (lambda: ProtocolTypeRouter({"channel": Jobs.as_asgi()}), None),
    ],
    ids=["router", "wrapped", "wrapped inside", "none", "any application", "middleware of one's own", "one consumer"],
)
def test_the_channels_of_an_application(made: Callable[[], Any], channels: list[str] | None) -> None:
    assert channels_of(made()) == channels


def test_the_options_reach_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[Worker] = []
    monkeypatch.setattr(runworker.Command, "work", lambda self, worker, options: worked.append(worker))
    words = (
        "jobs thumbnails --layer second --concurrency 4 --prefetch 2 --ack --visibility-timeout 7.5 --max-deliveries 3 "
        "--dead-letter-channel bad --retry-delay 0.5 --shutdown-timeout 9 "
        "--cancel-timeout 3 --noreload"
    )
    with override_settings(
        ASGI_APPLICATION=f"{__name__}.application", CHANNEL_LAYERS={"default": MEMORY, "second": REDIS}
    ):
        call_command("runworker", *words.split(), skip_checks=True)
        call_command("runworker", "jobs", "--layer=second", skip_checks=True)
        second = channel_layers["second"]
    worker, plain = worked
    assert worker.channel_layer is plain.channel_layer is second
    assert worker.channels == ("jobs", "thumbnails")
    options = worker.options
    assert (options.concurrency, options.prefetch, options.ack) == (4, 2, True)
    assert (options.visibility_timeout, options.max_deliveries, options.dead_letter_channel) == (7.5, 3, "bad")
    assert (options.retry_delay, options.shutdown_timeout, options.cancel_timeout) == (0.5, 9, 3)
    # Without DEBUG there is no reloader, and what is not said is as in Worker itself.
    assert plain.options == Worker(application, ["jobs"], second).options

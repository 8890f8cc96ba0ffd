"""The checks of ``manage.py check --deploy``: they report what is certain, and nothing else."""

import sys
import types
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core import checks
from django.core.management import call_command
from django.test import override_settings
from django.urls import include, path

from sealane.consumers import AsyncHttpConsumer, AsyncWebsocketConsumer, WebsocketConsumer
from sealane.deployment import Exposed, check_origins, check_processes, exposed
from sealane.routing import (
    AllowedHostsOriginValidator,
    AuthMiddlewareStack,
    BaseMiddleware,
    OriginValidator,
    ProtocolTypeRouter,
    SessionMiddlewareStack,
    TokenAuthMiddleware,
    not_found,
)
from tests.routing.recording import router

consumer: Any = AsyncWebsocketConsumer.as_asgi()
sync_consumer: Any = WebsocketConsumer.as_asgi()
MEMORY = {"BACKEND": "sealane.layers.InMemoryChannelLayer"}


def with_websocket(application: Any) -> ProtocolTypeRouter:
    return ProtocolTypeRouter({"websocket": application})


async def verify(token: str) -> None:
    return None


class OfOnesOwn(BaseMiddleware):
    """It may look at the Origin, or not."""


# Origins


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        (AuthMiddlewareStack(router(path("chat/", consumer))), [Exposed("chat/", "none")]),
        (SessionMiddlewareStack(router(path("chat/", sync_consumer))), [Exposed("chat/", "none")]),
        (AuthMiddlewareStack(consumer), [Exposed("", "none")]),
        (router(path("a/", AuthMiddlewareStack(consumer)), path("b/", consumer)), [Exposed("a/", "none")]),  # type: ignore[arg-type]
        (
            AuthMiddlewareStack(
                router(
                    path("shop/", router(path("<int:pk>/", consumer))),
                    path("old/", include([path("chat/", consumer)])),
                    path("safe/", OriginValidator(consumer, ["https://example.com"])),  # type: ignore[arg-type]
                )
            ),
            [Exposed("shop/<int:pk>/", "none"), Exposed("old/chat/", "none")],
        ),
        (OriginValidator(AuthMiddlewareStack(consumer), ["*"]), [Exposed("", "open")]),
        (AuthMiddlewareStack(OriginValidator(consumer, ["https://example.com", "*"])), [Exposed("", "open")]),
    ],
)
def test_what_other_sites_can_open(application: Any, expected: list[Exposed]) -> None:
    assert list(exposed(with_websocket(application))) == expected


@pytest.mark.parametrize(
    "application",
    [
        # Checked.
        AllowedHostsOriginValidator(AuthMiddlewareStack(router(path("chat/", consumer)))),
        AuthMiddlewareStack(OriginValidator(consumer, ["https://example.com"])),
        # Without cookies another site's page is nobody in particular.
        router(path("chat/", consumer)),
        TokenAuthMiddleware(consumer, verify),
        AuthMiddlewareStack(TokenAuthMiddleware(consumer, verify)),
        OriginValidator(consumer, ["*"]),
        # Not ours to see through.
        OfOnesOwn(AuthMiddlewareStack(consumer)),
        AuthMiddlewareStack(OfOnesOwn(consumer)),
        AuthMiddlewareStack(not_found),
        # No WebSocket.
        AuthMiddlewareStack(AsyncHttpConsumer.as_asgi()),
    ],
)
def test_what_they_cannot_or_nobody_knows(application: Any) -> None:
    assert list(exposed(with_websocket(application))) == []


def test_a_middleware_of_ours_may_stand_outermost() -> None:
    application = BaseMiddleware(with_websocket(AuthMiddlewareStack(consumer)))
    assert list(exposed(application)) == [Exposed("", "none")]


def test_without_websockets_there_is_nothing_to_open() -> None:
    assert list(exposed(ProtocolTypeRouter({"http": AuthMiddlewareStack(consumer)}))) == []
    assert list(exposed(not_found)) == []


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module that ASGI_APPLICATION names; the test puts the application there."""
    module = types.ModuleType("deployed_asgi")
    monkeypatch.setitem(sys.modules, "deployed_asgi", module)
    with override_settings(ASGI_APPLICATION="deployed_asgi.application"):
        yield module


def test_an_application_without_a_validator(project: Any) -> None:
    routes = [path(f"{name}/", consumer) for name in "abcdefg"]
    project.application = with_websocket(AuthMiddlewareStack(router(*routes)))

    [message] = check_origins()

    assert (message.id, message.level) == ("sealane.W004", checks.WARNING)
    assert message.msg == (
        "WebSockets know their visitors by cookies, and no OriginValidator stands around them: "
        "'a/', 'b/', 'c/', 'd/', 'e/', and 2 more."
    )
    assert message.hint is not None
    assert "Put AllowedHostsOriginValidator around the application for 'websocket'" in message.hint


def test_a_validator_that_lets_in_all(project: Any) -> None:
    project.application = with_websocket(AllowedHostsOriginValidator(AuthMiddlewareStack(consumer)))
    with override_settings(ALLOWED_HOSTS=["example.com"]):
        assert check_origins() == []

    with override_settings(ALLOWED_HOSTS=["*"]):
        [message] = check_origins()

    assert message.id == "sealane.W005"
    assert "and their OriginValidator lets in all sites: ''." in message.msg
    assert message.hint is not None
    assert "Name the sites in place of '*'" in message.hint


@pytest.mark.parametrize("name", [None, "nowhere.application"])
def test_an_application_that_is_not_there_is_another_checks_business(name: str | None) -> None:
    with override_settings(ASGI_APPLICATION=name):
        assert check_origins() == []


# Processes


def test_an_in_memory_layer_for_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with override_settings(CHANNEL_LAYERS={"default": MEMORY, "other": MEMORY}):
        first, second = check_processes()
    assert (first.id, first.level) == ("sealane.W003", checks.WARNING)
    assert first.msg == "CHANNEL_LAYERS['default'] is an in-memory layer, and WEB_CONCURRENCY asks for 4 processes."
    assert "CHANNEL_LAYERS['other']" in second.msg
    assert first.hint is not None
    assert "sealane.layers.RedisChannelLayer" in first.hint


@pytest.mark.parametrize("processes", [None, "", "1", "0", "many", "-3"])
def test_one_process_or_nobody_knows(processes: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if processes is None:
        monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    else:
        monkeypatch.setenv("WEB_CONCURRENCY", processes)
    assert check_processes() == []


@pytest.mark.parametrize(
    "layers",
    [
        {},
        {"default": {"BACKEND": "sealane.layers.RedisChannelLayer", "CONFIG": {"hosts": ["redis://localhost:6379"]}}},
        {"default": {"BACKEND": "nowhere.Layer"}},
        [],
    ],
)
def test_layers_for_several_processes_and_broken_ones(layers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with override_settings(CHANNEL_LAYERS=layers):
        assert check_processes() == []


# The command


def test_they_run_with_deploy_only(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    project.application = with_websocket(AuthMiddlewareStack(consumer))
    plain = checks.run_checks(tags=["sealane"])
    deployed = checks.run_checks(tags=["sealane"], include_deployment_checks=True)
    assert {message.id for message in deployed} - {message.id for message in plain} == {"sealane.W003", "sealane.W004"}

    errors = StringIO()
    call_command("check", deploy=True, tags=["sealane"], stderr=errors)
    assert "(sealane.W004) WebSockets know their visitors by cookies" in errors.getvalue()
    assert settings.ASGI_APPLICATION == "deployed_asgi.application"

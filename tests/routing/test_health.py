"""Health checks: alive, ready, and why not, without a word too many."""

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings
from django.urls import path

from sealane.exceptions import UnknownScopeType
from sealane.layers import InMemoryChannelLayer, RedisChannelLayer, channel_layers
from sealane.routing import ProtocolTypeRouter, health
from sealane.routing.health import Ready, verdict
from sealane.testing import HttpCommunicator
from sealane.types import ASGIApplication
from tests.routing.exchange import Exchange
from tests.routing.recording import router
from tests.servers import Server
from tests.servers.ports import free_port


class Watched(InMemoryChannelLayer):
    """A layer that can be asked how it is; the test gives the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.answer: bool | Exception = True
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def health(self) -> Any:
        self.asked += 1
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return SimpleNamespace(reachable=self.answer)


@contextmanager
def using(layer: Any) -> Iterator[None]:
    before = channel_layers.set("default", layer)
    try:
        yield
    finally:
        channel_layers.set("default", before)


async def ask(application: ASGIApplication, path: str = "/ready") -> tuple[int, dict[str, Any]]:
    response = await HttpCommunicator(application, "GET", path).get_response(timeout=20)
    headers = dict(response["headers"])
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == str(len(response["body"])).encode()
    assert headers[b"cache-control"] == b"no-store"
    return response["status"], json.loads(response["body"])


async def test_live_asks_nobody() -> None:
    layer = Watched()
    with using(layer):
        assert await ask(health.live) == (200, {"status": "alive"})
    assert layer.asked == 0


@pytest.mark.parametrize("application", [health.live, health.ready], ids=["live", "ready"])
async def test_only_requests_are_answered(application: ASGIApplication) -> None:
    with pytest.raises(UnknownScopeType, match=r"type 'websocket'\. Types known: 'http'"):
        await Exchange.websocket().run(application)


async def test_as_routes_of_the_project() -> None:
    application = ProtocolTypeRouter({"http": router(path("live", health.live), path("ready", health.ready))})  # type: ignore[arg-type]
    assert await ask(application, "/live") == (200, {"status": "alive"})
    assert await ask(application, "/ready") == (200, {"status": "ready", "checks": {"layer default": "ok"}})


async def test_a_layer_without_health_is_well() -> None:
    assert await ask(Ready()) == (200, {"status": "ready", "checks": {"layer default": "ok"}})


async def test_nothing_to_ask_is_ready() -> None:
    with override_settings(CHANNEL_LAYERS={}):
        assert await ask(Ready()) == (200, {"status": "ready", "checks": {}})
    assert await ask(Ready(layers=[])) == (200, {"status": "ready", "checks": {}})


async def test_a_layer_that_is_away_and_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sealane.routing")
    layer, ready = Watched(), Ready()
    with using(layer):
        assert await ask(ready) == (200, {"status": "ready", "checks": {"layer default": "ok"}})
        layer.answer = False
        for _ in range(3):
            assert await ask(ready) == (503, {"status": "unready", "checks": {"layer default": "unreachable"}})
        layer.answer = True
        assert (await ask(ready))[0] == 200
    assert layer.asked == 5
    # Once for each change, however often it is asked.
    assert caplog.record_tuples == [
        ("sealane.routing", logging.WARNING, "Health check: layer default is unreachable"),
        ("sealane.routing", logging.INFO, "Health check: layer default is well again"),
    ]


async def test_an_error_is_named_by_its_type_only(caplog: pytest.LogCaptureFixture) -> None:
    layer, ready = Watched(), Ready()
    layer.answer = ConnectionError("redis://sealane:secret@cache.internal:6379")
    with using(layer):
        for _ in range(2):
            assert await ask(ready) == (503, {"status": "unready", "checks": {"layer default": "failed"}})
    assert [record.getMessage() for record in caplog.records] == ["Health check: layer default failed, ConnectionError"]


async def test_a_question_that_is_late_is_asked_once() -> None:
    layer, ready = Watched(), Ready(timeout=0.01)
    layer.may_answer.clear()
    with using(layer):
        for _ in range(3):
            assert await ask(ready) == (503, {"status": "unready", "checks": {"layer default": "late"}})
        assert layer.asked == 1
        layer.may_answer.set()
        await asyncio.gather(*ready._asked.values())
        assert await ask(Ready(timeout=20)) == (200, {"status": "ready", "checks": {"layer default": "ok"}})


async def test_requests_at_the_same_time_share_a_question() -> None:
    layer, ready = Watched(), Ready(timeout=20)
    with using(layer):
        answers = await asyncio.gather(*(ask(ready) for _ in range(5)))
    assert {status for status, _ in answers} == {200}
    assert layer.asked == 1


def test_it_serves_one_event_loop_after_another() -> None:
    ready = Ready(timeout=0.01)

    async def serve(*, answers: bool) -> int:
        layer = Watched()
        if not answers:
            layer.may_answer.clear()
        with using(layer):
            return (await ask(ready))[0]

    assert asyncio.run(serve(answers=False)) == 503
    ready._timeout = 20
    assert asyncio.run(serve(answers=True)) == 200


async def test_a_layer_over_redis() -> None:
    with Server() as server:
        layer = RedisChannelLayer([server.url], timeout=20)
        with using(layer):
            ready = Ready(timeout=20)
            assert await ask(ready) == (200, {"status": "ready", "checks": {"layer default": "ok"}})
        await layer.close()


async def test_a_redis_that_is_away_is_not_named() -> None:
    layer = RedisChannelLayer([f"redis://user:secret@127.0.0.1:{free_port()}"], timeout=0.2)
    with using(layer):
        assert await ask(Ready(timeout=20)) == (503, {"status": "unready", "checks": {"layer default": "unreachable"}})
    await layer.close()


# Databases


@pytest.mark.django_db(transaction=True)
async def test_a_database_that_answers() -> None:
    ready = Ready(layers=[], databases=["default"], timeout=20)
    assert await ask(ready) == (200, {"status": "ready", "checks": {"database default": "ok"}})


async def test_a_database_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    ready = Ready(databases=["elsewhere"], timeout=20)
    checks = {"layer default": "ok", "database elsewhere": "failed"}
    assert await ask(ready) == (503, {"status": "unready", "checks": checks})
    assert "Health check: database elsewhere failed, ConnectionDoesNotExist" in caplog.text


# Decisions and mistakes


def test_the_verdict() -> None:
    assert verdict({}) == (200, {"status": "ready", "checks": {}})
    assert verdict({"a": "ok"})[0] == 200
    for outcome in ("unreachable", "late", "failed"):
        assert verdict({"a": "ok", "b": outcome})[0] == 503


def test_a_string_is_not_a_list_of_aliases() -> None:
    with pytest.raises(TypeError, match=r"layers takes a list of aliases, not the string 'default': write \['default'"):
        Ready(layers="default")
    with pytest.raises(TypeError, match="databases takes a list of aliases"):
        Ready(databases="default")


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_is_above_0(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"timeout is .*; expected seconds above 0"):
        Ready(timeout=timeout)


def test_repr_says_what_is_asked_and_known() -> None:
    assert repr(health.ready).startswith("<Ready layers=all databases=[] ")
    assert repr(Ready(layers=["default"], databases=["default"])) == (
        "<Ready layers=['default'] databases=['default'] not asked yet>"
    )

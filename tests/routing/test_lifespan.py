"""Lifespan: hooks and channel layers, driven by its events and by a real server."""

import asyncio
import functools
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings

from sealane.exceptions import UnknownScopeType
from sealane.layers import InMemoryChannelLayer, channel_layers
from sealane.routing import ProtocolTypeRouter
from sealane.routing.lifespan import Lifespan
from sealane.types import Message, Receive, Scope, Send
from tests.routing.recording import call, serving

STARTUP: Message = {"type": "lifespan.startup"}
SHUTDOWN: Message = {"type": "lifespan.shutdown"}
STARTED: Message = {"type": "lifespan.startup.complete"}
STOPPED: Message = {"type": "lifespan.shutdown.complete"}

#: What hooks and layers did, in order; each test begins with an empty one.
steps: list[str] = []


class OpeningLayer(InMemoryChannelLayer):
    """A layer with something to open."""

    name = "layer"
    open_error: Exception | None = None
    close_error: Exception | None = None

    async def open(self) -> None:
        if self.open_error is not None:
            raise self.open_error
        steps.append(f"open {self.name}")

    async def close(self) -> None:
        steps.append(f"close {self.name}")
        await super().close()
        if self.close_error is not None:
            raise self.close_error


class SyncOpeningLayer(InMemoryChannelLayer):
    """A layer whose ``open`` does not need to be awaited."""

    def open(self) -> None:
        steps.append("open at once")


class BrokenLayer(OpeningLayer):
    """A layer that cannot be opened."""

    name = "broken"
    open_error = OSError("no server there")


class StubbornLayer(OpeningLayer):
    """A layer that cannot be closed."""

    name = "stubborn"
    close_error = OSError("it does not close")


def layers(**backends: type[InMemoryChannelLayer]) -> override_settings:
    return override_settings(
        CHANNEL_LAYERS={alias: {"BACKEND": f"{__name__}.{backend.__name__}"} for alias, backend in backends.items()}
    )


@pytest.fixture(autouse=True)
def _only_own_layers() -> Iterator[None]:
    steps.clear()
    with override_settings(CHANNEL_LAYERS={}):
        yield


def step(name: str, error: Exception | None = None) -> Any:
    async def hook() -> None:
        steps.append(name)
        if error is not None:
            raise error

    hook.__qualname__ = name
    return hook


async def drive(application: Any, *events: Message, **scope: Any) -> list[Message]:
    """Give an application these events, one after the other, and return what it sent."""
    waiting = list(events)
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(20):
        await application({"type": "lifespan", **scope}, receive, send)
    assert waiting == []
    return sent


async def test_without_layers_or_hooks() -> None:
    assert await drive(Lifespan(), STARTUP, SHUTDOWN) == [STARTED, STOPPED]


async def test_it_answers_the_start_before_it_waits_for_the_end() -> None:
    sent: list[Message] = []
    events: asyncio.Queue[Message] = asyncio.Queue()
    answered = asyncio.Event()

    async def send(message: Message) -> None:
        sent.append(message)
        answered.set()

    task = asyncio.create_task(Lifespan()({"type": "lifespan"}, events.get, send))
    async with asyncio.timeout(20):
        events.put_nowait(STARTUP)
        await answered.wait()
        assert sent == [STARTED]
        events.put_nowait(SHUTDOWN)
        await task
    assert sent == [STARTED, STOPPED]


async def test_hooks_run_in_order_at_the_start_and_in_reverse_at_the_end() -> None:
    lifespan = Lifespan(on_startup=[step("a"), step("b")], on_shutdown=[step("c"), step("d")])
    assert await drive(lifespan, STARTUP, SHUTDOWN) == [STARTED, STOPPED]
    assert steps == ["a", "b", "d", "c"]


async def test_layers_are_open_around_the_hooks() -> None:
    with layers(default=OpeningLayer, other=SyncOpeningLayer, plain=InMemoryChannelLayer):
        lifespan = Lifespan(on_startup=[step("start")], on_shutdown=[step("stop")])
        assert await drive(lifespan, STARTUP, SHUTDOWN) == [STARTED, STOPPED]
        assert set(channel_layers.created()) == {"default", "other", "plain"}
    assert steps == ["open layer", "open at once", "start", "stop", "close layer"]


async def test_a_layer_that_was_put_in_place_is_closed_too() -> None:
    async def replace() -> None:
        channel_layers.set("extra", StubbornLayer())

    lifespan = Lifespan(on_startup=[replace])
    try:
        sent = await drive(lifespan, STARTUP, SHUTDOWN)
    finally:
        channel_layers.set("extra", None)
    assert steps == ["close stubborn"]
    assert sent[1]["type"] == "lifespan.shutdown.failed"


async def test_an_event_of_a_later_specification_is_let_pass() -> None:
    assert await drive(Lifespan(), STARTUP, {"type": "lifespan.later"}, SHUTDOWN) == [STARTED, STOPPED]


# Kinds of hooks


async def test_a_synchronous_hook_runs_in_a_thread() -> None:
    threads: list[int] = []
    lifespan = Lifespan(on_startup=[lambda: threads.append(threading.get_ident())])
    assert await drive(lifespan, STARTUP, SHUTDOWN) == [STARTED, STOPPED]
    assert threads != [threading.get_ident()]


@pytest.mark.django_db(transaction=True)
async def test_a_synchronous_hook_may_use_the_orm() -> None:
    def hook() -> None:
        User.objects.create(username="started")

    assert await drive(Lifespan(on_startup=[hook]), STARTUP, SHUTDOWN) == [STARTED, STOPPED]
    assert await sync_to_async(User.objects.filter(username="started").exists)()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [False, True])
async def test_old_connections_are_closed_after_a_hook_that_ran_a_query(fails: bool) -> None:
    def hook() -> None:
        User.objects.exists()
        connection.close_at = 0
        if fails:
            raise ValueError

    def is_open() -> bool:
        return connection.connection is not None

    await drive(Lifespan(on_startup=[step("no query"), hook]), STARTUP, *([] if fails else [SHUTDOWN]))
    assert not await sync_to_async(is_open)()


class Named:
    """A hook with a repr of its own."""

    def __call__(self) -> None: ...

    def __repr__(self) -> str:
        return "<stop>"


class AsyncCallable:
    def __init__(self) -> None:
        self.threads: list[int] = []

    async def __call__(self) -> None:
        self.threads.append(threading.get_ident())

    def method(self, number: int = 1) -> None:
        self.threads.append(number)

    async def with_state(self, number: int, state: dict[str, Any]) -> None:
        state["number"] = number


async def test_a_callable_of_any_kind() -> None:
    hook = AsyncCallable()
    state: dict[str, Any] = {}
    lifespan = Lifespan(on_startup=[hook, lambda: hook(), hook.method, functools.partial(hook.with_state, 3), dict])
    assert await drive(lifespan, STARTUP, SHUTDOWN, state=state) == [STARTED, STOPPED]
    here = threading.get_ident()
    assert hook.threads == [here, here, 1]
    assert state == {"number": 3}


async def test_a_hook_with_an_argument_gets_the_state() -> None:
    state: dict[str, Any] = {}

    def start(state: dict[str, Any]) -> None:
        state["pool"] = "open"

    async def stop(state: dict[str, Any], verbose: bool = False) -> None:
        steps.append(state["pool"])

    lifespan = Lifespan(on_startup=[start], on_shutdown=[stop])
    assert await drive(lifespan, STARTUP, SHUTDOWN, state=state) == [STARTED, STOPPED]
    assert state == {"pool": "open"}
    assert steps == ["open"]


async def test_a_hook_for_a_state_that_the_server_does_not_have() -> None:
    def start(state: dict[str, Any]) -> None: ...

    (sent,) = await drive(Lifespan(on_startup=[start]), STARTUP)
    assert sent["type"] == "lifespan.startup.failed"
    assert "start failed: RuntimeError: it takes the lifespan state, but this server's" in sent["message"]


@pytest.mark.parametrize(
    ("hook", "problem"),
    [
        (lambda a, b: None, r"<lambda> requires the arguments a, b; expected none, or one for the lifespan state$"),
        (lambda *, state: None, r"<lambda> requires the arguments state; expected none"),
        ("print", r"A lifespan hook is a callable, not 'print'$"),
    ],
)
@pytest.mark.parametrize("when", ["on_startup", "on_shutdown"])
def test_a_hook_that_cannot_be_called(when: str, hook: Any, problem: str) -> None:
    options: dict[str, Any] = {when: [hook]}
    with pytest.raises(TypeError, match=problem):
        Lifespan(**options)


# Failures


async def test_a_failing_startup_hook(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("no cache there")
    with layers(default=OpeningLayer):
        lifespan = Lifespan(on_startup=[step("a"), step("warm", error), step("c")], on_shutdown=[step("never")])
        sent = await drive(lifespan, STARTUP)
    reason = "Startup hook warm failed: ValueError: no cache there"
    assert sent == [{"type": "lifespan.startup.failed", "message": reason}]
    assert steps == ["open layer", "a", "warm", "close layer"]
    (record,) = caplog.records
    assert (record.name, record.levelno, record.message) == ("sealane.routing", logging.ERROR, reason)
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_a_layer_that_cannot_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    with layers(default=OpeningLayer, other=BrokenLayer):
        sent = await drive(Lifespan(on_startup=[step("never")]), STARTUP)
    reason = "Opening channel layer 'other' failed: OSError: no server there"
    assert sent == [{"type": "lifespan.startup.failed", "message": reason}]
    assert steps == ["open layer", "close layer", "close broken"]
    assert [record.message for record in caplog.records] == [reason]


@override_settings(CHANNEL_LAYERS={"default": {"BACKEND": "nowhere.Layer"}})
async def test_a_layer_that_cannot_be_made() -> None:
    (sent,) = await drive(Lifespan(), STARTUP)
    assert sent["message"].startswith("Opening channel layer 'default' failed: InvalidChannelLayerError: ")


@override_settings(CHANNEL_LAYERS="default")
async def test_settings_that_cannot_be_read() -> None:
    (sent,) = await drive(Lifespan(), STARTUP)
    assert sent["message"].startswith("Reading CHANNEL_LAYERS failed: InvalidChannelLayerError: CHANNEL_LAYERS is")


async def test_every_step_of_the_end_runs_though_another_failed(caplog: pytest.LogCaptureFixture) -> None:
    with layers(default=StubbornLayer, other=OpeningLayer):
        lifespan = Lifespan(on_shutdown=[step("a"), step("b", ValueError("one")), step("c", KeyError("two"))])
        sent = await drive(lifespan, STARTUP, SHUTDOWN)
    reasons = [
        "Shutdown hook c failed: KeyError: 'two'",
        "Shutdown hook b failed: ValueError: one",
        "Closing channel layer 'default' failed: OSError: it does not close",
    ]
    assert sent == [STARTED, {"type": "lifespan.shutdown.failed", "message": "; ".join(reasons)}]
    assert steps == ["open stubborn", "open layer", "c", "b", "a", "close stubborn", "close layer"]
    assert [record.message for record in caplog.records] == reasons
    assert all(record.exc_info for record in caplog.records)


async def test_cancellation_passes() -> None:
    async def forever() -> None:
        await asyncio.Future()

    task = asyncio.create_task(drive(Lifespan(on_startup=[forever]), STARTUP))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_scopes() -> None:
    with pytest.raises(UnknownScopeType, match=r"scope type 'http'\. Types known: 'lifespan'$"):
        await call(Lifespan(), type="http")


def test_repr_names_the_hooks() -> None:
    lifespan = Lifespan(on_startup=[step("warm"), AsyncCallable()], on_shutdown=[Named()])
    assert repr(lifespan) == "Lifespan(on_startup=[warm, AsyncCallable], on_shutdown=[<stop>])"


# On a real server


async def test_a_real_server_runs_it_and_gives_connections_the_state() -> None:
    seen: list[object] = []

    async def http(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["state"]["pool"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def start(state: dict[str, Any]) -> None:
        state["pool"] = "open"

    with layers(default=OpeningLayer):
        router = ProtocolTypeRouter({"http": http}, on_startup=[start], on_shutdown=[step("stop")])
        async with asyncio.timeout(20), serving(router, lifespan="on") as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 204")
            writer.close()
            await writer.wait_closed()
            assert steps == ["open layer"]
    assert seen == ["open"]
    assert steps == ["open layer", "stop", "close layer"]


async def test_a_real_server_does_not_start_where_a_hook_fails(caplog: pytest.LogCaptureFixture) -> None:
    router = ProtocolTypeRouter({}, on_startup=[step("warm", ValueError("no cache"))])
    server = uvicorn.Server(uvicorn.Config(router, port=0, log_config=None, ws="websockets-sansio"))
    # uvicorn's way to end the process.
    with pytest.raises(SystemExit):
        async with asyncio.timeout(20):
            await server.serve()
    assert not server.started
    assert "Startup hook warm failed: ValueError: no cache" in caplog.text

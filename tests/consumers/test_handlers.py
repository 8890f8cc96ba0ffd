"""Which of the methods that a class may have are handlers, and what is decided once for each."""

import asyncio
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from sealane.consumers import AsyncConsumer, AsyncWebsocketConsumer, WebsocketConsumer
from sealane.db import database_sync_to_async
from sealane.layers import InMemoryChannelLayer
from sealane.testing import WebsocketCommunicator

LIMIT = 20.0

Handler = Callable[..., Any]


async def handle(self: Any, event: dict[str, Any]) -> None:
    self.scope["seen"].append(event["text"])


def handle_plainly(self: Any, event: dict[str, Any]) -> None:
    self.scope["seen"].append(event["text"])


async def handle_with(self: Any, extra: str, event: dict[str, Any]) -> None:
    assert extra == "extra"
    await handle(self, event)


def handle_plainly_with(self: Any, extra: str, event: dict[str, Any]) -> None:
    assert extra == "extra"
    handle_plainly(self, event)


def return_coroutine(self: Any, event: dict[str, Any]) -> Awaitable[None]:
    return handle(self, event)


def return_future(self: Any, event: dict[str, Any]) -> Awaitable[None]:
    return asyncio.ensure_future(handle(self, event))


@functools.wraps(handle)
def wrapped(*args: Any) -> Any:
    return handle(*args)


@functools.wraps(handle)
def bridged(self: Any, event: dict[str, Any]) -> Any:
    return async_to_sync(handle)(self, event)


ASYNC: dict[str, Any] = {
    "a coroutine function": handle,
    "a partial method": functools.partialmethod(handle_with, "extra"),
    "a wrapped coroutine function": wrapped,
    "a plain function that returns a coroutine": return_coroutine,
    "a plain function that returns a future": return_future,
    "a function for the database": database_sync_to_async(handle_plainly),
}
SYNC: dict[str, Any] = {
    "a plain function": handle_plainly,
    "a partial method": functools.partialmethod(handle_plainly_with, "extra"),
    "a coroutine function through async_to_sync": async_to_sync(handle),
    "a plain function around a coroutine function": bridged,
}
HANDLERS = [
    # What uses the database closes old connections, where a test before has left one in the shared thread.
    pytest.param(base, handler, id=f"{base.__name__}: {name}", marks=[pytest.mark.django_db] * ("database" in name))
    for base, handlers in [(AsyncWebsocketConsumer, ASYNC), (WebsocketConsumer, SYNC)]
    for name, handler in handlers.items()
]


async def send_to(consumer: Any, layer: InMemoryChannelLayer, count: int) -> list[str]:
    """Send messages to a consumer's handler, and a frame after them; return what the handler has seen by then."""
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    seen: list[str] = []
    client.scope["seen"] = seen
    async with client:
        for n in range(count):
            await layer.group_send("room", {"type": "chat.message", "text": str(n)})
        await layer.group_send("room", {"type": "websocket.send", "text": "over"})
        assert await client.receive_from(LIMIT) == "over"
    return seen


@pytest.mark.parametrize("overridden", [False, True], ids=["", "dispatch overridden"])
@pytest.mark.parametrize(("base", "handler"), HANDLERS)
async def test_a_handler_is_called(
    base: type[AsyncConsumer], handler: Handler, overridden: bool, layer: InMemoryChannelLayer
) -> None:
    async def dispatch(self: Any, message: dict[str, Any]) -> None:
        await super(consumer, self).dispatch(message)

    def dispatch_plainly(self: Any, message: dict[str, Any]) -> None:
        super(consumer, self).dispatch(message)

    own = {"dispatch": dispatch_plainly if base is WebsocketConsumer else dispatch} if overridden else {}
    consumer: Any = type("Chat", (base,), {"groups": ["room"], "chat_message": handler, **own})
    assert await send_to(consumer, layer, 3) == ["0", "1", "2"]


@pytest.mark.parametrize(("base", "handler"), HANDLERS)
async def test_what_a_handler_takes_is_looked_at_once(
    base: type[AsyncConsumer], handler: Handler, layer: InMemoryChannelLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[Any] = []
    signature = inspect.signature

    def counting(method: Any, **kwargs: Any) -> inspect.Signature:
        looked_at.append(method)
        return signature(method, **kwargs)

    consumer: Any = type("Chat", (base,), {"groups": ["room"], "chat_message": handler})
    await send_to(consumer, layer, 0)  # what the connection itself takes
    monkeypatch.setattr("sealane.consumers.handlers.inspect.signature", counting)
    assert await send_to(consumer, layer, 3) == ["0", "1", "2"]
    assert await send_to(consumer, layer, 3) == ["0", "1", "2"]
    assert len(looked_at) == 1


async def assigned(self: Any) -> None:
    self.chat_message = functools.partial(handle, self)
    await self.accept()


def made_up(self: Any, name: str) -> Any:
    if name == "chat_message":
        return functools.partial(handle, self)
    raise AttributeError(name)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"chat_message": handle_plainly}, "chat_message() must be a coroutine function (async def)"),
        ({"connect": assigned}, "it has no method chat_message()"),
        ({"__getattr__": made_up}, "it has no method chat_message()"),
        ({"chat_message": functools.partialmethod(handle_with)}, "chat_message() does not take exactly one message"),
    ],
    ids=["a plain function", "one of an instance", "one made up", "a partial method that lacks an argument"],
)
@pytest.mark.parametrize("overridden", [False, True], ids=["", "dispatch overridden"])
async def test_what_is_no_handler_is_told_in_one_line(
    body: dict[str, Any], problem: str, overridden: bool, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def dispatch(self: Any, message: dict[str, Any]) -> None:
        await super(consumer, self).dispatch(message)

    own = {"dispatch": dispatch} if overridden else {}
    consumer: Any = type("Chat", (AsyncWebsocketConsumer,), {"groups": ["room"], **body, **own})
    with caplog.at_level(logging.INFO, logger="sealane.consumers"):
        await send_to(consumer, layer, 1)
    assert [record.getMessage() for record in caplog.records if record.name == "sealane.consumers"] == [
        "Chat at '/' dropped a message of the channel layer: No handler for message type 'chat.message' on Chat: "
        + problem
    ]


async def test_a_coroutine_function_is_no_handler_of_a_synchronous_consumer(
    layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    for handler in handle, database_sync_to_async(handle_plainly), functools.partialmethod(handle_with, "extra"):
        caplog.clear()
        consumer = type("Chat", (WebsocketConsumer,), {"groups": ["room"], "chat_message": handler})
        with caplog.at_level(logging.INFO, logger="sealane.consumers"):
            assert await send_to(consumer, layer, 1) == []
        assert "chat_message() must be a plain function" in caplog.text


class Observer:
    """A handler that is an object, as libraries make them: it is bound to the consumer by its own __get__()."""

    async def __call__(self, message: dict[str, Any], consumer: Any = None) -> None:
        await handle(consumer, message)

    def __get__(self, consumer: Any, owner: Any = None) -> Any:
        return self if consumer is None else functools.partial(self, consumer=consumer)


async def test_an_object_with_a_get_method_is_a_handler(layer: InMemoryChannelLayer) -> None:
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(Observer())
    consumer: Any = type("Chat", (AsyncWebsocketConsumer,), {"groups": ["room"], "chat_message": Observer()})
    assert await send_to(consumer, layer, 3) == ["0", "1", "2"]


@pytest.mark.parametrize("base", [AsyncWebsocketConsumer, WebsocketConsumer])
async def test_a_dispatch_of_ones_own_gets_what_has_no_handler(base: Any, layer: InMemoryChannelLayer) -> None:
    """Some libraries take the messages of the channel layer there, and define no handlers."""

    async def dispatch(self: Any, message: dict[str, Any]) -> None:
        if message["type"].startswith("websocket."):
            await super(consumer, self).dispatch(message)
        else:
            self.scope["seen"].append(message["text"])

    def dispatch_plainly(self: Any, message: dict[str, Any]) -> None:
        if message["type"].startswith("websocket."):
            super(consumer, self).dispatch(message)
        else:
            self.scope["seen"].append(message["text"])

    own = dispatch_plainly if base is WebsocketConsumer else dispatch
    consumer: Any = type("Chat", (base,), {"groups": ["room"], "dispatch": own})
    assert await send_to(consumer, layer, 3) == ["0", "1", "2"]


@pytest.mark.parametrize("kind", ["close", "send", "websocket.receive", "websocket.connect", "_private", "dispatch"])
async def test_a_dispatch_of_ones_own_does_not_get_what_no_channel_layer_may_ask_for(
    kind: str, layer: InMemoryChannelLayer, caplog: pytest.LogCaptureFixture
) -> None:
    async def dispatch(self: Any, message: dict[str, Any]) -> None:
        self.scope["seen"].append(message["type"])
        await super(consumer, self).dispatch(message)

    consumer: Any = type("Chat", (AsyncWebsocketConsumer,), {"groups": ["room"], "dispatch": dispatch})
    client = WebsocketCommunicator(consumer.as_asgi(), "/")
    client.scope["seen"] = []
    async with client:
        await layer.group_send("room", {"type": kind, "text": "no"})
        await layer.group_send("room", {"type": "websocket.send", "text": "over"})
        assert await client.receive_from(LIMIT) == "over"
    assert client.scope["seen"] == ["websocket.connect", "websocket.send", "websocket.disconnect"]
    assert "dropped a message of the channel layer" in caplog.text

"""Methods of the framework that a class overrides: those of the wrong kind are named, as early as can be."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

from sealane.consumers import (
    AsyncConsumer,
    AsyncHttpConsumer,
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    SyncConsumer,
    WebsocketConsumer,
)
from sealane.db import database_sync_to_async
from sealane.layers import Gap
from sealane.testing import HttpCommunicator, WebsocketCommunicator

pytestmark = pytest.mark.usefixtures("layer")


async def coroutine_function(self: Any, *args: Any, **kwargs: Any) -> None:
    raise AssertionError


def plain(self: Any, *args: Any, **kwargs: Any) -> None:
    """Do nothing, and return nothing to await."""


# In synchronous consumers: when the class is defined


@pytest.mark.parametrize(
    ("base", "name", "instead"),
    [
        (SyncConsumer, "dispatch", "AsyncConsumer"),
        (SyncConsumer, "on_error", "AsyncConsumer"),
        (SyncConsumer, "on_gap", "AsyncConsumer"),
        (WebsocketConsumer, "dispatch", "AsyncWebsocketConsumer"),
        (WebsocketConsumer, "connect", "AsyncWebsocketConsumer"),
        (WebsocketConsumer, "receive", "AsyncWebsocketConsumer"),
        (WebsocketConsumer, "disconnect", "AsyncWebsocketConsumer"),
        (WebsocketConsumer, "websocket_connect", "AsyncWebsocketConsumer"),
        (WebsocketConsumer, "send", "AsyncWebsocketConsumer"),
        (JsonWebsocketConsumer, "receive_json", "AsyncJsonWebsocketConsumer"),
        (JsonWebsocketConsumer, "encode_json", "AsyncJsonWebsocketConsumer"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_coroutine_function_in_a_synchronous_consumer(base: type[AsyncConsumer], name: str, instead: str) -> None:
    with pytest.raises(
        TypeError,
        match=rf"^Chat\.{name}\(\) is a coroutine function, and Chat is a {base.__name__}, which is synchronous: "
        rf"write a plain function \(def {name}\), or derive from {instead}$",
    ):
        type("Chat", (base,), {name: coroutine_function})


@pytest.mark.parametrize(
    "wrap",
    [
        database_sync_to_async,
        sync_to_async,
        lambda function: classmethod(coroutine_function),
        lambda function: staticmethod(coroutine_function),
        lambda function: functools.partialmethod(coroutine_function, 1),
    ],
    ids=["database_sync_to_async", "sync_to_async", "classmethod", "staticmethod", "partialmethod"],
)
def test_a_coroutine_function_behind_a_decorator(wrap: Callable[[Any], Any]) -> None:
    """The first of them is how Channels has its own dispatch()."""
    with pytest.raises(TypeError, match=r"^Chat\.dispatch\(\) is a coroutine function"):
        type("Chat", (WebsocketConsumer,), {"dispatch": wrap(plain)})


def test_a_coroutine_function_of_a_parent() -> None:
    class Mixin:
        connect = coroutine_function

    with pytest.raises(TypeError, match=r"^Chat\.connect\(\) is a coroutine function"):
        type("Chat", (Mixin, WebsocketConsumer), {})
    with pytest.raises(TypeError, match=r"^Chat\.connect\(\) is a coroutine function"):
        type("Chat", (Mixin, type("Parent", (WebsocketConsumer,), {})), {})
    # The framework's own comes first.
    type("Chat", (WebsocketConsumer, Mixin), {})


async def test_async_to_sync_makes_a_plain_function() -> None:
    class Bridges(WebsocketConsumer):
        @async_to_sync
        async def connect(self) -> None:
            await asyncio.sleep(0)
            await sync_to_async(self.accept)()

    async with WebsocketCommunicator(Bridges.as_asgi(), "/"):
        pass


# In asynchronous consumers: when the function has returned


@pytest.mark.parametrize(
    ("base", "name"),
    [
        (AsyncWebsocketConsumer, "connect"),
        (AsyncWebsocketConsumer, "websocket_connect"),
        (AsyncWebsocketConsumer, "dispatch"),
        (AsyncWebsocketConsumer, "receive"),
        (AsyncWebsocketConsumer, "send"),
        (AsyncJsonWebsocketConsumer, "receive_json"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
async def test_a_plain_function_in_an_asynchronous_consumer(base: type[AsyncConsumer], name: str) -> None:
    class Answers(base):  # type: ignore[misc,valid-type]
        async def websocket_receive(self, message: dict[str, Any]) -> None:
            await super().websocket_receive(message)
            await self.send(text_data="x")

    chat: Any = type("Chat", (Answers,), {name: plain})
    client = WebsocketCommunicator(chat.as_asgi(), "/")
    with pytest.raises(
        TypeError,
        match=rf"^Chat\.{name}\(\) returned None, which cannot be awaited, and Chat is asynchronous: write a "
        rf"coroutine function \(async def {name}\)$",
    ):
        await client.connect()
        await client.send_to(text_data="1")
        await client.wait()


async def test_a_plain_class_method_in_an_asynchronous_consumer() -> None:
    class Chat(AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json(content)

        @classmethod
        def encode_json(cls, content: Any) -> str:  # type: ignore[override]
            return "secret"

    client = WebsocketCommunicator(Chat.as_asgi(), "/")
    await client.connect()
    await client.send_to(text_data="1")
    with pytest.raises(TypeError, match=r"^Chat\.encode_json\(\) returned a str, which cannot be awaited"):
        await client.wait()


async def test_a_plain_handle() -> None:
    class Page(AsyncHttpConsumer):
        def handle(self, body: bytes) -> None:  # type: ignore[override]
            pass

    client = HttpCommunicator(Page.as_asgi(), "GET", "/")
    with pytest.raises(TypeError, match=r"^Page\.handle\(\) returned None, which cannot be awaited"):
        await client.get_response()


async def test_a_plain_function_that_returns_an_awaitable_is_as_good() -> None:
    seen: list[Any] = []

    class Chat(AsyncJsonWebsocketConsumer):
        def connect(self) -> Awaitable[None]:  # type: ignore[override]
            return asyncio.gather(self.accept())  # type: ignore[return-value]

        def receive_json(self, content: Any, **kwargs: Any) -> Awaitable[None]:  # type: ignore[override]
            seen.append(content)
            return self.send_json(content)

        @staticmethod
        def on_gap(gap: Gap) -> Awaitable[None]:  # type: ignore[override]
            raise AssertionError

        @database_sync_to_async
        def disconnect(self, code: int) -> None:
            seen.append(code)

    async with WebsocketCommunicator(Chat.as_asgi(), "/") as client:
        await client.send_json_to("x")
        assert await client.receive_json_from() == "x"
    assert seen == ["x", 1000]


def test_a_class_of_the_right_kind_is_left_alone() -> None:
    async def connect(self: Any) -> None: ...

    def helper(self: Any) -> None: ...

    chat = type("Chat", (AsyncWebsocketConsumer,), {"connect": connect, "helper": helper})
    assert vars(chat)["connect"] is connect
    assert vars(chat)["helper"] is helper

"""What the tests of the demultiplexer share: consumers for its streams, and a client that speaks envelopes."""

from typing import Any, Self

from sealane.consumers import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
    WebsocketDemultiplexer,
)
from sealane.exceptions import DenyConnection
from sealane.testing import WebsocketCommunicator
from sealane.types import Message, Scope

#: Seconds that only a hang takes.
LIMIT = 20.0


class Chat(AsyncJsonWebsocketConsumer):
    """Echo, and do what a message says."""

    groups = ["chat"]
    #: The streams whose consumers have ended, with their codes, in order.
    ended: list[tuple[str, int]] = []

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"fail": str(text)}:
                raise ZeroDivisionError(text)
            case {"close": int(code)}:
                await self.close(code, "as you wish")
            case _:
                await self.send_json({"echo": content})

    async def chat_message(self, message: Message) -> None:
        await self.send_json({"said": message["text"]})

    async def disconnect(self, code: int) -> None:
        self.ended.append((self.scope["stream"], code))


class Notices(JsonWebsocketConsumer):
    """The same for synchronous code."""

    groups = ["notices"]
    ended: list[tuple[str, int]] = []

    def receive_json(self, content: Any, **kwargs: Any) -> None:
        match content:
            case {"fail": str(text)}:
                raise ZeroDivisionError(text)
            case {"close": int(code)}:
                self.close(code, "as you wish")
            case _:
                self.send_json({"echo": content})

    def chat_message(self, message: Message) -> None:
        self.send_json({"said": message["text"]})

    def disconnect(self, code: int) -> None:
        self.ended.append((self.scope["stream"], code))


class Terminal(AsyncWebsocketConsumer):
    """Frames as they are."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data, bytes_data)


class SyncTerminal(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data, bytes_data)


class Refusing(AsyncWebsocketConsumer):
    """Refuse, in the way that the class says."""

    how: Any = None

    async def connect(self) -> None:
        match self.how:
            case "close":
                await self.close()
            case int(code):
                await self.close(code, "not you")
            case "deny":
                raise DenyConnection(404, b"no such room")
            case "fail":
                raise ZeroDivisionError("on purpose")


def refusing(how: Any) -> type[Refusing]:
    return type("Refusing", (Refusing,), {"how": how, "__module__": __name__})


def demultiplexer(base: type[WebsocketDemultiplexer] = WebsocketDemultiplexer, **attributes: Any) -> Any:
    """Make a demultiplexer of consumers of its own, which note their ends in ``ended``."""
    ended: list[tuple[str, int]] = []
    streams = {
        "chat": type("Chat", (Chat,), {"ended": ended, "__module__": __name__}),
        "notices": type("Notices", (Notices,), {"ended": ended, "__module__": __name__}).as_asgi(),  # type: ignore[attr-defined]
        "terminal": Terminal,
        "sync-terminal": SyncTerminal.as_asgi(),
    }
    streams |= attributes.pop("streams", {})
    attributes = {"streams": streams, "ended": ended, "__module__": __name__, **attributes}
    return type("Demultiplexer", (base,), attributes)


def instances_of(consumer: Any) -> list[Any]:
    """Keep the instances that a class makes from now on."""
    made: list[Any] = []
    original = consumer.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        original(self, *args, **kwargs)

    consumer.__init__ = init
    return made


class Client(WebsocketCommunicator):
    """A client of a demultiplexer, without one of its own checks: what it gets is compared whole."""

    exit_timeout = LIMIT

    def __init__(self, consumer: Any, **scope: Any) -> None:
        super().__init__(consumer.as_asgi(), "/socket/")
        self.scope: Scope = {**self.scope, **scope}

    async def __aenter__(self) -> Self:
        assert await self.connect(LIMIT) == (True, None)
        return self

    async def get(self) -> Any:
        return await self.receive_json_from(LIMIT)

    async def say(self, stream: str, payload: Any) -> None:
        await self.send_json_to({"stream": stream, "payload": payload})

    async def ask(self, stream: str, payload: Any) -> Any:
        """Send a payload, and return the one that comes next, of this stream."""
        await self.say(stream, payload)
        answer = await self.get()
        assert answer["stream"] == stream, answer
        return answer["payload"]

    async def open(self, *streams: str) -> None:
        for stream in streams:
            await self.send_json_to({"stream": stream, "event": "open"})
            assert await self.get() == {"stream": stream, "event": "open"}

    async def close(self, stream: str, code: int | None = None) -> None:
        given = {} if code is None else {"code": code}
        await self.send_json_to({"stream": stream, "event": "close", **given})
        assert await self.get() == closed(stream, 1005 if code is None else code)


def closed(stream: str, code: int, reason: str = "") -> dict[str, Any]:
    return {"stream": stream, "event": "close", "code": code, "reason": reason}


def error(stream: str | None, code: int, reason: str) -> dict[str, Any]:
    return {"stream": stream, "event": "error", "code": code, "reason": reason}

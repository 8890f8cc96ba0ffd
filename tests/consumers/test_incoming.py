"""What a client may send: which frames pass, and what stands for the others."""

import asyncio
import pickle
from typing import Any

import pytest

from sealane.consumers.incoming import REFUSED, Incoming, original_of
from sealane.exceptions import FrameError, FrameTooLarge, TooManyFrames
from sealane.types import Message


class Client:
    """A client whose messages are there at once, or after some seconds of a clock."""

    def __init__(self, *messages: Message | float) -> None:
        self.now = 0.0
        self.messages = list(messages)

    def clock(self) -> float:
        return self.now

    async def receive(self) -> Message:
        while isinstance(first := self.messages.pop(0), int | float):
            self.now += first
        return first


def text(content: str = "x") -> Message:
    return {"type": "websocket.receive", "text": content}


async def received(client: Client, **limits: Any) -> list[Message]:
    limits = {"max_size": None, "max_rate": None, "clock": client.clock} | limits
    incoming = Incoming(client.receive, **limits)
    return [await incoming.receive() for message in list(client.messages) if isinstance(message, dict)]


async def test_a_frame_up_to_the_limit_passes_as_it_is() -> None:
    frames = [text("x" * 10), {"type": "websocket.receive", "bytes": b"x" * 10}, text("ü" * 5), text("")]
    got = await received(Client(*frames), max_size=10)
    assert all(one is other for one, other in zip(got, frames, strict=True))


@pytest.mark.parametrize(
    "message",
    [text("x" * 11), text("ü" * 6), {"type": "websocket.receive", "bytes": b"x" * 11}, text("\ud800" * 4)],
    ids=["text", "not ASCII", "binary", "not UTF-8"],
)
async def test_a_larger_one_is_refused_without_its_content(message: Message) -> None:
    [note] = await received(Client(message), max_size=10)
    assert set(note) == {"type", "error"}
    assert note["type"] == REFUSED
    assert isinstance(note["error"], FrameTooLarge)
    assert note["error"].limit == 10
    assert original_of(note) == {"type": "websocket.receive"}


async def test_frames_over_the_rate_are_refused_with_their_content() -> None:
    got = await received(Client(*[text(str(n)) for n in range(5)], 0.5, text("5"), text("6")), max_rate=2, burst=3)
    assert [note.get("text") for note in got if note["type"] != REFUSED] == ["0", "1", "2", "5"]
    assert [original_of(note) for note in got if note["type"] == REFUSED] == [text("3"), text("4"), text("6")]
    assert str(got[3]["error"]) == "Frames come faster than 2 per second, with up to 3 at once"


@pytest.mark.parametrize(("rate", "burst"), [(0.2, 1), (1, 1), (2.5, 2), (10, 10)])
async def test_the_burst_is_what_comes_in_a_second(rate: float, burst: int) -> None:
    got = await received(Client(*[text()] * 20), max_rate=rate)
    assert sum(note["type"] != REFUSED for note in got) == burst


async def test_a_frame_that_is_too_large_takes_its_token_too() -> None:
    got = await received(Client(text("xx"), text("x"), text("xx")), max_size=1, max_rate=1, burst=1)
    assert [type(note["error"]) for note in got] == [FrameTooLarge, TooManyFrames, TooManyFrames]
    assert [note.get("text") for note in got] == [None, "x", None]


async def test_nothing_else_is_judged() -> None:
    messages: list[Message] = [
        {"type": "websocket.connect"},
        {"type": "websocket.disconnect", "code": 1000},
        {"no": "type"},
    ] * 5
    assert await received(Client(*messages), max_size=1, max_rate=1) == messages


async def test_a_client_that_nobody_read_from_is_not_to_blame_for_what_piled_up() -> None:
    client = Client(*[text(str(n)) for n in range(40)])
    incoming = Incoming(client.receive, max_size=None, max_rate=2, clock=client.clock)
    assert (await incoming.receive())["type"] == "websocket.receive"
    client.now += 10  # a handler was busy
    kinds = [(await incoming.receive())["type"] for _ in range(39)]
    # Those of ten seconds, and the burst.
    assert kinds.count("websocket.receive") == 21


async def test_a_cancelled_call_loses_nothing() -> None:
    queue: asyncio.Queue[Message] = asyncio.Queue()
    incoming = Incoming(queue.get, max_size=1, max_rate=None)
    task = asyncio.create_task(incoming.receive())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    queue.put_nowait(text())
    assert await incoming.receive() == text()


@pytest.mark.parametrize("error", [FrameTooLarge(11, 10), TooManyFrames(2, 3)], ids=repr)
def test_an_error_keeps_its_data(error: FrameError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.code, copy.args) == (str(error), error.code, error.args)

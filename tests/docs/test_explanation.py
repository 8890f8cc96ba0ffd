"""What the explanations say of codes, bounds and figures is so."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from benchmarks.model import SITE
from sealane.consumers import AsyncJsonWebsocketConsumer, dispatch
from sealane.exceptions import ConnectionClosed, IllegalEvent, StopConsumer
from sealane.layers import InMemoryChannelLayer, channel_layers
from sealane.layers.counters import Counters
from sealane.testing import WebsocketCommunicator
from tests.docs import figures, scaling
from tests.docs.snippets import DOCS

LIFECYCLE = (DOCS / "explanation" / "lifecycle.md").read_text()
DELIVERY = (DOCS / "explanation" / "delivery.md").read_text()
DESIGN = (DOCS / "explanation" / "design.md").read_text()


class Consumer(AsyncJsonWebsocketConsumer):
    """Does what a frame tells it to, and remembers the codes that disconnect() got."""

    groups = ["all"]
    codes: list[int]
    reached: list[object]
    #: How many of them are being slow.
    slow = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.codes, cls.reached = [], []

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        self.reached.append(content)
        match content:
            case "close":
                await self.close()
            case ["close", code]:
                await self.close(code)
            case "stop":
                raise StopConsumer
            case "fail":
                raise ZeroDivisionError
            case "be slow":
                Consumer.slow += 1
                await asyncio.sleep(0.05)
                Consumer.slow -= 1

    async def tell(self, message: Any) -> None: ...

    async def disconnect(self, code: int) -> None:
        self.codes.append(code)


@pytest.fixture
def consumer(layer: InMemoryChannelLayer) -> type[Consumer]:
    channel_layers.set("default", InMemoryChannelLayer(capacity=1, overflow="close"))

    class Fresh(Consumer):
        max_message_size = 1000
        max_message_rate = 0.1
        message_burst = 50

    return Fresh


def frame(content: str | bytes) -> Callable[[WebsocketCommunicator], Awaitable[None]]:
    if isinstance(content, bytes):
        return lambda socket: socket.send_to(bytes_data=content)
    return lambda socket: socket.send_to(text_data=content)


async def cancel(socket: WebsocketCommunicator) -> None:
    socket.future.cancel()


async def overflow(socket: WebsocketCommunicator) -> None:
    await socket.send_json_to("be slow")
    while not Consumer.slow:
        await asyncio.sleep(0)
    for _ in range(2):
        await channel_layers["default"].group_send("all", {"type": "tell"})


async def flood(socket: WebsocketCommunicator) -> None:
    for _ in range(51):
        await socket.send_json_to("nothing")


SENT: dict[int, list[Callable[[WebsocketCommunicator], Awaitable[None]]]] = {
    1000: [frame('"close"'), frame('"stop"')],
    1003: [frame(b"binary")],
    1007: [frame("not JSON"), frame('"\ud800"')],
    1008: [flood],
    1009: [frame(f'"{1000 * "x"}"')],
    1011: [frame('"fail"')],
    1012: [cancel],
    1013: [overflow],
}


def test_the_table_of_codes_is_the_one_that_is_tested() -> None:
    table = LIFECYCLE.partition("## Close codes")[2].partition("## ")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == list(SENT)


@pytest.mark.parametrize(("code", "cause"), [(code, cause) for code, causes in SENT.items() for cause in causes])
async def test_what_sends_a_code(
    code: int, cause: Callable[[WebsocketCommunicator], Awaitable[None]], consumer: type[Consumer]
) -> None:
    socket = WebsocketCommunicator(consumer.as_asgi(), "/")
    assert await socket.connect() == (True, None)
    await cause(socket)
    assert await socket.receive_close() == code
    if code == 1011:
        with pytest.raises(ZeroDivisionError):
            await socket.disconnect(code)
        return
    await socket.disconnect(code)
    assert code in consumer.codes


async def test_a_code_of_ones_own(consumer: type[Consumer]) -> None:
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as socket:
        await socket.send_json_to(["close", 4001])
        assert await socket.receive_close() == 4001
    assert consumer.codes == [4001]


async def test_the_code_of_the_client(consumer: type[Consumer]) -> None:
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as socket:
        await socket.disconnect(4010)
    assert consumer.codes == [4010]


async def test_the_two_kinds_of_mistakes(layer: InMemoryChannelLayer) -> None:
    found: list[object] = []

    class Mistaken(AsyncJsonWebsocketConsumer):
        async def connect(self) -> None:
            for attempt in (self.send_json({}), self.accept(), self.accept(), self.close(), self.close()):
                try:
                    await attempt
                except (ConnectionClosed, IllegalEvent) as error:
                    found.append(type(error))
            await self.send_json({})
            found.append("not reached")

    async with WebsocketCommunicator(Mistaken.as_asgi(), "/"):
        pass
    # A frame before the accept, and a second accept. To close twice is harmless; the last one ended the handler.
    assert found == [IllegalEvent, IllegalEvent]


async def test_frames_that_wait_when_the_client_leaves_are_handled(consumer: type[Consumer]) -> None:
    assert "the frames that it had sent are handled first" in " ".join(DELIVERY.split())
    async with WebsocketCommunicator(consumer.as_asgi(), "/") as socket:
        await socket.send_json_to("be slow")
        await socket.send_json_to("last words")
    assert consumer.reached == ["be slow", "last words"]


def test_the_counters() -> None:
    table = DELIVERY.partition("| Counter |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert named == [name for name in Counters().as_dict() if name.startswith("dropped_")]


def test_the_bounds() -> None:
    bounds = f"{dispatch.READ_AHEAD} messages or {dispatch.READ_AHEAD_BYTES // 1024} KiB"
    assert bounds in " ".join(DESIGN.split())
    assert bounds in " ".join(DELIVERY.split())
    assert f"up to {dispatch.BURST}, before the other tasks" in " ".join(DESIGN.split())
    assert f"`capacity` messages already ({InMemoryChannelLayer().capacity} by default)" in DELIVERY
    assert f"`expiry` ({InMemoryChannelLayer().expiry:g} seconds by default)" in DELIVERY


def test_the_figures_are_those_of_the_run_that_the_page_names() -> None:
    page = figures.PAGE.read_text()
    run = figures.named_run(page)
    assert figures.written(page) == figures.render(run), "run: python -m tests.docs.figures"
    assert run is not None
    assert figures.CHART.read_bytes() == run.with_suffix(".svg").read_bytes(), "run: python -m tests.docs.figures"


def test_the_model_is_that_of_the_run_that_the_page_names() -> None:
    page = scaling.PAGE.read_text()
    run = scaling.named_run(page)
    assert scaling.written(page) == scaling.render(run), "run: python -m tests.docs.figures"


def test_the_scaling_page_says_what_the_model_assumes() -> None:
    page = scaling.PAGE.read_text()
    for assumption in (
        f"{SITE.sockets:,} sockets",
        f"{SITE.processes} processes",
        f"{SITE.sockets_each:,.0f} each",
        f"{SITE.room} members",
        f"{1 / SITE.room_rate:.0f} seconds",
        f"{SITE.utilization:.0%}",
        f"{SITE.base // 1024**2} MiB",
        f"every {SITE.refresh:g} seconds",
    ):
        assert assumption in page

"""Fixtures: every kind of event loop for the dispatch tests, and a layer of its own for each test of a consumer."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from sealane.layers import InMemoryChannelLayer, channel_layers

#: Seconds after which a test that hangs fails by itself.
LIMIT = 10.0

Run = Callable[[Coroutine[Any, Any, Any]], Any]

KINDS = ["asyncio", "uvloop"] + (["eager"] if sys.version_info >= (3, 12) else [])


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine to its end on a loop of its own, and fail where it leaves a task behind."""

    def run_on_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def main() -> Any:
            loop = asyncio.get_running_loop()
            if request.param == "eager":
                loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
            try:
                async with asyncio.timeout(LIMIT):
                    return await coroutine
            finally:
                await asyncio.sleep(0)
                left = asyncio.all_tasks() - {asyncio.current_task()}
                assert not left, f"tasks left behind: {left}"

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(debug=True, loop_factory=factory) as runner:
            return runner.run(main())

    return run_on_loop


@pytest.fixture
def layer() -> Iterator[InMemoryChannelLayer]:
    """Give a test the default layer to itself, and see that its consumers left nothing in it."""
    layer = InMemoryChannelLayer()
    before = channel_layers.set("default", layer)
    yield layer
    stats = layer.stats()
    assert (stats["channels"], stats["groups"]) == (0, 0), "a consumer left something behind"
    channel_layers.set("default", before)


async def until(condition: Callable[[], object]) -> None:
    """Let the other tasks run until a condition holds; the test's own limit ends it where it never does."""
    while not condition():
        await asyncio.sleep(0)

"""One fixture runs every dispatch test on every kind of event loop."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

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


async def until(condition: Callable[[], object]) -> None:
    """Let the other tasks run until a condition holds; the test's own limit ends it where it never does."""
    while not condition():
        await asyncio.sleep(0)

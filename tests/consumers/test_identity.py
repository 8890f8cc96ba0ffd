"""Steps taken by hand for many tasks in a row: each finds its own task, and nothing is left of it afterwards."""

import asyncio
import contextvars

import pytest

from sealane.consumers.identity import step_in, step_out
from tests.consumers.conftest import Run


def test_each_task_in_turn_is_the_current_one_and_none_is_afterwards(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(asyncio.sleep(0)) for _ in range(3)]
        seen: list[asyncio.Task[None] | None] = []
        done = loop.create_future()

        def step() -> None:
            for task in tasks:
                step_in(loop, task)
                seen.append(asyncio.current_task())
            step_out(loop)
            seen.append(asyncio.current_task())
            step_out(loop)  # a second time is harmless
            done.set_result(None)

        # As a turn of the loop runs: in a callback, where no task runs by itself.
        loop.call_soon(step, context=contextvars.Context())
        await done
        assert seen == [*tasks, None]
        # asyncio refuses to run a task where another one is said to run.
        await asyncio.gather(*tasks)
        assert asyncio.current_task() not in tasks

    run(main())


def test_a_deadline_in_such_a_step_is_that_of_its_task(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        waiting = loop.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        done = loop.create_future()

        def step() -> None:
            step_in(loop, waiting)
            try:
                deadline = asyncio.timeout(0)
                with pytest.raises(StopIteration):
                    deadline.__aenter__().send(None)
            finally:
                step_out(loop)
            done.set_result(deadline)

        loop.call_soon(step)
        await done
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(main())

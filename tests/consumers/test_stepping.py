"""A coroutine whose first step was taken by hand goes on in a task as if nothing had happened."""

import asyncio
from typing import Any

import pytest

from sealane.consumers.stepping import THROUGH, go_on
from tests.consumers.conftest import Run


async def nothing() -> None:
    pass


def test_a_coroutine_that_does_not_wait_is_through_with_its_first_step() -> None:
    assert next(nothing().__await__(), THROUGH) is THROUGH


def test_it_goes_on_with_what_it_waits_for(run: Run) -> None:
    async def main() -> None:
        log: list[str] = []
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def handler() -> None:
            log.append(await future)
            await asyncio.sleep(0)
            log.append("end")

        steps = handler().__await__()
        waits_for = next(steps, THROUGH)
        assert waits_for is future
        future.set_result("result")
        await go_on(steps, waits_for)
        assert log == ["result", "end"]

    run(main())


def test_what_it_waits_for_may_fail(run: Run) -> None:
    async def main() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def handler() -> None:
            await future

        steps = handler().__await__()
        waits_for = next(steps, THROUGH)
        future.set_exception(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            await go_on(steps, waits_for)

    run(main())


@pytest.mark.parametrize("swallows", [False, True])
def test_an_error_is_raised_where_it_waits(run: Run, swallows: bool) -> None:
    async def main() -> None:
        log: list[Any] = []

        async def handler() -> None:
            try:
                await asyncio.get_running_loop().create_future()
            except KeyError as error:
                await asyncio.sleep(0)
                log.append(error)
                if not swallows:
                    raise

        steps = handler().__await__()
        waits_for = next(steps, THROUGH)
        error = KeyError("why")
        if swallows:
            await go_on(steps, waits_for, error)
        else:
            with pytest.raises(KeyError, match="why"):
                await go_on(steps, waits_for, error)
        assert log == [error]

    run(main())


def test_cancellations_reach_it_one_after_the_other(run: Run) -> None:
    async def main() -> None:
        log: list[int] = []

        async def handler() -> None:
            for n in range(3):
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    log.append(n)

        steps = handler().__await__()
        waits_for = next(steps, THROUGH)

        async def body() -> None:
            await go_on(steps, waits_for)

        task = asyncio.ensure_future(body())
        for n in range(3):
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            assert log == list(range(n + 1))
        await task

    run(main())


def test_it_is_closed_with_the_one_that_awaits_it() -> None:
    log: list[str] = []

    async def handler() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            log.append("closed")

    steps = handler().__await__()
    waits_for = next(steps, THROUGH)

    async def body() -> None:
        await go_on(steps, waits_for)

    coroutine = body()
    coroutine.send(None)
    coroutine.close()
    assert log == ["closed"]

"""Outages of a channel layer, as a worker tells of them."""

import asyncio
import logging

import pytest

from sealane.exceptions import ChannelLayerUnavailable
from sealane.worker.outage import Outage


async def test_a_call_that_fails_over_an_outage_that_is_past_is_no_new_one(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sealane.worker")
    times = iter(range(100))
    outage = Outage(clock=lambda: float(next(times)))
    late: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    away = [True]
    tries = 0

    async def short() -> str:
        if away.pop():
            raise ChannelLayerUnavailable("redis://nowhere", "away")
        return "short"

    async def long() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            await late
            raise ChannelLayerUnavailable("redis://nowhere", "out of time")
        return "long"

    longest = asyncio.create_task(outage.outlast(long))
    await asyncio.sleep(0)
    away[:] = [False, True]
    assert await outage.outlast(short) == ("short", True)
    late.set_result(None)
    assert await longest == ("long", True)
    waits, goes_on = (message.split(",")[0] for message in caplog.messages)
    assert waits == "The worker waits for its channel layer"
    assert goes_on == "The worker goes on"
    # What fails from now on is an outage of its own.
    away[:] = [False, True]
    await outage.outlast(short)
    assert len(caplog.messages) == 4

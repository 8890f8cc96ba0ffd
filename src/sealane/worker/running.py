"""A worker as the whole of a process: it runs until a signal comes."""

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sealane.worker.worker import Worker

__all__ = ["run_until_signal"]

logger = logging.getLogger("sealane.worker")


async def run_until_signal(worker: "Worker", *, started: Callable[[], object] | None = None) -> None:
    """Work until SIGTERM or SIGINT, and to the end of what was begun. A second signal cancels that.

    ``started()`` is called when signals are heard.
    Signals come to the main thread alone; elsewhere it works until ``worker.stop()`` is called.
    """
    task = asyncio.create_task(worker.handle(), name="sealane-worker")

    seen = 0

    def received(number: signal.Signals) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            logger.info("%s: the worker takes no more, and ends what runs", number.name)
            worker.stop()
        else:
            logger.warning("%s once more: the worker cancels what runs", number.name)
            task.cancel()

    with _signals_to(received):
        if started is not None:
            started()
        # Not "await task": it is cancelled from here, which is no cancellation of the caller.
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise
    if not task.cancelled():
        task.result()


@contextmanager
def _signals_to(received: Callable[[signal.Signals], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            loop.add_signal_handler(number, received, number)
    except NotImplementedError:
        # Windows: there Ctrl-C cancels the main task of asyncio.run().
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:
                signal.signal(number, handler)

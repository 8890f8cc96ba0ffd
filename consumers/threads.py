"""The bounded pool of threads in which synchronous consumers run.

asgiref's default for synchronous code is one thread for the whole process, so that one blocking handler stops every
other. Here a connection has a thread for as long as one of its handlers runs, and what that handler calls through
``async_to_sync`` comes back to the same thread.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import AsyncToSync
from django.conf import settings

from sealane.db import DatabaseSyncToAsync

__all__ = ["run_in_own_thread", "run_in_thread", "thread_count"]

_call: DatabaseSyncToAsync | None = None


def thread_count() -> int:
    """Return how many handlers of synchronous consumers run at once: the setting SEALANE_THREADS.

    Its default is Python's own for threads that mostly wait: the number of processors and 4, at most 32.
    """
    return getattr(settings, "SEALANE_THREADS", None) or min(32, (os.cpu_count() or 1) + 4)


async def run_in_thread(function: Callable[[], Any]) -> Any:
    """Run a handler in a thread of the pool, with Django's old database connections closed there around it.

    ``async_to_sync`` inside it runs on the calling event loop. A cancellation does not stop a thread: see asgiref.
    """
    global _call
    if asyncio.get_running_loop() in AsyncToSync.loop_thread_executors:
        # Synchronous code started this loop and waits for it: a TestCase, whose transaction only its thread sees.
        return await _call_in_parent(function)
    if _call is None:
        pool = ThreadPoolExecutor(thread_count(), thread_name_prefix="sealane")
        _call = DatabaseSyncToAsync(_invoke, thread_sensitive=False, executor=pool)
    return await _call(function)


async def run_in_own_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a new thread, as :func:`run_in_thread` does: one that may last must not keep out handlers."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="sealane-spawned")
    try:
        return await DatabaseSyncToAsync(_invoke, thread_sensitive=False, executor=executor)(function)
    finally:
        executor.shutdown(wait=False)


def _invoke(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except StopIteration as error:
        # A future cannot hold it, and its waiter would wait for ever.
        raise RuntimeError("A handler raised StopIteration") from error


_call_in_parent = DatabaseSyncToAsync(_invoke, thread_sensitive=True)


def _forget() -> None:
    global _call
    _call = None


if hasattr(os, "register_at_fork"):
    # The threads of a pool do not exist in a forked child.
    os.register_at_fork(after_in_child=_forget)

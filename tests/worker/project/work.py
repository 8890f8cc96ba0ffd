"""Jobs that note in a file when they begin and when they are done."""

import asyncio
import os
import time
from typing import Any

from sealane.consumers import AsyncConsumer, SyncConsumer

#: The tests rewrite it, so that the worker reloads.
VERSION = "first"


def note(*words: object) -> None:
    """Add a line to the journal; lines of several processes do not mix."""
    line = " ".join(map(str, words)) + "\n"
    journal = os.open(os.environ["JOBS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(journal, line.encode())
    finally:
        os.close(journal)


def attempt(message: Any) -> int:
    """Return which delivery it is; 0 where nobody counts."""
    delivery = getattr(message, "delivery", None)
    return 0 if delivery is None else delivery.attempt


class Jobs(AsyncConsumer):
    """Waits as a job does that asks another server."""

    async def job_do(self, message: dict[str, Any]) -> None:
        note("begin", message["n"], os.getpid(), attempt(message), VERSION)
        await asyncio.sleep(message.get("seconds", 0))
        if message.get("fails"):
            raise ValueError(f"job {message['n']} is bad")
        note("done", message["n"], os.getpid(), attempt(message), VERSION)


class Blocking(SyncConsumer):
    """Computes, in a thread."""

    def job_do(self, message: dict[str, Any]) -> None:
        note("begin", message["n"], os.getpid(), attempt(message), VERSION)
        time.sleep(message.get("seconds", 0))
        if message.get("fails"):
            raise ValueError(f"job {message['n']} is bad")
        note("done", message["n"], os.getpid(), attempt(message), VERSION)

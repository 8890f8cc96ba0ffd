"""The threads of synchronous consumers: what they leave behind, and what a fork leaves of them."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sealane.consumers import threads

LIMIT = 20.0


async def test_the_thread_of_a_spawned_function_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ThreadPoolExecutor] = []
    ran_in: list[threading.Thread] = []

    class Kept(ThreadPoolExecutor):
        """One that is not let go: its thread ends because it was told to."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(threads, "ThreadPoolExecutor", Kept)
    try:
        await threads.run_in_own_thread(lambda: ran_in.append(threading.current_thread()))
        assert len(made) == 1
        assert ran_in[0].name.startswith("sealane-spawned")
        async with asyncio.timeout(LIMIT):
            while ran_in[0].is_alive():
                await asyncio.sleep(0.001)
    finally:
        made[0].shutdown()


FORK = """
import asyncio, os, signal

from django.conf import settings

settings.configure()

from sealane.consumers import threads

assert asyncio.run(threads.run_in_thread(os.getpid)) == os.getpid()
child = os.fork()
if not child:
    signal.alarm(20)  # nobody would come to work in the pool of the parent
    worked = asyncio.run(threads.run_in_thread(os.getpid)) == os.getpid()
    os._exit(0 if worked else 1)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    # Newer versions of Python warn of any fork beside threads, which is what is tried here.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    # In debug mode asyncio reports what took long on a busy machine.
    environment = {**os.environ, "PYTHONASYNCIODEBUG": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("0", "")

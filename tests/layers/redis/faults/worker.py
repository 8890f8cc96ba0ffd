"""A process that does jobs until it is killed. Its arguments: layer class, URL, prefix, file, visibility, tasks, pause.

A job takes as long as the pause, in seconds, or as its message says.

It notes each delivery in the file that all workers share, in a line of its own that is written at once: when it began
with a job (``begin``), when it had done it (``done``), and whether its acknowledgement was in time (``acked`` or
``late``).
"""

import asyncio
import os
import sys
import time

from sealane.layers.redis.layer import RedisLayer
from tests.layers.redis.faults.member import KINDS


async def work(layer: RedisLayer, log: int, visibility: float, pause: float) -> None:
    while True:
        delivery = await layer.receive_delivery("jobs", visibility_timeout=visibility, max_deliveries=5)
        number = delivery.message["number"]

        def note(event: str, number: int = number, attempt: int = delivery.attempt) -> None:
            os.write(log, f"{event} {number} {attempt} {os.getpid()} {time.monotonic():.4f}\n".encode())

        note("begin")
        await asyncio.sleep(delivery.message.get("pause", pause))
        note("done")
        note("acked" if await delivery.ack() else "late")


async def main(kind: str, url: str, prefix: str, file: str, visibility: str, tasks: str, pause: str) -> None:
    layer = KINDS[kind]([url], prefix=prefix, lease=1)
    log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    await asyncio.gather(*(work(layer, log, float(visibility), float(pause)) for _ in range(int(tasks))))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

"""The server process: one side's applications on uvicorn, and a control socket, alike for all sides.

Started by the runner as `python -m benchmarks.server SIDE WORKLOAD REDIS [ROLE]`. It writes its port on its standard
output and serves until it is terminated.
"""

import asyncio
import gc
import json
import socket
import sys
import time
import tracemalloc
from collections.abc import Awaitable

import uvicorn

from benchmarks.allocations import allocations
from benchmarks.applications import Applications
from benchmarks.configure import applications_for
from benchmarks.load import run_load, stamp
from benchmarks.processor import pin, resident_bytes, sender_core, server_core
from benchmarks.store import Store
from benchmarks.workload import TEXT, WORKLOADS
from sealane.types import ASGIApplication, Receive, Scope, Send

__all__ = ["main", "serve"]

#: Connections that may wait to be accepted: more than a client opens at once.
_BACKLOG = 2_048


def _control(applications: Applications) -> ASGIApplication:
    """Return the application that obeys the load client: broadcast from in here, or tell the memory."""
    tasks: set[asyncio.Future[None]] = set()

    async def broadcast(text: str) -> None:
        await applications.broadcast(text, encoded=False)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] != "websocket.disconnect":
            match event["text"]:
                case "plain":
                    await applications.broadcast(TEXT, encoded=False)
                case "encoded":
                    await applications.broadcast(TEXT, encoded=True)
                case "memory":
                    gc.collect()
                    await send({"type": "websocket.send", "text": str(resident_bytes())})
                case "now":
                    task = asyncio.ensure_future(broadcast(stamp(time.monotonic())))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                case "where":
                    await send({"type": "websocket.send", "text": json.dumps(allocations())})
                case load:
                    _, rate, seconds = load.split()
                    count = await run_load(broadcast, float(rate), float(seconds))
                    await send({"type": "websocket.send", "text": str(count)})

    return application


def _application(side: str, workload_name: str, store: Store | None) -> ASGIApplication:
    workload = WORKLOADS[workload_name]
    applications = applications_for(side, workload, store)
    if workload.name.startswith("echo"):
        measured = applications.echo()
    elif workload.name == "footprint":
        measured = applications.joiner()
    else:
        measured = applications.member()
    control = _control(applications)

    # Not a coroutine function: a frame of ours that lives as long as the connection would count as its
    # memory.
    def application(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return (control if scope["path"] == "/control" else measured)(scope, receive, send)

    return application


def main(side: str, workload: str, store: str, role: str = "server") -> None:
    """Serve until a signal says stop, as the server, as the sender to another, or with its memory traced."""
    pin(sender_core() if role == "sender" else server_core())
    application = _application(side, workload, Store.load(store))
    if role == "traced":
        # What was imported is of no interest, and would make each look at the memory take seconds.
        tracemalloc.start()
    serve(application)


def serve(application: ASGIApplication) -> None:
    """Serve an application until a signal says stop, once the port was written on the standard output."""
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        interface="asgi3",
        lifespan="off",
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:5])

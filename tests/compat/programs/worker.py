"""Workers, and the names of their channels."""

import asyncio

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.layers import InMemoryChannelLayer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from channels.worker import Worker

from tests.compat.transcripts import Transcript, case


async def until(condition, patience=30):
    """Wait for something that a worker does; for some time only, since it may never do it."""
    try:
        async with asyncio.timeout(patience):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pass


async def end(task):
    """End a worker."""
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        pass


@case
async def messages(out: Transcript) -> None:
    class Thumbnails(AsyncConsumer):
        async def make_one(self, message):
            out.say(message, sorted(set(self.scope) & {"type", "channel"}), self.scope["channel"])

    class Printer(SyncConsumer):
        def print_page(self, message):
            out.say(message, self.scope["channel"])

    application = ProtocolTypeRouter(
        {"channel": ChannelNameRouter({"thumbnails": Thumbnails.as_asgi(), "printer": Printer.as_asgi()})}
    )
    layer = InMemoryChannelLayer()
    worker = Worker(application, ["thumbnails", "printer"], layer)
    task = asyncio.create_task(worker.handle())
    for number in range(3):
        await layer.send("thumbnails", {"type": "make.one", "number": number})
    await until(lambda: len(out.lines) == 3)
    await layer.send("printer", {"type": "print.page"})
    await until(lambda: len(out.lines) == 4)
    await end(task)


@case
async def one_instance_for_a_channel(out: Transcript) -> None:
    class Counter(AsyncConsumer):
        count = 0

        async def count_one(self, message):
            self.count += 1
            out.say(self.count)

    layer = InMemoryChannelLayer()
    worker = Worker(Counter.as_asgi(), ["counter"], layer)
    task = asyncio.create_task(worker.handle())
    for _ in range(3):
        await layer.send("counter", {"type": "count.one"})
    await until(lambda: len(out.lines) == 3)
    await end(task)


@case
async def without_a_layer(out: Transcript) -> None:
    try:
        Worker(AsyncConsumer.as_asgi(), ["a"], None)
    except ValueError:
        out.say("ValueError")


@case
async def a_message_without_a_type(out: Transcript) -> None:
    class Consumer(AsyncConsumer):
        async def known(self, message):
            out.say("known")

    layer = InMemoryChannelLayer()
    worker = Worker(Consumer.as_asgi(), ["a"], layer)
    task = asyncio.create_task(worker.handle())
    await layer.send("a", {"nothing": 1})
    await layer.send("a", {"type": "known"})
    await until(lambda: task.done() or out.lines)
    if task.done():
        out.say("the worker ended with", type(task.exception()).__name__)
    else:
        await end(task)


@case
async def a_handler_that_fails(out: Transcript) -> None:
    class Consumer(AsyncConsumer):
        async def fail(self, message):
            raise LookupError("no such job")

        async def known(self, message):
            out.say("known", message["number"])

    layer = InMemoryChannelLayer()
    worker = Worker(Consumer.as_asgi(), ["a"], layer)
    task = asyncio.create_task(worker.handle())
    await layer.send("a", {"type": "fail"})
    await layer.send("a", {"type": "known", "number": 1})
    await until(lambda: len(out.lines) == 1, patience=2)
    await layer.send("a", {"type": "known", "number": 2})
    await until(lambda: len(out.lines) == 2, patience=2)
    out.say("ended", task.done())
    if not task.done():
        await end(task)

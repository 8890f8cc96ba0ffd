"""AsyncEventStreamConsumer: server-sent events, as the HTML standard defines them."""

import asyncio
from typing import Any

from sealane.consumers.http import AsyncHttpConsumer
from sealane.consumers.json import encode

__all__ = ["AsyncEventStreamConsumer", "format_event"]


def format_event(data: str, *, event: str | None = None, id: str | None = None, retry: int | None = None) -> bytes:
    """Return one event of an event stream. ``retry`` is in milliseconds.

    Raises ValueError where ``event`` or ``id`` holds a line break, which would begin another field, or ``id`` a NUL.
    """
    lines = []
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if "\n" in value or "\r" in value or "\0" in value:
                raise ValueError(f"The {name} of an event cannot hold a line break or NUL: {value!r}")
            lines.append(f"{name}: {value}")
    if retry is not None:
        lines.append(f"retry: {retry}")
    # Every line break that the standard knows begins another data field; the browser joins them with \n.
    lines += [f"data: {line}" for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


class AsyncEventStreamConsumer(AsyncHttpConsumer):
    """Answer with a stream of events (``text/event-stream``), for an ``EventSource`` in the browser.

    Override ``stream()`` to send events, or leave it and send them from handlers of channel layer messages: by
    default it waits until the client leaves. A comment goes out every ``keep_alive`` seconds, so that proxies do not
    take a quiet stream for a dead one. A browser that reconnects says which event it saw last: ``last_event_id``.
    """

    close_on_logout = True

    #: Seconds between comments on a quiet stream; None for none.
    keep_alive: float | None = 15.0

    #: Milliseconds that a browser waits before it reconnects; None for its own default.
    retry: int | None = None  # type: ignore[assignment]  # a response is no job: nothing asks for it again

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._opened = asyncio.Event()

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event that the client saw, from its ``Last-Event-ID`` header."""
        for name, value in self.scope.get("headers", ()):
            if name == b"last-event-id":
                return str(value, "utf-8", "replace")
        return None

    async def handle(self, body: bytes) -> None:
        """Send the headers, keep the stream alive, and run :meth:`stream`."""
        await self.send_headers(
            headers=[
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache, no-transform"),
                (b"x-accel-buffering", b"no"),  # nginx would collect the events
            ]
        )
        # A first part opens the stream in the browser before there is any event.
        first = b":\n\n" if self.retry is None else f"retry: {self.retry}\n\n".encode()
        await self.send_body(first, more_body=True)
        self._opened.set()
        if self.keep_alive is not None:
            self.spawn(self._keep_alive(self.keep_alive), name="sealane-keep-alive")
        await self.stream()
        await self.send_body(b"")

    async def stream(self) -> None:
        """Send events until there are no more; to return ends the response. Waits for the client to leave."""
        await asyncio.get_running_loop().create_future()

    async def send_event(
        self, data: Any, *, event: str | None = None, id: str | None = None, retry: int | None = None
    ) -> None:
        """Send an event. ``data`` that is not a string is sent as JSON. It waits until the stream has begun."""
        await self._opened.wait()
        text = data if isinstance(data, str) else encode(data)
        await self.send_body(format_event(text, event=event, id=id, retry=retry), more_body=True)

    async def _keep_alive(self, interval: float) -> None:
        while True:
            await asyncio.sleep(interval)
            await self.send_body(b":\n\n", more_body=True)

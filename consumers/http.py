"""AsyncHttpConsumer: a request handled while its connection is watched."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings

from sealane.consumers.admission import Refusal
from sealane.consumers.base import AsyncConsumer
from sealane.consumers.ending import Step
from sealane.consumers.outgoing import Outgoing
from sealane.exceptions import (
    ConnectionClosed,
    HandlerCancelled,
    IllegalEvent,
    RequestAborted,
    RequestBodyTooLarge,
    StopConsumer,
)
from sealane.types import Message, Receive, Send

__all__ = ["AsyncHttpConsumer"]

logger = logging.getLogger("sealane.consumers")

HeaderValues = Iterable[tuple[bytes, bytes]] | Mapping[bytes, bytes]


class AsyncHttpConsumer(AsyncConsumer):
    """Handle an HTTP request: override ``handle(body)`` and answer with ``send_response()`` and its parts.

    ``handle()`` runs beside the dispatch of messages. A client that leaves cancels it, and messages of the channel
    layer reach their handlers while a long response goes out. ``disconnect()`` runs exactly once, after it.
    A body over ``DATA_UPLOAD_MAX_MEMORY_SIZE`` bytes is answered with 413. An exception of ``handle()`` goes to
    ``on_error()``; where that lets it pass before a response began, the answer is 500.
    """

    # A response is over soon; to join a group for each would cost more than it saves.
    close_on_logout = False

    #: Seconds that the client may take to let the server take one part of the response: then the response ends where it
    #: is. None for ever.
    send_timeout: float | None = None

    _can_refuse = True
    _started = False
    _complete = False
    _handling: asyncio.Task[None] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.body: list[bytes] = []
        self._body_size = 0

    async def send_headers(self, *, status: int = 200, headers: HeaderValues | None = None) -> None:
        """Begin the response. A server holds this back until the first ``send_body()``."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
        await self.send({"type": "http.response.start", "status": status, "headers": list(pairs)})

    async def send_body(self, body: bytes, *, more_body: bool = False) -> None:
        """Send a part of the response's body, in bytes. Without ``more_body`` it is the last."""
        if not isinstance(body, bytes):
            raise TypeError(f"Body is not bytes but {type(body).__name__}: encode it first")
        await self.send({"type": "http.response.body", "body": body, "more_body": more_body})

    async def send_response(self, status: int, body: bytes, **kwargs: Any) -> None:
        """Send a whole response; ``headers`` as :meth:`send_headers` takes them. Only once."""
        await self.send_headers(status=status, **kwargs)
        await self.send_body(body)

    async def send(self, message: Message) -> None:
        """Send an event, in the order that HTTP allows: one start, then the body up to its last part."""
        kind = message["type"]
        if kind == "http.response.start":
            if self._started:
                raise IllegalEvent(kind, "answered already", ["http.response.body"])
            self._started = True
        elif kind == "http.response.body":
            if not self._started:
                raise IllegalEvent(kind, "without response headers", ["http.response.start"])
            if self._complete:
                raise ConnectionClosed(kind)
            self._complete = not message.get("more_body", False)
        try:
            await self.base_send(message)
        except OSError as error:
            self._complete = True
            raise ConnectionClosed(kind) from error

    async def handle(self, body: bytes) -> None:
        """Answer the request. What it returns is not used."""
        raise NotImplementedError("Subclasses of AsyncHttpConsumer must provide a handle() method.")

    async def disconnect(self) -> None:
        """Clean up. Runs once at the end; nothing can be sent any more."""

    async def http_request(self, message: Message) -> None:
        """Collect the body, and start :meth:`handle` when it is complete."""
        body = message.get("body", b"")
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        self._body_size += len(body)
        if limit is not None and (self._body_size > limit or self._declared_size() > limit):
            await self._refuse(RequestBodyTooLarge(limit))
        self.body.append(body)
        if not message.get("more_body"):
            await self._join_groups()
            self._watch_user()
            whole = b"".join(self.body)
            self.body[:] = [whole]
            self._handling = self.spawn(self._respond(whole), name="sealane-handle")

    async def http_disconnect(self, message: Message) -> None:
        """End the consumer; :meth:`handle` is cancelled and :meth:`disconnect` follows."""
        if self._handling is None:
            logger.debug("%s: %s", self._name(), RequestAborted("the client left before its request was complete"))
        raise StopConsumer

    def _under_limits(self, receive: Receive, send: Send) -> tuple[Receive, Send]:
        if self.send_timeout is not None:
            send = Outgoing(send, outbox=None, timeout=self.send_timeout, slow=self._too_slow).send
        return receive, send

    def _too_slow(self, why: str) -> None:
        """End the response to a client that does not read."""
        self._complete = True
        self._note("closed_slow", 1, f"the client is too slow, and the response ends: {why}")
        self._stop(StopConsumer())

    def _declared_size(self) -> int:
        if self.body:
            return 0  # looked at with the first part
        for name, value in self.scope.get("headers", ()):
            if name == b"content-length" and value.isdigit():
                return int(value)
        return 0

    async def _refuse(self, error: RequestBodyTooLarge) -> None:
        logger.warning("%s refused a request: %s", self._name(), error)
        self.body.clear()
        try:
            await self.send_response(
                413, str(error).encode(), headers=[(b"content-type", b"text/plain"), (b"connection", b"close")]
            )
        except ConnectionClosed:
            pass
        raise StopConsumer

    def _refusal_of(self, refusal: Refusal) -> list[Message]:
        headers = [(b"content-type", b"text/plain; charset=utf-8")]
        return [
            {"type": "http.response.start", "status": refusal.status, "headers": headers},
            {"type": "http.response.body", "body": refusal.reason.encode(), "more_body": False},
        ]

    async def _expel(self, refusal: Refusal) -> None:
        if self._revalidation is not None:
            self._revalidation.stop()
        if self._handling is not None:
            self._handling.cancel()
        try:
            async with asyncio.timeout(self.end_timeout):
                if self._started:
                    await AsyncHttpConsumer.send_body(self, b"")  # it is ended where it is
                else:
                    for event in self._refusal_of(refusal):
                        await self.send(event)
        except (ConnectionClosed, TimeoutError) as error:
            logger.debug("%s: %s", self._name(), error)
        finally:
            self._stop(StopConsumer())

    async def _respond(self, body: bytes) -> None:
        """Run :meth:`handle`, and end the consumer with what comes of it."""
        try:
            await self.handle(body)
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            error = HandlerCancelled()
            error.__cause__ = cancelled
            await self._answer_error(error)
        except Exception as error:
            await self._answer_error(error)
        self._stop(StopConsumer())

    async def _answer_error(self, error: Exception) -> None:
        try:
            await self._failed(error, None)
            if not self._started:
                await self.send_response(500, b"Server Error", headers=[(b"content-type", b"text/plain")])
        except Exception as final:
            self._stop(final)

    def _protocol_steps(self, error: BaseException | None) -> Iterator[Step]:
        yield from super()._protocol_steps(error)
        if self.groups and self.channel_layer is not None:
            yield Step(f"Leaving the groups of {self._name()}", self.end_timeout, self._leave_groups)
        yield Step(f"disconnect() of {self._name()}", self.end_timeout, self.disconnect)

    def _read_ahead(self, message: Message) -> bool:
        if message.get("type") != "http.disconnect":
            return False
        self._left(message)
        return True

    def _left(self, message: Message) -> None:
        # At once, even where a handler of a channel layer message still runs.
        if self._handling is not None:
            self._handling.cancel()

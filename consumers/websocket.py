"""WebSocket consumers: one core decides, an async and a sync face call the user's methods."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from functools import partial
from typing import Any

from sealane.consumers.admission import Refusal
from sealane.consumers.base import AsyncConsumer
from sealane.consumers.connection import (
    ConnectionState,
    accept_event,
    close_event,
    denial_events,
    frame_event,
    is_ready_frame,
    next_state,
)
from sealane.consumers.ending import Step
from sealane.consumers.incoming import REFUSED, original_of
from sealane.consumers.limits import WebsocketLimits
from sealane.consumers.sync import SyncConsumer
from sealane.exceptions import (
    AcceptConnection,
    ConnectionClosed,
    DenyConnection,
    FrameError,
    FrameTooLarge,
    InvalidText,
    StopConsumer,
    TooManyFrames,
    UnhandledMessage,
)
from sealane.types import Message

__all__ = ["AsyncWebsocketConsumer", "WebsocketConsumer", "WebsocketCore"]

logger = logging.getLogger("sealane.consumers")

# Close codes of RFC 6455, section 7.4.1, and of its IANA registry.
NORMAL = 1000
NO_STATUS = 1005
ABNORMAL = 1006
ERROR = 1011
RESTART = 1012
OVERLOADED = 1013

CONNECTING = ConnectionState.CONNECTING
OPEN = ConnectionState.OPEN
REFUSING = ConnectionState.REFUSING
CLOSED = ConnectionState.CLOSED

Headers = Iterable[tuple[bytes, bytes]]


class WebsocketCore(WebsocketLimits, AsyncConsumer):
    """What both faces share: the state of the connection, and every decision that follows from it."""

    _can_refuse = True
    _state = CONNECTING
    _close_code: int | None = None
    disconnect: Callable[[int], Any]
    websocket_send: Callable[..., Any]
    websocket_disconnect: Callable[..., Any]

    _closed_here = False
    _disconnected = False
    #: Whether a frame that comes ready from the channel layer goes to the server without a handler.
    _forwards = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if self.groups is None:
            self.groups = []

    @property
    def disconnected(self) -> bool:
        """Whether the connection has ended: closed by either side, or lost. A long handler may look at it."""
        return self._state is CLOSED

    def _advance(self, event: Message) -> bool:
        """Enter the state that an event leads to. Returns whether there is anything to send.

        An accepted connection is open only when the server took the event: see :meth:`_sent`.
        """
        following = next_state(self._state, event, self._close_code)
        if following is None:
            return False
        if following is REFUSING:
            self._state = following
        elif following is CLOSED:
            self._note_closed()
            self._closed_here = True
            if event["type"] == "websocket.close":
                self._close_code = event.get("code", NORMAL)
        return True

    def _note_closed(self) -> None:
        self._state = CLOSED
        self._dispatcher.forward = None

    def _sent(self, event: Message) -> None:
        if event["type"] == "websocket.accept" and self._state is CONNECTING:
            self._state = OPEN
            if not self._overrides_dispatch and getattr(self.websocket_send, "__func__", None) in _FORWARDERS:
                self._forwards = True
                self._dispatcher.forward = self._asgi_send if self._sync else self.base_send
            if self.revalidate is not None:
                self._begin_watching()

    def _begin_watching(self) -> None:
        self._watch_user()

    def _lost(self, event: Message, error: OSError) -> ConnectionClosed:
        """The server says that the client is gone. Returns what to raise."""
        self._note_closed()
        return ConnectionClosed(event["type"], self._close_code)

    def _is_received(self, message: Message) -> bool:
        """Check a frame of the client. Returns whether it is to be handled: not after a close of our own.

        What a client sent before it left is handled, although nothing can be answered any more.
        """
        if self._closed_here:
            return False
        text = message.get("text")
        if text is None:
            if message.get("bytes") is None:
                raise FrameError("websocket.receive has neither text nor bytes")
        elif not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InvalidText(f"Text frame is not UTF-8: {error.reason} at {error.start}") from None
        return True

    def _refusal(self, status: int | None, body: bytes | str, headers: Headers | None) -> list[Message]:
        """The events that refuse the connection: a response where there is one and the server can, else a close."""
        if status is None or "websocket.http.response" not in (self.scope.get("extensions") or {}):
            return [close_event(None, None)]
        return denial_events(status, body.encode() if isinstance(body, str) else body, headers or ())

    def _refusal_of(self, refusal: Refusal) -> list[Message]:
        if "websocket.http.response" in (self.scope.get("extensions") or {}):
            return denial_events(refusal.status, refusal.reason.encode(), ())
        return [close_event(refusal.code, None)]

    async def _expel(self, refusal: Refusal) -> None:
        if self._revalidation is not None:
            self._revalidation.stop()
        connecting = self._state is CONNECTING
        events = self._refusal_of(refusal) if connecting else [close_event(refusal.code, refusal.reason)]
        try:
            # Nothing else goes out from here on. A client that does not read may hold up the close frame.
            async with asyncio.timeout(self.end_timeout):
                for event in events:
                    await self._transmit(event)
        except (ConnectionClosed, TimeoutError) as error:
            logger.debug("%s: %s", self._name(), error)
        finally:
            self._stop(StopConsumer())

    def _read_ahead(self, message: Message) -> bool:
        if message.get("type") != "websocket.disconnect":
            return False
        self._left(message)
        return True

    def _left(self, message: Message) -> None:
        self._note_closed()
        self._close_code = message.get("code", NO_STATUS)

    def _too_slow(self, why: str) -> None:
        if self._state is not CLOSED:
            self._closed_here = True
            self._close_code = OVERLOADED
            super()._too_slow(why)

    def _tolerates(self, error: Exception) -> bool:
        if isinstance(error, FrameError):
            # Of a frame over a limit the log was told, once a minute.
            if not isinstance(error, FrameTooLarge | TooManyFrames):
                logger.warning("%s refused a frame: %s", self._name(), error)
            return True
        return super()._tolerates(error)

    def _last_event(self, error: BaseException | None) -> Message | None:
        """What still has to be sent at the end. A server that was not answered yet reports an error by itself."""
        if self._state is not OPEN and (error is not None or self._state is not CONNECTING):
            return None
        code = NORMAL if error is None else ERROR if isinstance(error, Exception) else RESTART
        return close_event(code, None)

    def _forwarded(self, message: Message) -> Message:
        """The frame in a message of the channel layer."""
        text, data = message.get("text"), message.get("bytes")
        if isinstance(text, str):
            return {"type": "websocket.send", "text": text}
        if isinstance(data, bytes):
            return {"type": "websocket.send", "bytes": data}
        raise UnhandledMessage(type(self).__name__, "layer", message["type"], "it has neither text nor bytes to send")

    async def _failed(self, error: Exception, message: Message | None) -> None:
        if isinstance(error, UnhandledMessage) and error.source == "client" and message and message["type"] == REFUSED:
            # No handler has that name. What is wrong was known when the frame was read.
            if self._closed_here:
                return
            error, message = message["error"], original_of(message)
            self._frame_refused(error)
        if isinstance(error, OSError) and self._forwards and message and is_ready_frame(message):
            # The server's own send() was the handler.
            error = self._lost(message, error)
        await super()._failed(error, message)
        if self._state is CONNECTING and message is not None and message.get("type") == "websocket.connect":
            # on_error() let it pass, but nobody would ever answer the handshake.
            for event in self._refusal(500, b"Server Error", None):
                await self._transmit(event)
            raise StopConsumer

    async def _overflowed(self) -> None:
        try:
            await self._transmit(close_event(OVERLOADED, "Too many messages are waiting"))
        except ConnectionClosed:
            pass
        await super()._overflowed()

    async def _transmit(self, event: Message) -> None:
        """Send an event of the framework's own, from the event loop."""
        if self._advance(event):
            try:
                await self._asgi_send(event)
            except OSError as error:
                raise self._lost(event, error) from error

    async def _handle_last(self, message: Message) -> None:
        if getattr(type(self).websocket_disconnect, "__module__", None) != __name__:
            # A handler of the user's own may call disconnect() by itself.
            self.disconnect = partial(self._note_disconnect, self.disconnect)
        await super()._handle_last(message)

    def _note_disconnect(self, disconnect: Callable[[int], Any], code: int) -> Any:
        self._disconnected = True
        return disconnect(code)

    def _protocol_steps(self, error: BaseException | None) -> Iterator[Step]:
        yield from super()._protocol_steps(error)
        event = self._last_event(error)
        if event is not None:
            # Little time: a client that does not read can hold up the close frame too.
            yield Step(f"The close frame of {self._name()}", min(1.0, self.end_timeout), partial(self._say, event))
        if self._outgoing is not None:
            yield Step(f"Dropping the frames that wait for {self._name()}", 1.0, self._outgoing.stop)
            if self._slow:
                told = partial(self._tell_slow, close_event(OVERLOADED, "Too slow"))
                yield Step(f"The close frame of {self._name()}", self.end_timeout, told)
        yield from self._steps_after_close()
        if self.groups and self.channel_layer is not None:
            yield Step(f"Leaving the groups of {self._name()}", self.end_timeout, self._leave_groups)
        if not self._disconnected:
            self._disconnected = True
            yield Step(f"disconnect() of {self._name()}", self.end_timeout, self._call_disconnect)

    def _steps_after_close(self) -> Iterator[Step]:
        """What a kind of WebSocket has to end when the client was told, before ``disconnect()`` runs."""
        yield from ()

    async def _say(self, event: Message) -> None:
        try:
            await self._transmit(event)
        except Exception as error:
            # Nobody is there to be told. Servers say so in different ways.
            self._note_closed()
            logger.debug("%s: the close frame was not sent: %s", self._name(), error)

    async def _call_disconnect(self) -> None:
        self._note_closed()
        code = self._close_code if self._close_code is not None else ABNORMAL
        await self._run_disconnect(code)

    async def _run_disconnect(self, code: int) -> None:
        raise NotImplementedError


class AsyncWebsocketConsumer(WebsocketCore):
    """Handle a WebSocket: override ``connect``, ``receive`` and ``disconnect``, and add handlers for the layer.

    The connection is a state machine. ``close()`` on a closed one does nothing. ``send()`` on a closed one raises
    :exc:`~sealane.exceptions.ConnectionClosed`, which is not reported when a handler lets it pass.
    ``disconnect(code)`` runs exactly once, whatever ended the connection.
    """

    async def websocket_connect(self, message: Message) -> None:
        """Join ``groups`` and run ``connect()``."""
        await self._join_groups()
        try:
            await self.connect()
        except AcceptConnection as accepted:
            await self.accept(accepted.subprotocol, accepted.headers)
        except DenyConnection as denied:
            await self.deny(denied.status, denied.body, denied.headers)
        if self.scope.get("user") is not self._followed_user:
            await self._follow_user()  # connect() logged somebody in

    async def connect(self) -> None:
        """Accept or refuse the connection: ``accept()``, ``close()``, ``deny()``, or their exceptions. Accepts it."""
        await self.accept()

    async def accept(self, subprotocol: str | None = None, headers: Headers | None = None) -> None:
        """Accept the connection, with one of ``scope["subprotocols"]`` and more response headers."""
        await self._emit(accept_event(subprotocol, headers))

    async def deny(self, status: int | None = None, body: bytes | str = b"", headers: Headers | None = None) -> None:
        """Refuse the connection with an HTTP response.

        Where the server lacks the ``websocket.http.response`` extension, or without a ``status``, it answers 403.
        """
        for event in self._refusal(status, body, headers):
            await self._emit(event)

    def websocket_receive(self, message: Message) -> Coroutine[Any, Any, None]:
        """Hand a frame to ``receive()``."""
        text = message.get("text")
        # The common case of _is_received().
        if text is not None and text.isascii() and not self._closed_here:
            return self.receive(text_data=text)
        if not self._is_received(message):
            return _nothing()
        return self.receive(text_data=text) if text is not None else self.receive(bytes_data=message["bytes"])

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle a frame: a text frame as ``text_data``, a binary one as ``bytes_data``."""

    async def send(  # type: ignore[override]
        self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool | int = False
    ) -> None:
        """Send a frame, and then ``close`` with a code, or with 1000 where it is True."""
        event: Message
        if text_data is not None:
            event = {"type": "websocket.send", "text": text_data}
        else:
            event = frame_event(text_data, bytes_data)
        if self._state is OPEN:
            try:
                await self.base_send(event)
            except OSError as error:
                raise self._lost(event, error) from error
        else:
            self._advance(event)
        if close:
            await self.close(close)

    async def websocket_send(self, message: Message) -> None:
        """Send a ``websocket.send`` event that came through the channel layer, as it is.

        Who broadcasts ``{"type": "websocket.send", "text": ...}`` has encoded the frame once for all members.
        """
        event = self._forwarded(message)
        if self._state is OPEN:
            try:
                await self.base_send(event)
            except OSError as error:
                raise self._lost(event, error) from error
        else:
            self._advance(event)

    async def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Close the connection, or refuse it where it was not accepted. A second time does nothing."""
        await self._emit(close_event(code, reason))

    async def websocket_disconnect(self, message: Message) -> None:
        """End the consumer; ``disconnect()`` follows."""
        raise StopConsumer

    async def disconnect(self, code: int) -> None:
        """Clean up. Runs once at the end, with the close code; nothing can be sent any more."""

    async def _emit(self, event: Message) -> None:
        if self._advance(event):
            try:
                await self.base_send(event)
            except OSError as error:
                raise self._lost(event, error) from error
            self._sent(event)

    async def on_error(self, error: Exception, message: Message | None) -> None:
        if not self._tolerates(error):
            raise error
        if isinstance(error, FrameError):
            await self.close(error.code)

    async def _run_disconnect(self, code: int) -> None:
        await self.disconnect(code)


class WebsocketConsumer(WebsocketCore, SyncConsumer):
    """Handle a WebSocket with plain functions. The contract is :class:`AsyncWebsocketConsumer`'s."""

    def websocket_connect(self, message: Message) -> None:
        """Join ``groups`` and run ``connect()``."""
        self._wait_for(self._join_groups)
        try:
            self.connect()
        except AcceptConnection as accepted:
            self.accept(accepted.subprotocol, accepted.headers)
        except DenyConnection as denied:
            self.deny(denied.status, denied.body, denied.headers)
        if self.scope.get("user") is not self._followed_user:
            self._wait_for(self._follow_user)  # connect() logged somebody in

    def connect(self) -> None:
        """Accept or refuse the connection: ``accept()``, ``close()``, ``deny()``, or their exceptions. Accepts it."""
        self.accept()

    def accept(self, subprotocol: str | None = None, headers: Headers | None = None) -> None:
        """Accept the connection, with one of ``scope["subprotocols"]`` and more response headers."""
        self._emit(accept_event(subprotocol, headers))

    def deny(self, status: int | None = None, body: bytes | str = b"", headers: Headers | None = None) -> None:
        """Refuse the connection with an HTTP response.

        Where the server lacks the ``websocket.http.response`` extension, or without a ``status``, it answers 403.
        """
        for event in self._refusal(status, body, headers):
            self._emit(event)

    def websocket_receive(self, message: Message) -> None:
        """Hand a frame to ``receive()``."""
        if self._is_received(message):
            text = message.get("text")
            if text is not None:
                self.receive(text_data=text)
            else:
                self.receive(bytes_data=message["bytes"])

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Handle a frame: a text frame as ``text_data``, a binary one as ``bytes_data``."""

    def send(  # type: ignore[override]
        self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool | int = False
    ) -> None:
        """Send a frame, and then ``close`` with a code, or with 1000 where it is True."""
        self._emit(frame_event(text_data, bytes_data))
        if close:
            self.close(close)

    def websocket_send(self, message: Message) -> None:
        """Send a ``websocket.send`` event that came through the channel layer, as it is."""
        self._emit(self._forwarded(message))

    def close(self, code: int | bool | None = None, reason: str | None = None) -> None:
        """Close the connection, or refuse it where it was not accepted. A second time does nothing."""
        self._emit(close_event(code, reason))

    def websocket_disconnect(self, message: Message) -> None:
        """End the consumer; ``disconnect()`` follows."""
        raise StopConsumer

    def disconnect(self, code: int) -> None:
        """Clean up. Runs once at the end, with the close code; nothing can be sent any more."""

    def _emit(self, event: Message) -> None:
        self._require_thread()
        if self._advance(event):
            try:
                self.base_send(event)
            except OSError as error:
                raise self._lost(event, error) from error
            self._sent(event)

    def on_error(self, error: Exception, message: Message | None) -> None:  # type: ignore[override]
        if not self._tolerates(error):
            raise error
        if isinstance(error, FrameError):
            self.close(error.code)

    def _begin_watching(self) -> None:
        self._loop.call_soon_threadsafe(self._watch_user)

    async def _run_disconnect(self, code: int) -> None:
        await self._in_thread(self.disconnect, code)


async def _nothing() -> None:
    pass


# The handlers that only hand a frame on. A consumer that has another one, from its class or put there until it accepts
# the connection, gets each frame itself.
_FORWARDERS = (AsyncWebsocketConsumer.websocket_send, WebsocketConsumer.websocket_send)

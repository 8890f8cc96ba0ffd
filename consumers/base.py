"""AsyncConsumer: one instance per connection, its messages dispatched to its methods."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any, ClassVar, Literal, NoReturn, Protocol

from sealane.consumers.attendance import Attendance
from sealane.consumers.delivered import DeliveredMessage
from sealane.consumers.dispatch import Dispatcher
from sealane.consumers.ending import Step, conclude
from sealane.consumers.handlers import ENDINGS, HandlerTable
from sealane.consumers.handling import HANDLING, Handling
from sealane.consumers.limit_counters import LimitCounters
from sealane.consumers.limits import Limits, check_limits
from sealane.consumers.overrides import refuse_coroutines, require_awaitables
from sealane.consumers.pull import PullQueue
from sealane.consumers.revocation import REVOKED
from sealane.db import DatabaseUse
from sealane.exceptions import (
    ConnectionClosed,
    FrameError,
    InvalidChannelLayerError,
    MessageError,
    MessageWithoutType,
    RejectMessage,
    RetryMessage,
    StopConsumer,
    UnknownScopeType,
)
from sealane.layers import DEFAULT_CHANNEL_LAYER, BaseChannelLayer, Gap, get_channel_layer
from sealane.types import Message, Receive, Scope, Send

__all__ = ["AsyncConsumer", "ConsumerApplication"]

logger = logging.getLogger("sealane.consumers")

Dispatch = Callable[[Message], Awaitable[None]]


class ConsumerApplication(Protocol):
    """What :meth:`AsyncConsumer.as_asgi` returns: an ASGI application that knows its consumer."""

    consumer_class: type["AsyncConsumer"]
    consumer_initkwargs: dict[str, Any]

    # Any, not Awaitable[None]: type checkers know of Django's path() that it takes views.
    def __call__(self, scope: Scope, receive: Receive, send: Send, /) -> Any: ...


class AsyncConsumer(Limits, Attendance):
    """Handle one connection: dispatch each of its messages to the method that its ``type`` names.

    ``chat.message`` goes to ``async def chat_message(self, message)``. Messages come from the client and from the
    channel layer, one at a time, each source in its order. The channel layer reaches handlers only: never a method of
    the framework, a name with a leading underscore, or an event that belongs to the server.

    The end is certain. Whatever ends the connection (the client left, a handler raised, the task was cancelled, the
    server stops), the spawned tasks are cancelled, ``disconnect()`` runs once where the protocol has it, and the
    channel is closed in its layer, which takes it out of every group. Each of these steps is taken whatever became
    of the one before, even if the task is cancelled meanwhile, for at most ``end_timeout`` seconds.
    """

    #: The alias in CHANNEL_LAYERS of the layer this consumer uses.
    channel_layer_alias: str = DEFAULT_CHANNEL_LAYER

    #: The groups that the consumer belongs to from its start to its end, as class attribute or set in ``__init__``.
    groups: Sequence[str] | None = None

    #: What follows when a handler raises: ``"close"`` ends the connection, ``"log"`` reports it and goes on.
    error_policy: Literal["close", "log"] = "close"

    #: Seconds that each step of the end may take: spawned tasks, groups, ``disconnect()``, the channel layer, closing
    #: the database's connections.
    end_timeout: float = 5.0

    #: Seconds after which the user is read anew, at the latest: the session has to be there still, the account active,
    #: and its password the same. Otherwise a WebSocket is closed with 4401, and a response ends. None for never.
    revalidate: float | None = None

    #: Whether a WebSocket or an event stream of a logged-in user ends at once, with 4401, when its session is logged
    #: out anywhere. It needs a channel layer.
    close_on_logout: bool = True

    scope: Scope
    #: The consumer's layer; None where CHANNEL_LAYERS lacks its alias. "| Any" spares typed handlers an assertion.
    channel_layer: BaseChannelLayer | Any
    channel_name: str
    #: The server's ``send``; in a synchronous consumer a function that waits for it. For frames that come ready from
    #: the channel layer, what stands here when the connection is accepted counts.
    base_send: Callable[[Message], Any]

    _asgi_send: Send
    _sync: ClassVar[bool] = False
    _client_handlers: ClassVar[HandlerTable]
    _layer_handlers: ClassVar[HandlerTable]
    _client_names: ClassVar[dict[str, str]]
    _layer_names: ClassVar[dict[str, str]]
    _overrides_dispatch: ClassVar[bool]
    _dispatcher: Dispatcher
    _database: DatabaseUse
    _spawned: set[asyncio.Task[Any]] | None = None
    _job_handling: Handling | None = None
    #: The type of the last message of the channel layer without a handler that a dispatch() of a user's got.
    _stray: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._prepare()

    @classmethod
    def _prepare(cls) -> None:
        seconds = vars(cls).get("revalidate")
        if isinstance(seconds, int | float) and not seconds > 0:
            raise ValueError(f"{cls.__name__}.revalidate is {seconds!r}; expected seconds above 0, or None for never")
        check_limits(cls)
        cls.limit_counters = LimitCounters()
        if cls._sync:
            refuse_coroutines(cls)
        else:
            require_awaitables(cls)
        cls._client_handlers = HandlerTable(cls, "client", coroutines=not cls._sync)
        cls._layer_handlers = HandlerTable(cls, "layer", coroutines=not cls._sync)
        cls._client_names = cls._client_handlers.names
        cls._layer_names = cls._layer_handlers.names
        # Who defines it, not where it says it is from: a decorator copies that.
        definer = next(base for base in cls.__mro__ if "dispatch" in vars(base))
        cls._overrides_dispatch = definer.__module__.partition(".")[0] != "sealane"

    @classmethod
    def as_asgi(cls, **initkwargs: Any) -> ConsumerApplication:
        """Return an ASGI application that makes one instance per connection, with ``initkwargs`` for ``__init__``."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await cls(**initkwargs)(scope, receive, send)

        app.consumer_class = cls  # type: ignore[attr-defined]
        app.consumer_initkwargs = initkwargs  # type: ignore[attr-defined]
        functools.update_wrapper(app, cls, updated=())
        return app  # type: ignore[return-value]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection to its end. The ASGI application of this instance, called once.

        Raises what a handler raised, after the connection was ended; a server reports it.
        """
        if scope["type"] == "lifespan" and not hasattr(self, "lifespan_startup"):
            # The answer of the ASGI specification for an application that has no use for it.
            raise UnknownScopeType("lifespan", ["http", "websocket", "channel"])
        self.scope = scope
        self._database = database = DatabaseUse()
        if self._user_tests and await self._refused(receive, send):
            return
        receive, send = self._under_limits(receive, send)
        self._asgi_send = send
        self.base_send = self._wrap_send(send)
        direct = not self._overrides_dispatch and not self._sync
        dispatch_layer = self._dispatch_layer if direct else self._route_layer
        # What a worker brings comes through the channel layer, and reaches handlers only.
        in_worker = scope["type"] == "channel"
        client_names = self._layer_names if in_worker else self._client_names
        dispatch_client: Dispatch = dispatch_layer if in_worker else self._route_client
        if in_worker and (handling := HANDLING.get()) is not None:
            # Without names each message takes this way.
            client_names, dispatch_client = {}, handling.noting(dispatch_layer)
            self._job_handling = handling
        self._dispatcher = dispatcher = Dispatcher(
            receive,
            dispatch_client,
            dispatch_layer,
            failed=self._failed,
            # A job that a worker took is done before the next one is taken.
            read_ahead=None if in_worker else self._read_ahead,
            overflowed=self._overflowed,
            missed=self._missed,
            shortcut=(self, client_names, self._layer_names) if direct else None,
            housekeeping=(database.is_due, database.close_old_connections),
        )
        self.channel_layer = layer = get_channel_layer(self.channel_layer_alias)
        error: BaseException | None = None
        try:
            if layer is not None:
                self.channel_name = await layer.new_channel()
                if self.max_groups is not None:
                    self._limit_groups(self.max_groups)
                inbox = layer.attach(self.channel_name, dispatcher.wake)
                if inbox is None:
                    dispatcher.inbox = self._pull(layer)
                else:
                    dispatcher.own(inbox)
            await dispatcher.work()
        except GeneratorExit:
            raise  # the event loop is gone, nothing can be awaited any more
        except BaseException as raised:
            try:
                error = await dispatcher.close(raised)
            except BaseException as cancelled:
                error = cancelled
        if isinstance(error, StopConsumer):
            error = None
        await conclude(self._last_steps(error), dispatcher.context)
        if error is not None:
            raise error

    def _pull(self, layer: BaseChannelLayer) -> PullQueue:
        receive = functools.partial(layer.receive, self.channel_name)
        return PullQueue(self._dispatcher, [receive], lambda: None)

    def _wrap_send(self, send: Send) -> Callable[[Message], Any]:
        return send

    # Dispatch

    def _dispatch_layer(self, message: Message) -> Awaitable[None]:
        try:
            name = self._layer_names[message["type"]]
        except (KeyError, TypeError):
            return self._route_layer(message)
        return getattr(self, name)(message)  # type: ignore[no-any-return]

    def _route_client(self, message: Message) -> Awaitable[None]:
        if isinstance(message, dict) and str(message.get("type")).replace(".", "_") in ENDINGS:
            return self._handle_last(message)
        return self._handle(self._client_handlers, message)

    def _route_layer(self, message: Message) -> Awaitable[None]:
        if isinstance(message, dict) and message.get("type") == REVOKED:
            return self._revoked(message)
        return self._handle(self._layer_handlers, message)

    def _handle(self, table: HandlerTable, message: Message) -> Awaitable[None]:
        return self._call(table, self._method_for(table, message), message)

    def _method_for(self, table: HandlerTable, message: Message) -> str:
        """Return the name of the method to call: the handler, or a ``dispatch()`` of the class's own."""
        if not self._overrides_dispatch:
            return table.resolve(message)
        if not table.lacks(message):
            table.resolve(message)
        elif table is self._layer_handlers:
            self._stray = message["type"]
        return "dispatch"

    async def _call(self, table: HandlerTable, name: str, message: Message) -> None:
        await table.begin(self, name, message)

    async def _handle_last(self, message: Message) -> None:
        """Handle the client's last event. Whatever its handler does, the consumer ends."""
        self._left(message)
        try:
            await self._handle(self._client_handlers, message)
        except Exception as error:
            await self._failed(error, message)
        raise StopConsumer

    async def dispatch(self, message: Message) -> None:
        """Hand a message to its handler. Override it to do something around every message.

        A method of your own gets the messages of types without a handler too. For these the one here raises
        UnhandledMessage, which ``on_error()`` is told of: a message of the channel layer is reported and dropped.
        """
        table = self._table_of(message)
        await table.begin(self, table.resolve(message), message)

    def _table_of(self, message: Message) -> HandlerTable:
        # A message of the channel layer was let in by its own table before it came to dispatch().
        from_layer = self._layer_handlers.knows(message) or message.get("type") == self._stray
        return self._layer_handlers if from_layer else self._client_handlers

    def _left(self, message: Message) -> None:
        """Note that the client has left, as its last event says."""

    def _read_ahead(self, message: Message) -> bool:
        """Look at a message that came from the client while a handler ran. Returns whether it is the last one."""
        return False

    async def _overflowed(self) -> None:
        """End a connection that is too slow for what its channel gets, under the layer's ``overflow="close"``."""
        logger.warning("%s is too slow: its channel overflowed, and the connection is closed", self._name())
        raise StopConsumer

    async def _missed(self, gap: Gap) -> None:
        await self.on_gap(gap)

    async def on_gap(self, gap: Gap) -> None:
        """Handle that messages of the channel layer may have been missed: by default it does nothing.

        It is called in turn with the handlers, before whatever came after the gap. A consumer that keeps its client up
        to date by messages alone reads the whole state again here, or tells the client to do so. Only layers that
        reach over a network have gaps.
        """

    async def _failed(self, error: Exception, message: Message | None) -> None:
        if isinstance(error, StopConsumer):
            raise error
        delivered = message if isinstance(message, DeliveredMessage) else None
        if delivered is not None:
            # Its worker decides what becomes of the message, on_error() what becomes of the consumer.
            delivered.error = error
            if isinstance(error, (RejectMessage, RetryMessage)):
                return
        try:
            if not isinstance(error, ConnectionClosed):
                return await self._report(error, message)
        except ConnectionClosed as closed:
            error = closed
        except (RejectMessage, RetryMessage) as asked:
            if delivered is None:
                raise
            delivered.error = asked
            return
        logger.debug("%s: %s", self._name(), error)

    async def _report(self, error: Exception, message: Message | None) -> None:
        await self.on_error(error, message)

    async def on_error(self, error: Exception, message: Message | None) -> None:
        """Decide what follows an error: return to go on with the next message, raise to end the connection.

        ``error`` is what a handler or a spawned task raised, or why a message could not be dispatched; ``message`` is
        that message, None for a spawned task. By default a frame that cannot be read closes the connection with its
        close code; a stray message of the channel layer is reported and dropped; any other error is raised, or
        reported and dropped under ``error_policy = "log"``.
        """
        if self._tolerates(error):
            return
        raise error

    def _tolerates(self, error: Exception) -> bool:
        """Report what the policy lets pass, in one line without a traceback where the program is not to blame."""
        if isinstance(error, MessageError):
            if error.source == "layer":
                logger.warning("%s dropped a message of the channel layer: %s", self._name(), error)
                return True
            if isinstance(error, MessageWithoutType):
                logger.warning("%s dropped an event of the server: %s", self._name(), error)
                return True
        if self.error_policy == "log" and not isinstance(error, FrameError):
            logger.error("%s: a handler failed", self._name(), exc_info=error)
            return True
        return False

    def _name(self) -> str:
        path = self.scope.get("path") or self.scope.get("channel") or self.scope["type"]
        return f"{type(self).__name__} at {path!r}"

    # For handlers

    async def send(self, message: Message) -> None:
        """Send an event to the client, as the ASGI specification lists them."""
        await self.base_send(message)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], *, name: str | None = None) -> asyncio.Task[Any]:
        """Start a task that ends with the connection.

        It runs beside the handlers, in a copy of their context. An error goes to :meth:`on_error`, with None for the
        message. When the connection ends, it is cancelled and waited for, before ``disconnect()`` runs.
        """
        task = asyncio.get_running_loop().create_task(self._supervise(coroutine), name=name)
        # One that is cancelled before its first step would never be awaited.
        task.add_done_callback(lambda _: coroutine.close())
        if self._spawned is None:
            self._spawned = set()
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)
        return task

    def reject(self, reason: str) -> NoReturn:
        """End the handling of this message and give it up: it goes to the dead letters with ``reason``.

        It raises RejectMessage, so nothing after it runs, and the consumer goes on with the next message. For handlers
        (and ``on_error()``) in a worker that acknowledges: elsewhere it is an error like any other.
        """
        raise RejectMessage(reason)

    def retry(self, delay: float | None = None) -> NoReturn:
        """End the handling of this message, and get it again in ``delay`` seconds; None for the worker's back-off.

        It raises RetryMessage, as :meth:`reject` raises its own. After the worker's maximum of deliveries the message
        goes to the dead letters instead.
        """
        raise RetryMessage(delay)

    async def _supervise(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            try:
                return await coroutine
            finally:
                if self._database.is_due():
                    await self._database.close_old_connections()
        except Exception as error:
            try:
                await self._failed(error, None)
            except Exception as final:
                self._stop(final)

    def _stop(self, error: BaseException) -> None:
        """End the consumer with an exception; report it where the end has come already."""
        dispatcher: Dispatcher | None = self.__dict__.get("_dispatcher")
        if (dispatcher is None or not dispatcher.stop(error)) and not isinstance(error, StopConsumer):
            logger.error("%s: an error after its end", self._name(), exc_info=error)

    def _begin_check(self, check: Coroutine[Any, Any, None]) -> None:
        # A synchronous consumer's own spawn() takes a function.
        AsyncConsumer.spawn(self, check, name="sealane-revalidate")

    # Groups and the end

    async def _join_groups(self) -> None:
        await self._follow_user()
        if self.groups:
            if isinstance(self.groups, str):
                raise TypeError(
                    f"groups of {type(self).__name__} must be a list of names, not the string {self.groups!r}: "
                    f"write [{self.groups!r}]"
                )
            layer = self._require_layer()
            for group in self.groups:
                await layer.group_add(group, self.channel_name)

    async def _leave_groups(self) -> None:
        if self.groups and self.channel_layer is not None:
            for group in self.groups:
                await self.channel_layer.group_discard(group, self.channel_name)

    def _require_layer(self) -> BaseChannelLayer | Any:
        if self.channel_layer is None:
            raise InvalidChannelLayerError(
                f"BACKEND is unconfigured or doesn't support groups: {type(self).__name__} has groups = "
                f"{list(self.groups or ())!r}, and CHANNEL_LAYERS has no {self.channel_layer_alias!r}"
            )
        return self.channel_layer

    def _last_steps(self, error: BaseException | None) -> Iterator[Step]:
        """What is left to do at the end, in order; each step is asked for when the one before is over."""
        name = self._name()
        if self._revalidation is not None:
            self._revalidation.stop()
            self._revalidation = None  # they refer to each other
        if self._spawned:
            yield Step(f"The end of the spawned tasks of {name}", self.end_timeout, self._cancel_spawned)
        yield from self._protocol_steps(error)
        if self._spawned:
            yield Step(f"The end of the spawned tasks of {name}", self.end_timeout, self._cancel_spawned)
        if self.channel_layer is not None and "channel_name" in self.__dict__:
            yield Step(f"Closing the channel of {name}", self.end_timeout, self._close_channel)
        if self._database.is_due():
            closing = self._database.close_old_connections
            yield Step(f"Closing the database connections of {name}", self.end_timeout, closing)

    def _protocol_steps(self, error: BaseException | None) -> Iterator[Step]:
        """What a protocol has to do at its end. ``error`` is what ended it, None for an ordinary end."""
        yield from ()

    async def _cancel_spawned(self) -> None:
        while self._spawned:
            for task in self._spawned:
                task.cancel()
            await asyncio.wait(self._spawned)

    async def _close_channel(self) -> None:
        try:
            if isinstance(self._dispatcher.inbox, PullQueue):
                await self._dispatcher.inbox.close()
        finally:
            await self.channel_layer.close_channel(self.channel_name)

    def __repr__(self) -> str:
        if "scope" not in self.__dict__:
            return f"<{type(self).__name__} not connected>"
        return f"<{self._name()} {getattr(self, 'channel_name', 'without a channel')}>"


AsyncConsumer._prepare()

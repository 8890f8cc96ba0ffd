"""The life of a server process: what happens when it starts, and when it stops."""

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async

from sealane.db import DatabaseUse
from sealane.exceptions import UnknownScopeType
from sealane.layers import channel_layers
from sealane.routing.application import application_name
from sealane.types import Receive, Scope, Send

__all__ = ["Lifespan", "LifespanHook"]

logger = logging.getLogger("sealane.routing")

#: A function without arguments, or with one: the ``state`` dictionary of the lifespan scope.
LifespanHook = Callable[..., object]

State = dict[str, Any]


class Lifespan:
    """An ASGI application for the scope ``lifespan``: it opens and closes the channel layers and runs hooks.

    When the server starts, every layer of ``CHANNEL_LAYERS`` is made and its ``open()`` awaited, if it has
    one; then the ``on_startup`` hooks run in order. The first failure ends this: it is logged with its
    traceback, the layers are closed again, and the server is told ``lifespan.startup.failed`` with the
    reason, upon which it exits. The ``on_shutdown`` hooks do not run then, since what they would undo may
    never have been done.

    When the server stops, the ``on_shutdown`` hooks run in reverse order, then every layer that was made by
    then is closed. Each step runs even where another failed; failures are logged with their tracebacks and
    the server is told ``lifespan.shutdown.failed`` with all of the reasons.

    A hook is a synchronous or asynchronous callable. A synchronous one runs in a thread, where the ORM may be
    used. Old database connections are closed after a hook that ran a query. A hook with one required argument gets
    the scope's ``state``: what it puts there appears in the ``scope["state"]`` of every connection, where the
    server supports that (uvicorn does); where it does not, such a hook fails. A hook with more required
    arguments, or one that is not callable, is a TypeError here.

    Nothing is undone when the task that runs it is cancelled: the loop is going away then.
    """

    def __init__(self, *, on_startup: Iterable[LifespanHook] = (), on_shutdown: Iterable[LifespanHook] = ()) -> None:
        self.on_startup = tuple(on_startup)
        self.on_shutdown = tuple(on_shutdown)
        for hook in (*self.on_startup, *self.on_shutdown):
            _takes_state(hook)

    @property
    def has_hooks(self) -> bool:
        """Whether there is any hook to run."""
        return bool(self.on_startup or self.on_shutdown)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            raise UnknownScopeType(scope["type"], ["lifespan"])
        state: State | None = scope.get("state")
        while (message := await receive())["type"] != "lifespan.shutdown":
            if message["type"] == "lifespan.startup":
                reason = await self._start(state)
                if reason is not None:
                    await send({"type": "lifespan.startup.failed", "message": reason})
                    return
                await send({"type": "lifespan.startup.complete"})
        reasons = await self._stop(state)
        if reasons:
            await send({"type": "lifespan.shutdown.failed", "message": "; ".join(reasons)})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _start(self, state: State | None) -> str | None:
        step = "Reading CHANNEL_LAYERS"
        try:
            for alias in channel_layers.configs:
                step = f"Opening channel layer {alias!r}"
                opened = getattr(channel_layers[alias], "open", _nothing)()
                if inspect.isawaitable(opened):
                    await opened
            for hook in self.on_startup:
                step = f"Startup hook {application_name(hook)}"
                await _run(hook, state)
        except Exception as error:
            reason = _failed(step, error)
            await _close_layers()
            return reason
        return None

    async def _stop(self, state: State | None) -> list[str]:
        reasons = []
        for hook in reversed(self.on_shutdown):
            try:
                await _run(hook, state)
            except Exception as error:
                reasons.append(_failed(f"Shutdown hook {application_name(hook)}", error))
        return reasons + await _close_layers()

    def __repr__(self) -> str:
        startup, shutdown = (
            ", ".join(application_name(hook) for hook in hooks) for hooks in (self.on_startup, self.on_shutdown)
        )
        return f"{type(self).__name__}(on_startup=[{startup}], on_shutdown=[{shutdown}])"


def _nothing() -> None:
    return None


async def _close_layers() -> list[str]:
    reasons = []
    for alias, layer in channel_layers.created().items():
        try:
            await layer.close()
        except Exception as error:
            reasons.append(_failed(f"Closing channel layer {alias!r}", error))
    return reasons


def _failed(step: str, error: Exception) -> str:
    reason = f"{step} failed: {type(error).__name__}: {error}"
    logger.error("%s", reason, exc_info=error)
    return reason


async def _run(hook: LifespanHook, state: State | None) -> None:
    arguments: tuple[State, ...] = ()
    if _takes_state(hook):
        if state is None:
            raise RuntimeError(
                "it takes the lifespan state, but this server's lifespan scope has no 'state'. Let the hook "
                "take no argument, or use a server that supports lifespan state"
            )
        arguments = (state,)
    database = DatabaseUse()
    try:
        if iscoroutinefunction(hook) or iscoroutinefunction(getattr(hook, "__call__", None)):  # noqa: B004
            result = hook(*arguments)
        else:
            result = await sync_to_async(hook)(*arguments)
        if isinstance(result, Awaitable):
            await result
    finally:
        if database.is_due():
            await database.close_old_connections()


def _takes_state(hook: LifespanHook) -> bool:
    if not callable(hook):
        raise TypeError(f"A lifespan hook is a callable, not {hook!r}")
    try:
        parameters = inspect.signature(hook).parameters.values()
    except ValueError:
        # Some callables written in C have no signature.
        return False
    required = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(required) > 1 or any(parameter.kind is parameter.KEYWORD_ONLY for parameter in required):
        names = ", ".join(parameter.name for parameter in required)
        raise TypeError(
            f"Lifespan hook {application_name(hook)} requires the arguments {names}; expected none, or one "
            "for the lifespan state"
        )
    return bool(required)

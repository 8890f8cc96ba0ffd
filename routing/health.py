"""Answers for whoever watches a server process: that it is alive, and whether it may be given work."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple

from django.db import connections

from sealane.consumers.threads import run_in_own_thread
from sealane.exceptions import UnknownScopeType
from sealane.layers import channel_layers
from sealane.routing.drain import DRAIN
from sealane.types import Message, Receive, Scope, Send

__all__ = ["Outcome", "Ready", "live", "ready", "verdict"]

logger = logging.getLogger("sealane.routing")

#: What becomes of one question: "late" where there was no answer in time, "failed" where it raised an error.
Outcome = Literal["ok", "unreachable", "late", "failed"]

#: Seconds that all questions together may take, by default: less than the prober's own patience.
TIMEOUT: Final = 2.0


async def live(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 200 to any HTTP request: the event loop runs. It asks nobody, so that only a dead process is restarted.

    It is an ASGI application, for a route. The body is ``{"status": "alive"}``.
    """
    _require_http(scope)
    await _answer(send, 200, {"status": "alive"})


class Ready:
    """Answer 200 to any HTTP request while the process can do its work, 503 while it cannot.

    It is an ASGI application, for a route; :data:`ready` is one with the defaults. Asked are

    - the channel layers named in ``layers``, by default all of ``CHANNEL_LAYERS``: those that have a ``health()``,
      as the Redis layers do, have to be reachable; others are taken to be well,
    - the databases named in ``databases``, by default none: each has to answer ``SELECT 1`` over a new connection,
      in a thread of its own. All processes are taken out of service together when a database is away; ask it
      where that is better than the pages that can do without.

    All are asked at once, and what has not answered within ``timeout`` seconds is late. A question that is late is
    waited for by the next request and not asked a second time.

    Within a :class:`~sealane.routing.Drain` that drains, the answer is 503 with the status ``draining``, and nobody is
    asked.

    The body is ``{"status": "ready", "checks": {"layer default": "ok"}}``; ``status`` may also be ``unready``,
    and a check ``unreachable``, ``late`` or ``failed``. It names aliases and nothing else: no address, no text of an
    error. The logger ``sealane.routing`` has a warning each time the outcome of a check gets another name, with the
    type of the error, and an info when it is well again.
    """

    def __init__(
        self, *, layers: Iterable[str] | None = None, databases: Iterable[str] = (), timeout: float = TIMEOUT
    ) -> None:
        for name, given in (("layers", layers), ("databases", databases)):
            if isinstance(given, str):
                raise TypeError(f"{name} takes a list of aliases, not the string {given!r}: write [{given!r}]")
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout!r}; expected seconds above 0")
        self._layers = None if layers is None else tuple(layers)
        self._databases = tuple(databases)
        self._timeout = timeout
        self._asked: dict[str, asyncio.Task[_Answer]] = {}
        self._known: dict[str, Outcome] = {}

    def __repr__(self) -> str:
        layers = "all" if self._layers is None else list(self._layers)
        return f"<Ready layers={layers} databases={list(self._databases)} {self._known or 'not asked yet'}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        _require_http(scope)
        drain = scope.get(DRAIN)
        if drain is not None and drain.draining:
            await _answer(send, 503, {"status": "draining"})
            return
        checks = await self._check()
        status, body = verdict(checks)
        await _answer(send, status, body)

    async def _check(self) -> dict[str, Outcome]:
        questions = self._questions()
        if not questions:
            return {}
        loop = asyncio.get_running_loop()
        tasks: dict[str, asyncio.Task[_Answer]] = {}
        for name, question in questions.items():
            task = self._asked.get(name)
            if task is None or task.done() or task.get_loop() is not loop:
                task = self._asked[name] = loop.create_task(_ask(question), name=f"sealane-health {name}")
            tasks[name] = task
        await asyncio.wait(tasks.values(), timeout=self._timeout)
        # One that was cancelled answers to nobody any more: the loop ends.
        found = {name: task.result() if task.done() and not task.cancelled() else _LATE for name, task in tasks.items()}
        self._tell(found)
        return {name: answer.outcome for name, answer in found.items()}

    def _questions(self) -> dict[str, Callable[[], Awaitable[bool]]]:
        layers = channel_layers.configs if self._layers is None else self._layers
        questions: dict[str, Callable[[], Awaitable[bool]]] = {
            f"layer {alias}": partial(_is_layer_reachable, alias) for alias in layers
        }
        for alias in self._databases:
            questions[f"database {alias}"] = partial(run_in_own_thread, partial(_is_database_reachable, alias))
        return questions

    def _tell(self, found: Mapping[str, "_Answer"]) -> None:
        """Log what has changed since the last request: probes come every few seconds."""
        for name, answer in found.items():
            before = self._known.get(name, "ok")
            self._known[name] = answer.outcome
            if answer.outcome == before:
                continue
            if answer.outcome == "ok":
                logger.info("Health check: %s is well again", name)
            elif answer.error is not None:
                logger.warning("Health check: %s %s, %s", name, answer.outcome, answer.error)
            else:
                logger.warning("Health check: %s is %s", name, answer.outcome)


#: Answers for all channel layers, and asks no database.
ready: Final = Ready()


def verdict(checks: Mapping[str, Outcome]) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of the answer to these outcomes."""
    is_ready = all(outcome == "ok" for outcome in checks.values())
    return (200 if is_ready else 503), {"status": "ready" if is_ready else "unready", "checks": dict(checks)}


class _Answer(NamedTuple):
    outcome: Outcome
    #: The type of the error that was raised. Not its text, which is not ours and may hold a password.
    error: str | None = None


_LATE = _Answer("late")


async def _ask(question: Callable[[], Awaitable[bool]]) -> _Answer:
    try:
        return _Answer("ok" if await question() else "unreachable")
    except Exception as error:
        return _Answer("failed", type(error).__qualname__)


async def _is_layer_reachable(alias: str) -> bool:
    health = getattr(channel_layers[alias], "health", None)
    return True if health is None else bool((await health()).reachable)


def _is_database_reachable(alias: str) -> bool:
    connection = connections[alias]
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            return cursor.fetchone() is not None
    finally:
        # The thread ends, and nobody else could.
        connection.close()


def _require_http(scope: Scope) -> None:
    if scope["type"] != "http":
        raise UnknownScopeType(scope["type"], ["http"])


async def _answer(send: Send, status: int, body: Mapping[str, Any]) -> None:
    data = json.dumps(body).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
    ]
    messages: list[Message] = [
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": data},
    ]
    for message in messages:
        try:
            await send(message)
        except OSError:
            # ASGI's way to say that the client has left.
            return

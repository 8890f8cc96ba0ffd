"""Database work from asynchronous code, and its housekeeping.

Django opens one connection per thread and closes the old ones around each request. A consumer lives far longer than
a request, so the closing follows the work: it happens in the thread that did it, and only where there was any.
"""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

__all__ = [
    "DatabaseSyncToAsync",
    "DatabaseUse",
    "aclose_old_connections",
    "close_old_connections",
    "database_sync_to_async",
]


class DatabaseUse:
    """Notice the queries of a context: of its coroutines, of the tasks that they start, and of their threads.

    The object is made at the start of something long-lived and belongs to the context from there on. asgiref carries
    context variables into threads, so a query that runs there is noticed too.
    """

    __slots__ = ("_noticed",)

    def __init__(self) -> None:
        self._noticed = False
        _use.set(self)

    def is_due(self) -> bool:
        """Tell whether there was a query since old connections were last closed."""
        return self._noticed

    def notice(self) -> None:
        """Remember that there was a query."""
        self._noticed = True

    async def close_old_connections(self) -> None:
        """Close old connections, as :func:`aclose_old_connections` does."""
        self._noticed = False
        await aclose_old_connections()


_use: ContextVar[DatabaseUse | None] = ContextVar("sealane_database_use", default=None)

# Set in a thread while its work is one that closes old connections by itself.
_covered = threading.local()


def _mark(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
    _notice()
    return execute(sql, params, many, context)


def _notice() -> None:
    use = _use.get()
    if use is not None and not getattr(_covered, "active", False):
        use.notice()


def _watch(*, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    _notice()
    if _mark not in connection.execute_wrappers:
        # In front: connection.execute_wrapper(), which may be what connects, takes its own wrapper from the end.
        connection.execute_wrappers.insert(0, _mark)


connection_created.connect(_watch, dispatch_uid="sealane.db")


def close_old_connections() -> None:
    """Close this thread's connections that Django's rules call old, but none inside a transaction.

    Django's function of this name takes the changed autocommit of a transaction for a reason to close. It runs where
    no transaction is open; a handler may run in the middle of one, which a TestCase began.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


class DatabaseSyncToAsync(SyncToAsync[..., Any]):
    """Run a synchronous function in a thread, with old database connections closed there before and after.

    Order, cancellation and the choice of the thread are those of :func:`asgiref.sync.sync_to_async`.
    """

    def thread_handler(self, loop: Any, *args: Any, **kwargs: Any) -> Any:
        close_old_connections()
        covered, _covered.active = getattr(_covered, "active", False), True
        try:
            return super().thread_handler(loop, *args, **kwargs)  # type: ignore[no-untyped-call]
        finally:
            _covered.active = covered
            close_old_connections()


# A class in the spelling of a function: it is called, or used as a decorator.
database_sync_to_async = DatabaseSyncToAsync


async def aclose_old_connections() -> None:
    """Close the connections that Django's rules call old (``CONN_MAX_AGE``, errors), in the thread of the async ORM.

    Consumers do it after each message that touched the database. Other long-lived tasks that use the async ORM call
    it now and then.
    """
    await sync_to_async(close_old_connections)()

"""Database work from asynchronous code, and its housekeeping.

Django opens one connection per thread and closes the old ones around each request. A consumer lives far longer than
a request, so the closing follows the work: it happens in the thread that did it, and only where there was any.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

__all__ = [
    "DatabaseSyncToAsync",
    "aclose_old_connections",
    "close_old_connections",
    "database_sync_to_async",
    "database_was_used",
]

# asgiref carries context variables into the thread and back: a query run there marks the task that asked for it.
_used: ContextVar[bool] = ContextVar("sealane_database_used", default=False)

#: Tell whether this context ran a query since its old connections were last closed. It costs one look at a variable.
database_was_used: Callable[[], bool] = _used.get


def _mark(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
    _used.set(True)
    return execute(sql, params, many, context)


def _watch(*, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
    _used.set(True)
    if _mark not in connection.execute_wrappers:
        connection.execute_wrappers.append(_mark)


connection_created.connect(_watch, dispatch_uid="sealane.db")


def close_old_connections() -> None:
    """Close this thread's connections that Django's rules call old, but none inside a transaction.

    Django's function of this name takes the changed autocommit of a transaction for a reason to close. It runs where
    no transaction is open; a handler may run in the middle of one, which a TestCase began.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
    _used.set(False)


class DatabaseSyncToAsync(SyncToAsync[..., Any]):
    """Run a synchronous function in a thread, with old database connections closed there before and after.

    Order, cancellation and the choice of the thread are those of :func:`asgiref.sync.sync_to_async`.
    """

    def thread_handler(self, loop: Any, *args: Any, **kwargs: Any) -> Any:
        close_old_connections()
        try:
            return super().thread_handler(loop, *args, **kwargs)  # type: ignore[no-untyped-call]
        finally:
            close_old_connections()

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().__call__(*args, **kwargs)
        finally:
            _used.set(False)


# A class in the spelling of a function: it is called, or used as a decorator.
database_sync_to_async = DatabaseSyncToAsync


async def aclose_old_connections() -> None:
    """Close the connections that Django's rules call old (``CONN_MAX_AGE``, errors), in the thread of the async ORM.

    Consumers do it after each message that touched the database. Other long-lived tasks that use the async ORM call
    it now and then.
    """
    await sync_to_async(close_old_connections)()
    _used.set(False)

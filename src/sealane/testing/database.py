"""Let the threads of a live server use the database of the test."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.backends.sqlite3.base import DatabaseWrapper, SQLiteCursorWrapper

__all__ = ["shared_databases"]

#: How long a thread waits before it tries a locked in-memory table again, in seconds.
RETRY = 0.002
#: How long it goes on trying, where the database's OPTIONS have no "timeout", in seconds: Django's own default.
TIMEOUT = 5.0


@contextlib.contextmanager
def shared_databases() -> Iterator[None]:
    """Let every thread of the process use the test databases safely, while the block runs.

    A server's application works in many threads: the one of the asynchronous ORM, one for each of Django's
    requests, those of synchronous consumers. Django gives each a connection of its own. To a database in a
    file or a server nothing has to be done. A SQLite test database in memory is shared by the connections,
    but its locks are not waited for: it answers "table is locked" at once. Here a statement that meets such a
    lock is tried again until the ``timeout`` of the database's OPTIONS has passed, 5 seconds by default, as
    SQLite itself does with a file.

    Django's LiveServerTestCase shares one connection between all threads instead. Then they also share their
    transactions, and a commit in one thread fails while another is in the middle of an INSERT.

    In the end the connections that other threads have opened meanwhile are closed, except inside a
    transaction, so that the test database can be dropped, and no ResourceWarning comes of them.
    """
    opened: dict[int, BaseDatabaseWrapper] = {}

    def note(*, connection: BaseDatabaseWrapper, **kwargs: object) -> None:
        opened[id(connection)] = connection

    connection_created.connect(note)
    try:
        # On the class, since there are threads with a connection already.
        with mock.patch.object(DatabaseWrapper, "create_cursor", _create_cursor):
            yield
    finally:
        connection_created.disconnect(note)
        for connection in connections.all(initialized_only=True):
            opened.pop(id(connection), None)  # the caller's own
        for connection in opened.values():
            if not connection.in_atomic_block:
                _close(connection)


_django_create_cursor = DatabaseWrapper.create_cursor


def _create_cursor(self: Any, name: Any = None) -> Any:
    if not self.is_in_memory_db():
        return _django_create_cursor(self, name)
    cursor = self.connection.cursor(factory=_PatientCursor)
    cursor.timeout = self.settings_dict["OPTIONS"].get("timeout", TIMEOUT)
    return cursor


class _PatientCursor(SQLiteCursorWrapper):
    """Wait for the locks of a shared in-memory database."""

    timeout = TIMEOUT

    def execute(self, query: Any, params: Any = None) -> Any:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return super().execute(query, params)
            except sqlite3.OperationalError as error:
                # The primary code is the low byte. A statement that was refused has done nothing.
                locked = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_LOCKED
                if not locked or time.monotonic() >= deadline:
                    raise
            time.sleep(RETRY)


def _close(connection: BaseDatabaseWrapper) -> None:
    """Close a connection that belongs to another thread, which does not use it now."""
    connection.inc_thread_sharing()
    try:
        # Not connection.close(): Django never closes one to a database in memory, lest it vanish with the
        # last. This is not the last.
        BaseDatabaseWrapper.close(connection)
    finally:
        connection.dec_thread_sharing()

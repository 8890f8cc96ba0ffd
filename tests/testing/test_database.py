"""shared_databases(): what a thread meets in a SQLite test database in memory. With threads: see test_live."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.backends.sqlite3.base import DatabaseWrapper

from sealane.testing.database import shared_databases

NAME = "file:sealane_shared?mode=memory&cache=shared"


@pytest.fixture
def memory() -> Iterator[DatabaseWrapper]:
    """Make a connection to a database in memory, with one table, outside Django's settings."""
    options = {**connections.settings["default"], "NAME": NAME, "OPTIONS": {"timeout": 0.1}}
    connection = DatabaseWrapper(options, "memory")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (a)")
    yield connection
    assert connection.connection is not None
    connection.connection.close()


def write(connection: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (%s)", [1])


def count(connection: Any) -> int:
    with connection.cursor() as cursor:
        return int(cursor.execute("SELECT count(*) FROM t").fetchone()[0])


@pytest.fixture
def other() -> Iterator[sqlite3.Connection]:
    """Make another thread's connection, inside a transaction that has written."""
    connection = sqlite3.connect(NAME, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (0)")
    yield connection
    connection.close()


@pytest.mark.django_db
def test_a_statement_waits_until_the_lock_is_gone(memory: DatabaseWrapper, other: sqlite3.Connection) -> None:
    memory.settings_dict["OPTIONS"]["timeout"] = 20
    releasing = threading.Timer(0.05, lambda: other.execute("COMMIT"))
    with shared_databases():
        releasing.start()
        write(memory)
        assert count(memory) == 2
    releasing.join()


@pytest.mark.django_db
def test_it_does_not_wait_for_ever(memory: DatabaseWrapper, other: sqlite3.Connection) -> None:
    with shared_databases():
        started = time.monotonic()
        with pytest.raises(OperationalError, match=r"^database table is locked"):
            write(memory)
        assert time.monotonic() - started >= 0.1
    other.execute("ROLLBACK")


@pytest.mark.django_db
def test_other_errors_come_at_once(memory: DatabaseWrapper) -> None:
    memory.settings_dict["OPTIONS"]["timeout"] = 60
    with shared_databases(), memory.cursor() as cursor, pytest.raises(OperationalError, match="no such table"):
        cursor.execute("SELECT * FROM nowhere")


@pytest.mark.django_db
def test_afterwards_nothing_waits(memory: DatabaseWrapper, other: sqlite3.Connection) -> None:
    memory.settings_dict["OPTIONS"]["timeout"] = 60
    with shared_databases():
        pass
    with pytest.raises(OperationalError, match=r"^database table is locked"):
        write(memory)
    other.execute("ROLLBACK")


@pytest.mark.django_db
def test_the_callers_own_connection_and_one_in_a_transaction_stay_open(memory: DatabaseWrapper) -> None:
    second = DatabaseWrapper({**memory.settings_dict}, "second")
    third = DatabaseWrapper({**memory.settings_dict}, "third")
    with shared_databases():
        second.ensure_connection()
        third.ensure_connection()
        third.in_atomic_block = True
    assert second.connection is None
    assert third.connection is not None
    third.connection.close()
    with connections["default"].cursor() as cursor:
        assert cursor.execute("SELECT 1").fetchone() == (1,)

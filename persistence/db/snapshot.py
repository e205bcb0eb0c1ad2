"""Read-only transactions that see the database at one moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Connection

from persistence.db.engine import engine
from persistence.db.session import statement_limit
from persistence.db.sqlstate import translate_errors


@contextmanager
def snapshot(timeout: timedelta) -> Iterator[Connection]:
    """
    Open a read-only transaction that sees the database at one moment.

    A statement that takes longer than *timeout* is cancelled. Raises the errors of persistence/exceptions.py.
    """
    reading = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True, **statement_limit(timeout)}
    with translate_errors(), engine().connect().execution_options(**reading) as connection:
        yield connection

"""A read-only transaction in which everything read is of one moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Connection, text

from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors


@contextmanager
def snapshot(timeout: timedelta) -> Iterator[Connection]:
    """
    A read-only transaction in which everything read is of one moment.

    A statement that takes longer than *timeout* is ended. Raises the database's errors as ours.
    """
    reading = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with translate_errors(), engine().connect().execution_options(**reading) as connection:
        limit = f"{timeout.total_seconds() * 1000:.0f}ms"
        connection.execute(text("SELECT set_config('statement_timeout', :limit, true)"), {"limit": limit})
        yield connection

"""The engine of the test process: kept from test to test where it can be, and given up with nothing left open."""

import threading
from contextlib import suppress
from typing import Any

import psycopg
from sqlalchemy import event
from sqlalchemy.pool import Pool, QueuePool

from console.checks.deadline import THREAD_NAME
from persistence.db.engine import engine, forget, is_made
from persistence.exceptions import SettingsError
from persistence.settings import settings
from support.processes.workers import wait_until


@event.listens_for(Pool, "connect")
def _note_settings(_connection: Any, record: Any) -> None:
    with suppress(SettingsError):  # an engine of the demo's, in a process without an environment
        record.info["settings"] = settings()


def await_returns() -> None:
    """
    Wait until no thread of the test uses the engine.

    A check that ran out of time, as on a busy machine, goes on in its thread, and may not have connected yet. A
    connection that is returned to a disposed pool is never closed, and reported in some later test.
    """
    if not is_made():
        return
    wait_until(
        lambda: not any(thread.name == THREAD_NAME for thread in threading.enumerate()),
        "abandoned checks have ended",
    )
    wait_until(lambda: not _pool().checkedout(), "threads of the test have given their connections back")


def close_connections() -> None:
    """Close the engine's connections once they are given back."""
    await_returns()
    if is_made():
        engine().dispose()


def forget_engine() -> None:
    """Close the connections; the next engine is made from the settings of then."""
    close_connections()
    forget()


def kept_sessions() -> list[int]:
    """
    Return the pids of the engine's sessions if the next test may use it; otherwise forget it.

    A session that has read the catalogs answers in half the time of a new one. It must have been opened with the
    settings of now.
    """
    if is_made():
        kept = list(_pool()._pool.queue)
        if kept and all(_is_as_new(record) for record in kept):
            return [record.dbapi_connection.info.backend_pid for record in kept]
        forget_engine()
    return []


class Admin:
    """A session of the tests' own, opened again if it has ended."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: psycopg.Connection | None = None

    def execute(self, statement: str, parameters: list[Any] | None = None) -> list[Any]:
        """Execute a statement, and return its rows."""
        try:
            return self._execute(statement, parameters)
        except psycopg.OperationalError:
            self.close()
            return self._execute(statement, parameters)

    def close(self) -> None:
        """Close the session."""
        if self._session:
            self._session.close()
        self._session = None

    def _execute(self, statement: str, parameters: list[Any] | None) -> list[Any]:
        self._session = self._session or psycopg.connect(self._url, autocommit=True)
        cursor = self._session.execute(statement.encode(), parameters)
        return cursor.fetchall() if cursor.description else []


def _is_as_new(record: Any) -> bool:
    return (
        record.dbapi_connection is not None
        and not record.dbapi_connection.closed
        and record.info.get("settings") == settings()
    )


def _pool() -> QueuePool:
    pool = engine().pool
    assert isinstance(pool, QueuePool)
    return pool

"""Translates errors of SQLAlchemy and psycopg to ours, by SQLSTATE."""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import DataError, InterfaceError, InternalError, OperationalError
from psycopg import Error as PsycopgError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from persistence.exceptions import (
    Contended,
    CrawlyardError,
    DatabaseFaultError,
    DatabaseLost,
    DataRefusedError,
    IdleTransactionEnded,
    ResourcesShort,
    RightsMissing,
)
from persistence.shortage import is_shortage

_CONTENDED = frozenset({"40001", "40P01", "55P03", "57014"})
"""serialization_failure, deadlock_detected, lock_not_available, query_canceled (statement_timeout)."""

_LOST_CLASSES = frozenset({"08", "53", "57", "58"})
"""Connection, insufficient resources, operator intervention, system error: all are temporary."""

_LOST = frozenset({"25006", "25P04"})
"""read_only_sql_transaction (a failover left us on the old primary) and transaction_timeout."""

_NOT_PERMITTED = "42501"
"""insufficient_privilege: a GRANT heals it, and until then no message is to be kept as rejected for it."""

_POOLER_ERROR = "08P01"
"""protocol_violation: PgBouncer uses it for all its own errors, mostly that no server connection was free."""

_SILENT = "25P03"
"""idle_in_transaction_session_timeout"""

_REFUSED_CLASSES = frozenset({"22", "23", "54"})


@contextmanager
def translate_errors() -> Iterator[None]:
    """
    Raise errors of SQLAlchemy and psycopg as errors of ours, and a shortage of this machine as one too.

    The driver opens descriptors of its own, and raises the operating system's errors as they are.
    """
    try:
        yield
    except (SQLAlchemyError, PsycopgError, OSError) as error:
        translated = _translated(error)
        if translated is error:
            raise
        # The database quotes a refused value in its message; it must not reach a log.
        raise translated from (None if isinstance(translated, DataRefusedError) else error)


def is_connection_unusable(error: BaseException) -> bool:
    """True if the connection in whose transaction this was raised must not be used again."""
    if isinstance(error, SQLAlchemyError | PsycopgError):
        error = _translated(error)
    # The system's errors and a lack of memory may have come in the middle of an answer.
    return isinstance(error, DatabaseLost | ResourcesShort | OSError | MemoryError)


def _translated(error: Exception) -> Exception:
    if isinstance(error, StatementError) and isinstance(error.orig, OSError | MemoryError):
        error = error.orig  # SQLAlchemy wraps what is raised before a statement is sent
    if is_shortage(error):
        return ResourcesShort(error.strerror or type(error).__name__)
    if isinstance(error, OSError | MemoryError):
        return error
    if isinstance(error, PoolTimeoutError):
        return DatabaseLost("no connection was free in the pool")
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, PsycopgError):
        return DatabaseFaultError(type(error).__name__)
    if cause.sqlstate is None:
        return _from_client(cause)
    return _from_server(cause, cause.sqlstate)


def _from_server(cause: PsycopgError, state: str) -> CrawlyardError:
    text = f"{type(cause).__name__} ({state})"
    if state in _CONTENDED:
        return Contended(text)
    if state == _SILENT:
        return IdleTransactionEnded(text)
    if state in (_POOLER_ERROR, _NOT_PERMITTED):
        lost = RightsMissing if state == _NOT_PERMITTED else DatabaseLost
        return lost(f"{text}: {cause.diag.message_primary}")
    if state[:2] in _LOST_CLASSES or state in _LOST:
        return DatabaseLost(text)
    if state[:2] in _REFUSED_CLASSES:
        constraint = cause.diag.constraint_name
        return DataRefusedError(f"{text} by {constraint}" if constraint else text, state)
    return DatabaseFaultError(f"{text}: {cause.diag.message_primary}")


def _from_client(cause: PsycopgError) -> CrawlyardError:
    """Translate errors that psycopg raises itself: no server answers, or it cannot adapt a value."""
    text = type(cause).__name__
    if isinstance(cause, DataError):
        return DataRefusedError(text, "22000")
    if isinstance(cause, OperationalError | InterfaceError | InternalError):
        # InternalError: psycopg got 2 results from one command. This happens if a session ends before its
        # COMMIT, because the server and the pooler both report it.
        return DatabaseLost(text)
    return DatabaseFaultError(text)

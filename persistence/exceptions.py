"""
What can go wrong between a unit of work and its database.

    CrawlyardError
    ├── SettingsError          a setting is missing or wrong; its text names it
    ├── TransientError         the unit left nothing behind and may be run again as a whole
    │   ├── Contended          a deadlock, a serialization failure, a lock not had in time: at once
    │   └── DatabaseLost       no database: wait for it, then again
    ├── DataRefusedError       the database refuses these values (SQLSTATE class 22, 23 or 54)
    ├── DatabaseFaultError     any other error of the database: ours to mend
    └── IllegalRequestError    what is asked for cannot be done, whoever asks

Callers never meet an exception of SQLAlchemy or psycopg: `raised_as_ours` turns each one, by
its SQLSTATE, into one of these. Their texts hold no values of a statement.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import DataError, InterfaceError, OperationalError
from psycopg import Error as PsycopgError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_CONTENDED = frozenset({"40001", "40P01", "55P03", "57014"})
"""serialization_failure, deadlock_detected, lock_not_available, query_canceled (statement_timeout)."""

_LOST_CLASSES = frozenset({"08", "53", "57", "58"})
"""Connection, insufficient resources, operator intervention, system error: they pass."""

_LOST = frozenset({"25006", "25P03"})
"""A failover has left us on the old primary for a moment; the session was ended for being idle."""

_REFUSED_CLASSES = frozenset({"22", "23", "54"})


class CrawlyardError(Exception):
    """The root: what Crawlyard itself raises."""


class SettingsError(CrawlyardError):
    """A setting is missing or wrong; the text names the variable and the remedy in one line."""


class TransientError(CrawlyardError):
    """The unit of work left nothing behind and may be run again as a whole."""


class Contended(TransientError):  # noqa: N818 - a state of affairs, not a fault
    """Another transaction was in the way: a deadlock, a lock not had in time, a lost race."""


class DatabaseLost(TransientError):  # noqa: N818 - a state of affairs, not a fault
    """The database cannot be reached, or ended the connection. Whether a COMMIT took place is unknown."""


class DataRefusedError(CrawlyardError):
    """The database refused a value; *sqlstate* says how."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class DatabaseFaultError(CrawlyardError):
    """The database refused a statement for a reason that waiting does not mend."""


class IllegalRequestError(CrawlyardError):
    """What is asked for cannot be done, whoever asks."""


@contextmanager
def raised_as_ours() -> Iterator[None]:
    """Turn what SQLAlchemy and psycopg raise inside into one of ours."""
    try:
        yield
    except (SQLAlchemyError, PsycopgError) as error:
        ours = _translated(error)
        # What the database says of a refused value repeats the value, and a log would repeat that.
        raise ours from (None if isinstance(ours, DataRefusedError) else error)


def _translated(error: Exception) -> CrawlyardError:
    if isinstance(error, PoolTimeoutError):
        return DatabaseLost("no connection was free in the pool")
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, PsycopgError):
        return DatabaseFaultError(type(error).__name__)
    if cause.sqlstate is None:
        return _from_the_client(cause)
    return _from_the_server(cause, cause.sqlstate)


def _from_the_server(cause: PsycopgError, state: str) -> CrawlyardError:
    text = f"{type(cause).__name__} ({state})"
    if state in _CONTENDED:
        return Contended(text)
    if state[:2] in _LOST_CLASSES or state in _LOST:
        return DatabaseLost(text)
    if state[:2] in _REFUSED_CLASSES:
        constraint = cause.diag.constraint_name
        return DataRefusedError(f"{text} by {constraint}" if constraint else text, state)
    return DatabaseFaultError(f"{text}: {cause.diag.message_primary}")


def _from_the_client(cause: PsycopgError) -> CrawlyardError:
    """What psycopg raises by itself: there is no server, or it cannot express a value."""
    text = type(cause).__name__
    if isinstance(cause, DataError):
        return DataRefusedError(text, "22000")
    if isinstance(cause, OperationalError | InterfaceError):
        return DatabaseLost(text)
    return DatabaseFaultError(text)

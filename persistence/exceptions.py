"""
The errors that a unit of work can raise.

    CrawlyardError
    ├── SettingsError          a setting is missing or wrong; its text names it
    ├── TransientError         nothing was written; the whole unit may be run again
    │   ├── Contended          a deadlock, a serialization failure, a lock timeout: run again soon
    │   ├── DatabaseLost       the database is away: wait, then run again
    │   │   ├── RightsMissing  the database forbids a statement: a GRANT heals it
    │   │   └── IdleTransactionEnded  the server ended our transaction, since it was idle for too long
    │   └── ResourcesShort     this machine has no descriptor or memory left for a moment: wait, then run again
    ├── DataRefusedError       the database refuses these values (SQLSTATE class 22, 23 or 54)
    ├── UnsuitableDatabaseError  the database is set up so that we cannot work in it
    ├── DatabaseFaultError     any other error of the database: a defect of ours
    └── IllegalRequestError    the request cannot be fulfilled

Callers never see an exception of SQLAlchemy or psycopg: `persistence/db/sqlstate.py` translates each one. The texts
contain no values of a statement.
"""


class CrawlyardError(Exception):
    """The base of all errors that Crawlyard raises."""


def cause_of(error: CrawlyardError) -> str:
    """Return the driver's own first line on this error, such as why it could not connect; else nothing."""
    return str(getattr(error.__cause__, "orig", "") or "").strip().partition("\n")[0]


class SettingsError(CrawlyardError):
    """A setting is missing or wrong; the text names the variable and the remedy in one line."""


class TransientError(CrawlyardError):
    """The unit of work wrote nothing and may be run again as a whole."""


class Contended(TransientError):  # noqa: N818 - a state of affairs, not a fault
    """Another transaction was in the way: a deadlock, a lock timeout, a serialization failure."""


class DatabaseLost(TransientError):  # noqa: N818 - a state of affairs, not a fault
    """The database cannot be reached, or ended the connection. A COMMIT in progress may have succeeded."""


class RightsMissing(DatabaseLost):
    """Our role may not do what a statement does."""


class IdleTransactionEnded(DatabaseLost):
    """The server ended the transaction because it was idle for too long: we were frozen, cut off or busy."""


class ResourcesShort(TransientError):  # noqa: N818 - a state of affairs, not a fault
    """The process or its machine has run out of descriptors, memory or the like for a moment."""


class DataRefusedError(CrawlyardError):
    """The database refused a value; *sqlstate* is its reason."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class DatabaseFaultError(CrawlyardError):
    """The database refused a statement for a reason that waiting does not cure."""


class UnsuitableDatabaseError(CrawlyardError):
    """The database is set up so that we cannot work in it; the text says in one line what to change."""


class IllegalRequestError(CrawlyardError):
    """The request cannot be fulfilled; the text says why."""

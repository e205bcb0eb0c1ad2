"""
What can go wrong between a unit of work and its database.

    CrawlyardError
    ├── SettingsError          a setting is missing or wrong; its text names it
    ├── TransientError         the unit left nothing behind and may be run again as a whole
    │   ├── Contended          a deadlock, a serialization failure, a lock not had in time: at once
    │   └── DatabaseLost       no database: wait for it, then again
    │       └── FellSilent     we said nothing within a transaction for so long that it was ended
    ├── DataRefusedError       the database refuses these values (SQLSTATE class 22, 23 or 54)
    ├── DatabaseFaultError     any other error of the database: ours to mend
    └── IllegalRequestError    what is asked for cannot be done, whoever asks

Callers never meet an exception of SQLAlchemy or psycopg: `persistence/db/sqlstate.py` turns each one into one of
these. Their texts hold no values of a statement.
"""


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


class IdleTransactionEnded(DatabaseLost):
    """The transaction was ended since nothing was said in it for too long: we were frozen, cut off, or busy."""


class DataRefusedError(CrawlyardError):
    """The database refused a value; *sqlstate* says how."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class DatabaseFaultError(CrawlyardError):
    """The database refused a statement for a reason that waiting does not mend."""


class IllegalRequestError(CrawlyardError):
    """What is asked for cannot be done, whoever asks."""

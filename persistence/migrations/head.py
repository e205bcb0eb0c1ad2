"""Checks that a database is at the revision that this version needs."""

from sqlalchemy import Connection

from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import CrawlyardError
from persistence.migrations.run import current_revision, head_revision


class SchemaError(CrawlyardError):
    """The schema has another revision than this version needs; the text says what to do."""


def require_head(connection: Connection) -> str:
    """Return the revision of the database. Raises SchemaError if it is not the newest."""
    at, newest = current_revision(connection), head_revision()
    if at is None:
        raise SchemaError("The database was never migrated: run `crawlyard migrate`.")
    if at != newest:
        raise SchemaError(
            f"The database is at revision {at}; this version of Crawlyard needs {newest}. "
            "Run crawlyard migrate, or the newer Crawlyard that migrated the database."
        )
    return at


def check_head() -> None:
    """Raise SchemaError if the process's database is not at the newest revision."""
    with translate_errors(), engine().connect() as connection:
        require_head(connection)

"""Whether a database is at the revision that this version works with."""

from sqlalchemy import Connection

from persistence.db.engine import engine
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import CrawlyardError
from persistence.migrations.run import current_revision, head_revision


class SchemaError(CrawlyardError):
    """The schema is not the one that this version works with; the text says what to do."""


def require_head(connection: Connection) -> str:
    """The revision, which is the newest. Raises SchemaError where the database is at another one."""
    at, newest = current_revision(connection), head_revision()
    if at is None:
        raise SchemaError("The database was never migrated: run `crawlyard migrate`.")
    if at != newest:
        raise SchemaError(
            f"The database is at revision {at}, this version of Crawlyard works with {newest}: "
            "run `crawlyard migrate`; where a newer Crawlyard migrated it, run that one."
        )
    return at


def check_head() -> None:
    """Raise SchemaError where the process's database is not at the newest revision."""
    with translate_errors(), engine().connect() as connection:
        require_head(connection)

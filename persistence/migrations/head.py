"""Checks that a database is at the revision that this version needs."""

from sqlalchemy import Connection

from persistence.db.engine import engine
from persistence.db.server import why_read_only
from persistence.db.sqlstate import translate_errors
from persistence.exceptions import CrawlyardError
from persistence.migrations.placement import hidden_schemas, read_placement
from persistence.migrations.rights import require_rights
from persistence.migrations.run import current_revision, head_revision
from persistence.migrations.web_app.tables import require_usable


class SchemaError(CrawlyardError):
    """The schema has another revision than this version needs; the text says what to do."""


def require_head(connection: Connection) -> str:
    """Return the revision of the database. Raises SchemaError if it is not the newest."""
    at, newest = current_revision(connection), head_revision()
    if at is None:
        hidden = "".join(
            f" Schema {schema} has Crawlyard's tables: do ?schema= of DATABASE_URL and search_path lead there?"
            for schema in hidden_schemas(connection)
        )
        raise SchemaError(f"The database was never migrated: run `crawlyard migrate`.{hidden}")
    if at != newest:
        raise SchemaError(
            f"The database is at revision {at}; this version of Crawlyard needs {newest}. "
            "Run crawlyard migrate, or the newer Crawlyard that migrated the database."
        )
    return at


def check_head() -> None:
    """
    Check that a process can work in its database.

    Raises SchemaError if it is not at the newest revision, in one schema, and IllegalRequestError if the web app's
    tables are not usable.
    """
    with translate_errors(), engine().connect() as connection:
        require_head(connection)
        require_one_schema(connection)
        require_usable(connection)


def check_rights() -> None:
    """Raise UnsuitableDatabaseError if our role may not do what a worker does; readers of events need less."""
    with translate_errors(), engine().connect() as connection:
        require_rights(connection)


def warning_of_start() -> str:
    """Return in one line what a worker that starts must wait for; nothing if it need not. Raises DatabaseLost."""
    with translate_errors(), engine().connect() as connection:
        why, remedy = why_read_only(connection)
    return f"{why}. {remedy}" if why else ""


def require_one_schema(connection: Connection) -> None:
    """Raise SchemaError if search_path mixes the tables of two installations."""
    if len(schemas := read_placement(connection).ours) > 1:
        raise SchemaError(
            f"search_path finds Crawlyard's tables in several schemas: {', '.join(schemas)}. "
            "Set it for the role in DATABASE_URL so that it leads to one of them."
        )

"""Detects a pooler, such as PgBouncer, between us and the server."""

from typing import TYPE_CHECKING, Any

from persistence.db.session import connect
from persistence.db.sqlstate import translate_errors
from persistence.settings import settings

if TYPE_CHECKING:
    import psycopg


def is_pooled(connection: "psycopg.Connection[Any]") -> bool:
    """
    True if a pooler accepted this connection, not the server.

    A pooler gives its clients a process id that it made up, which differs from the server's own.
    """
    rows = connection.execute("SELECT pg_backend_pid()").fetchall()
    return rows != [(connection.info.backend_pid,)]


def is_direct_url_pooled() -> bool:
    """True if the direct URL leads to a pooler all the same. Raises DatabaseLost if it leads nowhere."""
    with (
        translate_errors(),
        connect(settings().session_url, application_name="crawlyard") as connection,
    ):
        return is_pooled(connection)

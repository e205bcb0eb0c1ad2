"""Detects a pooler, such as PgBouncer, between us and the server."""

from typing import Any

import psycopg

from persistence.db.sqlstate import translate_errors
from persistence.settings import settings

_CONNECT_TIMEOUT_S = 5


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
        psycopg.connect(
            settings().session_url,
            autocommit=True,
            prepare_threshold=None,
            connect_timeout=_CONNECT_TIMEOUT_S,
        ) as connection,
    ):
        return is_pooled(connection)

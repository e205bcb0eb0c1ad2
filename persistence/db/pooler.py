"""Whether a pooler such as PgBouncer stands between us and the server, and what leads past it."""

from typing import Any

import psycopg

from persistence.db.sqlstate import translate_errors
from persistence.settings import settings

_CONNECT_TIMEOUT_S = 5


def is_pooled(connection: "psycopg.Connection[Any]") -> bool:
    """
    Whether somebody else than the server took this connection.

    A pooler answers a client with a process id that it made up; the server's own is another one.
    """
    rows = connection.execute("SELECT pg_backend_pid()").fetchall()
    return rows != [(connection.info.backend_pid,)]


def is_direct_url_pooled() -> bool:
    """Whether what is to lead past the pooler leads to one. Raises DatabaseLost where it leads nowhere."""
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

"""`connect` of `persistence/db/session.py` for programs on asyncio, which wait otherwise but set the same."""

from contextlib import suppress
from typing import Any

import psycopg

from persistence.db.session import CONNECT, require_encoding, set_formats


async def connect(url: str, **options: Any) -> "psycopg.AsyncConnection[Any]":
    """Open a connection in autocommit mode. Raises UnsuitableDatabaseError, and the driver's errors."""
    connection = await psycopg.AsyncConnection.connect(url, **{"autocommit": True, **CONNECT, **options})
    try:
        require_encoding(connection.info.parameter_status("server_encoding"))
        await connection.execute(*set_formats(connection.info.backend_pid))
    except BaseException:
        with suppress(psycopg.Error):
            await connection.close()
        raise
    return connection


async def is_pooled(connection: "psycopg.AsyncConnection[Any]") -> bool:
    """True if a pooler accepted this connection, not the server: it makes up the process ids that it tells."""
    rows = await (await connection.execute("SELECT pg_backend_pid()")).fetchall()
    return bool(rows != [(connection.info.backend_pid,)])

"""Who is connected, for whoever looks; never to decide upon."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from persistence.db.snapshot import snapshot
from persistence.settings import settings

_CONNECTIONS = """
    SELECT id, crawler_id, is_active, system_status, capacity, reported, connected_at, last_heartbeat,
           CASE WHEN is_active THEN now() - last_heartbeat END AS silent_for, goodbye_at, closed_at,
           metadata AS details, jsonb_array_length(active_jobs) AS live
      FROM socket_connection
"""

_ACTIVE = text(f"{_CONNECTIONS} WHERE is_active AND id > :after ORDER BY id LIMIT :limit")

_OF_IDS = text(f"{_CONNECTIONS} WHERE id = ANY (CAST(:ids AS text[])) ORDER BY id")

_ATTEMPTS = text("""
    SELECT a.connection_id, a.crawler_job_id, a.web_app_job_id AS job_id, a.status, a.assigned_at, a.progressed_at
      FROM job_assignment_mapping a
     WHERE a.connection_id = ANY (CAST(:ids AS text[])) AND a.completed_at IS NULL
     ORDER BY a.crawler_job_id
""")


@dataclass(frozen=True)
class LiveAttempt:
    """What a connection works on."""

    crawler_job_id: str
    job_id: str
    status: str
    assigned_at: datetime | None
    progressed_at: datetime | None


@dataclass(frozen=True)
class ConnectionState:
    """A connection as it stands."""

    id: str
    crawler_id: str | None
    is_active: bool
    system_status: str
    capacity: int
    live: int
    """Attempts that we know to be live there."""
    reported: int
    """Jobs that the crawler last said it works on."""
    connected_at: datetime
    last_heartbeat: datetime
    silent_for: timedelta | None
    """By the database's clock; None: it is closed."""
    goodbye_at: datetime | None
    closed_at: datetime | None
    details: Any
    """The metadata that it registered with."""
    attempts: list[LiveAttempt]


def active_connections(*, after: str = "", limit: int = 1000) -> list[ConnectionState]:
    """At most *limit* active connections, in the order of their ids, behind the id *after*."""
    with snapshot(settings().statement_timeout) as connection:
        return _read(connection, _ACTIVE, {"after": after, "limit": limit})


def find_connections(ids: Collection[str]) -> list[ConnectionState]:
    """Those of the connections that we know, closed ones too, in the order of their ids."""
    with snapshot(settings().statement_timeout) as connection:
        return _read(connection, _OF_IDS, {"ids": list(ids)})


def _read(connection: Connection, statement: Any, values: dict[str, Any]) -> list[ConnectionState]:
    rows = connection.execute(statement, values).all()
    attempts: dict[str, list[LiveAttempt]] = {row.id: [] for row in rows}
    for row in connection.execute(_ATTEMPTS, {"ids": list(attempts)}):
        attempt = LiveAttempt(row.crawler_job_id, row.job_id, row.status, row.assigned_at, row.progressed_at)
        attempts[row.connection_id].append(attempt)
    return [ConnectionState(**row._mapping, attempts=attempts[row.id]) for row in rows]  # noqa: SLF001 - public in spite of its name

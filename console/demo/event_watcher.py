"""
Polls the database for new events, and describes them in one line each for the demo's screen.

Events are read in the order of (xid, id) up to the oldest transaction that still runs, so that an event that
commits late is not missed. Only event types worth a line are read; consecutive similar events share a line.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from console.output.screen import counted
from persistence.schema.states import JobStatus

_EVENTS = """
    SELECT event.xid::text AS xid, event.id, event.type, event.payload ->> 'reason' AS reason,
           event.payload ->> 'error_type' AS error_type, event.payload ->> 'status' AS status,
           (event.payload ->> 'goodbye')::boolean AS goodbye, event.payload ->> 'action' AS action,
           event.payload -> 'discovered' AS discovered, connection.crawler_id, connection.gateway,
           job.command || ' of ' || job.full_path AS job
      FROM dispatch_event event
      LEFT JOIN socket_connection connection ON connection.id = event.connection_id
      LEFT JOIN job ON job.id = event.job_id
     WHERE (event.xid, event.id) > (%s::xid8, %s) AND event.xid < pg_snapshot_xmin(pg_current_snapshot())
       AND (event.type IN ('connection_registered', 'connection_lost', 'connection_expired', 'job_revoked',
                          'credential_needed', 'credential_renewed')
            OR event.type = 'connection_attached' AND event.created_at > connection.connected_at
            OR event.type = 'progress_updated' AND event.payload ? 'discovered'
            OR event.type = 'error_logged' AND event.connection_id IS NULL
               AND event.payload ->> 'error_type' NOT IN ('ConnectionLost', 'Goodbye', 'Cancelled', 'Stalled',
                                                          'NeverStarted', 'Disowned',
                                                          'CredentialExpired')
            OR event.type = 'job_updated' AND event.payload ->> 'status' = ANY (%s))
     ORDER BY event.xid, event.id LIMIT 500
"""

_SHOWN_STATUSES = [JobStatus.FAILED.value, JobStatus.CANCELLED.value]

_COUNTS = "SELECT status, count(*) FROM job GROUP BY status"

GOOD, BAD, NEUTRAL = "green", "red", "yellow"

_REASONS = {
    "ConnectionLost": "requeued: the connection was lost",
    "Goodbye": "requeued: the crawler disconnected",
    "Cancelled": "revoked: cancelled",
    "Stalled": "requeued: stalled",
    "NeverStarted": "requeued: never started",
    "Disowned": "requeued: missing from the crawler's list",
    "CredentialExpired": "parked: the access token has expired",
}


@dataclass(frozen=True)
class DemoEvent:
    """One line, and the colour of its bullet."""

    text: str
    colour: str


class EventWatcher:
    """Reads what is new in a database since the last read."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._cursor: tuple[str, int] = ("0", 0)

    def jobs_by_status(self) -> Counter[str]:
        """Count the jobs of each status."""
        return Counter(dict(self._connection.execute(_COUNTS).fetchall()))

    def new_events(self) -> list[DemoEvent]:
        """Return the events since the last call, the oldest first."""
        with self._connection.cursor(row_factory=namedtuple_row) as cursor:
            rows: list[Any] = cursor.execute(_EVENTS, (*self._cursor, _SHOWN_STATUSES)).fetchall()
        if rows:
            self._cursor = (rows[-1].xid, rows[-1].id)
        return [_describe(list(similar)) for _, similar in groupby(rows, key=_kind)]


def _kind(row: Any) -> tuple[object, ...]:
    """Return a key that is equal for rows that share a line."""
    match row.type:
        case "connection_registered":
            return (row.type,)
        case "connection_attached":
            return row.type, row.gateway
        case "job_revoked":
            return row.type, row.crawler_id, row.reason
        case "job_updated":
            return row.type, row.status
    return row.type, row.id


def _describe(rows: list[Any]) -> DemoEvent:
    row, count = rows[0], len(rows)
    if row.type.startswith("connection_"):
        return DemoEvent(*_of_connection(row, count))
    jobs = f"{count} jobs" if count > 1 else row.job
    crawler = row.crawler_id or "a crawler"
    match row.type:
        case "job_revoked":
            described = f"{crawler}: {counted(count, 'job')} {_REASONS.get(row.reason, row.reason)}", NEUTRAL
        case "credential_needed":
            described = f"an account needs a new token: {row.action}", BAD
        case "credential_renewed":
            described = "the token was renewed: the parked jobs continue", GOOD
        case "progress_updated":
            described = f"a discovery spawned {row.discovered} jobs", GOOD
        case "error_logged":
            described = f"{row.error_type}: {row.job}", NEUTRAL
        case _:
            described = f"{row.status}: {jobs}", BAD if row.status == JobStatus.FAILED else NEUTRAL
    return DemoEvent(*described)


def _of_connection(row: Any, count: int) -> tuple[str, str]:
    crawler = row.crawler_id or "a crawler"
    crawlers = f"{count} crawlers" if count > 1 else crawler
    match row.type:
        case "connection_registered":
            return f"{crawlers} connected", GOOD
        case "connection_attached":
            return (
                f"{crawlers} came back over {row.gateway}, with {'their' if count > 1 else 'its'} jobs",
                GOOD,
            )
        case "connection_expired":
            return f"{crawler} sent frames after its connection had expired", NEUTRAL
    if row.goodbye:
        return f"{crawler} disconnected", NEUTRAL
    return f"{crawler} was silent for too long and is considered dead", BAD

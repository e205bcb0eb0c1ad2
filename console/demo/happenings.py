"""
What happens, in words: the database looked at now and then, for the eye only.

Events are read in the order of (xid, id), below the oldest transaction that still runs, so that none
is missed that commits late. Only those worth a line are asked for, and what belongs together is one line.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from console.output.screen import counted

_EVENTS = """
    SELECT event.xid::text AS xid, event.id, event.type, event.payload ->> 'reason' AS reason,
           event.payload ->> 'error_type' AS error_type, event.payload ->> 'status' AS status,
           (event.payload ->> 'goodbye')::boolean AS goodbye, event.payload ->> 'action' AS action,
           event.payload -> 'discovered' AS discovered, connection.crawler_id,
           job.command || ' of ' || job.full_path AS job
      FROM dispatch_event event
      LEFT JOIN socket_connection connection ON connection.id = event.connection_id
      LEFT JOIN job ON job.id = event.job_id
     WHERE (event.xid, event.id) > (%s::xid8, %s) AND event.xid < pg_snapshot_xmin(pg_current_snapshot())
       AND (event.type IN ('connection_registered', 'connection_lost', 'connection_expired', 'job_revoked',
                          'credential_needed', 'credential_renewed')
            OR event.type = 'progress_updated' AND event.payload ? 'discovered'
            OR event.type = 'error_logged' AND event.connection_id IS NULL
               AND event.payload ->> 'error_type' NOT IN ('ConnectionLost', 'Goodbye', 'Cancelled', 'Stalled',
                                                          'NeverStarted', 'Disowned',
                                                          'CredentialExpired')
            OR event.type = 'job_updated' AND event.payload ->> 'status' IN ('failed', 'cancelled'))
     ORDER BY event.xid, event.id LIMIT 500
"""

_COUNTS = "SELECT status, count(*) FROM job GROUP BY status"

_GOOD, _BAD, _NEUTRAL = "green", "red", "yellow"

_REASONS = {
    "ConnectionLost": "given back: their crawler was lost",
    "Goodbye": "given back: their crawler has left",
    "Cancelled": "taken away: cancelled",
    "Stalled": "taken back: stalled",
    "NeverStarted": "taken back: never started",
    "Disowned": "taken back: not listed by their crawler",
    "CredentialExpired": "given up: the access token is not accepted any more",
}


@dataclass(frozen=True)
class DemoEvent:
    """One line, and the colour of its mark."""

    text: str
    colour: str


class EventWatcher:
    """Looks at a database; each look tells what is new since the last one."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._cursor: tuple[str, int] = ("0", 0)

    def jobs_by_status(self) -> Counter[str]:
        """How many jobs there are of each status."""
        return Counter(dict(self._connection.execute(_COUNTS).fetchall()))

    def new_events(self) -> list[DemoEvent]:
        """What happened since the last look, oldest first."""
        with self._connection.cursor(row_factory=namedtuple_row) as cursor:
            rows: list[Any] = cursor.execute(_EVENTS, self._cursor).fetchall()
        if rows:
            self._cursor = (rows[-1].xid, rows[-1].id)
        return [_describe(list(together)) for _, together in groupby(rows, key=_kind)]


def _kind(row: Any) -> tuple[object, ...]:
    """What rows in a row must share to be told as one."""
    match row.type:
        case "connection_registered":
            return (row.type,)
        case "job_revoked":
            return row.type, row.crawler_id, row.reason
        case "job_updated":
            return row.type, row.status
    return row.type, row.id


def _describe(rows: list[Any]) -> DemoEvent:
    row, count = rows[0], len(rows)
    what = f"{count} jobs" if count > 1 else row.job
    who = row.crawler_id or "a crawler"
    match row.type:
        case "connection_registered":
            described = f"{count} crawlers registered" if count > 1 else f"{who} registered", _GOOD
        case "connection_lost" if row.goodbye:
            described = f"{who} said goodbye", _NEUTRAL
        case "connection_lost":
            described = f"{who} was silent for too long and is taken for dead", _BAD
        case "connection_expired":
            described = f"{who} spoke after its connection had expired", _NEUTRAL
        case "job_revoked":
            described = f"{who}: {counted(count, 'job')} {_REASONS.get(row.reason, row.reason)}", _NEUTRAL
        case "credential_needed":
            described = f"a new token is needed: {row.action}", _BAD
        case "credential_renewed":
            described = "the token was renewed: what waited for it goes on", _GOOD
        case "progress_updated":
            described = f"a discovery found {row.discovered} more to crawl", _GOOD
        case "error_logged":
            described = f"{row.error_type}: {row.job}", _NEUTRAL
        case _:
            described = f"{row.status}: {what}", _BAD if row.status == "failed" else _NEUTRAL
    return DemoEvent(*described)

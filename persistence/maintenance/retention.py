"""
Old rows, deleted in bounded batches.

What hangs on a job by a foreign key goes with it (`old_jobs`), but for its error rows: they go by
their own age, and before it.
"""

from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, text
from sqlalchemy.orm import Session

from persistence.events.trim import trim_events
from persistence.settings import Settings

_OLD = {
    # table: (the rows of which some may be old, their age, the setting that says for how long they are kept)
    "handled_message": ("handled_message ORDER BY handled_at", "handled_at", "keep_handled"),
    "rejected_message": ("rejected_message ORDER BY rejected_at", "rejected_at", "keep_rejected"),
    "socket_connection": (
        "socket_connection WHERE NOT is_active ORDER BY closed_at",
        "closed_at",
        "keep_connections",
    ),
    "credential_refresh": (
        "credential_refresh WHERE ended_at IS NOT NULL ORDER BY started_at",
        "started_at",
        "keep_errors",
    ),
    # Its ids are ULIDs: they are as old as they are small, nearly.
    "area_change": ("area_change ORDER BY id", "changed_at", "keep_errors"),
    "job_error_log": ("job_error_log ORDER BY timestamp", "timestamp", "keep_errors"),
}

_PREFER_INDEXES = text("""
    -- Without statistics the planner would sort a whole table for its first rows, or read it to its
    -- end, once a job, for what is not there.
    SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true)
""")

_DELETE = """
    -- The first rows, and only then their age: a search for old rows would read a young table to its end.
    DELETE FROM {table} WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM (SELECT ctid, {age} AS age FROM {rows} LIMIT :limit FOR UPDATE SKIP LOCKED) first
         WHERE age < clock_timestamp() - CAST(:keep AS interval)
    ))
"""


class Retention:
    """What is kept for how long."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def prefer_indexes(self) -> None:
        """Until the unit ends, read in the order of an index wherever there is one."""
        self._session.execute(_PREFER_INDEXES)

    def delete_old(self, retention: Settings, limit: int) -> dict[str, int]:
        """Delete at most *limit* rows a table that are older than they are kept; how many, by table. Not events."""
        return {
            table: self._delete(table, getattr(retention, setting), limit)
            for table, (_, _, setting) in _OLD.items()
        }

    def trim_events(self, older_than: timedelta, limit: int) -> int:
        """See `event_trim`."""
        return trim_events(self._session, older_than, limit)

    def _delete(self, table: str, keep: timedelta, limit: int) -> int:
        rows, age, _ = _OLD[table]
        statement = text(_DELETE.format(table=table, rows=rows, age=age))
        result = cast("CursorResult[Any]", self._session.execute(statement, {"keep": keep, "limit": limit}))
        return result.rowcount

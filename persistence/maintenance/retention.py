"""
Deletes old rows in bounded batches.

Rows that refer to a job by a foreign key are deleted with it (`old_jobs`), except its error rows: they are deleted
earlier, by their own age.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from sqlalchemy import CursorResult, text
from sqlalchemy.orm import Session

from persistence.events.trim import TrimmedEvents, trim_events
from persistence.schema.sql import sql
from persistence.settings import Settings

_REDELIVERED_WITHIN = timedelta(hours=1)
"""A message may come again for a while: its id stays, however many there are."""


class _Retained(NamedTuple):
    """How to find the old rows of a table."""

    oldest_first: str
    """The rows that may be deleted, in an order that an index has."""
    age: str
    """The column that has the time from which a row is kept."""
    setting: str
    """The name of the setting that has the duration."""
    at_least: timedelta | None = None
    """A row that is younger than this stays, however many there are."""


_OLD = {
    "handled_message": _Retained(
        "handled_message ORDER BY handled_at", "handled_at", "keep_handled", _REDELIVERED_WITHIN
    ),
    "rejected_message": _Retained("rejected_message ORDER BY rejected_at", "rejected_at", "keep_rejected"),
    "socket_connection": _Retained(
        "socket_connection WHERE NOT is_active ORDER BY closed_at", "closed_at", "keep_connections"
    ),
    "credential_refresh": _Retained(
        "credential_refresh WHERE ended_at IS NOT NULL ORDER BY started_at", "started_at", "keep_errors"
    ),
    # Ordered by id: ULIDs are roughly ordered by their time.
    "area_change": _Retained("area_change ORDER BY id", "changed_at", "keep_errors"),
    "job_error_log": _Retained("job_error_log ORDER BY timestamp", "timestamp", "keep_errors"),
}

_PREFER_INDEXES = text("""
    -- Without statistics the planner would sort a whole table to get its first rows, or read all of it once for each
    -- job to find that a row does not exist.
    SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true)
""")

_DELETE = """
    -- Limited first, then tested for age: a search for old rows would read a table of recent rows to its end.
    DELETE FROM $table WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM (SELECT ctid, $age AS age FROM $rows LIMIT :limit FOR UPDATE SKIP LOCKED) first
         WHERE age < clock_timestamp() - CAST(:keep AS interval)
    ))
"""

_DELETE_FROM = {
    table: sql(_DELETE, table=table, age=old.age, rows=old.oldest_first) for table, old in _OLD.items()
}


BOUNDED = {
    "job_error_log": "max_errors",
    "socket_connection": "max_closed_connections",
    "area_change": "max_area_changes",
    "handled_message": "max_handled",
}
"""Tables with a bound on the number of rows, and its setting."""

_NEWEST_BEYOND = {
    # An index-only scan of as many rows as are kept.
    table: sql(
        "SELECT $age FROM $rows DESC OFFSET :most LIMIT 1", age=_OLD[table].age, rows=_OLD[table].oldest_first
    )
    for table in BOUNDED
}

_DELETE_UNTIL = {
    table: sql(
        """
        DELETE FROM $table WHERE ctid = ANY (ARRAY (
            SELECT ctid FROM (SELECT ctid, $age AS age FROM $rows LIMIT :limit FOR UPDATE SKIP LOCKED) first
             WHERE age <= LEAST(CAST(:until AS timestamptz), clock_timestamp() - CAST(:at_least AS interval))
        ))
        """,
        table=table,
        age=_OLD[table].age,
        rows=_OLD[table].oldest_first,
    )
    for table in BOUNDED
}


class Retention:
    """Deletes what is older than its retention."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def prefer_indexes(self) -> None:
        """Make the planner read in the order of an index wherever there is one, until the transaction ends."""
        self._session.execute(_PREFER_INDEXES)

    def delete_old(self, retention: Settings, limit: int) -> dict[str, int]:
        """Delete at most *limit* old rows of each table but events; the number of rows by table."""
        return {
            table: self._delete(table, getattr(retention, old.setting), limit) for table, old in _OLD.items()
        }

    def trim_events(self, older_than: timedelta, limit: int, most: int) -> TrimmedEvents:
        """See `persistence.events.trim`."""
        return trim_events(self._session, older_than, limit, most)

    def newest_beyond(self, table: str, most: int) -> datetime | None:
        """The age of the first row of a table of BOUNDED after its *most* newest; None if there is none."""
        return self._session.scalars(_NEWEST_BEYOND[table], {"most": most}).one_or_none()

    def delete_until(self, table: str, until: datetime, limit: int) -> int:
        """Delete at most *limit* rows of a table of BOUNDED up to this age; the number deleted."""
        values = {"until": until, "limit": limit, "at_least": _OLD[table].at_least}
        result = self._session.execute(_DELETE_UNTIL[table], values)
        return cast("CursorResult[Any]", result).rowcount

    def _delete(self, table: str, keep: timedelta, limit: int) -> int:
        values = {"keep": keep, "limit": limit}
        result = cast("CursorResult[Any]", self._session.execute(_DELETE_FROM[table], values))
        return result.rowcount

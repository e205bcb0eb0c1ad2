"""Old rows, deleted in bounded batches."""

from datetime import timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, text
from sqlalchemy.orm import Session

from persistence.settings import Settings

_OLD = {
    # table: (what of it may go, its age, the setting that says for how long it is kept)
    "job_queue": ("status = 'completed'", "settled_at", "keep_queue_entries"),
    "dispatch_event": ("true", "created_at", "keep_events"),
    "handled_message": ("true", "handled_at", "keep_handled"),
    "rejected_message": ("true", "rejected_at", "keep_rejected"),
    "socket_connection": ("NOT is_active", "closed_at", "keep_connections"),
    "job_error_log": ("true", "timestamp", "keep_errors"),
}

_ORDER = {"dispatch_event": "xid, id"}
"""Events go from the head, so that no reader finds a hole behind its cursor."""

_DELETE = """
    DELETE FROM {table} WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM {table} WHERE {condition} AND {age} < clock_timestamp() - CAST(:keep AS interval)
         ORDER BY {order} LIMIT :limit FOR UPDATE SKIP LOCKED
    ))
"""


class Retention:
    """What is kept for how long."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def delete_old(self, kept: Settings, limit: int) -> dict[str, int]:
        """Delete at most *limit* rows a table that are older than they are kept; how many, by table."""
        return {
            table: self._delete(table, getattr(kept, setting), limit)
            for table, (_, _, setting) in _OLD.items()
        }

    def _delete(self, table: str, keep: timedelta, limit: int) -> int:
        condition, age, _ = _OLD[table]
        statement = text(
            _DELETE.format(table=table, condition=condition, age=age, order=_ORDER.get(table, age))
        )
        result = cast("CursorResult[Any]", self._session.execute(statement, {"keep": keep, "limit": limit}))
        return result.rowcount

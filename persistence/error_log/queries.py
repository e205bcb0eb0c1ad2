"""Reads single errors, the newest first, for operators. No task decides anything by them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from persistence.db.snapshot import snapshot
from persistence.exceptions import IllegalRequestError
from persistence.migrations.head import require_head
from persistence.schema.ids import AccountId, JobId
from persistence.settings import settings

_ERRORS = text("""
    -- The planner removes conditions on parameters that are NULL: each plan is made for its values.
    SELECT e.id, e.job_id, job."accountId" AS account_id, e.timestamp, e.error_type, e.error_message,
           e.stack_trace, e.context, e.retry_count, e.is_recoverable, e.fingerprint, e.resolution
      FROM job_error_log e JOIN job ON job.id = e.job_id
     WHERE (CAST(:job_id AS text) IS NULL OR e.job_id = :job_id)
       AND (CAST(:fingerprint AS text) IS NULL OR e.fingerprint = :fingerprint)
       AND (CAST(:since AS interval) IS NULL OR e.timestamp > now() - CAST(:since AS interval))
       AND (CAST(:before AS text) IS NULL OR (e.timestamp, e.id) < (CAST(:timestamp AS timestamptz), :before))
     ORDER BY e.timestamp DESC, e.id DESC LIMIT :limit
""")

_TIMESTAMP = text("SELECT timestamp FROM job_error_log WHERE id = :id")


@dataclass(frozen=True)
class LoggedError:
    """A row of the error log."""

    id: str
    job_id: JobId
    account_id: AccountId
    timestamp: datetime
    error_type: str
    error_message: str
    stack_trace: str | None
    context: Any
    retry_count: int
    is_recoverable: bool
    fingerprint: str | None
    """None for rows older than fingerprints."""
    resolution: str | None


def read_errors(
    *,
    job_id: JobId | None = None,
    since: timedelta | None = None,
    before: str | None = None,
    limit: int,
) -> list[LoggedError]:
    """
    Read at most *limit* errors, the newest first. *before* is the id of the last error of the previous page.

    Raises IllegalRequestError if there is no error *before*, SchemaError if the schema is not at head, and the
    database's errors as ours.
    """
    with snapshot(settings().statement_timeout) as connection:
        require_head(connection)
        return select_errors(connection, job_id=job_id, since=since, before=before, limit=limit)


def select_errors(
    connection: Connection,
    *,
    job_id: JobId | None = None,
    fingerprint: str | None = None,
    since: timedelta | None = None,
    before: str | None = None,
    limit: int,
) -> list[LoggedError]:
    """Read the newest errors of a job, of a group, or of all jobs, within the snapshot of the caller."""
    values = {
        "job_id": job_id,
        "fingerprint": fingerprint,
        "since": since,
        "before": before,
        "timestamp": _timestamp(connection, before) if before else None,
        "limit": limit,
    }
    rows = connection.execute(_ERRORS, values)
    return [LoggedError(**row._mapping) for row in rows]  # noqa: SLF001 - public in spite of its name


def _timestamp(connection: Connection, error_id: str) -> datetime:
    row = connection.execute(_TIMESTAMP, {"id": error_id}).one_or_none()
    if row is None:
        raise IllegalRequestError(f"there is no error {error_id}")
    timestamp: datetime = row.timestamp
    return timestamp

"""Groups of similar errors, for operators. No task decides anything by them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, text

from persistence.db.snapshot import snapshot
from persistence.error_log.queries import LoggedError, select_errors
from persistence.exceptions import IllegalRequestError
from persistence.migrations.head import require_head
from persistence.settings import settings

Order = Literal["count", "last_seen"]

_SAMPLE_LENGTH = 1000

_GROUPS = text("""
    WITH of_job AS (
        -- Grouped by job first, so that the account of each job is looked up once, however often it failed.
        SELECT fingerprint, job_id, count(*) AS errors, count(*) FILTER (WHERE resolution IS NULL) AS unresolved,
               min(timestamp) AS first_seen, max(timestamp) AS last_seen
          FROM job_error_log
         WHERE fingerprint IS NOT NULL
           AND (CAST(:fingerprint AS text) IS NULL OR fingerprint = :fingerprint)
           AND (CAST(:since AS interval) IS NULL OR timestamp > now() - CAST(:since AS interval))
         GROUP BY 1, 2
    ), grouped AS (
        SELECT fingerprint, sum(errors)::bigint AS errors, sum(unresolved)::bigint AS unresolved,
               min(first_seen) AS first_seen, max(last_seen) AS last_seen,
               count(*) AS jobs, count(DISTINCT job."accountId") AS accounts
          FROM of_job JOIN job ON job.id = of_job.job_id
         GROUP BY 1 HAVING NOT :unresolved OR sum(unresolved) > 0
    ), shown AS (
        SELECT * FROM grouped
         ORDER BY CASE WHEN :by_count THEN errors END DESC, last_seen DESC, fingerprint LIMIT :limit
    )
    SELECT shown.*, sample.error_type, sample.error_message
      FROM shown CROSS JOIN LATERAL (
               SELECT error_type, left(error_message, :sample) AS error_message FROM job_error_log e
                WHERE e.fingerprint = shown.fingerprint ORDER BY timestamp DESC LIMIT 1
           ) sample
     ORDER BY CASE WHEN :by_count THEN errors END DESC, last_seen DESC, fingerprint
""")


@dataclass(frozen=True)
class ErrorGroup:
    """Errors with one fingerprint; type and the beginning of the message are those of the newest error."""

    fingerprint: str
    errors: int
    unresolved: int
    first_seen: datetime
    last_seen: datetime
    jobs: int
    accounts: int
    error_type: str
    error_message: str


@dataclass(frozen=True)
class GroupWithErrors:
    """A group with its newest errors."""

    group: ErrorGroup
    newest: list[LoggedError]


def read_groups(
    *, since: timedelta | None = None, unresolved: bool = False, by: Order = "count", limit: int
) -> list[ErrorGroup]:
    """
    Read at most *limit* groups of the errors of the last *since*; with *unresolved*, groups with unresolved errors.

    Errors without a fingerprint are in no group. Raises SchemaError if the schema is not at head, and the database's
    errors as ours.
    """
    with snapshot(settings().statement_timeout) as connection:
        require_head(connection)
        return _groups(connection, since=since, unresolved=unresolved, by=by, limit=limit)


def read_group(fingerprint: str, *, limit: int) -> GroupWithErrors:
    """Read one group with at most *limit* of its errors. Raises IllegalRequestError if there is no such group."""
    with snapshot(settings().statement_timeout) as connection:
        require_head(connection)
        groups = _groups(connection, fingerprint=fingerprint, limit=1)
        if not groups:
            raise IllegalRequestError(f"there is no group of errors {fingerprint}")
        return GroupWithErrors(groups[0], select_errors(connection, fingerprint=fingerprint, limit=limit))


def _groups(
    connection: Connection,
    *,
    fingerprint: str | None = None,
    since: timedelta | None = None,
    unresolved: bool = False,
    by: Order = "count",
    limit: int,
) -> list[ErrorGroup]:
    values: dict[str, Any] = {
        "fingerprint": fingerprint,
        "since": since,
        "unresolved": unresolved,
        "by_count": by == "count",
        "limit": limit,
        "sample": _SAMPLE_LENGTH,
    }
    return [ErrorGroup(**row._mapping) for row in connection.execute(_GROUPS, values)]  # noqa: SLF001 - public in spite of its name

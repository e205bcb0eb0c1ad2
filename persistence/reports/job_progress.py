"""
Reads the progress of jobs, for operators: of single jobs, of an account, or of a job with all that it spawned.

Computed from the rows of the jobs, because a counter for many jobs would be a row that every task locks.
`job.progress` is written by tasks/jobs/progress.py.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from persistence.db.snapshot import snapshot
from persistence.jobs.subtree import SUBTREE
from persistence.schema.sql import fragment, sql
from persistence.settings import settings

_COMPLETION = fragment("""
    CASE WHEN job.status = $job_finished THEN 1
         WHEN jsonb_typeof(job.progress -> 'completion') = 'number'
         THEN LEAST(GREATEST((job.progress -> 'completion')::numeric, 0), 1)::float8 ELSE 0 END
""")
"""From 0 to 1. The web app may write anything into `job.progress`."""

_JOBS = fragment(
    """
    SELECT job.id, job.status::text AS status, job.command::text AS command, job.full_path, job.spawned_from,
           job.started_at, job.finished_at, job.progress, job.resume_state, $completion AS completion
      FROM job
    """,
    completion=_COMPLETION,
)

_OF_IDS = sql("$jobs WHERE job.id = ANY (CAST(:ids AS text[])) ORDER BY job.id", jobs=_JOBS)

_OF_ACCOUNT = sql(
    """
    $jobs JOIN (
        SELECT web_app_job_id FROM job_queue WHERE account_id = :account_id AND web_app_job_id > :after
         ORDER BY web_app_job_id LIMIT :limit
    ) page ON page.web_app_job_id = job.id ORDER BY job.id
    """,
    jobs=_JOBS,
)

_SUMS = sql(
    """
    $subtree
    SELECT job.status::text AS status, count(*) AS jobs, sum($completion) AS completed,
           sum((SELECT COALESCE(sum(CASE jsonb_typeof(value) WHEN 'number' THEN value::numeric END), 0)
                  FROM jsonb_each(CASE jsonb_typeof(job.progress -> 'counts')
                                  WHEN 'object' THEN job.progress -> 'counts' END))) AS items
      FROM family JOIN job ON job.id = family.id
     GROUP BY job.status ORDER BY count(*) DESC, job.status::text
    """,
    subtree=SUBTREE,
    completion=_COMPLETION,
)

_MAX_ITEMS = 2**63 - 1
"""A count that the web app wrote may have more digits than Python writes."""

_DEFERRED = sql(
    "$subtree SELECT count(*) FROM deferred_job JOIN family ON family.id = deferred_job.spawned_from",
    subtree=SUBTREE,
)


@dataclass(frozen=True)
class JobProgress:
    """The progress of one job."""

    id: str
    status: str
    command: str
    full_path: str | None
    spawned_from: str | None
    started_at: datetime | None
    finished_at: datetime | None
    completion: float
    """From 0 to 1; 1 for a finished job."""
    progress: Any
    """As stored, or None."""
    resume_state: Any


@dataclass(frozen=True)
class TreeProgress:
    """The progress of a job with all that it spawned."""

    root: str
    jobs: int
    by_status: Mapping[str, int]
    completion: float
    """The mean completion of the jobs; a deferred job counts as 0."""
    items: int
    """The sum of all counts in the progress of the jobs."""
    deferred: int
    """Jobs that wait outside of the queue, because their account is at its cap."""


def read_jobs_progress(ids: Collection[str]) -> list[JobProgress]:
    """The jobs with these ids that exist, in the order of their ids."""
    with _snapshot() as connection:
        return _read(connection, _OF_IDS, {"ids": list(ids)})


def read_account_progress(account_id: str, *, after: str = "", limit: int = 100) -> list[JobProgress]:
    """At most *limit* jobs of the account with a queue entry whose ids follow *after*, in the order of their ids."""
    with _snapshot() as connection:
        return _read(connection, _OF_ACCOUNT, {"account_id": account_id, "after": after, "limit": limit})


def read_subtree_progress(root: str) -> TreeProgress | None:
    """The job with all that it spawned, at any depth; None if there is no such job."""
    with _snapshot() as connection:
        rows = connection.execute(_SUMS, {"id": root}).all()
        deferred: int = connection.execute(_DEFERRED, {"id": root}).scalar_one()
    jobs = sum(row.jobs for row in rows)
    if not jobs:
        return None
    return TreeProgress(
        root=root,
        jobs=jobs,
        by_status={row.status: row.jobs for row in rows},
        completion=sum(row.completed for row in rows) / (jobs + deferred),
        items=int(min(max(sum(row.items or 0 for row in rows), 0), _MAX_ITEMS)),
        deferred=deferred,
    )


def _snapshot() -> Any:
    return snapshot(settings().statement_timeout)


def _read(connection: Connection, statement: Any, values: dict[str, Any]) -> list[JobProgress]:
    return [JobProgress(**row._mapping) for row in connection.execute(statement, values)]  # noqa: SLF001 - public in spite of its name

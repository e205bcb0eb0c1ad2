"""
How far jobs are, for whoever looks: one, many, an account's, or a subtree with all that was spawned in it.

Nothing is kept up to date for it but the jobs' own rows: a counter would be a row that everybody locks.
Source of `job.progress`: tasks/jobs/progress.py writes it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from persistence.db.snapshot import snapshot
from persistence.settings import settings

_COMPLETION = """
    CASE WHEN job.status = 'finished' THEN 1
         WHEN jsonb_typeof(job.progress -> 'completion') = 'number'
         THEN LEAST(GREATEST((job.progress -> 'completion')::numeric, 0), 1)::float8 ELSE 0 END
"""
"""The web app may write anything in `job.progress`."""

_JOBS = f"""
    SELECT job.id, job.status::text AS status, job.command::text AS command, job.full_path, job.spawned_from,
           job.started_at, job.finished_at, job.progress, job.resume_state, {_COMPLETION} AS completion
      FROM job
"""  # noqa: S608 - no input is in it

_OF_IDS = text(f"{_JOBS} WHERE job.id = ANY (CAST(:ids AS text[])) ORDER BY job.id")

_OF_ACCOUNT = text(f"""
    {_JOBS} JOIN (
        SELECT web_app_job_id FROM job_queue WHERE account_id = :account_id AND web_app_job_id > :after
         ORDER BY web_app_job_id LIMIT :limit
    ) page ON page.web_app_job_id = job.id ORDER BY job.id
""")  # noqa: S608

SUBTREE = f"""
    WITH RECURSIVE family AS (
        SELECT id FROM job WHERE id = :id
        UNION SELECT entry.web_app_job_id FROM job_queue entry JOIN family ON entry.spawned_from = family.id
    )
    SELECT job.status::text AS status, count(*) AS jobs, sum({_COMPLETION}) AS completed,
           sum((SELECT COALESCE(sum(CASE jsonb_typeof(value) WHEN 'number' THEN value::numeric END), 0)
                  FROM jsonb_each(CASE jsonb_typeof(job.progress -> 'counts')
                                  WHEN 'object' THEN job.progress -> 'counts' END))) AS items
      FROM family JOIN job ON job.id = family.id
     GROUP BY job.status ORDER BY count(*) DESC, job.status::text
"""  # noqa: S608
"""A job with all that it spawned, by status. docs/contract.md gives it to readers in other languages."""

_MAX_ITEMS = 2**63 - 1
"""A count by the web app may have more digits than Python writes."""

_DEFERRED = text("""
    WITH RECURSIVE family AS (
        SELECT id FROM job WHERE id = :id
        UNION SELECT entry.web_app_job_id FROM job_queue entry JOIN family ON entry.spawned_from = family.id
    )
    SELECT count(*) FROM deferred_job JOIN family ON family.id = deferred_job.spawned_from
""")


@dataclass(frozen=True)
class JobProgress:
    """How far one job is."""

    id: str
    status: str
    command: str
    full_path: str | None
    spawned_from: str | None
    started_at: datetime | None
    finished_at: datetime | None
    completion: float
    """0 to 1; of a finished job it is 1."""
    progress: Any
    """As it is stored, or None."""
    resume_state: Any


@dataclass(frozen=True)
class TreeProgress:
    """How far a job is with all that it spawned."""

    root: str
    jobs: int
    by_status: Mapping[str, int]
    completion: float
    """The mean of the jobs' completions; what is deferred has not begun."""
    items: int
    """Everything that was counted."""
    deferred: int
    """Jobs that wait outside of the queue for their account's cap."""


def read_jobs_progress(ids: Collection[str]) -> list[JobProgress]:
    """Those of the jobs that exist, in the order of their ids."""
    with _snapshot() as connection:
        return _read(connection, _OF_IDS, {"ids": list(ids)})


def read_account_progress(account_id: str, *, after: str = "", limit: int = 100) -> list[JobProgress]:
    """At most *limit* jobs of the account that were ever queued, in the order of their ids, behind the id *after*."""
    with _snapshot() as connection:
        return _read(connection, _OF_ACCOUNT, {"account_id": account_id, "after": after, "limit": limit})


def read_subtree_progress(root: str) -> TreeProgress | None:
    """The job with all that it spawned, at any depth; None where there is no such job."""
    with _snapshot() as connection:
        rows = connection.execute(text(SUBTREE), {"id": root}).all()
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

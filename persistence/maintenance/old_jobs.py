"""
Jobs that ended long ago, and the reasons not to delete them.

They are found by their entries, which are deleted with them, like their attempts and links to areas. A job without an
entry is never found: one of the web app's own, or one that it has just inserted.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy.orm import Session

from persistence.schema.commands import Command
from persistence.schema.ids import AccountId, JobId
from persistence.schema.sql import sql

# Text, since each plan was chosen: none reads more rows than its batch, also without statistics.

_LOCK_SETTLED = sql("""
    SELECT web_app_job_id FROM job_queue
     WHERE settled_at IS NOT NULL AND GREATEST(kept_at, settled_at) < now() - CAST(:keep AS interval)
     ORDER BY GREATEST(kept_at, settled_at) LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
""")

_LOCK_ATTEMPTS = sql("""
    -- In no order: SKIP LOCKED never waits, so no order is needed, and sorting would read the whole table.
    SELECT id FROM job_assignment_mapping
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) FOR NO KEY UPDATE SKIP LOCKED
""")

_LOCK_JOBS = sql("""
    -- FOR UPDATE also blocks new rows that refer to these jobs, which would fail when the jobs are deleted.
    SELECT id FROM job WHERE id = ANY (CAST(:ids AS text[])) FOR UPDATE SKIP LOCKED
""")

_DECIDE = sql(
    """
    -- (SELECT … LIMIT 1), because the planner might answer an EXISTS with a hash of the whole table.
    SELECT job.id, job."accountId" AS account_id,
           CASE WHEN job.status NOT IN $job_ended OR job.command = '$own_command'
                     OR job.created_at <= (SELECT adopted_from FROM adoption)
                     OR (SELECT true FROM job_assignment_mapping a
                          WHERE a.web_app_job_id = job.id AND a.$live LIMIT 1)
                     OR (SELECT true FROM job_queue child
                          WHERE child.spawned_from = job.id AND child.settled_at IS NULL LIMIT 1)
                     OR (SELECT true FROM deferred_job child WHERE child.spawned_from = job.id LIMIT 1)
                     OR error.last_at >= now() - CAST(:keep_errors AS interval)
                THEN 'keep'
                -- Error rows are deleted before their job, by their own age: there may be any number of them.
                WHEN error.last_at IS NOT NULL
                     OR (SELECT true FROM job_assignment_mapping a
                          WHERE a.web_app_job_id = job.id AND a.id <> ALL (CAST(:attempts AS text[])) LIMIT 1)
                THEN 'leave'
                ELSE 'delete' END AS decision
      FROM job
     CROSS JOIN LATERAL (SELECT max(timestamp) AS last_at FROM job_error_log WHERE job_id = job.id) error
     WHERE job.id = ANY (CAST(:ids AS text[]))
    """,
    own_command=Command.AUTHORIZATION_SCOPE.value,
)


class RetentionDecision(StrEnum):
    """What happens to an old job."""

    DELETE = "delete"
    KEEP = "keep"
    """There is a reason to keep it. It is examined again after another retention period."""
    LEAVE = "leave"
    """A dependent row prevents the deletion for now. It is examined again by the next run."""


@dataclass(frozen=True)
class OldJob:
    """A job that is locked, and what happens to it."""

    id: JobId
    account_id: AccountId
    decision: RetentionDecision


class OldJobs:
    """Jobs that ended long ago, with their dependent rows."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_settled(self, keep: timedelta, limit: int) -> list[JobId]:
        """
        Lock at most *limit* entries that settled, or were last kept, longer than *keep* ago; returns their jobs.

        The oldest first. Rows that another transaction has locked are skipped.
        """
        return list(self._session.scalars(_LOCK_SETTLED, {"keep": keep, "limit": limit}))

    def decide(self, job_ids: Collection[JobId], keep_errors: timedelta) -> list[OldJob]:
        """
        Decide about these jobs, whose entries the caller has locked; locks their attempts and the jobs.

        A job that another transaction has locked is skipped, also if only a new row refers to it. Children are
        examined by their entries, so that not all children of a discovery are read to find none unsettled.
        """
        ids = list(job_ids)
        attempts = list(self._session.scalars(_LOCK_ATTEMPTS, {"ids": ids}))
        locked = list(self._session.scalars(_LOCK_JOBS, {"ids": ids}))
        rows = self._session.execute(
            _DECIDE, {"ids": locked, "attempts": attempts, "keep_errors": keep_errors}
        )
        return [OldJob(row.id, row.account_id, RetentionDecision(row.decision)) for row in rows]

"""
Jobs that ended long ago, and what stands in the way of deleting them.

They are found by their entries, which go with them, as attempts and links to areas do. Jobs without
an entry are never found: the web app's own, and those that it has only just inserted.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.ids import AccountId, JobId

_LOCK_SETTLED = text("""
    SELECT web_app_job_id FROM job_queue
     WHERE settled_at IS NOT NULL AND GREATEST(kept_at, settled_at) < now() - CAST(:keep AS interval)
     ORDER BY GREATEST(kept_at, settled_at) LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
""")

_LOCK_ATTEMPTS = text("""
    -- In no order: who waits for nobody need not keep one, and it would cost a walk through the table.
    SELECT id FROM job_assignment_mapping
     WHERE web_app_job_id = ANY (CAST(:ids AS text[])) FOR NO KEY UPDATE SKIP LOCKED
""")

_LOCK_JOBS = text("""
    -- FOR UPDATE, which blocks foreign keys too: what is to refer to these jobs would fail a moment later.
    SELECT id FROM job WHERE id = ANY (CAST(:ids AS text[])) FOR UPDATE SKIP LOCKED
""")

_DECIDE = text("""
    -- (SELECT … LIMIT 1): an EXISTS might be answered by a hash of the whole table.
    SELECT job.id, job."accountId" AS account_id,
           CASE WHEN job.status NOT IN ('finished', 'failed', 'cancelled') OR job.command = 'authorizationScope'
                     OR job.created_at <= (SELECT adopted_from FROM adoption)
                     OR (SELECT true FROM job_assignment_mapping a
                          WHERE a.web_app_job_id = job.id AND a.completed_at IS NULL LIMIT 1)
                     OR (SELECT true FROM job_queue child
                          WHERE child.spawned_from = job.id AND child.settled_at IS NULL LIMIT 1)
                     OR (SELECT true FROM deferred_job child WHERE child.spawned_from = job.id LIMIT 1)
                     OR error.last_at >= now() - CAST(:keep_errors AS interval)
                THEN 'keep'
                -- Error rows go before their job, and by themselves: there may be any number of them.
                WHEN error.last_at IS NOT NULL
                     OR (SELECT true FROM job_assignment_mapping a
                          WHERE a.web_app_job_id = job.id AND a.id <> ALL (CAST(:attempts AS text[])) LIMIT 1)
                THEN 'leave'
                ELSE 'delete' END AS decision
      FROM job
     CROSS JOIN LATERAL (SELECT max(timestamp) AS last_at FROM job_error_log WHERE job_id = job.id) error
     WHERE job.id = ANY (CAST(:ids AS text[]))
""")


class RetentionDecision(StrEnum):
    """What becomes of an old job."""

    DELETE = "delete"
    KEEP = "keep"
    """There is a reason to keep it; it is looked at again one retention later."""
    LEAVE = "leave"
    """Something that hangs on it is in the way for now; it is looked at again next time."""


@dataclass(frozen=True)
class OldJob:
    """A job that was judged, locked."""

    id: JobId
    account_id: AccountId
    decision: RetentionDecision


class OldJobs:
    """What ended long ago, in `job` and what hangs on it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def lock_settled(self, keep: timedelta, limit: int) -> list[JobId]:
        """
        Lock at most *limit* entries that settled, or were last kept, longer ago than *keep*; their jobs.

        The oldest first. What a peer holds is left out.
        """
        return list(self._session.scalars(_LOCK_SETTLED, {"keep": keep, "limit": limit}))

    def decide(self, job_ids: Collection[JobId], keep_errors: timedelta) -> list[OldJob]:
        """
        What is to become of these jobs, whose entries the caller has locked; locks attempts and jobs.

        A job that a peer holds is left out, be it only as what a new row refers to. Its children are
        looked at by their entries: nobody reads all the children of a discovery to find none at work.
        """
        ids = list(job_ids)
        attempts = list(self._session.scalars(_LOCK_ATTEMPTS, {"ids": ids}))
        locked = list(self._session.scalars(_LOCK_JOBS, {"ids": ids}))
        rows = self._session.execute(
            _DECIDE, {"ids": locked, "attempts": attempts, "keep_errors": keep_errors}
        )
        return [OldJob(row.id, row.account_id, RetentionDecision(row.decision)) for row in rows]

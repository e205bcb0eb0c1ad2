"""Deletes jobs that ended long ago, a bounded number at a time."""

from dataclasses import dataclass
from time import monotonic

import structlog

from persistence.maintenance.old_jobs import OldJob, RetentionDecision
from persistence.schema.event_types import EventType
from persistence.schema.ids import JobId
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.runtime.batches import bisect_on_refusal

log = structlog.get_logger()

DELETE_CHUNK = 50
TIME_LIMIT_S = 1.0
"""
One transaction deletes DELETE_CHUNK jobs at a time until TIME_LIMIT_S is over.

The web app's own tables may cascade without an index: 10 jobs took 878 ms there, and a thousand in one statement
would exceed the statement timeout every time.
"""


@dataclass(frozen=True)
class DeletedJobs:
    """The result of one call of `delete_old_jobs`."""

    deleted: int
    kept: int
    is_full: bool
    """There may be more old jobs, and another call would find them."""


def delete_old_jobs(uow: UnitOfWork, limit: int) -> DeletedJobs:
    """
    Delete at most *limit* jobs that ended long ago, each with an event, and note those that must stay as kept.

    A job that the web app's own tables still refer to is kept and logged; the others are deleted.
    """
    job_ids = uow.old_jobs.lock_settled(settings().keep_jobs, limit)
    decided = uow.old_jobs.decide(job_ids, settings().keep_errors) if job_ids else []
    kept = {job.id for job in decided if job.decision is RetentionDecision.KEEP}
    old = [job for job in decided if job.decision is RetentionDecision.DELETE]
    tried, refused = _delete(uow, old)
    uow.entries.keep(kept | refused)
    settled = len(kept) + tried
    is_full = settled > 0 and (len(job_ids) == limit or tried < len(old))
    return DeletedJobs(tried - len(refused), len(kept | refused), is_full)


def _delete(uow: UnitOfWork, jobs: list[OldJob]) -> tuple[int, set[JobId]]:
    """Delete jobs until the time limit: the number tried, and the jobs that the database refused to delete."""
    refused: set[JobId] = set()

    def refuse(job: OldJob, why: str) -> None:
        log.warning("job_not_deleted", job_id=job.id, why=why)
        refused.add(job.id)

    tried, deadline = 0, monotonic() + TIME_LIMIT_S
    while tried < len(jobs) and (not tried or monotonic() < deadline):
        part = jobs[tried : tried + DELETE_CHUNK]
        bisect_on_refusal(uow, part, lambda some: _delete_part(uow, some), refuse)
        tried += len(part)
    return tried, refused


def _delete_part(uow: UnitOfWork, jobs: list[OldJob]) -> None:
    uow.jobs.delete([job.id for job in jobs])
    for job in jobs:
        uow.events.add(EventType.JOB_DELETED, job_id=job.id, account_id=job.account_id)

"""
Control of jobs: `jobs.cancel`, `jobs.retry` and `jobs.prioritize`; `pausing` has the other two.

The web app's word wins: what it has changed between our look and our lock is left as it is.
"""

from persistence.jobs.selection import DEFERRED, DEFERRED_OTHER_PRIORITY, FAILED, OTHER_PRIORITY, UNFINISHED
from persistence.schema.event_types import EventType
from persistence.schema.ids import JobId
from persistence.schema.states import JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Cancel, Prioritize, Retry
from tasks.jobs.enqueue import requeue_ended
from tasks.jobs.external_status import ENDED
from tasks.jobs.selections import MAX_PASSES, step_over_deferred, step_over_jobs
from tasks.jobs.transitions import announce, lock_jobs, revoke
from tasks.runtime.chunks import run_in_chunks
from tasks.runtime.task import task


@task(name="jobs.cancel", accepts=Cancel)
def cancel(payload: Cancel) -> None:
    """End these jobs, wherever they stand; what is deferred of them is forgotten."""
    reason = payload.reason or "cancelled on request"
    run_in_chunks(
        step_over_deferred(payload, DEFERRED, lambda uow, ids: uow.deferred.delete(ids)),
        step_over_jobs(payload, UNFINISHED, lambda uow, ids: cancel_jobs(uow, ids, reason)),
        max_passes=MAX_PASSES,
    )


def cancel_jobs(uow: UnitOfWork, job_ids: list[JobId], reason: str) -> None:
    """
    Cancel those of the jobs that have not ended.

    A live attempt is closed; its crawler is not told, and whatever it still says of it is stale.
    """
    locked = lock_jobs(uow, job_ids)
    selected = {job_id for job_id, job in locked.jobs.items() if job.status not in ENDED}
    revoke(uow, locked.only(selected), reason)
    uow.entries.fail(selected, error=JobStatus.CANCELLED.value)
    announce(uow, locked.jobs, uow.jobs.cancel(selected), JobStatus.CANCELLED)


@task(name="jobs.retry", accepts=Retry)
def retry(payload: Retry) -> None:
    """Queue failed jobs again."""
    times = {"failed_after": payload.failed_after, "failed_before": payload.failed_before}
    run_in_chunks(step_over_jobs(payload, FAILED, retry_jobs, **times))


def retry_jobs(uow: UnitOfWork, job_ids: list[JobId]) -> None:
    """
    Queue those of the jobs that have failed, due at once, with nothing counted against them.

    They go on from where they were. One that the web app failed while it was worked on loses its attempt.
    """
    locked = lock_jobs(uow, job_ids)
    failed = {job_id: job for job_id, job in locked.jobs.items() if job.status is JobStatus.FAILED}
    revoke(uow, locked.only(failed), "the job had failed, and was to be retried")
    requeue_ended(uow, failed, locked.entries, restart=False)


@task(name="jobs.prioritize", accepts=Prioritize)
def prioritize(payload: Prioritize) -> None:
    """Give the entries of these jobs another priority, and what is deferred of them."""
    priority = payload.priority
    run_in_chunks(
        step_over_deferred(
            payload,
            DEFERRED_OTHER_PRIORITY,
            lambda uow, ids: uow.deferred.prioritize(ids, priority),
            priority=priority,
        ),
        step_over_jobs(
            payload,
            OTHER_PRIORITY,
            lambda uow, ids: prioritize_jobs(uow, ids, priority),
            priority=priority,
        ),
    )


def prioritize_jobs(uow: UnitOfWork, job_ids: list[JobId], priority: int) -> None:
    """Give the entries of the jobs that have not ended this priority."""
    entries = uow.entries.lock(job_ids)
    for job_id in sorted(uow.entries.prioritize(entries, priority)):
        account_id = entries[job_id].account_id
        uow.events.add(EventType.JOB_UPDATED, job_id=job_id, account_id=account_id, priority=priority)

"""The task `jobs.cancel`: ends jobs, whatever they were doing, and drops deferred ones."""

from persistence.error_log.log import MESSAGE_BYTES
from persistence.jobs.selection import DEFERRED, UNFINISHED
from persistence.schema.states import JOB_ENDED, JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Cancel
from tasks.jobs.locking import LockedJobs, lock_jobs
from tasks.jobs.selections import MAX_PASSES, step_over_deferred, step_over_jobs
from tasks.jobs.transitions import announce, revoke
from tasks.runtime.chunks import run_in_chunks
from tasks.runtime.task import task
from tasks.sanitize.texts import redact_reason


@task(name="jobs.cancel", accepts=Cancel)
def cancel(payload: Cancel) -> None:
    """End these jobs; those of them that are deferred are deleted."""
    reason = redact_reason(payload.reason or "cancelled on request", MESSAGE_BYTES)
    run_in_chunks(
        step_over_deferred(payload, DEFERRED, lambda uow, ids: uow.deferred.delete(ids)),
        step_over_jobs(payload, UNFINISHED, lambda uow, ids: cancel_jobs(uow, lock_jobs(uow, ids), reason)),
        max_passes=MAX_PASSES,
    )


def cancel_jobs(uow: UnitOfWork, locked: LockedJobs, reason: str) -> None:
    """
    Cancel the jobs that have not ended.

    A live attempt is closed. Its crawler gets no message; the frames that it still sends are stale.
    """
    selected = locked.where(lambda job: job.status not in JOB_ENDED)
    revoke(uow, selected, reason)
    uow.entries.fail(selected.jobs, error=JobStatus.CANCELLED.value)
    announce(uow, selected.jobs, uow.jobs.cancel(selected.jobs), JobStatus.CANCELLED)

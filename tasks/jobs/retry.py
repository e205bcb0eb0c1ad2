"""The task `jobs.retry`: queues failed jobs again."""

from persistence.jobs.selection import FAILED
from persistence.schema.states import JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Retry
from tasks.jobs.enqueue import requeue_ended
from tasks.jobs.locking import LockedJobs, lock_jobs
from tasks.jobs.selections import step_over_jobs
from tasks.jobs.transitions import revoke
from tasks.runtime.chunks import run_in_chunks
from tasks.runtime.task import task


@task(name="jobs.retry", accepts=Retry)
def retry(payload: Retry) -> None:
    """Queue failed jobs again."""
    times = {"failed_after": payload.failed_after, "failed_before": payload.failed_before}
    run_in_chunks(
        step_over_jobs(payload, FAILED, lambda uow, ids: retry_jobs(uow, lock_jobs(uow, ids)), **times)
    )


def retry_jobs(uow: UnitOfWork, locked: LockedJobs) -> None:
    """
    Queue the jobs that have failed, due at once, with all counters at 0. They continue where they were.

    A job that the web app failed while a crawler was working on it loses its attempt.
    """
    failed = locked.where(lambda job: job.status is JobStatus.FAILED)
    revoke(uow, failed, "the job had failed, and was to be retried")
    requeue_ended(uow, failed, restart=False)

"""The task `jobs.resume`: queues paused jobs again, or lets an account's jobs be assigned again."""

from functools import partial

from persistence.jobs.selection import PAUSED
from persistence.schema.ids import AccountId
from persistence.schema.states import JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Resume
from tasks.jobs import accounts
from tasks.jobs.enqueue import enqueue_jobs
from tasks.jobs.locking import LockedJobs, lock_waiting_jobs
from tasks.jobs.selections import step_over_jobs
from tasks.jobs.transitions import announce
from tasks.runtime.chunks import run_in_chunks
from tasks.runtime.task import task


@task(name="jobs.resume", accepts=Resume)
def resume(payload: Resume) -> None:
    """Resume jobs, or an account; of an account, the jobs that were paused one by one remain paused."""
    if payload.account_id is None:
        run_in_chunks(
            step_over_jobs(payload, PAUSED, lambda uow, ids: resume_jobs(uow, lock_waiting_jobs(uow, ids)))
        )
    else:
        run_in_chunks(partial(accounts.resume_account, AccountId(payload.account_id)))


def resume_jobs(uow: UnitOfWork, locked: LockedJobs) -> None:
    """
    Queue the jobs that are paused, also by the web app; what was counted stays.

    A job that the web app paused just now may still have a live attempt, which then continues.
    """
    resumed = uow.jobs.resume(locked.jobs)
    announce(uow, locked.jobs, resumed, JobStatus.QUEUED)
    enqueue_jobs(uow, sorted(resumed))

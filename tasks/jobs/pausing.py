"""Letting jobs wait and go on: `jobs.pause` and `jobs.resume`. An account is paused otherwise, in `paused_accounts`."""

from functools import partial

from persistence.jobs.selection import PAUSED, TO_BE_CRAWLED
from persistence.schema.ids import AccountId, JobId
from persistence.schema.states import JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Pause, Resume
from tasks.jobs import accounts, external_status
from tasks.jobs.enqueue import enqueue_jobs
from tasks.jobs.selections import MAX_PASSES, step_over_jobs
from tasks.jobs.transitions import announce, lock_jobs, revoke
from tasks.runtime.chunks import run_in_chunks
from tasks.runtime.task import task


@task(name="jobs.pause", accepts=Pause)
def pause(payload: Pause) -> None:
    """Let these jobs wait until they are resumed."""
    if payload.account_id is None:
        reason = payload.reason or "paused on request"
        run_in_chunks(
            step_over_jobs(payload, TO_BE_CRAWLED, lambda uow, ids: pause_jobs(uow, ids, reason)),
            max_passes=MAX_PASSES,
        )
    else:
        account_id = AccountId(payload.account_id)
        run_in_chunks(
            partial(accounts.pause_account, account_id, payload.reason),
            accounts.wait_for_round,
            partial(accounts.revoke_account, account_id, payload.reason),
        )


def pause_jobs(uow: UnitOfWork, job_ids: list[JobId], reason: str) -> None:
    """Pause those of the jobs that are queued or running: live attempts are closed, entries held."""
    locked = lock_jobs(uow, job_ids)
    selected = {job_id for job_id, job in locked.jobs.items() if job.status in external_status.TO_BE_CRAWLED}
    revoke(uow, locked.only(selected), reason)
    uow.entries.park(selected)
    announce(uow, locked.jobs, uow.jobs.pause(selected), JobStatus.PAUSED)


@task(name="jobs.resume", accepts=Resume)
def resume(payload: Resume) -> None:
    """Let these jobs go on; an account's lane, but not those of its jobs that were paused one by one."""
    if payload.account_id is None:
        run_in_chunks(step_over_jobs(payload, PAUSED, resume_jobs))
    else:
        run_in_chunks(partial(accounts.resume_account, AccountId(payload.account_id)))


def resume_jobs(uow: UnitOfWork, job_ids: list[JobId]) -> None:
    """
    Queue those of the jobs that are paused, by whomever; what was counted stays.

    One that is worked on still, since the web app paused it just now, goes on.
    """
    uow.entries.lock(job_ids)
    jobs = uow.jobs.lock(job_ids)
    resumed = uow.jobs.resume(jobs)
    announce(uow, jobs, resumed, JobStatus.QUEUED)
    enqueue_jobs(uow, sorted(resumed))

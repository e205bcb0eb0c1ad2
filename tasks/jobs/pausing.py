"""Letting jobs wait and go on: `jobs.pause` and `jobs.resume`. An account is paused otherwise, in `paused_accounts`."""

from functools import partial

from persistence.jobs.selection import PAUSED, TO_BE_CRAWLED
from persistence.schema.ids import AccountId, JobId
from persistence.schema.states import JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Pause, Resume
from tasks.jobs import accounts, external_status
from tasks.jobs.enqueue import enqueue_jobs
from tasks.jobs.selections import LOOKS, over_jobs
from tasks.jobs.transitions import announce, lock_all, revoke
from tasks.runtime.chunks import in_units
from tasks.runtime.task import task


@task(name="jobs.pause", accepts=Pause)
def pause(payload: Pause) -> None:
    """Let these jobs wait until they are resumed."""
    if payload.account_id is None:
        reason = payload.reason or "paused on request"
        in_units(
            over_jobs(payload, TO_BE_CRAWLED, lambda uow, ids: pause_jobs(uow, ids, reason)), looks=LOOKS
        )
    else:
        account_id = AccountId(payload.account_id)
        in_units(
            partial(accounts.pause_account, account_id, payload.reason),
            accounts.await_pass,
            partial(accounts.revoke_account, account_id, payload.reason),
        )


def pause_jobs(uow: UnitOfWork, job_ids: list[JobId], reason: str) -> None:
    """Pause those of the jobs that are queued or running: live attempts are closed, entries held."""
    held = lock_all(uow, job_ids)
    meant = {job_id for job_id, job in held.jobs.items() if job.status in external_status.TO_BE_CRAWLED}
    revoke(uow, held.of(meant), reason)
    uow.queue.hold(meant)
    announce(uow, held.jobs, uow.jobs.pause(meant), JobStatus.PAUSED)


@task(name="jobs.resume", accepts=Resume)
def resume(payload: Resume) -> None:
    """Let these jobs go on; an account's lane, but not those of its jobs that were paused one by one."""
    if payload.account_id is None:
        in_units(over_jobs(payload, PAUSED, resume_jobs))
    else:
        in_units(partial(accounts.resume_account, AccountId(payload.account_id)))


def resume_jobs(uow: UnitOfWork, job_ids: list[JobId]) -> None:
    """
    Queue those of the jobs that are paused, by whomever; what was counted stays.

    One that is worked on still, since the web app paused it just now, goes on.
    """
    uow.queue.lock(job_ids)
    jobs = uow.jobs.lock(job_ids)
    resumed = uow.jobs.resume(jobs)
    announce(uow, jobs, resumed, JobStatus.QUEUED)
    enqueue_jobs(uow, sorted(resumed))

"""The task `jobs.pause`: makes jobs, or all jobs of an account, wait."""

from functools import partial

from persistence.error_log.log import MESSAGE_BYTES
from persistence.jobs.selection import CRAWLABLE
from persistence.schema.ids import AccountId
from persistence.schema.states import JOB_CRAWLABLE, JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Pause
from tasks.jobs import accounts
from tasks.jobs.locking import LockedJobs, lock_jobs
from tasks.jobs.selections import MAX_PASSES, step_over_jobs
from tasks.jobs.transitions import announce, revoke
from tasks.runtime.chunks import run_in_chunks
from tasks.runtime.task import task
from tasks.sanitize.texts import redact_reason


@task(name="jobs.pause", accepts=Pause)
def pause(payload: Pause) -> None:
    """Make these jobs wait until they are resumed."""
    reason = payload.reason and redact_reason(payload.reason, MESSAGE_BYTES)
    if payload.account_id is None:
        why = reason or "paused on request"
        run_in_chunks(
            step_over_jobs(payload, CRAWLABLE, lambda uow, ids: pause_jobs(uow, lock_jobs(uow, ids), why)),
            max_passes=MAX_PASSES,
        )
    else:
        account_id = AccountId(payload.account_id)
        run_in_chunks(
            partial(accounts.pause_account, account_id, reason),
            accounts.wait_for_round,
            partial(accounts.revoke_account, account_id, reason),
        )


def pause_jobs(uow: UnitOfWork, locked: LockedJobs, reason: str) -> None:
    """Pause the jobs that are queued or running: live attempts are closed, entries parked."""
    selected = locked.where(lambda job: job.status in JOB_CRAWLABLE)
    revoke(uow, selected, reason)
    uow.entries.park(selected.jobs)
    announce(uow, selected.jobs, uow.jobs.pause(selected.jobs), JobStatus.PAUSED)

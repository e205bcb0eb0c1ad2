"""Renewed tokens: `credentials.renewed`, the web app's message, and what follows from any new token."""

from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId
from persistence.schema.states import JOB_RENEWABLE, JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Renewed
from tasks.jobs.locking import lock_waiting_jobs
from tasks.jobs.transitions import announce
from tasks.runtime.batches import reject
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work

TASK = "credentials.renewed"

CHUNK_JOBS = 1000
"""The most jobs that one unit of work queues again, or sets to expired."""


@task(name=TASK, accepts=Renewed)
def renewed(payload: Renewed) -> None:
    """Unblock an account whose tokens the web app has replaced."""
    account_id = AccountId(payload.account_id)
    with unit_of_work() as uow:
        if uow.processed.mark_processed(message_id()):
            if uow.accounts.lock_key_share([account_id]):
                uow.account_queues.open([account_id])
                uow.account_queues.lock([account_id])
                unblock_account(uow, account_id, is_news=not payload.more)
            else:
                reject(uow, payload.model_dump(), "unknown_account")
        uow.commit()


def unblock_account(uow: UnitOfWork, account_id: AccountId, *, is_news: bool) -> None:
    """
    Queue the jobs that waited for a new token, and unblock the account with the last of them.

    The caller has locked the account's row in `account_lane`. *is_news*: add the event `credential_renewed`.
    """
    job_ids = uow.blocks.waiting_jobs(account_id, JOB_RENEWABLE, CHUNK_JOBS)
    locked = lock_waiting_jobs(uow, job_ids)
    queued = uow.jobs.renew(locked.jobs)
    uow.entries.unpark(queued & locked.entries.keys())
    announce(uow, locked.jobs, queued, JobStatus.QUEUED)
    if len(job_ids) < CHUNK_JOBS:
        uow.account_queues.unblock(account_id)
    else:  # blocked until the last job is queued: if the publish fails, reconcile continues
        uow.account_queues.continue_unblocking(account_id)
        uow.publish(TASK, account_id=account_id, more=True)
    if is_news:
        uow.events.add(EventType.CREDENTIAL_RENEWED, account_id=account_id)
    uow.publish("jobs.assign")

"""
Accounts that are paused: by their lane alone, never by their jobs.

The jobs that wait stay as they are, and the passes leave them out, those that come later too.
"""

from persistence.sanitize.json_values import clean_text
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId, JobId
from persistence.schema.states import JobStatus, QueueStatus
from persistence.unit_of_work import UnitOfWork
from tasks.jobs.external_status import TO_BE_CRAWLED, settle_entries
from tasks.jobs.transitions import announce, lock_all, revoke
from tasks.runtime.batches import reject
from tasks.runtime.chunks import Done
from tasks.runtime.unit import message_id

UNIT_ATTEMPTS = 1000
"""Live attempts of paused accounts that one unit revokes at most."""

_REASON_BYTES = 2000

_PAUSED_ACCOUNT = "the account is paused"


def pause_account(account_id: AccountId, reason: str | None, uow: UnitOfWork, _place: str) -> Done:
    """Pause the account's lane; committed by itself, since no pass that begins then seats any of its jobs."""
    if not uow.accounts.hold([account_id]):
        if uow.handled.claim(message_id()):  # by this unit, since no other one has anything to do
            reject(uow, {"account_id": account_id}, "unknown_account")
        return Done()
    uow.lanes.open([account_id])
    told = None if reason is None else clean_text(reason, _REASON_BYTES)
    if uow.lanes.pause(account_id, told):
        uow.events.add(EventType.ACCOUNT_PAUSED, account_id=account_id, reason=told)
    return Done()


def await_pass(uow: UnitOfWork, _place: str) -> Done:
    """A pass that looked at the lanes before the account was paused may still seat its jobs: outwait it."""
    uow.liveness.await_pass()
    uow.ring("jobs.assign")
    return Done()


def revoke_account(account_id: AccountId, reason: str | None, uow: UnitOfWork, _place: str) -> Done:
    """Revoke what lives of the account, a unit at a time."""
    revoked = revoke_paused(uow, reason or _PAUSED_ACCOUNT, account_id)
    return Done(revoked, account_id if revoked else None)


def revoke_paused(uow: UnitOfWork, reason: str = _PAUSED_ACCOUNT, account_id: AccountId | None = None) -> int:
    """
    Revoke at most UNIT_ATTEMPTS live attempts of paused accounts, or of this one; how many there were.

    Their jobs are queued again, with what was counted, and wait. Where an account was resumed meanwhile,
    they go on.
    """
    seen = uow.assignments.live_of_paused(UNIT_ATTEMPTS, account_id)
    uow.lanes.lock({attempt.account_id for attempt in seen})
    still = {attempt.crawler_job_id for attempt in uow.assignments.live_of_paused(UNIT_ATTEMPTS, account_id)}
    job_ids = {attempt.job_id for attempt in seen if attempt.crawler_job_id in still}
    if job_ids:
        _give_up(uow, job_ids, reason)
    return len(seen)


def _give_up(uow: UnitOfWork, job_ids: set[JobId], reason: str) -> None:
    held = lock_all(uow, job_ids)
    revoke(uow, held, reason)
    others = [job for job in held.jobs.values() if job.status not in TO_BE_CRAWLED]
    settle_entries(uow, others)
    waiting = held.jobs.keys() - {job.id for job in others}
    processing = {id_ for id_, entry in held.entries.items() if entry.status is QueueStatus.PROCESSING}
    uow.queue.let_go(waiting & processing)
    announce(uow, held.jobs, uow.jobs.release(waiting), JobStatus.QUEUED)


def resume_account(account_id: AccountId, uow: UnitOfWork, _place: str) -> Done:
    """Open the account's lane again, and let what is deferred for it be fed in."""
    if uow.lanes.resume(account_id):
        uow.events.add(EventType.ACCOUNT_RESUMED, account_id=account_id)
        uow.ring("jobs.assign")
        if uow.deferred.has_any([account_id]):
            uow.ring("upkeep.feed_deferred")
    return Done()

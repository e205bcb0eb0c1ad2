"""
Accounts that are paused: by their lane alone, never by their jobs.

The jobs that wait stay as they are, and the passes leave them out, those that come later too.
"""

from persistence.sanitize.json_values import clean_text
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId, JobId
from persistence.schema.states import EntryStatus, JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.jobs.external_status import TO_BE_CRAWLED, settle_entries
from tasks.jobs.transitions import announce, lock_jobs, revoke
from tasks.runtime.batches import reject
from tasks.runtime.chunks import ChunkResult
from tasks.runtime.unit import message_id

CHUNK_ATTEMPTS = 1000
"""Live attempts of paused accounts that one unit revokes at most."""

_REASON_BYTES = 2000

_PAUSED_ACCOUNT = "the account is paused"


def pause_account(account_id: AccountId, reason: str | None, uow: UnitOfWork, _place: str) -> ChunkResult:
    """Pause the account's lane; committed by itself, since no pass that begins then seats any of its jobs."""
    if not uow.accounts.lock_key_share([account_id]):
        if uow.processed.mark_processed(message_id()):  # by this unit, since no other one has anything to do
            reject(uow, {"account_id": account_id}, "unknown_account")
        return ChunkResult()
    uow.account_queues.open([account_id])
    stored_reason = None if reason is None else clean_text(reason, _REASON_BYTES)
    if uow.account_queues.pause(account_id, stored_reason):
        uow.events.add(EventType.ACCOUNT_PAUSED, account_id=account_id, reason=stored_reason)
    return ChunkResult()


def wait_for_round(uow: UnitOfWork, _place: str) -> ChunkResult:
    """A pass that looked at the lanes before the account was paused may still seat its jobs: outwait it."""
    uow.round_lock.wait()
    uow.publish("jobs.assign")
    return ChunkResult()


def revoke_account(account_id: AccountId, reason: str | None, uow: UnitOfWork, _place: str) -> ChunkResult:
    """Revoke what lives of the account, a unit at a time."""
    revoked = revoke_paused(uow, reason or _PAUSED_ACCOUNT, account_id)
    return ChunkResult(revoked, account_id if revoked else None)


def revoke_paused(uow: UnitOfWork, reason: str = _PAUSED_ACCOUNT, account_id: AccountId | None = None) -> int:
    """
    Revoke at most UNIT_ATTEMPTS live attempts of paused accounts, or of this one; how many there were.

    Their jobs are queued again, with what was counted, and wait. Where an account was resumed meanwhile,
    they go on.
    """
    seen = uow.attempts.live_of_paused_accounts(CHUNK_ATTEMPTS, account_id)
    uow.account_queues.lock({attempt.account_id for attempt in seen})
    still = {
        attempt.crawler_job_id for attempt in uow.attempts.live_of_paused_accounts(CHUNK_ATTEMPTS, account_id)
    }
    job_ids = {attempt.job_id for attempt in seen if attempt.crawler_job_id in still}
    if job_ids:
        _revoke_jobs(uow, job_ids, reason)
    return len(seen)


def _revoke_jobs(uow: UnitOfWork, job_ids: set[JobId], reason: str) -> None:
    locked = lock_jobs(uow, job_ids)
    revoke(uow, locked, reason)
    others = [job for job in locked.jobs.values() if job.status not in TO_BE_CRAWLED]
    settle_entries(uow, others)
    waiting = locked.jobs.keys() - {job.id for job in others}
    processing = {id_ for id_, entry in locked.entries.items() if entry.status is EntryStatus.PROCESSING}
    uow.entries.unpark(waiting & processing)
    announce(uow, locked.jobs, uow.jobs.release(waiting), JobStatus.QUEUED)


def resume_account(account_id: AccountId, uow: UnitOfWork, _place: str) -> ChunkResult:
    """Open the account's lane again, and let what is deferred for it be fed in."""
    if uow.account_queues.resume(account_id):
        uow.events.add(EventType.ACCOUNT_RESUMED, account_id=account_id)
        uow.publish("jobs.assign")
        if uow.deferred.has_any([account_id]):
            uow.publish("upkeep.feed_deferred")
    return ChunkResult()

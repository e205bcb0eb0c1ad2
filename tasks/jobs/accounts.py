"""
Paused accounts: `account_lane.paused_at` alone says so; their jobs stay as they are.

Rounds leave the jobs of a paused account out, including jobs that are queued later.
"""

from persistence.sanitize.json_values import clean_text
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId
from persistence.schema.states import JOB_CRAWLABLE, EntryStatus, JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.jobs.locking import LockedJobs, lock_jobs
from tasks.jobs.transitions import announce, revoke, settle_entries
from tasks.runtime.batches import reject
from tasks.runtime.chunks import ChunkResult
from tasks.runtime.unit import message_id

CHUNK_ATTEMPTS = 1000
"""Live attempts of paused accounts that one unit of work revokes at most."""

_REASON_BYTES = 2000

_PAUSED_ACCOUNT = "the account is paused"
_REBOUND_ACCOUNT = "the account was bound to another GitLab"


def pause_account(account_id: AccountId, reason: str | None, uow: UnitOfWork, _place: str) -> ChunkResult:
    """Pause the account. Committed before anything else: no round that begins later assigns any of its jobs."""
    if not uow.accounts.lock_key_share([account_id]):
        if uow.processed.mark_processed(message_id()):  # no later chunk has anything to do and would mark it
            reject(uow, {"account_id": account_id}, "unknown_account")
        return ChunkResult()
    uow.account_queues.open([account_id])
    stored_reason = None if reason is None else clean_text(reason, _REASON_BYTES)
    if uow.account_queues.pause(account_id, stored_reason):
        uow.events.add(EventType.ACCOUNT_PAUSED, account_id=account_id, reason=stored_reason)
    return ChunkResult()


def wait_for_round(uow: UnitOfWork, _place: str) -> ChunkResult:
    """Wait for the round that may have read the account queues before the account was paused."""
    uow.round_lock.wait()
    uow.publish("jobs.assign")
    return ChunkResult()


def revoke_account(account_id: AccountId, reason: str | None, uow: UnitOfWork, _place: str) -> ChunkResult:
    """Revoke the live attempts of the account, one chunk of them."""
    revoked = revoke_paused(uow, reason or _PAUSED_ACCOUNT, account_id)
    return ChunkResult(revoked, account_id if revoked else None)


def revoke_paused(uow: UnitOfWork, reason: str = _PAUSED_ACCOUNT, account_id: AccountId | None = None) -> int:
    """
    Revoke at most CHUNK_ATTEMPTS live attempts of paused accounts, or of this one; returns how many were found.

    Their jobs are queued again, with the same counters, and wait. Attempts of an account that was resumed
    meanwhile continue.
    """
    seen = uow.attempts.live_of_paused_accounts(CHUNK_ATTEMPTS, account_id)
    uow.account_queues.lock({attempt.account_id for attempt in seen})
    still = {
        attempt.crawler_job_id for attempt in uow.attempts.live_of_paused_accounts(CHUNK_ATTEMPTS, account_id)
    }
    job_ids = {attempt.job_id for attempt in seen if attempt.crawler_job_id in still}
    if job_ids:
        _revoke_jobs(uow, lock_jobs(uow, job_ids), reason)
    return len(seen)


def revoke_rebound(uow: UnitOfWork) -> int:
    """
    Revoke at most CHUNK_ATTEMPTS live attempts whose account was bound to another GitLab; returns how many were found.

    Their jobs are queued again. The next round holds them, if their URLs are still those of the former GitLab.
    """
    seen = uow.origins.assigned_elsewhere(CHUNK_ATTEMPTS)
    if seen:
        locked = lock_jobs(uow, seen)
        still = set(uow.origins.assigned_elsewhere(CHUNK_ATTEMPTS))
        _revoke_jobs(uow, locked.only(still), _REBOUND_ACCOUNT)
        uow.publish("jobs.assign")
    return len(seen)


def _revoke_jobs(uow: UnitOfWork, locked: LockedJobs, reason: str) -> None:
    revoke(uow, locked, reason)
    waiting = locked.where(lambda job: job.status in JOB_CRAWLABLE)
    settle_entries(uow, [job for id_, job in locked.jobs.items() if id_ not in waiting.jobs])
    processing = {id_ for id_, entry in waiting.entries.items() if entry.status is EntryStatus.PROCESSING}
    uow.entries.unpark(processing)
    announce(uow, waiting.jobs, uow.jobs.release(waiting.jobs), JobStatus.QUEUED)


def resume_account(account_id: AccountId, uow: UnitOfWork, _place: str) -> ChunkResult:
    """Resume the account, and feed the jobs that are deferred for it."""
    if uow.account_queues.resume(account_id):
        uow.events.add(EventType.ACCOUNT_RESUMED, account_id=account_id)
        uow.publish("jobs.assign")
        if uow.deferred.has_any([account_id]):
            uow.publish("upkeep.feed_deferred")
    return ChunkResult()

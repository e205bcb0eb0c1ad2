"""
Letting jobs wait and go on: `jobs.pause` and `jobs.resume`.

An account is paused by its lane alone, never by its jobs: those that wait stay as they are, and the
passes leave them out, those that come later too.
"""

from functools import partial

from persistence.schema.vocabulary import AccountId, EventType, JobId, JobStatus, QueueStatus
from persistence.selection import PAUSED, TO_BE_CRAWLED
from persistence.storable import clean_text
from persistence.unit_of_work import UnitOfWork
from tasks import web_apps_word
from tasks.app import app
from tasks.batches import reject
from tasks.messages import Pause, Resume
from tasks.queueing import enqueue_jobs
from tasks.release import announce, lock_all, revoke
from tasks.units import Done, in_units
from tasks.walks import over_jobs

UNIT_ATTEMPTS = 1000
"""Live attempts of paused accounts that one unit revokes at most."""

_REASON_BYTES = 2000

_PAUSED_ACCOUNT = "the account is paused"


@app.task(name="jobs.pause", accepts=Pause)
def pause(payload: Pause) -> None:
    """Let these jobs wait until they are resumed."""
    if payload.account_id is None:
        reason = payload.reason or "paused on request"
        in_units(over_jobs(payload, TO_BE_CRAWLED, lambda uow, ids: pause_jobs(uow, ids, reason)))
    else:
        # The lane first, committed by itself: from then on no pass that begins seats any of its jobs.
        in_units(
            partial(_pause_account, AccountId(payload.account_id), payload.reason),
            _await_pass,
            partial(_revoke_account, AccountId(payload.account_id), payload.reason or _PAUSED_ACCOUNT),
        )


def pause_jobs(uow: UnitOfWork, job_ids: list[JobId], reason: str) -> None:
    """Pause those of the jobs that are queued or running: live attempts are closed, entries held."""
    held = lock_all(uow, job_ids)
    meant = {job_id for job_id, job in held.jobs.items() if job.status in web_apps_word.TO_BE_CRAWLED}
    revoke(uow, held.of(meant), reason)
    uow.queue.hold(meant)
    announce(uow, held.jobs, uow.jobs.pause(meant), JobStatus.PAUSED)


def _pause_account(account_id: AccountId, reason: str | None, uow: UnitOfWork, _place: str) -> Done:
    if not uow.accounts.hold([account_id]):
        reject(uow, {"account_id": account_id}, "unknown_account")
        return Done()
    uow.lanes.open([account_id])
    told = None if reason is None else clean_text(reason, _REASON_BYTES)
    if uow.lanes.pause(account_id, told):
        uow.events.add(EventType.ACCOUNT_PAUSED, account_id=account_id, reason=told)
    return Done()


def _await_pass(uow: UnitOfWork, _place: str) -> Done:
    """A pass that looked at the lanes before the account was paused may still seat its jobs: outwait it."""
    uow.liveness.await_pass()
    uow.ring("jobs.assign")
    return Done()


def _revoke_account(account_id: AccountId, reason: str, uow: UnitOfWork, _place: str) -> Done:
    revoked = revoke_paused(uow, reason, account_id)
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
    others = [job for job in held.jobs.values() if job.status not in web_apps_word.TO_BE_CRAWLED]
    web_apps_word.settle_entries(uow, others)
    waiting = held.jobs.keys() - {job.id for job in others}
    processing = {id_ for id_, entry in held.entries.items() if entry.status is QueueStatus.PROCESSING}
    uow.queue.let_go(waiting & processing)
    announce(uow, held.jobs, uow.jobs.release(waiting), JobStatus.QUEUED)


@app.task(name="jobs.resume", accepts=Resume)
def resume(payload: Resume) -> None:
    """Let these jobs go on; an account's lane, but not those of its jobs that were paused one by one."""
    if payload.account_id is None:
        in_units(over_jobs(payload, PAUSED, resume_jobs))
    else:
        in_units(partial(_resume_account, AccountId(payload.account_id)))


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


def _resume_account(account_id: AccountId, uow: UnitOfWork, _place: str) -> Done:
    if uow.lanes.resume(account_id):
        uow.events.add(EventType.ACCOUNT_RESUMED, account_id=account_id)
        uow.ring("jobs.assign")
        if uow.deferred.has_any([account_id]):
            uow.ring("upkeep.feed_deferred")
    return Done()

"""
Upkeep, rung by beat: `upkeep.reconcile` finds every row whose bell was lost and every word that the
web app wrote behind our back; `upkeep.clean_up` deletes what is old.
"""

import structlog

from persistence.jobs.jobs import KnownJob
from persistence.schema.ids import JobId
from persistence.schema.states import EntryStatus, JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import CleanUp, Reconcile
from tasks.credentials.refresh import WAITING, publish_pending_refreshes
from tasks.jobs.accounts import revoke_paused
from tasks.jobs.enqueue import enqueue_jobs
from tasks.jobs.external_status import TO_BE_CRAWLED, settle_entries
from tasks.jobs.transitions import LockedJobs, announce, lock_jobs, revoke
from tasks.maintenance.old_jobs import delete_old_jobs
from tasks.runtime.batches import bisect_on_refusal
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

CHUNK_EVENTS = 10_000
"""
Events that one unit deletes at most. A job leaves seven, more with each word of progress and each attempt: were it as
many events as jobs, they would pile up.
"""

CHUNK_ROWS = 1000
"""Jobs that one unit mends, or rows of each other table that one deletes, at most; more rings again."""


@task(name="upkeep.reconcile", accepts=Reconcile)
def reconcile(payload: Reconcile) -> None:
    """Compare the web app's word with ours; its word wins."""
    with unit_of_work() as uow:
        repaired = revoked = 0
        is_due = uow.intervals.acquire("upkeep.reconcile", settings().reconcile_interval)
        if is_due:  # not for what is left of the jobs: many continuations would ask at the GitLabs as often
            uow.account_queues.refresh_claim_from()
            publish_pending_refreshes(uow)
        if is_due or payload.more:
            revoked = revoke_paused(uow)
            repaired = revoked or reconcile_jobs(uow)  # not both: that would lock connections before lanes
            if uow.deferred.accounts():
                uow.publish("upkeep.feed_deferred")
        if revoked or repaired == CHUNK_ROWS:
            uow.publish("upkeep.reconcile", more=True)
        uow.commit()
    if repaired:
        log.info("jobs_reconciled", jobs=repaired)


@task(name="upkeep.clean_up", accepts=CleanUp)
def clean_up(payload: CleanUp) -> None:
    """Delete what is older than it is kept."""
    with unit_of_work() as uow:
        deleted: dict[str, int] = {}
        if payload.more or uow.intervals.acquire("upkeep.clean_up", settings().clean_up_interval):
            deleted = delete_old(uow)
        uow.commit()
    if any(deleted.values()):
        log.info("old_rows_deleted", **deleted)


def delete_old(uow: UnitOfWork) -> dict[str, int]:
    """
    Delete a bounded number of old rows of each table, jobs last; how many, by table. More rings again.

    Jobs that must stay are counted as `kept`.
    """
    uow.retention.prefer_indexes()
    deleted = uow.retention.delete_old(settings(), CHUNK_ROWS)
    events = uow.retention.trim_events(settings().keep_events, CHUNK_EVENTS)
    uow.live_counts.delete_empty(CHUNK_ROWS)
    jobs = delete_old_jobs(uow, CHUNK_ROWS)
    if CHUNK_ROWS in deleted.values() or events == CHUNK_EVENTS or jobs.is_full:
        uow.publish("upkeep.clean_up", more=True)
    return deleted | {"dispatch_event": events, "job": jobs.deleted, "kept": jobs.kept}


def reconcile_jobs(uow: UnitOfWork) -> int:
    """
    Mend at most UNIT_ROWS jobs whose entry or attempt says another thing than they; how many.

    One that cannot be mended costs itself alone.
    """
    _recount_slots(uow)
    uow.live_counts.recount()
    job_ids = uow.entries.out_of_sync(CHUNK_ROWS)
    bisect_on_refusal(
        uow,
        job_ids,
        lambda part: _repair(uow, part),
        lambda id_, why: log.error("job_not_mended", job_id=id_, why=why),
    )
    return len(job_ids)


def _recount_slots(uow: UnitOfWork) -> None:
    """A job that was deleted while it was being worked on takes its attempt along, and must free its seat."""
    locked = uow.connections.lock_skipping(uow.connections.miscounted(CHUNK_ROWS))
    if locked:
        uow.connections.recount_slots(locked)
        uow.publish("jobs.assign")


def _repair(uow: UnitOfWork, job_ids: list[JobId]) -> None:
    locked = lock_jobs(uow, job_ids)
    renewed = uow.credentials.renew(id_ for id_, job in locked.jobs.items() if _has_new_token(locked, job))
    announce(uow, locked.jobs, renewed, JobStatus.QUEUED)
    waiting = renewed | {id_ for id_, job in locked.jobs.items() if job.status in TO_BE_CRAWLED}
    others = {job_id: job for job_id, job in locked.jobs.items() if job_id not in waiting}
    revoke(uow, locked.only(others), "the web app has ended or paused the job")
    settle_entries(uow, others.values())
    _sync_with_attempts(uow, locked, waiting)
    enqueue_jobs(uow, sorted(waiting))


def _has_new_token(locked: LockedJobs, job: KnownJob) -> bool:
    """Whether the web app says so, or has given a job that waits for a token to another account."""
    entry = locked.entries.get(job.id)
    has_moved = entry is not None and entry.account_id != job.account_id
    return job.status is JobStatus.CREDENTIAL_RENEWED or (has_moved and job.status in WAITING)


def _sync_with_attempts(uow: UnitOfWork, locked: LockedJobs, job_ids: set[JobId]) -> None:
    """Jobs that are to run: processing with a live attempt, and waiting without one."""
    attempted = {attempt.job_id for attempt in locked.attempts.values()} & job_ids
    uow.entries.mark_processing(attempted)
    idle = job_ids - attempted
    uow.entries.sync_owner(idle)  # a pass does so too, but not where the former account is held or paused
    orphaned = {
        id_ for id_ in idle & locked.entries.keys() if locked.entries[id_].status is EntryStatus.PROCESSING
    }
    uow.entries.unpark(orphaned)
    announce(uow, locked.jobs, uow.jobs.release(idle), JobStatus.QUEUED)
    if orphaned:
        uow.publish("jobs.assign")

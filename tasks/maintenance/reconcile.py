"""
The task `upkeep.reconcile`: brings entries and attempts back in line with the jobs.

The web app writes job statuses itself, and a publish can fail after its commit. Both leave rows that no message
announces; reconcile finds them.
"""

import structlog

from persistence.jobs.jobs import KnownJob
from persistence.schema.ids import JobId
from persistence.schema.states import JOB_CRAWLABLE, JOB_RENEWABLE, EntryStatus, JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Reconcile
from tasks.credentials.refresh import publish_pending_refreshes
from tasks.jobs.accounts import revoke_paused, revoke_rebound
from tasks.jobs.enqueue import enqueue_jobs
from tasks.jobs.locking import LockedJobs, lock_jobs
from tasks.jobs.transitions import announce, revoke, settle_entries
from tasks.origins.binding import bind_first
from tasks.runtime.batches import bisect_on_refusal
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

CHUNK_ROWS = 1000
"""Jobs, or miscounted connections, that one transaction repairs at most."""


@task(name="upkeep.reconcile", accepts=Reconcile)
def reconcile(payload: Reconcile) -> None:
    """Repair the jobs whose entry or attempt disagrees with their status, which the web app may have changed."""
    repaired = 0
    with unit_of_work() as uow:
        is_due = uow.intervals.acquire("upkeep.reconcile", settings().reconcile_interval)
        if is_due:  # not in the runs that continue this one: each would call the GitLab hosts again
            uow.account_queues.refresh_claim_from()
            publish_pending_refreshes(uow)
        if is_due or payload.more:
            repaired = _reconcile_chunk(uow)
        uow.commit()
    if repaired:
        log.info("jobs_reconciled", jobs=repaired)


def _reconcile_chunk(uow: UnitOfWork) -> int:
    """
    Revoke attempts of paused accounts, or else repair jobs; the number of jobs changed.

    Never both in one transaction: that would lock connections before account queues.
    """
    revoked = revoke_paused(uow) or revoke_rebound(uow)
    repaired = revoked or reconcile_jobs(uow)
    released = 0 if revoked else release_held(uow)
    if uow.deferred.accounts():
        uow.publish("upkeep.feed_deferred")
    if revoked or CHUNK_ROWS in (repaired, released):
        uow.publish("upkeep.reconcile", more=True)
    return repaired


def reconcile_jobs(uow: UnitOfWork) -> int:
    """
    Repair at most CHUNK_ROWS jobs that disagree with their entry or attempt; the number of jobs.

    A job that the database refuses to change is skipped and logged; the others are repaired.
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


def release_held(uow: UnitOfWork) -> int:
    """Queue held jobs whose account is bound to their GitLab by now, or can be; returns how many, up to CHUNK_ROWS."""
    if to_bind := uow.origins.unbound(CHUNK_ROWS):
        bind_first(uow, ((job.account_id, job.graphql_url) for job in uow.jobs.find(to_bind).values()))
    if released := uow.origins.releasable(CHUNK_ROWS):
        enqueue_jobs(uow, sorted(released))
    return len(released)


def _recount_slots(uow: UnitOfWork) -> None:
    """Free the slots of jobs that the web app deleted while a crawler worked on them: no attempt is left to end."""
    locked = uow.connections.lock_skipping(uow.slots.miscounted(CHUNK_ROWS))
    if locked:
        uow.slots.recount(locked)
        uow.publish("jobs.assign")


def _repair(uow: UnitOfWork, job_ids: list[JobId]) -> None:
    """Bring the entries and attempts of these jobs in line with the jobs' statuses."""
    locked = lock_jobs(uow, job_ids)
    renewed = uow.jobs.renew(id_ for id_, job in locked.jobs.items() if _has_new_token(locked, job))
    announce(uow, locked.jobs, renewed, JobStatus.QUEUED)
    to_run = renewed | {id_ for id_, job in locked.jobs.items() if job.status in JOB_CRAWLABLE}
    others = {job_id: job for job_id, job in locked.jobs.items() if job_id not in to_run}
    revoke(uow, locked.only(others), "the web app has ended or paused the job")
    settle_entries(uow, others.values())
    _sync_with_attempts(uow, locked, to_run)
    enqueue_jobs(uow, sorted(to_run))


def _has_new_token(locked: LockedJobs, job: KnownJob) -> bool:
    """True if the web app set `credential_renewed`, or moved a job that waits for a token to another account."""
    entry = locked.entries.get(job.id)
    has_moved = entry is not None and entry.account_id != job.account_id
    return job.status is JobStatus.CREDENTIAL_RENEWED or (has_moved and job.status in JOB_RENEWABLE)


def _sync_with_attempts(uow: UnitOfWork, locked: LockedJobs, job_ids: set[JobId]) -> None:
    """Make entries of jobs that are to run processing if they have a live attempt, and pending if not."""
    attempted = {attempt.job_id for attempt in locked.attempts.values()} & job_ids
    uow.entries.restore_processing(attempted)
    idle = job_ids - attempted
    # A round also does, but not if the former account is blocked or paused.
    uow.entries.sync_owner({id_: locked.jobs[id_].host for id_ in idle & locked.jobs.keys()})
    orphaned = {
        id_ for id_ in idle & locked.entries.keys() if locked.entries[id_].status is EntryStatus.PROCESSING
    }
    uow.entries.unpark(orphaned)
    announce(uow, locked.jobs, uow.jobs.release(idle), JobStatus.QUEUED)
    if orphaned:
        uow.publish("jobs.assign")

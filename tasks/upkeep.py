"""
Upkeep, rung by beat: `upkeep.reconcile` finds every row whose bell was lost and every word that the
web app wrote behind our back; `upkeep.clean_up` deletes what is old.
"""

from collections.abc import Iterable

import structlog

from persistence.schema.vocabulary import JobId, JobStatus, QueueStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.app import app
from tasks.base import unit_of_work
from tasks.messages import CleanUp, Reconcile
from tasks.queueing import enqueue_jobs
from tasks.release import Held, announce, lock_all, revoke
from tasks.web_apps_word import settle_entries

log = structlog.get_logger()

UNIT_ROWS = 1000
"""Jobs that one unit reconciles, and rows of each table that one unit deletes, at most; more rings again."""

_OURS = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})


@app.task(name="upkeep.reconcile", accepts=Reconcile)
def reconcile(payload: Reconcile) -> None:
    """Compare the web app's word with ours; its word wins."""
    with unit_of_work() as uow:
        mended = 0
        if payload.more or uow.liveness.let_through("upkeep.reconcile", settings().reconcile_interval / 2):
            mended = reconcile_jobs(uow)
        if mended == UNIT_ROWS:
            uow.ring("upkeep.reconcile", more=True)
        uow.commit()
    if mended:
        log.info("jobs_reconciled", jobs=mended)


@app.task(name="upkeep.clean_up", accepts=CleanUp)
def clean_up(payload: CleanUp) -> None:
    """Delete what is older than it is kept."""
    with unit_of_work() as uow:
        deleted: dict[str, int] = {}
        if payload.more or uow.liveness.let_through("upkeep.clean_up", settings().clean_up_interval / 2):
            deleted = uow.retention.delete_old(settings(), UNIT_ROWS)
        if UNIT_ROWS in deleted.values():
            uow.ring("upkeep.clean_up", more=True)
        uow.commit()
    if any(deleted.values()):
        log.info("old_rows_deleted", **deleted)


def reconcile_jobs(uow: UnitOfWork) -> int:
    """Mend at most UNIT_ROWS jobs whose entry or attempt says another thing than they; how many."""
    job_ids = uow.queue.unheard(UNIT_ROWS)
    if not job_ids:
        return 0
    held = lock_all(uow, job_ids)
    waiting = {job_id for job_id, job in held.jobs.items() if job.status in _OURS}
    _follow_the_web_app(uow, held, held.jobs.keys() - waiting)
    _follow_the_attempts(uow, held, waiting)
    enqueue_jobs(uow, sorted(waiting))
    return len(job_ids)


def _follow_the_web_app(uow: UnitOfWork, held: Held, job_ids: Iterable[JobId]) -> None:
    """Jobs that it paused or ended: their attempts are revoked, their entries say the same."""
    jobs = {job_id: held.jobs[job_id] for job_id in job_ids}
    attempts = {fence: attempt for fence, attempt in held.attempts.items() if attempt.job_id in jobs}
    revoke(uow, Held(held.entries, attempts, held.jobs), "the web app has ended or paused the job")
    settle_entries(uow, jobs.values())


def _follow_the_attempts(uow: UnitOfWork, held: Held, job_ids: set[JobId]) -> None:
    """Jobs that are to run: processing with a live attempt, and waiting without one."""
    attempted = {attempt.job_id for attempt in held.attempts.values()} & job_ids
    uow.queue.process(attempted)
    idle = job_ids - attempted
    orphaned = {
        id_ for id_ in idle & held.entries.keys() if held.entries[id_].status is QueueStatus.PROCESSING
    }
    uow.queue.let_go(orphaned)
    announce(uow, held.jobs, uow.jobs.release(idle), JobStatus.QUEUED)
    if orphaned:
        uow.ring("jobs.assign")

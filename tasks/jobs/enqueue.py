"""
Queueing jobs that exist; `jobs.enqueue` is for those that the web app inserted itself.

It may be sent again at any time, and before the rows are visible: reconcile finds those later.
"""

from datetime import datetime

from pydantic import TypeAdapter
from ulid import ULID

from persistence.exceptions import Contended, DataRefusedError
from persistence.jobs.entries import Entry, NewEntry
from persistence.jobs.jobs import KnownJob, NewJob
from persistence.schema.commands import Command
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId, EntryId, JobId
from persistence.schema.states import ENTRY_SETTLED, EntryStatus, JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Enqueue
from tasks.contract.types import Id
from tasks.jobs.locking import LockedJobs, lock_existing_jobs
from tasks.jobs.transitions import announce
from tasks.origins.hold import QueuedJob, hold_elsewhere
from tasks.runtime.batches import reject
from tasks.runtime.task import task
from tasks.sanitize.refused import RefusedItems

_ID = TypeAdapter(Id)


@task(name="jobs.enqueue", accepts=Enqueue)
def enqueue(payload: Enqueue) -> None:
    """Queue jobs that the web app inserted in its own transaction."""
    refused = RefusedItems(payload.job_ids)
    job_ids = [JobId(id_) for _, id_ in refused.valid(_ID)]
    refused.apply(lambda uow: enqueue_jobs(uow, job_ids))


def enqueue_jobs(uow: UnitOfWork, job_ids: list[JobId]) -> None:
    """
    Queue those of the jobs that exist, are queued, and have no entry that is pending or being worked on.

    A job that had ended and that the web app has queued again starts with all counters at 0.
    """
    locked = lock_existing_jobs(uow, job_ids)
    for id_, job in locked.jobs.items():
        if job.command == Command.AUTHORIZATION_SCOPE:
            reject(uow, id_, "own_command", "authorizationScope is never sent to a crawler")
    waiting = locked.where(
        lambda job: job.status is JobStatus.QUEUED and job.command != Command.AUTHORIZATION_SCOPE
    )
    parked = {id_ for id_, entry in waiting.entries.items() if entry.held}
    ended = {id_ for id_, entry in waiting.entries.items() if entry.status in ENTRY_SETTLED}
    uow.entries.unpark(parked)
    uow.entries.reset(ended)
    new = _insert_missing(uow, waiting)
    working = {id_ for id_, entry in waiting.entries.items() if entry.status is EntryStatus.PROCESSING}
    hold_elsewhere(uow, [_queued(waiting.jobs[id_]) for id_ in sorted(waiting.jobs.keys() - working)])
    for id_ in sorted(new):
        announce_created(uow, id_, waiting.jobs[id_].account_id, existing=False)
    if new or parked or ended:
        uow.publish("jobs.assign")


def queue_new(uow: UnitOfWork, jobs: list[NewJob], entries: dict[JobId, NewEntry]) -> None:
    """
    Queue new jobs. An identity that another entry has is released if the job of that entry has moved since.

    Raises Contended if another transaction was faster: the unit of work that runs again finds that job.
    Raises DataRefusedError if there is no such job.
    """
    missing = entries.keys() - uow.entries.insert(entries.values())
    if missing:
        uow.identities.release_moved([job for job in jobs if job.id in missing])
        missing -= uow.entries.insert(entries[job_id] for job_id in missing)
    if not missing:
        hold_elsewhere(uow, [_queued(job) for job in jobs if job.id in entries])
        return
    others = [job for job in jobs if job.id in missing]
    twins = uow.identities.twins_of_jobs(others, excluding=missing)
    if missing <= twins.keys() | uow.identities.account_discoveries(others).keys():
        raise Contended("the same jobs were being queued by another transaction")
    raise DataRefusedError("another entry has the job's identity", "23505")


def _queued(job: NewJob | KnownJob) -> QueuedJob:
    return QueuedJob(job.id, AccountId(job.account_id), job.graphql_url)


def should_requeue(job: KnownJob, entry: Entry | None, now: datetime) -> bool:
    """
    True if a job that was discovered again is to be crawled again: it has failed, or rediscovery is due.

    False while its entry is not settled: if the web app has ended such a job, reconcile deals with it.
    """
    if entry and entry.status not in ENTRY_SETTLED:
        return False
    return job.status is JobStatus.FAILED or is_rediscovery_due(job, now)


def is_rediscovery_due(job: KnownJob, now: datetime) -> bool:
    """True if the job is a discovery that finished longer than rediscovery_interval ago."""
    return (
        job.command == Command.GROUP_PROJECT_DISCOVERY
        and job.status is JobStatus.FINISHED
        and (job.finished_at is None or job.finished_at < now - settings().rediscovery_interval)
    )


def requeue_ended(uow: UnitOfWork, locked: LockedJobs, *, restart: bool) -> None:
    """Queue jobs again that are not queued or running, from where they were or, with *restart*, from the start."""
    if not locked.jobs:
        return
    requeued = uow.jobs.requeue(locked.jobs, restart=restart)
    uow.entries.reset(locked.entries)
    _insert_missing(uow, locked)
    hold_elsewhere(uow, [_queued(job) for job in locked.jobs.values()])
    announce(uow, locked.jobs, requeued, JobStatus.QUEUED)
    uow.publish("jobs.assign")


def _insert_missing(uow: UnitOfWork, locked: LockedJobs) -> set[JobId]:
    """Queue those of the jobs that have no entry: the web app inserted them, and only their row is known."""
    missing = locked.jobs.keys() - locked.entries.keys()
    uow.spellings.add(locked.jobs[id_].full_path for id_ in missing)
    uow.gitlab_spellings.note(locked.jobs[id_].graphql_url for id_ in missing)
    return uow.entries.insert(
        NewEntry(
            EntryId(str(ULID())),
            id_,
            host=locked.jobs[id_].host,
            priority=1,
            max_attempts=settings().max_attempts,
        )
        for id_ in missing
    )


def announce_created(uow: UnitOfWork, job_id: JobId, account_id: str, *, existing: bool) -> None:
    """Add the event that answers an order: the job exists, as a new one or since before."""
    uow.events.add(EventType.JOB_CREATED, job_id=job_id, account_id=account_id, existing=existing)

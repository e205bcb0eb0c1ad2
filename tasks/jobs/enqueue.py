"""
Jobs that are there already on their way into the queue: `jobs.enqueue`, for what the web app inserted itself.

It may be said again at will, and before the rows can be seen: those are left to reconcile.
"""

from collections.abc import Container, Mapping
from datetime import datetime

from pydantic import TypeAdapter
from ulid import ULID

from persistence.exceptions import Contended, DataRefusedError
from persistence.jobs.entries import Entry, NewEntry
from persistence.jobs.jobs import KnownJob, NewJob
from persistence.schema.commands import Command
from persistence.schema.event_types import EventType
from persistence.schema.ids import EntryId, JobId
from persistence.schema.states import EntryStatus, JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Enqueue
from tasks.contract.types import Id
from tasks.jobs.transitions import announce
from tasks.runtime.batches import reject, valid_items
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work

_ID = TypeAdapter(Id)
_SETTLED = (EntryStatus.COMPLETED, EntryStatus.FAILED)


@task(name="jobs.enqueue", accepts=Enqueue)
def enqueue(payload: Enqueue) -> None:
    """Queue jobs that the web app inserted in its own transaction."""
    with unit_of_work() as uow:
        if uow.processed.mark_processed(message_id()):
            enqueue_jobs(uow, [JobId(id_) for _, id_ in valid_items(uow, payload.job_ids, _ID)])
        uow.commit()


def enqueue_jobs(uow: UnitOfWork, job_ids: list[JobId]) -> None:
    """
    Queue jobs that are there, queued and without a runnable entry; the others are left as they are.

    One that ended before and was set to queued again by the web app starts with nothing counted
    against it.
    """
    entries = uow.entries.lock(job_ids)
    jobs = uow.jobs.lock_key_share(job_ids)
    for id_, job in jobs.items():
        if job.command == Command.AUTHORIZATION_SCOPE:
            reject(uow, id_, "own_command", "authorizationScope is never sent to a crawler")
    waiting = {
        id_: job
        for id_, job in jobs.items()
        if job.status is JobStatus.QUEUED and job.command != Command.AUTHORIZATION_SCOPE
    }
    parked = {id_ for id_ in waiting.keys() & entries.keys() if entries[id_].held}
    ended = {id_ for id_ in waiting.keys() & entries.keys() if entries[id_].status in _SETTLED}
    uow.entries.unpark(parked)
    uow.entries.reset(ended)
    new = uow.entries.insert(_default_entry(job) for id_, job in waiting.items() if id_ not in entries)
    for id_ in sorted(new):
        announce_created(uow, id_, waiting[id_].account_id, existing=False)
    if new or parked or ended:
        uow.publish("jobs.assign")


def queue_new(uow: UnitOfWork, jobs: list[NewJob], entries: dict[JobId, NewEntry]) -> None:
    """
    Queue new jobs; an identity that is taken is free after all where its job has moved away.

    Raises Contended where somebody was faster: run again, the unit finds that job. DataRefusedError
    where there is no such job to be found.
    """
    missing = entries.keys() - uow.entries.insert(entries.values())
    if missing:
        uow.identities.release_moved(missing)
        missing -= uow.entries.insert(entries[job_id] for job_id in missing)
    if not missing:
        return
    others = [job for job in jobs if job.id in missing]
    twins = uow.identities.twins_of_jobs(others, excluding=missing)
    if missing <= twins.keys() | uow.identities.account_discoveries(others).keys():
        raise Contended("the same jobs were being queued by another transaction")
    raise DataRefusedError("another entry has the job's identity", "23505")


def should_requeue(job: KnownJob, entry: Entry | None, now: datetime) -> bool:
    """
    Whether a job that was found again is to be crawled again, with its entry locked.

    That is so where it has failed, or is a discovery that finished too long ago. One that the web app
    has ended while it was worked on is left to reconcile.
    """
    if entry and entry.status not in _SETTLED:
        return False
    return job.status is JobStatus.FAILED or is_rediscovery_due(job, now)


def is_rediscovery_due(job: KnownJob, now: datetime) -> bool:
    """Whether it is a discovery that has finished, and not so recently that it need not be repeated."""
    return (
        job.command == Command.GROUP_PROJECT_DISCOVERY
        and job.status is JobStatus.FINISHED
        and (job.finished_at is None or job.finished_at < now - settings().rediscovery_interval)
    )


def requeue_ended(
    uow: UnitOfWork, jobs: Mapping[JobId, KnownJob], entries: Container[JobId], *, restart: bool
) -> None:
    """Queue jobs that have ended once more, from where they were or, with *restart*, from the start."""
    if not jobs:
        return
    uow.jobs.requeue(jobs, restart=restart)
    uow.entries.reset(id_ for id_ in jobs if id_ in entries)
    uow.entries.insert(_default_entry(job) for id_, job in jobs.items() if id_ not in entries)
    announce(uow, dict(jobs), jobs, JobStatus.QUEUED)
    uow.publish("jobs.assign")


def _default_entry(job: KnownJob) -> NewEntry:
    """The place in the queue of a job that the web app made: nothing is known but its row."""
    return NewEntry(
        id=EntryId(str(ULID())),
        job_id=job.id,
        priority=1,
        max_attempts=settings().max_attempts,
    )


def announce_created(uow: UnitOfWork, job_id: JobId, account_id: str, *, existing: bool) -> None:
    """Leave the event that answers an order: the job is there, and was before or was not."""
    uow.events.add(EventType.JOB_CREATED, job_id=job_id, account_id=account_id, existing=existing)

"""
Jobs that are there already on their way into the queue: `jobs.enqueue`, for what the web app inserted itself.

It may be said again at will, and before the rows can be seen: those are left to reconcile.
"""

from pydantic import TypeAdapter
from ulid import ULID

from persistence.jobs import KnownJob
from persistence.queue import NewEntry
from persistence.schema.vocabulary import Command, EntryId, EventType, JobId, JobStatus, QueueStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.app import app
from tasks.base import message_id, unit_of_work
from tasks.batches import reject, valid_items
from tasks.bounds import Id
from tasks.messages import Enqueue

_ID = TypeAdapter(Id)
_SETTLED = (QueueStatus.COMPLETED, QueueStatus.FAILED)


@app.task(name="jobs.enqueue", accepts=Enqueue)
def enqueue(payload: Enqueue) -> None:
    """Queue jobs that the web app inserted in its own transaction."""
    with unit_of_work() as uow:
        if uow.handled.claim(message_id()):
            enqueue_jobs(uow, [JobId(id_) for _, id_ in valid_items(uow, payload.job_ids, _ID)])
        uow.commit()


def enqueue_jobs(uow: UnitOfWork, job_ids: list[JobId]) -> None:
    """
    Queue jobs that are there, queued and without a runnable entry; the others are left as they are.

    One that ended before and was set to queued again by the web app starts with nothing counted
    against it.
    """
    entries = uow.queue.lock(job_ids)
    jobs = uow.jobs.hold(job_ids)
    for id_, job in jobs.items():
        if job.command == Command.AUTHORIZATION_SCOPE:
            reject(uow, id_, "own_command", "authorizationScope is never sent to a crawler")
    waiting = {
        id_: job
        for id_, job in jobs.items()
        if job.status is JobStatus.QUEUED and job.command != Command.AUTHORIZATION_SCOPE
    }
    held = {id_ for id_ in waiting.keys() & entries.keys() if entries[id_].held}
    ended = {id_ for id_ in waiting.keys() & entries.keys() if entries[id_].status in _SETTLED}
    uow.queue.let_go(held)
    uow.queue.revive(ended)
    new = uow.queue.insert(_entry_of(job) for id_, job in waiting.items() if id_ not in entries)
    for id_ in sorted(new):
        announce_created(uow, id_, waiting[id_].account_id, existing=False)
    if new or held or ended:
        uow.ring("jobs.assign")


def _entry_of(job: KnownJob) -> NewEntry:
    """The place in the queue of a job that the web app made: nothing is known but its row."""
    return NewEntry(
        id=EntryId(str(ULID())),
        job_id=job.id,
        account_id=job.account_id,
        host=job.host,
        priority=1,
        max_attempts=settings().max_attempts,
    )


def announce_created(uow: UnitOfWork, job_id: JobId, account_id: str, *, existing: bool) -> None:
    """Leave the event that answers an order: the job is there, and was before or was not."""
    uow.events.add(EventType.JOB_CREATED, job_id=job_id, account_id=account_id, existing=existing)

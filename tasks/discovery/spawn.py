"""Creating and queueing the jobs that a discovery found, at once or when their account has room for them."""

from collections.abc import Collection, Mapping
from typing import Any

from ulid import ULID

from persistence.jobs.deferred import ChildJob
from persistence.jobs.entries import NewEntry
from persistence.jobs.identity import identity
from persistence.schema.gitlabs import host_of
from persistence.schema.ids import AccountId, EntryId, JobId
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.jobs.enqueue import announce_created, queue_new


def spawn(uow: UnitOfWork, children: Collection[ChildJob]) -> None:
    """
    Insert new jobs, queue them, and link them to their areas.

    Raises Contended if another transaction has inserted one of them, and DataRefusedError if the database refuses one.
    """
    if not children:
        return
    uow.jobs.insert(child.job for child in children)
    ids = uow.areas.ids_at({child.job.full_path for child in children if child.job.full_path})
    entries = {child.job.id: _entry(child, _area_of(child, ids)) for child in children}
    queue_new(uow, [child.job for child in children], entries)
    uow.areas.link({child.job.id: path for child in children if (path := _area_of(child, ids))})
    for child in children:
        announce_created(uow, child.job.id, child.job.account_id, existing=False)
    uow.publish("jobs.assign")


def _area_of(child: ChildJob, ids: Mapping[str, str]) -> str | None:
    """The path of the child's area; None if the path has no area, or one with another id."""
    path = child.job.full_path
    return path if path and path in ids and child.entity_id in (None, ids[path]) else None


def _entry(child: ChildJob, area: str | None) -> NewEntry:
    data: dict[str, Any] | None = None if child.entity_id is None else {"entity_id": child.entity_id}
    if data and area is None:
        data["without_area"] = True  # its order is for the id that was found
    return NewEntry(
        id=EntryId(str(ULID())),
        job_id=JobId(child.job.id),
        host=host_of(child.job.graphql_url),
        priority=child.priority,
        max_attempts=settings().max_attempts,
        data=data,
        identity=identity(child.job) if child.is_unique else None,
    )


def room_of(uow: UnitOfWork, account_id: AccountId) -> int:
    """
    How many more jobs of the account may wait in the queue.

    If the account has a cap, this locks its queue, since two concurrent discoveries would otherwise both find the same
    room. Without one it locks nothing, so that no round waits: concurrent discoveries may exceed max_waiting by what
    each of them may create.
    """
    cap = settings().pending_cap
    if cap is None:
        cap = settings().max_waiting
    else:
        uow.account_queues.open([account_id])
        uow.account_queues.lock([account_id])
    return cap - uow.entries.count_claimable(account_id, cap)

"""Making the jobs that a discovery found, at once or when their account has room for them."""

from collections.abc import Collection

from ulid import ULID

from persistence.jobs.deferred import Offspring
from persistence.jobs.entries import NewEntry
from persistence.schema.ids import AccountId, EntryId, JobId
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.jobs.enqueue import announce_created, queue_new


def spawn(uow: UnitOfWork, offspring: Collection[Offspring]) -> None:
    """
    Make jobs that are not there, queue them, and link them to their areas.

    Raises Contended where somebody was faster, and DataRefusedError where the database refuses one.
    """
    if not offspring:
        return
    uow.jobs.insert(found.job for found in offspring)
    queue_new(uow, [found.job for found in offspring], {found.job.id: _entry(found) for found in offspring})
    uow.areas.link({found.job.id: found.job.full_path for found in offspring if found.job.full_path})
    for found in offspring:
        announce_created(uow, found.job.id, found.job.account_id, existing=False)
    uow.ring("jobs.assign")


def _entry(found: Offspring) -> NewEntry:
    return NewEntry(
        id=EntryId(str(ULID())),
        job_id=JobId(found.job.id),
        priority=found.priority,
        max_attempts=settings().max_attempts,
        data=None if found.entity_id is None else {"entity_id": found.entity_id},
        is_the_only_one=True,
    )


def room_of(uow: UnitOfWork, account_id: AccountId) -> int | None:
    """
    How many more jobs of the account may wait in the queue; None: any number.

    Locks the account's lane, or two discoveries would both find the same room.
    """
    cap = settings().pending_cap
    if cap is None:
        return None
    uow.lanes.open([account_id])
    uow.lanes.lock([account_id])
    return cap - uow.queue.count_claimable(account_id, cap)

"""Control of jobs: `jobs.cancel`, for ids, an account, an area or a subtree, in bounded units."""

from time import monotonic

from celery.exceptions import Reject

from persistence.schema.vocabulary import JobId, JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.app import app
from tasks.base import message_id, unit_of_work
from tasks.messages import Cancel, Selection
from tasks.release import announce, lock_all, revoke

UNIT_JOBS = 1000
"""Jobs that one unit cancels at most."""

BUSY_S = 30.0
"""So long one delivery cancels unit by unit; then its message goes to the end of its queue."""


@app.task(name="jobs.cancel", accepts=Cancel)
def cancel(payload: Cancel) -> None:
    """End these jobs, wherever they stand; raises Reject to go on later, where they are very many."""
    deadline = monotonic() + BUSY_S
    while _cancel_unit(payload):
        if monotonic() > deadline:
            raise Reject("there are more to cancel", requeue=True)


def _cancel_unit(wish: Cancel) -> bool:
    """
    Cancel one unit of jobs; whether there may be more.

    The last unit claims the message. Ended between two, it is delivered again and goes on; said again
    after its end, it would cancel what has been ordered since.
    """
    with unit_of_work() as uow:
        if uow.handled.was_handled(message_id()):
            return False
        is_last = cancel_jobs(uow, wish) < UNIT_JOBS
        if not is_last or uow.handled.claim(message_id()):
            uow.commit()
    return not is_last


def cancel_jobs(uow: UnitOfWork, wish: Cancel) -> int:
    """
    Cancel at most UNIT_JOBS jobs that have not ended; how many there were.

    A live attempt is closed; its crawler is not told, and whatever it still says of it is stale.
    """
    job_ids = selected(uow, wish, UNIT_JOBS)
    if job_ids:
        held = lock_all(uow, job_ids)
        revoke(uow, held, wish.reason or "cancelled on request")
        uow.queue.end(held.entries, error=JobStatus.CANCELLED.value)
        announce(uow, held.jobs, uow.jobs.cancel(held.jobs), JobStatus.CANCELLED)
    return len(job_ids)


def selected(uow: UnitOfWork, wish: Selection, limit: int) -> list[JobId]:
    """At most *limit* jobs of the selection that have not ended, in id order."""
    for choice in ("job_ids", "account_id", "area", "subtree_of"):
        value = getattr(wish, choice)
        if value is not None:
            return uow.jobs.select(choice, value, limit)
    raise AssertionError("the contract wants one of them")

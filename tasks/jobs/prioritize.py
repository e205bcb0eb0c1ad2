"""The task `jobs.prioritize`: gives jobs another priority."""

from persistence.jobs.selection import DEFERRED_OTHER_PRIORITY, OTHER_PRIORITY
from persistence.schema.event_types import EventType
from persistence.schema.ids import JobId
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Prioritize
from tasks.jobs.selections import step_over_deferred, step_over_jobs
from tasks.runtime.chunks import run_in_chunks
from tasks.runtime.task import task


@task(name="jobs.prioritize", accepts=Prioritize)
def prioritize(payload: Prioritize) -> None:
    """Give the entries of these jobs, and those of them that are deferred, another priority."""
    priority = payload.priority
    run_in_chunks(
        step_over_deferred(
            payload,
            DEFERRED_OTHER_PRIORITY,
            lambda uow, ids: uow.deferred.prioritize(ids, priority),
            priority=priority,
        ),
        step_over_jobs(
            payload,
            OTHER_PRIORITY,
            lambda uow, ids: prioritize_jobs(uow, ids, priority),
            priority=priority,
        ),
    )


def prioritize_jobs(uow: UnitOfWork, job_ids: list[JobId], priority: int) -> None:
    """Give the jobs' entries that are not settled this priority."""
    entries = uow.entries.lock(job_ids)
    for job_id in sorted(uow.entries.prioritize(entries, priority)):
        account_id = entries[job_id].account_id
        uow.events.add(EventType.JOB_UPDATED, job_id=job_id, account_id=account_id, priority=priority)

"""Jobs that are the same as another one, and were made while a path or a GitLab had several names: all but one end."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from persistence.exceptions import Contended
from persistence.maintenance.duplicates import JobAt
from persistence.schema.event_types import EventType
from persistence.schema.states import JOB_ENDED, JobStatus
from persistence.unit_of_work import UnitOfWork
from tasks.jobs.locking import lock_jobs
from tasks.jobs.transitions import revoke

_ENDED_IN_VAIN = (JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True)
class Difference:
    """In what jobs differ that are the same, and how their end is told."""

    reason: str
    told: str
    spelling: Callable[[JobAt], object]


BY_PATH = Difference(
    "duplicate_path", "another job has the same path in another case", lambda job: job.full_path
)
BY_URL = Difference("duplicate_url", "another job names the same GitLab by another URL", lambda job: job.url)


def same_jobs(jobs: Iterable[JobAt]) -> list[list[JobAt]]:
    """
    The jobs by their identity, each time the one that stays first.

    That is the running one, else the newest, but not one that ended in vain if there is another.
    """
    groups: dict[str | None, list[JobAt]] = defaultdict(list)
    for job in jobs:
        groups[job.identity].append(job)
    return [
        sorted(
            sorted(group, key=lambda job: (job.created_at, job.id), reverse=True),
            key=lambda job: (
                0 if job.status is JobStatus.RUNNING else 2 if job.status in _ENDED_IN_VAIN else 1
            ),
        )
        for group in groups.values()
    ]


def twofold(jobs: Iterable[JobAt], difference: Difference) -> list[list[JobAt]]:
    """Those of the groups whose jobs differ in that."""
    return [group for group in same_jobs(jobs) if len({difference.spelling(job) for job in group}) > 1]


def unsettled(group: list[JobAt]) -> list[JobAt]:
    """The jobs of a group that are one too many, and are not settled as such yet."""
    return [job for job in group[1:] if job.stored or job.status not in JOB_ENDED]


def join_jobs(uow: UnitOfWork, keys: Collection[str], difference: Difference) -> int:
    """
    Cancel all but one of the same jobs at these paths, and give that one their identity; returns how many it cancels.

    Raises Contended if another transaction has changed them meanwhile.
    """
    ids = {job.id for group in twofold(uow.duplicates.jobs(keys), difference) for job in group}
    locked = lock_jobs(uow, sorted(ids))
    jobs = uow.duplicates.jobs(keys)
    groups = twofold(jobs, difference)
    if {job.id for group in groups for job in group} != ids:
        raise Contended("jobs were changed by another transaction")
    kept_of = {job.id: group[0].id for group in groups for job in group[1:]}
    duplicates = locked.only(kept_of.keys()).where(lambda job: job.status not in JOB_ENDED)
    revoke(uow, duplicates, f"{difference.reason}: {difference.told}")
    uow.entries.fail(duplicates.jobs, error=difference.reason)
    cancelled = uow.jobs.cancel(duplicates.jobs)
    for job_id in sorted(cancelled):
        uow.events.add(
            EventType.JOB_UPDATED,
            job_id=job_id,
            account_id=duplicates.jobs[job_id].account_id,
            status=JobStatus.CANCELLED,
            reason=difference.reason,
            same_as=kept_of[job_id],
        )
    stale = {job.id for job in jobs if job.stored not in (None, job.identity)}
    with_identity = {group[0].id for group in groups if any(job.stored for job in group)}
    uow.identities.renew((stale | with_identity) - kept_of.keys(), kept_of.keys())
    return len(cancelled)

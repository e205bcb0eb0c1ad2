"""
The web app's word wins: what it has written into `job.status` behind our back, done to entry and attempt.

Source: the web app writes `job` too; design rule "its word wins".
"""

from collections.abc import Iterable

from persistence.jobs.jobs import KnownJob
from persistence.schema.states import JobStatus
from persistence.unit_of_work import UnitOfWork

ENDED = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED})
"""From here a job moves only if somebody asks for it anew."""


TO_BE_CRAWLED = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})
"""Such a job has an entry that can run, or a live attempt."""


def settle_entries(uow: UnitOfWork, jobs: Iterable[KnownJob]) -> None:
    """
    Let the entries of *jobs* say what the jobs say: ended, or held until the job is queued again.

    The caller has locked both, and closed what attempt there was.
    """
    parked = []
    for job in jobs:
        if job.status in ENDED:
            uow.entries.fail([job.id], error=job.status.value)
        else:
            parked.append(job.id)
    if parked:
        uow.entries.park(parked)

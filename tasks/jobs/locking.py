"""
Locks of more than one kind, which are taken here, in one order.

tasks/discovery/lock.py takes those of a discovery, areas included; a round waits for none (tasks/assign/rounds.py).

The order is: account, account queue, connection, entry, attempt, job, area; within each table by id. What the rest
depends on is read again after the lock that keeps it from changing. A transition asks for what is returned here, so
that it cannot be called without the locks.
"""

from collections.abc import Callable, Collection, Container
from dataclasses import dataclass

from persistence.attempts.attempts import Attempt
from persistence.exceptions import Contended
from persistence.jobs.entries import Entry
from persistence.jobs.jobs import KnownJob
from persistence.schema.ids import ConnectionId, CrawlerJobId, JobId
from persistence.unit_of_work import UnitOfWork


@dataclass(frozen=True)
class LockedJobs:
    """Jobs that are locked, with their entries and live attempts."""

    entries: dict[JobId, Entry]
    attempts: dict[CrawlerJobId, Attempt]
    jobs: dict[JobId, KnownJob]

    def only(self, job_ids: Container[JobId]) -> "LockedJobs":
        """These jobs alone."""
        return LockedJobs(
            {id_: entry for id_, entry in self.entries.items() if id_ in job_ids},
            {fence: attempt for fence, attempt in self.attempts.items() if attempt.job_id in job_ids},
            {id_: job for id_, job in self.jobs.items() if id_ in job_ids},
        )

    def where(self, is_wanted: Callable[[KnownJob], bool]) -> "LockedJobs":
        """The jobs for which *is_wanted* is true."""
        return self.only({id_ for id_, job in self.jobs.items() if is_wanted(job)})


def lock_jobs(uow: UnitOfWork, job_ids: Collection[JobId]) -> LockedJobs:
    """
    Lock jobs with their entries, their live attempts and the connections of these.

    Raises Contended if a job was assigned to another connection between the read and the lock.
    """
    seen = uow.attempts.live_of_jobs(job_ids)
    connections = uow.connections.lock(attempt.connection_id for attempt in seen.values())
    entries = uow.entries.lock(job_ids)
    live = uow.attempts.live_of_jobs(job_ids)  # no round assigns a job whose entry is locked
    if not {attempt.connection_id for attempt in live.values()} <= connections:
        raise Contended("a job was assigned while its connection was being locked")
    return LockedJobs(entries, uow.attempts.lock_live(live), uow.jobs.lock(job_ids))


def lock_waiting_jobs(uow: UnitOfWork, job_ids: Collection[JobId]) -> LockedJobs:
    """Lock jobs with their entries, for changes that leave attempts alone."""
    return LockedJobs(uow.entries.lock(job_ids), {}, uow.jobs.lock(job_ids))


def lock_existing_jobs(uow: UnitOfWork, job_ids: Collection[JobId]) -> LockedJobs:
    """Lock the entries of jobs, and the jobs FOR KEY SHARE: they cannot be deleted, but others may change them."""
    return LockedJobs(uow.entries.lock(job_ids), {}, uow.jobs.lock_key_share(job_ids))


def lock_fenced(
    uow: UnitOfWork, known: Collection[Attempt], fences: Collection[tuple[ConnectionId, CrawlerJobId]]
) -> tuple[LockedJobs, dict[tuple[ConnectionId, CrawlerJobId], Attempt]]:
    """
    Lock the live attempts with these connections and fences, with their jobs, and the entries of all *known* attempts.

    The connections are locked already. Also returns the attempts by connection and fence; what is missing is stale.
    """
    entries = uow.entries.lock(attempt.job_id for attempt in known)
    fenced = uow.attempts.lock_fenced(fences)
    live = {attempt.crawler_job_id: attempt for attempt in fenced.values()}
    return LockedJobs(entries, live, uow.jobs.lock(attempt.job_id for attempt in live.values())), fenced


def lock_attempts(uow: UnitOfWork, attempts: Collection[Attempt]) -> LockedJobs:
    """
    Lock attempts with their entries and jobs, those that are still live; their connections are locked already.

    The entries are all that the attempts had, also of those that are closed by now.
    """
    entries = uow.entries.lock({attempt.job_id for attempt in attempts})
    live = uow.attempts.lock_live({attempt.crawler_job_id for attempt in attempts})
    return LockedJobs(entries, live, uow.jobs.lock({attempt.job_id for attempt in live.values()}))

"""
Closing attempts that did not end by themselves.

Lost ones are given back to the queue, and counted where the crawler may be to blame; revoked ones
are closed, and their entry follows the web app's word. Each leaves an error row and events in the
same transaction.
"""

import random
from collections.abc import Collection, Container, Iterable
from dataclasses import dataclass
from datetime import timedelta

from persistence.attempts.attempts import Attempt
from persistence.error_log.log import JobError
from persistence.exceptions import Contended
from persistence.jobs.entries import Entry, EntryUpdate
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import CrawlerJobId, JobId
from persistence.schema.reasons import Ending
from persistence.schema.states import AttemptStatus, EntryStatus, JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork

MAX_LOSSES = 5
"""In a row; the fifth fails the job."""

MAX_DISCONNECTS = 20

LONGEST_BACKOFF = timedelta(minutes=15)

_IMMEDIATELY = timedelta(0)


@dataclass(frozen=True)
class Closing:
    """An attempt that we close, and why."""

    attempt: Attempt
    ending: Ending
    message: str


@dataclass(frozen=True)
class LockedJobs:
    """Jobs with all that hangs on them, locked in the one order."""

    entries: dict[JobId, Entry]
    attempts: dict[CrawlerJobId, Attempt]
    jobs: dict[JobId, KnownJob]

    def only(self, job_ids: Container[JobId]) -> "LockedJobs":
        """The same, with the attempts of these jobs alone."""
        attempts = {fence: a for fence, a in self.attempts.items() if a.job_id in job_ids}
        return LockedJobs(self.entries, attempts, self.jobs)


def backoff(failures: int) -> timedelta:
    """How long to wait after the *failures*-th failure: doubled each time, with jitter, bounded."""
    jitter = random.uniform(1, 1.25)  # noqa: S311 - nothing is secret about it
    doubled: timedelta = settings().retry_delay * jitter * 2 ** min(failures - 1, 30)
    return min(doubled, LONGEST_BACKOFF)


def requeue_lost(uow: UnitOfWork, closings: Collection[Closing], *, count_losses: bool) -> None:
    """
    Close lost attempts and queue their jobs again, or fail those that were lost too often.

    The caller has locked the connections. *count_losses*: whether losses are held against the jobs.
    """
    locked = _lock(uow, {c.attempt.job_id for c in closings}, {c.attempt.crawler_job_id for c in closings})
    closed = [c for c in closings if c.attempt.crawler_job_id in locked.attempts]
    _close(uow, closed, AttemptStatus.FAILED, locked)
    updates = {
        c.attempt.job_id: _entry_after_loss(entry, c, count_losses=count_losses)
        for c in closed
        if (entry := locked.entries.get(c.attempt.job_id)) and entry.status is EntryStatus.PROCESSING
    }
    uow.entries.update(updates.values())
    requeued = {job_id for job_id, update in updates.items() if update.retry_in is not None}
    announce(uow, locked.jobs, uow.jobs.release(requeued), JobStatus.QUEUED)
    announce(uow, locked.jobs, uow.jobs.fail(updates.keys() - requeued), JobStatus.FAILED)
    if requeued:
        uow.publish("jobs.assign")


def revoke(uow: UnitOfWork, locked: LockedJobs, message: str) -> None:
    """Close the live attempts of jobs that `lock_jobs` has locked; nothing is counted."""
    revoke_attempts(
        uow, [Closing(attempt, Ending.CANCELLED, message) for attempt in locked.attempts.values()], locked
    )


def revoke_attempts(uow: UnitOfWork, closings: Collection[Closing], locked: LockedJobs) -> None:
    """Close attempts that are locked, each for its reason; nothing is counted."""
    _close(uow, closings, AttemptStatus.CANCELLED, locked)
    if closings:
        uow.publish("jobs.assign")


def lock_jobs(uow: UnitOfWork, job_ids: Collection[JobId]) -> LockedJobs:
    """
    Lock the connections, entries, live attempts and rows of *job_ids*, in the one order.

    Raises Contended where a job was seated elsewhere between our look and our lock.
    """
    seen = uow.attempts.live_of_jobs(job_ids)
    connections = uow.connections.lock(attempt.connection_id for attempt in seen.values())
    entries = uow.entries.lock(job_ids)
    live = uow.attempts.live_of_jobs(job_ids)  # with the entries locked, nobody seats them any more
    if not {attempt.connection_id for attempt in live.values()} <= connections:
        raise Contended("a job was seated while its connection was being locked")
    return LockedJobs(entries, uow.attempts.lock_live(live), uow.jobs.lock(job_ids))


def announce(
    uow: UnitOfWork, jobs: dict[JobId, KnownJob], changed: Iterable[JobId], status: JobStatus
) -> None:
    """Leave an event for each job whose status changed."""
    for job_id in sorted(changed):
        uow.events.add(
            EventType.JOB_UPDATED, job_id=job_id, account_id=jobs[job_id].account_id, status=status
        )


def log_errors(uow: UnitOfWork, errors: Collection[tuple[JobError, str | None]]) -> None:
    """Put errors on record, and leave an event for each; with each the account, for the event's readers."""
    types = uow.error_log.log([error for error, _ in errors])
    for (error, account_id), error_type in zip(errors, types, strict=True):
        uow.events.add(
            EventType.ERROR_LOGGED,
            job_id=error.job_id,
            account_id=account_id,
            error_type=error_type,
            is_recoverable=error.is_recoverable,
        )


def _lock(uow: UnitOfWork, job_ids: set[JobId], fences: set[CrawlerJobId]) -> LockedJobs:
    entries = uow.entries.lock(job_ids)
    attempts = uow.attempts.lock_live(fences)
    return LockedJobs(entries, attempts, uow.jobs.lock({attempt.job_id for attempt in attempts.values()}))


def _close(uow: UnitOfWork, closings: Collection[Closing], status: AttemptStatus, locked: LockedJobs) -> None:
    if not closings:
        return
    uow.attempts.close([c.attempt for c in closings], status)
    uow.connections.free_slots([(c.attempt.connection_id, c.attempt.crawler_job_id) for c in closings])
    log_errors(uow, [(_error(c, locked), c.attempt.account_id) for c in closings])
    for closing in closings:
        attempt = closing.attempt
        uow.events.add(
            EventType.JOB_REVOKED,
            job_id=attempt.job_id,
            account_id=attempt.account_id,
            connection_id=attempt.connection_id,
            crawler_job_id=attempt.crawler_job_id,
            reason=closing.ending,
        )


def _error(closing: Closing, locked: LockedJobs) -> JobError:
    attempt = closing.attempt
    entry = locked.entries.get(attempt.job_id)
    return JobError(
        job_id=attempt.job_id,
        error_type=closing.ending,
        message=closing.message,
        attempt={"crawler_job_id": attempt.crawler_job_id, "connection_id": attempt.connection_id},
        retry_count=entry.attempts if entry else 0,
    )


def _entry_after_loss(entry: Entry, closing: Closing, *, count_losses: bool) -> EntryUpdate:
    """What becomes of the entry of a lost attempt."""
    losses = entry.losses + (closing.ending.is_loss and count_losses)
    goodbyes = entry.goodbyes + (closing.ending is Ending.GOODBYE)
    is_over = losses >= MAX_LOSSES or goodbyes > MAX_DISCONNECTS
    is_repeated = closing.ending is Ending.GOODBYE and goodbyes > 1
    retry_in = None if is_over else backoff(goodbyes - 1) if is_repeated else _IMMEDIATELY
    return EntryUpdate(entry, entry.attempts, losses, goodbyes, retry_in, error=closing.message)

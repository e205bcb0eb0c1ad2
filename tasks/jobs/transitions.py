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
from persistence.jobs.entries import Change, Entry
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import CrawlerJobId, JobId
from persistence.schema.reasons import Ending
from persistence.schema.states import AssignmentStatus, JobStatus, QueueStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork

MAX_LOSSES = 5
"""In a row; the fifth fails the job."""

MAX_GOODBYES = 20

LONGEST_BACKOFF = timedelta(minutes=15)

_AT_ONCE = timedelta(0)


@dataclass(frozen=True)
class Closing:
    """An attempt that we close, and why."""

    attempt: Attempt
    ending: Ending
    message: str


@dataclass(frozen=True)
class Held:
    """Jobs with all that hangs on them, locked in the one order."""

    entries: dict[JobId, Entry]
    attempts: dict[CrawlerJobId, Attempt]
    jobs: dict[JobId, KnownJob]

    def of(self, job_ids: Container[JobId]) -> "Held":
        """The same, with the attempts of these jobs alone."""
        attempts = {fence: a for fence, a in self.attempts.items() if a.job_id in job_ids}
        return Held(self.entries, attempts, self.jobs)


def backoff(times: int) -> timedelta:
    """How long to wait after the *times*-th failure: doubled each time, with jitter, bounded."""
    jitter = random.uniform(1, 1.25)  # noqa: S311 - nothing is secret about it
    doubled: timedelta = settings().retry_delay * jitter * 2 ** min(times - 1, 30)
    return min(doubled, LONGEST_BACKOFF)


def give_back(uow: UnitOfWork, closings: Collection[Closing], *, counts: bool) -> None:
    """
    Close lost attempts and queue their jobs again, or fail those that were lost too often.

    The caller has locked the connections. *counts*: whether losses are held against the jobs.
    """
    held = _lock(uow, {c.attempt.job_id for c in closings}, {c.attempt.crawler_job_id for c in closings})
    closed = [c for c in closings if c.attempt.crawler_job_id in held.attempts]
    _close(uow, closed, AssignmentStatus.FAILED, held)
    changes = {
        c.attempt.job_id: _after(entry, c, counts=counts)
        for c in closed
        if (entry := held.entries.get(c.attempt.job_id)) and entry.status is QueueStatus.PROCESSING
    }
    uow.queue.change(changes.values())
    back = {job_id for job_id, change in changes.items() if change.retry_in is not None}
    announce(uow, held.jobs, uow.jobs.release(back), JobStatus.QUEUED)
    announce(uow, held.jobs, uow.jobs.fail(changes.keys() - back), JobStatus.FAILED)
    if back:
        uow.ring("jobs.assign")


def revoke(uow: UnitOfWork, held: Held, message: str) -> None:
    """Close the live attempts of jobs that `lock_all` has locked; nothing is counted."""
    revoke_each(
        uow, [Closing(attempt, Ending.CANCELLED, message) for attempt in held.attempts.values()], held
    )


def revoke_each(uow: UnitOfWork, closings: Collection[Closing], held: Held) -> None:
    """Close attempts that are locked, each for its reason; nothing is counted."""
    _close(uow, closings, AssignmentStatus.CANCELLED, held)
    if closings:
        uow.ring("jobs.assign")


def lock_all(uow: UnitOfWork, job_ids: Collection[JobId]) -> Held:
    """
    Lock the connections, entries, live attempts and rows of *job_ids*, in the one order.

    Raises Contended where a job was seated elsewhere between our look and our lock.
    """
    seen = uow.assignments.live_of_jobs(job_ids)
    connections = uow.connections.lock(attempt.connection_id for attempt in seen.values())
    entries = uow.queue.lock(job_ids)
    live = uow.assignments.live_of_jobs(job_ids)  # with the entries locked, nobody seats them any more
    if not {attempt.connection_id for attempt in live.values()} <= connections:
        raise Contended("a job was seated while its connection was being locked")
    return Held(entries, uow.assignments.lock_live(live), uow.jobs.lock(job_ids))


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
    types = uow.errors.log([error for error, _ in errors])
    for (error, account_id), error_type in zip(errors, types, strict=True):
        uow.events.add(
            EventType.ERROR_LOGGED,
            job_id=error.job_id,
            account_id=account_id,
            error_type=error_type,
            is_recoverable=error.is_recoverable,
        )


def _lock(uow: UnitOfWork, job_ids: set[JobId], fences: set[CrawlerJobId]) -> Held:
    entries = uow.queue.lock(job_ids)
    attempts = uow.assignments.lock_live(fences)
    return Held(entries, attempts, uow.jobs.lock({attempt.job_id for attempt in attempts.values()}))


def _close(uow: UnitOfWork, closings: Collection[Closing], status: AssignmentStatus, held: Held) -> None:
    if not closings:
        return
    uow.assignments.close([c.attempt for c in closings], status)
    uow.connections.free_seats([(c.attempt.connection_id, c.attempt.crawler_job_id) for c in closings])
    log_errors(uow, [(_error(c, held), c.attempt.account_id) for c in closings])
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


def _error(closing: Closing, held: Held) -> JobError:
    attempt = closing.attempt
    entry = held.entries.get(attempt.job_id)
    return JobError(
        job_id=attempt.job_id,
        error_type=closing.ending,
        message=closing.message,
        attempt={"crawler_job_id": attempt.crawler_job_id, "connection_id": attempt.connection_id},
        retry_count=entry.attempts if entry else 0,
    )


def _after(entry: Entry, closing: Closing, *, counts: bool) -> Change:
    """What becomes of the entry of a lost attempt."""
    losses = entry.losses + (closing.ending.is_loss and counts)
    goodbyes = entry.goodbyes + (closing.ending is Ending.GOODBYE)
    is_over = losses >= MAX_LOSSES or goodbyes > MAX_GOODBYES
    again = closing.ending is Ending.GOODBYE and goodbyes > 1
    retry_in = None if is_over else backoff(goodbyes - 1) if again else _AT_ONCE
    return Change(entry, entry.attempts, losses, goodbyes, retry_in, error=closing.message)

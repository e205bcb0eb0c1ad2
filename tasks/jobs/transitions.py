"""
The ends of attempts that their crawlers did not end, and what becomes of their jobs.

A lost attempt is closed and its job queued again; the loss is counted if the crawler may have caused it. A revoked
attempt is closed, and its entry follows the status of the job. Each leaves an error and events in the same
transaction.
"""

import random
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from persistence.attempts.attempts import Attempt
from persistence.error_log.log import JobError
from persistence.jobs.entries import Entry, EntryUpdate
from persistence.jobs.jobs import KnownJob
from persistence.schema.event_types import EventType
from persistence.schema.ids import JobId
from persistence.schema.reasons import Ending
from persistence.schema.sql import MAX_LOSSES
from persistence.schema.states import JOB_ENDED, AttemptStatus, EntryStatus, JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.jobs.locking import LockedJobs, lock_attempts
from tasks.jobs.progress import has_advanced

MAX_DISCONNECTS = 20
"""Clean disconnects; one more fails the job."""

LONGEST_BACKOFF = timedelta(minutes=15)

_IMMEDIATELY = timedelta(0)


@dataclass(frozen=True)
class Closing:
    """An attempt to be closed, and why."""

    attempt: Attempt
    ending: Ending
    message: str
    is_harmless: bool = False
    """True if its job cannot have caused that: it counts as a disconnect instead of a loss."""


def backoff(failures: int) -> timedelta:
    """The delay after the *failures*-th failure: doubled each time, with jitter, bounded."""
    jitter = random.uniform(1, 1.25)  # noqa: S311 - nothing is secret about it
    doubled: timedelta = settings().retry_delay * jitter * 2 ** min(failures - 1, 30)
    return min(doubled, LONGEST_BACKOFF)


def requeue_lost(uow: UnitOfWork, closings: Collection[Closing], *, count_losses: bool) -> None:
    """
    Close lost attempts, whose connections are locked, and queue their jobs again; too many losses fail a job.

    Attempts that have ended meanwhile are left alone. Without *count_losses* a lost connection is not counted.
    """
    locked = lock_attempts(uow, [c.attempt for c in closings])
    closed = [c for c in closings if c.attempt.crawler_job_id in locked.attempts]
    _close(uow, closed, AttemptStatus.FAILED, locked)
    updates = {
        c.attempt.job_id: _entry_after_loss(
            entry,
            is_loss=count_losses and _is_loss(c, locked),
            is_disconnect=c.is_harmless and (count_losses or c.ending is Ending.GOODBYE),
            message=c.message,
        )
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
    """Close the live attempts of these jobs; nothing is counted."""
    revoke_attempts(
        uow, [Closing(attempt, Ending.CANCELLED, message) for attempt in locked.attempts.values()], locked
    )


def revoke_attempts(uow: UnitOfWork, closings: Collection[Closing], locked: LockedJobs) -> None:
    """Close attempts of these jobs, each for its reason; nothing is counted."""
    _close(uow, closings, AttemptStatus.CANCELLED, locked)
    if closings:
        uow.publish("jobs.assign")


def settle_entries(uow: UnitOfWork, jobs: Iterable[KnownJob]) -> None:
    """
    Make the entries of locked jobs, which have no live attempt, follow the jobs' statuses, which the web app changed.

    The entry of a job that has ended fails; any other is parked until its job is queued again.
    Source: the web app writes `job` too; design rule "its word wins".
    """
    by_status: dict[JobStatus, list[JobId]] = {}
    for job in jobs:
        by_status.setdefault(job.status, []).append(job.id)
    for status, job_ids in sorted(by_status.items()):
        if status in JOB_ENDED:
            uow.entries.fail(job_ids, error=status.value)
        else:
            uow.entries.park(job_ids)


def announce(
    uow: UnitOfWork,
    jobs: Mapping[JobId, KnownJob],
    changed: Iterable[JobId],
    status: JobStatus,
    ended: Mapping[JobId, Attempt] | None = None,
) -> None:
    """Add an event for each job whose status changed, with its attempt if its crawler has just *ended* that."""
    for job_id in sorted(changed):
        account_id, attempt = jobs[job_id].account_id, (ended or {}).get(job_id)
        if attempt is None:
            uow.events.add(EventType.JOB_UPDATED, job_id=job_id, account_id=account_id, status=status)
        else:
            uow.events.add(
                EventType.JOB_UPDATED,
                job_id=job_id,
                account_id=account_id,
                connection_id=attempt.connection_id,
                status=status,
                crawler_job_id=attempt.crawler_job_id,
            )


def log_errors(uow: UnitOfWork, errors: Collection[tuple[JobError, str | None]]) -> None:
    """Log errors, and add an event for each; with each comes its account, for the readers of the event."""
    types = uow.error_log.log([error for error, _ in errors])
    for (error, account_id), error_type in zip(errors, types, strict=True):
        uow.events.add(
            EventType.ERROR_LOGGED,
            job_id=error.job_id,
            account_id=account_id,
            error_type=error_type,
            is_recoverable=error.is_recoverable,
        )


def _close(uow: UnitOfWork, closings: Collection[Closing], status: AttemptStatus, locked: LockedJobs) -> None:
    if not closings:
        return
    uow.attempts.close([c.attempt for c in closings], status)
    uow.slots.free([(c.attempt.connection_id, c.attempt.crawler_job_id) for c in closings])
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


def _is_loss(closing: Closing, locked: LockedJobs) -> bool:
    """True if the end counts against the job. A long attempt does not, if it got anywhere: the next one goes on."""
    attempt = closing.attempt
    if closing.ending is Ending.TOO_OLD:
        return not has_advanced(locked.jobs[attempt.job_id].progress, attempt.crawler_job_id)
    return closing.ending.is_loss and not closing.is_harmless


def _entry_after_loss(entry: Entry, *, is_loss: bool, is_disconnect: bool, message: str) -> EntryUpdate:
    """The entry after a loss or a disconnect: pending, at once or later, or failed."""
    losses = entry.losses + is_loss
    goodbyes = entry.goodbyes + is_disconnect
    is_over = losses >= MAX_LOSSES or goodbyes > MAX_DISCONNECTS
    retry_in = None if is_over else backoff(goodbyes - 1) if is_disconnect and goodbyes > 1 else _IMMEDIATELY
    return EntryUpdate(entry, entry.attempts, losses, goodbyes, retry_in, error=message)

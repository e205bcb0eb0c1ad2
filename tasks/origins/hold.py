"""
Jobs whose account belongs to another GitLab: they stay queued, their entry is held, and no round assigns them.

It is decided when an entry becomes claimable, and again by each round, since the web app may change a job meanwhile.
Reconcile releases them once the account is bound to their GitLab.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from persistence.jobs.entries import HeldJob
from persistence.schema.event_types import EventType
from persistence.schema.gitlabs import gitlab_of
from persistence.schema.ids import AccountId, JobId
from persistence.schema.reasons import HoldReason
from persistence.unit_of_work import UnitOfWork
from tasks.origins.binding import bind_first


@dataclass(frozen=True)
class QueuedJob:
    """A queued job, and where its order would send the account's token."""

    id: JobId
    account_id: AccountId
    url: str | None


def is_elsewhere(url: str | None, bound: str | None) -> bool:
    """Return True if a job with this URL is not at the GitLab to which its account is *bound*, if it is."""
    return bound is None or (url is not None and gitlab_of(url) != bound)


def hold_elsewhere(uow: UnitOfWork, jobs: Collection[QueuedJob]) -> None:
    """Hold those of these jobs, whose entries are locked or new, that are not at the GitLab of their account."""
    if jobs:
        bound = bind_first(uow, ((job.account_id, job.url) for job in jobs))
        hold(uow, jobs, bound)


def hold(uow: UnitOfWork, jobs: Collection[QueuedJob], bound: Mapping[AccountId, str]) -> None:
    """Hold those of the jobs that are elsewhere than their account is *bound*, and say so once for each reason."""
    held = {job: _held(job, bound) for job in jobs if is_elsewhere(job.url, bound.get(job.account_id))}
    if not held:
        return
    news = uow.entries.hold(held.values())
    for job, one in held.items():
        if job.id not in news:
            continue
        uow.events.add(
            EventType.JOB_HELD,
            job_id=job.id,
            account_id=job.account_id,
            reason=one.reason,
            origin=one.origin or None,
            bound_to=bound.get(job.account_id),
        )


def _held(job: QueuedJob, bound: Mapping[AccountId, str]) -> HeldJob:
    reason = HoldReason.ORIGIN_MISMATCH if job.account_id in bound else HoldReason.ORIGIN_UNBOUND
    origin = None if job.url is None else gitlab_of(job.url) or ""
    return HeldJob(job.id, reason, job.url, origin)

"""
Attempts whose token died: `token_refresh_request`. They end at once, and count nowhere.

The job waits for a new token, not its crawler: the seat is free, and the account is held, since all its
jobs would fail alike. The gateway answers its crawler when the order has left the view.
"""

from collections.abc import Collection, Iterable

from persistence.attempts.attempts import Attempt
from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.schema.reasons import BlockReason, Ending
from persistence.schema.states import JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import Discovery, JobFrame, TokenRefreshFrame
from tasks.jobs.transitions import Closing, LockedJobs, announce, revoke_attempts

_DEFAULT_MESSAGE = "the account's access token is not accepted any more"


def lock_account_queues(uow: UnitOfWork, frames: Iterable[tuple[ConnectionId, JobFrame | Discovery]]) -> None:
    """Lock the lanes of the accounts whose tokens are said to have died; they come before all that is locked later."""
    fences = {CrawlerJobId(f.job_id) for _, f in frames if isinstance(f, TokenRefreshFrame)}
    if fences:
        accounts = {attempt.account_id for attempt in uow.attempts.find(fences).values()}
        uow.account_queues.open(accounts)
        uow.account_queues.lock(accounts)


def wait_for_tokens(
    uow: UnitOfWork, reports: Collection[tuple[Attempt, TokenRefreshFrame]], locked: LockedJobs
) -> None:
    """
    End attempts that their crawlers gave up for want of a token, with lanes, entries and jobs locked.

    One that was assigned before its account got another token had the old one: its job is queued again.
    """
    if not reports:
        return
    revoke_attempts(uow, _closings(uow, reports), locked)
    renewals = uow.credentials.renewals({attempt.account_id for attempt, _ in reports})
    outdated = {
        a.job_id for a, _ in reports if (r := renewals.get(a.account_id)) and r.is_after(a.assigned_at)
    }
    uow.entries.unpark(outdated)
    announce(uow, locked.jobs, uow.jobs.release(outdated), JobStatus.QUEUED)
    waiting = {attempt.job_id: attempt.account_id for attempt, _ in reports if attempt.job_id not in outdated}
    uow.entries.park(waiting)
    announce(uow, locked.jobs, uow.credentials.mark_waiting(waiting), JobStatus.WAITING_CREDENTIAL_RENEWAL)
    uow.credentials.block(set(waiting.values()), BlockReason.TOKEN_DIED)
    wanted = set(waiting.values()) | {id_ for id_, renewal in renewals.items() if renewal.is_due}
    now, margin = uow.now(), settings().token_margin
    for account_id in sorted(wanted):
        # A new token that died at once may do so for ever: then no faster than reconcile rings.
        renewal = renewals.get(account_id)
        if renewal is None or renewal.is_due or renewal.at is None or renewal.at < now - margin:
            uow.publish("credentials.refresh", account_id=account_id)


def _closings(uow: UnitOfWork, reports: Collection[tuple[Attempt, TokenRefreshFrame]]) -> list[Closing]:
    """What was said is on record, but for the token itself, which need not look like one."""
    texts = uow.credentials.without_tokens(
        [(a.account_id, frame.data.details_text or _DEFAULT_MESSAGE) for a, frame in reports]
    )
    return [
        Closing(attempt, Ending.CREDENTIAL_EXPIRED, text)
        for (attempt, _), text in zip(reports, texts, strict=True)
    ]

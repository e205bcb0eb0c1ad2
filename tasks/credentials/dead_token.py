"""
Attempts whose token died: `token_refresh_request`. They end at once, and count nowhere.

The job waits for a new token, not its crawler: the seat is free, and the account is held, since all its
jobs would fail alike. The gateway answers its crawler when the order has left the view.
"""

from collections.abc import Collection, Iterable

from persistence.attempts.attempts import Attempt
from persistence.schema.ids import ConnectionId, CrawlerJobId
from persistence.schema.reasons import Ending, HoldReason
from persistence.schema.states import JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import Discovery, JobFrame, TokenRefreshFrame
from tasks.jobs.transitions import Closing, Held, announce, revoke_each

_UNSAID = "the account's access token is not accepted any more"


def lock_lanes(uow: UnitOfWork, frames: Iterable[tuple[ConnectionId, JobFrame | Discovery]]) -> None:
    """Lock the lanes of the accounts whose tokens are said to have died; they come before all that is locked later."""
    fences = {CrawlerJobId(f.job_id) for _, f in frames if isinstance(f, TokenRefreshFrame)}
    if fences:
        accounts = {attempt.account_id for attempt in uow.assignments.find(fences).values()}
        uow.lanes.open(accounts)
        uow.lanes.lock(accounts)


def wait_for_tokens(uow: UnitOfWork, said: Collection[tuple[Attempt, TokenRefreshFrame]], held: Held) -> None:
    """
    End attempts that their crawlers gave up for want of a token, with lanes, entries and jobs locked.

    One that was assigned before its account got another token had the old one: its job is queued again.
    """
    if not said:
        return
    revoke_each(uow, _closings(uow, said), held)
    renewals = uow.credentials.renewals({attempt.account_id for attempt, _ in said})
    outdated = {a.job_id for a, _ in said if (r := renewals.get(a.account_id)) and r.is_after(a.assigned_at)}
    uow.queue.let_go(outdated)
    announce(uow, held.jobs, uow.jobs.release(outdated), JobStatus.QUEUED)
    waiting = {attempt.job_id: attempt.account_id for attempt, _ in said if attempt.job_id not in outdated}
    uow.queue.hold(waiting)
    announce(uow, held.jobs, uow.credentials.wait(waiting), JobStatus.WAITING_CREDENTIAL_RENEWAL)
    uow.credentials.hold(set(waiting.values()), HoldReason.TOKEN_DIED)
    wanted = set(waiting.values()) | {id_ for id_, renewal in renewals.items() if renewal.is_due}
    now, soon = uow.now(), settings().token_margin
    for account_id in sorted(wanted):
        # A new token that died at once may do so for ever: then no faster than reconcile rings.
        renewal = renewals.get(account_id)
        if renewal is None or renewal.is_due or renewal.at is None or renewal.at < now - soon:
            uow.ring("credentials.refresh", account_id=account_id)


def _closings(uow: UnitOfWork, said: Collection[tuple[Attempt, TokenRefreshFrame]]) -> list[Closing]:
    """What was said is on record, but for the token itself, which need not look like one."""
    told = uow.credentials.without_tokens([(a.account_id, frame.data.told or _UNSAID) for a, frame in said])
    return [
        Closing(attempt, Ending.CREDENTIAL_EXPIRED, text)
        for (attempt, _), text in zip(said, told, strict=True)
    ]

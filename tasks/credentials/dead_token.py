"""
Attempts whose token died: the frame `token_refresh_request`.

Such an attempt ends at once and counts neither as a try nor as a loss. Its job waits for a new token, so its slot is
free. Its account is blocked only once something else than the crawler says so too (doubted_token.py). The gateway
answers the crawler when the order is no longer in the view.
"""

from collections.abc import Collection, Iterable

from persistence.attempts.attempts import Attempt
from persistence.credentials.blocks import Renewal
from persistence.schema.ids import AccountId, ConnectionId, CrawlerJobId
from persistence.schema.reasons import Ending
from persistence.schema.states import JobStatus
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.frames import Discovery, JobFrame, TokenRefreshFrame
from tasks.credentials.doubted_token import doubt_tokens
from tasks.jobs.locking import LockedJobs
from tasks.jobs.transitions import Closing, announce, revoke_attempts

_DEFAULT_MESSAGE = "the account's access token is not accepted any more"


def lock_account_queues(uow: UnitOfWork, frames: Iterable[tuple[ConnectionId, JobFrame | Discovery]]) -> None:
    """Lock the account queues of the attempts whose tokens died, before everything else that frames lock."""
    fences = {CrawlerJobId(f.job_id) for _, f in frames if isinstance(f, TokenRefreshFrame)}
    if fences:
        accounts = {attempt.account_id for attempt in uow.attempts.find(fences).values()}
        uow.account_queues.open(accounts)
        uow.account_queues.lock(accounts)


def wait_for_tokens(
    uow: UnitOfWork, reports: Collection[tuple[Attempt, TokenRefreshFrame]], locked: LockedJobs
) -> None:
    """
    End attempts whose token died, with account queues, entries and jobs locked by the caller.

    An attempt that was assigned before its account's last renewal had an older token: its job is queued again. The
    other jobs wait. Their accounts are blocked if their tokens are known to be dead, and in doubt otherwise.
    """
    if not reports:
        return
    revoke_attempts(uow, _closings(uow, reports), locked)
    renewals = uow.blocks.renewals({attempt.account_id for attempt, _ in reports})
    outdated = {
        a.job_id for a, _ in reports if (r := renewals.get(a.account_id)) and r.is_after(a.assigned_at)
    }
    uow.entries.unpark(outdated)
    announce(uow, locked.jobs, uow.jobs.release(outdated), JobStatus.QUEUED)
    waiting = {attempt.job_id: attempt.account_id for attempt, _ in reports if attempt.job_id not in outdated}
    uow.entries.park(waiting)
    announce(uow, locked.jobs, uow.jobs.await_renewal(waiting), JobStatus.WAITING_CREDENTIAL_RENEWAL)
    doubt_tokens(uow, set(waiting.values()))
    _publish_refreshes(uow, set(waiting.values()), renewals)


def _publish_refreshes(uow: UnitOfWork, blocked: set[AccountId], renewals: dict[AccountId, Renewal]) -> None:
    """
    Publish a refresh for each account that was blocked or is in doubt, or that has a new token to be unblocked with.

    Not for a token that was renewed just now: new tokens that die at once would be renewed without a pause.
    Reconcile publishes their refreshes.
    """
    wanted = blocked | {id_ for id_, renewal in renewals.items() if renewal.is_due}
    now, margin = uow.now(), settings().token_margin
    for account_id in sorted(wanted):
        renewal = renewals.get(account_id)
        if renewal is None or renewal.is_due or renewal.at is None or renewal.at < now - margin:
            uow.publish("credentials.refresh", account_id=account_id)


def _closings(uow: UnitOfWork, reports: Collection[tuple[Attempt, TokenRefreshFrame]]) -> list[Closing]:
    """The closings, with the crawlers' messages: the account's token is redacted, as it may not look like one."""
    texts = uow.accounts.without_tokens(
        [(a.account_id, frame.data.details_text or _DEFAULT_MESSAGE) for a, frame in reports]
    )
    return [
        Closing(attempt, Ending.CREDENTIAL_EXPIRED, text)
        for (attempt, _), text in zip(reports, texts, strict=True)
    ]

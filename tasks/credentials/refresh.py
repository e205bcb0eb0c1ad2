"""
Refreshing the tokens of a blocked account: `credentials.refresh`.

The task reserves the account's refresh token and commits that, calls the GitLab with no transaction open, and writes
the new pair together with everything that follows from it. Both transactions are retried, the write for as long as
the task may run; the call never is. A reservation without an outcome is never taken over: the token may have been
sent, and GitLab revokes the whole family of tokens when a used one is sent again.
"""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog
from ulid import ULID

from persistence.credentials.blocks import BlockedAccount
from persistence.credentials.refreshes import RefreshReservation
from persistence.origins.configured import oauth_providers
from persistence.schema.ids import AccountId
from persistence.schema.reasons import BlockReason, CredentialError
from persistence.schema.states import JobStatus
from persistence.setting_types import OAuthProvider
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Refresh
from tasks.credentials.credential_needed import request_authorization, request_new_tokens, warn_of_delay
from tasks.credentials.doubted_token import TokenCheck, begin_check, settle_check
from tasks.credentials.oauth import Answer, NotProcessed, Refused, Renewed
from tasks.credentials.oauth import refresh as request_refresh
from tasks.credentials.renewed import CHUNK_JOBS, unblock_account
from tasks.credentials.token_info import TokenState, check_token
from tasks.jobs.locking import lock_waiting_jobs
from tasks.jobs.transitions import announce
from tasks.runtime.retry import run_until_done
from tasks.runtime.task import task
from tasks.runtime.unit import unit_of_work

log = structlog.get_logger()

TASK = "credentials.refresh"


@task(name=TASK, accepts=Refresh)
def refresh(payload: Refresh) -> None:
    """
    Check a token in doubt; refresh the tokens of a blocked account, unless another run does or it cannot be done here.

    A token that is found dead is refreshed at once.
    """
    account_id, run = AccountId(payload.account_id), str(ULID())
    reserved: ReservedRefresh | TokenCheck | None = None

    def reserve() -> None:
        nonlocal reserved
        with unit_of_work() as uow:
            reserved = reserve_refresh(uow, account_id, run)
            uow.commit()

    run_until_done(reserve)
    if isinstance(reserved, TokenCheck) and _check(reserved) is TokenState.DEAD:
        run_until_done(reserve)
    if isinstance(reserved, ReservedRefresh):
        _refresh(reserved)


def _check(check: TokenCheck) -> TokenState:
    """Ask the GitLab of an account whether its token works, and settle the doubt; return the answer."""
    state = check_token(check.origin, check.access_token, is_oauth=check.is_oauth)
    log.info("token_checked", account_id=check.account_id, state=state.value)

    def settle() -> None:
        with unit_of_work() as uow:
            settle_check(uow, check, state)
            uow.commit()

    run_until_done(settle)
    return state


def _refresh(reserved: "ReservedRefresh") -> None:
    """Refresh the reserved token, and settle the refresh."""
    answer = request_refresh(reserved.instance, reserved.provider, reserved.refresh_token)
    log.info("refresh_answered", account_id=reserved.account_id, answer=type(answer).__name__.lower())

    def settle() -> None:
        with unit_of_work() as uow:
            settle_refresh(uow, reserved, answer)
            uow.commit()

    run_until_done(settle, until_time_limit=True)  # the new tokens exist nowhere else


def publish_pending_refreshes(uow: UnitOfWork) -> None:
    """
    Publish a refresh for each blocked account that does not wait for the web app, and for each token in doubt.

    Repairs failed publishes, accounts that have another token, and reservations whose run has died.
    """
    after = ""
    while blocked := uow.blocks.all_after(after, CHUNK_JOBS):
        after = blocked[-1].account_id
        for account in blocked:
            if account.has_another_token or account.reason != BlockReason.AUTHORIZATION_NEEDED:
                uow.publish(TASK, account_id=account.account_id)
        if len(blocked) < CHUNK_JOBS:
            return


# Before the call


@dataclass(frozen=True)
class ReservedRefresh:
    """A refresh token that this run may send, once."""

    account_id: AccountId
    run: str
    token_hash: str
    refresh_token: str = field(repr=False)
    instance: str
    provider: OAuthProvider = field(repr=False)


def reserve_refresh(uow: UnitOfWork, account_id: AccountId, run: str) -> ReservedRefresh | TokenCheck | None:
    """Reserve the refresh token of a blocked account for this run, or find what to check; None: nothing to call for."""
    uow.account_queues.lock([account_id])
    blocked = uow.blocks.find(account_id)
    if blocked is None or blocked.reason == BlockReason.TOKEN_DOUBTED:
        return begin_check(uow, account_id)
    if blocked.has_another_token:
        unblock_account(uow, account_id, is_news=not blocked.is_being_unblocked)
        return None
    if blocked.reason != BlockReason.AUTHORIZATION_NEEDED and not uow.blocks.needs_token(account_id):
        # The next job blocks the account again if it must.
        uow.account_queues.unblock_without_token(account_id)
        uow.publish("jobs.assign")
        return None
    return _reserve_at_provider(uow, blocked, run)


def _reserve_at_provider(uow: UnitOfWork, blocked: BlockedAccount, run: str) -> ReservedRefresh | None:
    """Reserve the refresh token for the GitLab to which the account is bound, if it can be refreshed there now."""
    instance = uow.origins.find([blocked.account_id]).get(blocked.account_id)
    provider = oauth_providers().get(instance or "")
    if instance is None or provider is None or blocked.token_hash is None:
        request_new_tokens(uow, blocked)
        return None
    if uow.intervals.is_recent(_unavailable_key(instance), settings().reconcile_interval):
        return None  # one call is enough to know; a thousand that time out would occupy all workers
    reservation = uow.refreshes.reserve(
        blocked.account_id, blocked.token_hash, run, settings().refresh_patience
    )
    if reservation.refresh_token is not None and reservation.outcome is None:
        return ReservedRefresh(
            blocked.account_id, run, blocked.token_hash, reservation.refresh_token, instance, provider
        )
    if reservation.is_own:  # the web app has just written another refresh token
        uow.refreshes.cancel(blocked.account_id, blocked.token_hash, run)
    else:
        _settle_earlier_reservation(uow, blocked, blocked.token_hash, reservation)
    return None


def _settle_earlier_reservation(
    uow: UnitOfWork, blocked: BlockedAccount, token_hash: str, earlier: RefreshReservation
) -> None:
    """Do what is left to do for a refresh token that another run has reserved: it is never sent again."""
    if earlier.outcome in tuple(CredentialError):
        refused = Refused(CredentialError(earlier.outcome), "it was refused before")
        _require_authorization(uow, blocked.account_id, refused)
    elif earlier.outcome is not None:
        request_new_tokens(uow, blocked)  # the token was used up, and the account got no other refresh token
    elif earlier.is_stale:
        lost = Refused(CredentialError.NETWORK_ERROR, "its answer is unknown")
        uow.refreshes.end(blocked.account_id, token_hash, lost.error)
        _require_authorization(uow, blocked.account_id, lost)


# After the call


def settle_refresh(uow: UnitOfWork, reserved: ReservedRefresh, answer: Answer) -> None:
    """Write the outcome of the call and everything that follows from it."""
    match answer:
        case Renewed():
            _settle_renewed(uow, reserved, answer)
        case Refused():
            _settle_refused(uow, reserved, answer)
        case NotProcessed():
            _settle_not_processed(uow, reserved, answer)


def _settle_renewed(uow: UnitOfWork, reserved: ReservedRefresh, new: Renewed) -> None:
    """Write the new pair and unblock the account. Run again after a commit in doubt, it changes nothing."""
    written = uow.accounts.write_tokens(
        reserved.account_id, reserved.token_hash, new.access_token, new.refresh_token, new.lifetime
    )
    uow.account_queues.lock([reserved.account_id])
    if uow.blocks.find(reserved.account_id):
        unblock_account(uow, reserved.account_id, is_news=True)
    uow.refreshes.end(reserved.account_id, reserved.token_hash, "renewed" if written else "superseded")


def _settle_refused(uow: UnitOfWork, reserved: ReservedRefresh, refused: Refused) -> None:
    """Require a new authorization."""
    if blocked := _still_blocked(uow, reserved):
        if refused.error is CredentialError.OAUTH2_REVOKED and blocked.cannot_be_refreshed:
            refused = replace(refused, error=CredentialError.OAUTH2_EXPIRED)
        _require_authorization(uow, blocked.account_id, refused)
    uow.refreshes.end(reserved.account_id, reserved.token_hash, refused.error)


def _settle_not_processed(uow: UnitOfWork, reserved: ReservedRefresh, answer: NotProcessed) -> None:
    """Release the refresh token, which was certainly not used, and call this GitLab no more for a while."""
    if _still_blocked(uow, reserved):
        warn_of_delay(uow, reserved.account_id, answer)
    uow.refreshes.cancel(reserved.account_id, reserved.token_hash, reserved.run)
    uow.intervals.acquire(_unavailable_key(reserved.instance), timedelta(0))


def _still_blocked(uow: UnitOfWork, reserved: ReservedRefresh) -> BlockedAccount | None:
    """
    The account, locked, if it still needs this answer.

    If its tokens were replaced during the call, the refresh is published again to look at the new ones.
    """
    uow.account_queues.lock([reserved.account_id])
    blocked = uow.blocks.find(reserved.account_id)
    if blocked and blocked.token_hash == reserved.token_hash and not blocked.has_another_token:
        return blocked
    uow.publish(TASK, account_id=reserved.account_id)
    return None


def _require_authorization(uow: UnitOfWork, account_id: AccountId, refused: Refused) -> None:
    """Set a chunk of the waiting jobs to expired, and ask the web app once for a new authorization."""
    job_ids = uow.blocks.waiting_jobs(account_id, {JobStatus.WAITING_CREDENTIAL_RENEWAL}, CHUNK_JOBS)
    jobs = lock_waiting_jobs(uow, job_ids).jobs
    announce(uow, jobs, uow.jobs.expire(jobs), JobStatus.CREDENTIAL_EXPIRED)
    if len(job_ids) == CHUNK_JOBS:
        uow.publish(TASK, account_id=account_id)
    request_authorization(uow, account_id, refused)


def _unavailable_key(instance: str) -> str:
    """The name under which the time is stored at which a GitLab last did not process a refresh."""
    return f"{TASK} away: {instance}"

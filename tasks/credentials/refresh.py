"""
Tokens that died: their accounts are held, refreshed where a provider is configured, and let go again.

`credentials.refresh` claims the refresh token and commits that, calls with no transaction open, and then
writes the new pair together with all that it sets free; only that write is ever retried, as long as the
process may live. A claim without
an end is not taken up again: whether the token was used is unknown, and using it twice revokes the family.
`credentials.renewed` is the web app's word that it has written new tokens.
"""

from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from ulid import ULID

from persistence.credentials.blocks import BlockedAccount, RefreshReservation
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId
from persistence.schema.reasons import BlockReason, CredentialError
from persistence.schema.states import JobStatus
from persistence.setting_types import OAuthProvider
from persistence.settings import settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Refresh, Renewed
from tasks.credentials.oauth import Answer, Away, Refused
from tasks.credentials.oauth import Renewed as NewPair
from tasks.credentials.oauth import refresh as request_refresh
from tasks.jobs.transitions import announce
from tasks.runtime.batches import reject
from tasks.runtime.retry import run_until_done
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work

log = structlog.get_logger()

TASK = "credentials.refresh"
RENEWED = "credentials.renewed"

CHUNK_JOBS = 1000
"""Jobs that one unit sets free at most, and accounts that one look takes up."""

WAITING = (
    JobStatus.WAITING_CREDENTIAL_RENEWAL,
    JobStatus.CREDENTIAL_EXPIRED,
    JobStatus.CREDENTIAL_RENEWED,
)
"""Jobs that a new token sets free."""

_AFTERWARDS = "; then write the new tokens and ring credentials.renewed"

_ACTIONS = {
    CredentialError.OAUTH2_EXPIRED: "let the account's owner sign in again",
    CredentialError.OAUTH2_REVOKED: "let the account's owner authorize again",
    CredentialError.PAT_EXPIRED: "let the account's owner make a new access token",
    CredentialError.PAT_REVOKED: "let the account's owner check the access token, or make a new one",
    CredentialError.NETWORK_ERROR: "the GitLab's answer was lost: let the account's owner authorize again",
    CredentialError.PROVIDER_ERROR: "the GitLab gave no usable answer: let the account's owner authorize again",
}

_TRIED_AGAIN = "nothing: it is tried again; if it lasts, look at the GitLab and at CRAWLYARD_OAUTH_PROVIDERS"


@task(name=TASK, accepts=Refresh)
def refresh(payload: Refresh) -> None:
    """Refresh the token of a held account, if it is nobody else's to do."""
    account_id, run = AccountId(payload.account_id), str(ULID())
    reserved: ReservedRefresh | None = None

    def reserve() -> None:
        nonlocal reserved
        with unit_of_work() as uow:
            reserved = reserve_refresh(uow, account_id, run)
            uow.commit()

    run_until_done(reserve)
    if reserved is None:
        return
    answer = request_refresh(reserved.instance, reserved.provider, reserved.refresh_token)
    log.info("refresh_answered", account_id=account_id, answer=type(answer).__name__.lower())

    def settle() -> None:
        with unit_of_work() as uow:
            settle_refresh(uow, reserved, answer)
            uow.commit()

    run_until_done(settle, until_time_limit=True)  # the new tokens are nowhere else


@task(name=RENEWED, accepts=Renewed)
def renewed(payload: Renewed) -> None:
    """Let an account go whose tokens the web app has renewed."""
    account_id = AccountId(payload.account_id)
    with unit_of_work() as uow:
        if uow.processed.mark_processed(message_id()):
            if uow.accounts.lock_key_share([account_id]):
                uow.account_queues.open([account_id])
                uow.account_queues.lock([account_id])
                unblock_account(uow, account_id, is_news=not payload.more)
            else:
                reject(uow, payload.model_dump(), "unknown_account")
        uow.commit()


@dataclass(frozen=True)
class ReservedRefresh:
    """A refresh token that is this run's to use, once."""

    account_id: AccountId
    run: str
    token_hash: str
    refresh_token: str = field(repr=False)
    instance: str
    provider: OAuthProvider = field(repr=False)


def reserve_refresh(uow: UnitOfWork, account_id: AccountId, run: str) -> ReservedRefresh | None:
    """Claim the refresh token of a held account; None where there is nothing to call for."""
    uow.account_queues.lock([account_id])
    blocked = uow.credentials.blocked(account_id)
    if blocked is None:
        return None
    if blocked.has_another_token:
        unblock_account(uow, account_id, is_news=not blocked.is_being_unblocked)
        return None
    instances = uow.credentials.instances(account_id)
    if not instances and blocked.reason != BlockReason.AUTHORIZATION_NEEDED:
        # Nobody knows its GitLab, and nobody needs it: the next job is held for itself, if it must be.
        uow.credentials.unblock_without_token(account_id)
        uow.publish("jobs.assign")
        return None
    return _reserve_at_provider(uow, blocked, instances, run)


def _reserve_at_provider(
    uow: UnitOfWork, blocked: BlockedAccount, instances: set[str | None], run: str
) -> ReservedRefresh | None:
    """Claim the refresh token for the one GitLab that is meant, if it can be refreshed there."""
    # A refresh token is a GitLab's own: where two could be meant, neither is to see it.
    (instance,) = instances if len(instances) == 1 else (None,)
    provider = settings().oauth_providers.get(instance or "")
    if instance is None or provider is None or blocked.token_hash is None:
        _request_new_tokens(uow, blocked)
        return None
    if uow.intervals.is_recent(_unavailable_key(instance), settings().reconcile_interval):
        return None  # one call is enough to know; a thousand that time out would keep all workers
    reservation = uow.credentials.reserve_refresh(
        blocked.account_id, blocked.token_hash, run, settings().refresh_patience
    )
    if reservation.refresh_token is not None and reservation.outcome is None:
        return ReservedRefresh(
            blocked.account_id, run, blocked.token_hash, reservation.refresh_token, instance, provider
        )
    if reservation.is_own:  # the web app has written another this moment
        uow.credentials.cancel_reservation(blocked.account_id, blocked.token_hash, run)
    else:
        _resume_reservation(uow, blocked, blocked.token_hash, reservation)
    return None


def _resume_reservation(
    uow: UnitOfWork, blocked: BlockedAccount, token_hash: str, reservation: RefreshReservation
) -> None:
    """Go on where somebody has claimed the refresh token before: it is never sent again."""
    if reservation.outcome in tuple(CredentialError):
        _require_authorization(
            uow, blocked, Refused(CredentialError(reservation.outcome), "it was refused before")
        )
    elif reservation.outcome is not None:
        _request_new_tokens(uow, blocked)  # it was used, and no other came of it
    elif reservation.is_stale:
        lost = Refused(CredentialError.NETWORK_ERROR, "nobody knows its answer")
        uow.credentials.end_reservation(blocked.account_id, token_hash, lost.error)
        _require_authorization(uow, blocked, lost)


def settle_refresh(uow: UnitOfWork, reserved: ReservedRefresh, answer: Answer) -> None:
    """Write what came of the call, with all that follows from it."""
    match answer:
        case NewPair():
            _write(uow, reserved, answer)
        case Refused(error, detail):
            if blocked := _still_blocked(uow, reserved):
                if error is CredentialError.OAUTH2_REVOKED and blocked.cannot_be_refreshed:
                    answer = Refused(CredentialError.OAUTH2_EXPIRED, detail)
                _require_authorization(uow, blocked, answer)
            uow.credentials.end_reservation(reserved.account_id, reserved.token_hash, answer.error)
        case Away(error, detail):
            if _still_blocked(uow, reserved) and uow.credentials.set_reason(
                reserved.account_id, BlockReason.PROVIDER_AWAY
            ):
                _add_credential_needed(
                    uow, reserved.account_id, error, "warning", f"{_TRIED_AGAIN} ({detail})"
                )
            uow.credentials.cancel_reservation(reserved.account_id, reserved.token_hash, reserved.run)
            uow.intervals.acquire(_unavailable_key(reserved.instance), timedelta(0))


def _write(uow: UnitOfWork, reserved: ReservedRefresh, new: NewPair) -> None:
    """The account has the new pair, and is let go; done once, also where it is asked to do it again."""
    written = uow.credentials.write_tokens(
        reserved.account_id, reserved.token_hash, new.access_token, new.refresh_token, new.lifetime
    )
    uow.account_queues.lock([reserved.account_id])
    if uow.credentials.blocked(reserved.account_id):
        unblock_account(uow, reserved.account_id, is_news=True)
    uow.credentials.end_reservation(
        reserved.account_id, reserved.token_hash, "renewed" if written else "superseded"
    )


def _still_blocked(uow: UnitOfWork, reserved: ReservedRefresh) -> BlockedAccount | None:
    """The account, locked, if it waits for this answer still; if it has other tokens, somebody is to look anew."""
    uow.account_queues.lock([reserved.account_id])
    blocked = uow.credentials.blocked(reserved.account_id)
    if blocked and blocked.token_hash == reserved.token_hash and not blocked.has_another_token:
        return blocked
    uow.publish(TASK, account_id=reserved.account_id)
    return None


def unblock_account(uow: UnitOfWork, account_id: AccountId, *, is_news: bool) -> None:
    """The account, whose lane is locked, has a token again: it is seated, and what waited is queued."""
    job_ids = uow.credentials.waiting(account_id, WAITING, CHUNK_JOBS)
    entries = uow.entries.lock(job_ids)
    jobs = uow.jobs.lock(job_ids)
    queued = uow.credentials.renew(jobs.keys())
    uow.entries.unpark(queued & entries.keys())
    announce(uow, jobs, queued, JobStatus.QUEUED)
    if len(job_ids) < CHUNK_JOBS:
        uow.credentials.unblock(account_id)
    else:  # held until the last one is free: where this bell is lost, reconcile goes on
        uow.credentials.continue_unblocking(account_id)
        uow.publish(RENEWED, account_id=account_id, more=True)
    if is_news:
        uow.events.add(EventType.CREDENTIAL_RENEWED, account_id=account_id)
    uow.publish("jobs.assign")


def publish_pending_refreshes(uow: UnitOfWork) -> None:
    """
    For reconcile: let accounts go that have another token, and ring for those where nothing has come of it.

    Bells may be lost, and claims left by whoever died with them; those that wait for the web app wait on.
    """
    after = ""
    while blocked := uow.credentials.all_blocked(after, CHUNK_JOBS):
        after = blocked[-1].account_id
        for account in blocked:
            if account.has_another_token or account.reason != BlockReason.AUTHORIZATION_NEEDED:
                uow.publish(TASK, account_id=account.account_id)
        if len(blocked) < CHUNK_JOBS:
            return


def _request_new_tokens(uow: UnitOfWork, blocked: BlockedAccount) -> None:
    """Nobody here can refresh it: the web app is to write new tokens."""
    if blocked.reason == BlockReason.AUTHORIZATION_NEEDED:
        return
    is_only_near = blocked.reason == BlockReason.TOKEN_EXPIRING and not blocked.has_expired
    kind = "PAT" if blocked.token_hash is None else "OAUTH2"
    error = CredentialError(f"{kind}_{'EXPIRED' if blocked.has_expired or is_only_near else 'REVOKED'}")
    if uow.credentials.set_reason(blocked.account_id, BlockReason.AUTHORIZATION_NEEDED):
        severity = "warning" if is_only_near else "error"
        _add_credential_needed(uow, blocked.account_id, error, severity, _ACTIONS[error] + _AFTERWARDS)


def _require_authorization(uow: UnitOfWork, blocked: BlockedAccount, refused: Refused) -> None:
    """The refresh token is of no use any more: what waits for it has expired, a unit of it now."""
    account_id = blocked.account_id
    job_ids = uow.credentials.waiting(account_id, {JobStatus.WAITING_CREDENTIAL_RENEWAL}, CHUNK_JOBS)
    uow.entries.lock(job_ids)
    jobs = uow.jobs.lock(job_ids)
    announce(uow, jobs, uow.credentials.mark_expired(jobs.keys()), JobStatus.CREDENTIAL_EXPIRED)
    if len(job_ids) == CHUNK_JOBS:
        uow.publish(TASK, account_id=account_id)
    if uow.credentials.set_reason(account_id, BlockReason.AUTHORIZATION_NEEDED):
        action = f"{_ACTIONS[refused.error]} ({refused.detail}){_AFTERWARDS}"
        _add_credential_needed(uow, account_id, refused.error, "error", action)


def _unavailable_key(instance: str) -> str:
    """Under this name the time is noted at which a GitLab did not process a refresh."""
    return f"{TASK} away: {instance}"


def _add_credential_needed(
    uow: UnitOfWork, account_id: AccountId, error: CredentialError, severity: str, action: str
) -> None:
    uow.events.add(
        EventType.CREDENTIAL_NEEDED, account_id=account_id, error_type=error, severity=severity, action=action
    )

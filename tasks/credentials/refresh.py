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

from persistence.credentials.blocks import Claimed, HeldAccount
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId
from persistence.schema.reasons import CredentialError, HoldReason
from persistence.schema.states import JobStatus
from persistence.settings import OAuthProvider, settings
from persistence.unit_of_work import UnitOfWork
from tasks.contract.payloads import Refresh, Renewed
from tasks.credentials.oauth import Answer, Away, Refused
from tasks.credentials.oauth import Renewed as NewPair
from tasks.credentials.oauth import refresh as ask
from tasks.jobs.transitions import announce
from tasks.runtime.batches import reject
from tasks.runtime.retry import persevere
from tasks.runtime.task import task
from tasks.runtime.unit import message_id, unit_of_work

log = structlog.get_logger()

TASK = "credentials.refresh"
RENEWED = "credentials.renewed"

UNIT_JOBS = 1000
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
    claim: Claim | None = None

    def claim_it() -> None:
        nonlocal claim
        with unit_of_work() as uow:
            claim = claim_refresh(uow, account_id, run)
            uow.commit()

    persevere(claim_it)
    if claim is None:
        return
    answer = ask(claim.instance, claim.provider, claim.refresh_token)
    log.info("refresh_answered", account_id=account_id, answer=type(answer).__name__.lower())

    def settle_it() -> None:
        with unit_of_work() as uow:
            settle_refresh(uow, claim, answer)
            uow.commit()

    persevere(settle_it, to_the_end=True)  # the new tokens are nowhere else


@task(name=RENEWED, accepts=Renewed)
def renewed(payload: Renewed) -> None:
    """Let an account go whose tokens the web app has renewed."""
    account_id = AccountId(payload.account_id)
    with unit_of_work() as uow:
        if uow.handled.claim(message_id()):
            if uow.accounts.hold([account_id]):
                uow.lanes.open([account_id])
                uow.lanes.lock([account_id])
                let_go(uow, account_id, is_news=not payload.more)
            else:
                reject(uow, payload.model_dump(), "unknown_account")
        uow.commit()


@dataclass(frozen=True)
class Claim:
    """A refresh token that is this run's to use, once."""

    account_id: AccountId
    run: str
    token_hash: str
    refresh_token: str = field(repr=False)
    instance: str
    provider: OAuthProvider = field(repr=False)


def claim_refresh(uow: UnitOfWork, account_id: AccountId, run: str) -> Claim | None:
    """Claim the refresh token of a held account; None where there is nothing to call for."""
    uow.lanes.lock([account_id])
    held = uow.credentials.held(account_id)
    if held is None:
        return None
    if held.has_another_token:
        let_go(uow, account_id, is_news=not held.is_being_let_go)
        return None
    instances = uow.credentials.instances(account_id)
    if not instances and held.reason != HoldReason.AUTHORIZATION_NEEDED:
        # Nobody knows its GitLab, and nobody needs it: the next job is held for itself, if it must be.
        uow.credentials.forget_hold(account_id)
        uow.ring("jobs.assign")
        return None
    return _claim_of(uow, held, instances, run)


def _claim_of(uow: UnitOfWork, held: HeldAccount, instances: set[str | None], run: str) -> Claim | None:
    """Claim the refresh token for the one GitLab that is meant, if it can be refreshed there."""
    # A refresh token is a GitLab's own: where two could be meant, neither is to see it.
    (instance,) = instances if len(instances) == 1 else (None,)
    provider = settings().oauth_providers.get(instance or "")
    if instance is None or provider is None or held.token_hash is None:
        _ask_the_web_app(uow, held)
        return None
    if uow.liveness.has_rung(_away(instance), settings().reconcile_interval / 2):
        return None  # one call is enough to know; a thousand that time out would keep all workers
    claimed = uow.credentials.claim(held.account_id, held.token_hash, run, settings().refresh_patience)
    if claimed.refresh_token is not None and claimed.outcome is None:
        return Claim(held.account_id, run, held.token_hash, claimed.refresh_token, instance, provider)
    if claimed.is_mine:  # the web app has written another this moment
        uow.credentials.give_up_claim(held.account_id, held.token_hash, run)
    else:
        _take_up(uow, held, held.token_hash, claimed)
    return None


def _take_up(uow: UnitOfWork, held: HeldAccount, token_hash: str, claimed: Claimed) -> None:
    """Go on where somebody has claimed the refresh token before: it is never sent again."""
    if claimed.outcome in tuple(CredentialError):
        _need_authorization(uow, held, Refused(CredentialError(claimed.outcome), "it was refused before"))
    elif claimed.outcome is not None:
        _ask_the_web_app(uow, held)  # it was used, and no other came of it
    elif claimed.is_stale:
        lost = Refused(CredentialError.NETWORK_ERROR, "nobody knows its answer")
        uow.credentials.end_claim(held.account_id, token_hash, lost.error)
        _need_authorization(uow, held, lost)


def settle_refresh(uow: UnitOfWork, claim: Claim, answer: Answer) -> None:
    """Write what came of the call, with all that follows from it."""
    match answer:
        case NewPair():
            _write(uow, claim, answer)
        case Refused(error, detail):
            if held := _still_held(uow, claim):
                if error is CredentialError.OAUTH2_REVOKED and held.cannot_be_refreshed:
                    answer = Refused(CredentialError.OAUTH2_EXPIRED, detail)
                _need_authorization(uow, held, answer)
            uow.credentials.end_claim(claim.account_id, claim.token_hash, answer.error)
        case Away(error, detail):
            if _still_held(uow, claim) and uow.credentials.set_reason(
                claim.account_id, HoldReason.PROVIDER_AWAY
            ):
                _tell_needed(uow, claim.account_id, error, "warning", f"{_TRIED_AGAIN} ({detail})")
            uow.credentials.give_up_claim(claim.account_id, claim.token_hash, claim.run)
            uow.liveness.let_through(_away(claim.instance), timedelta(0))


def _write(uow: UnitOfWork, claim: Claim, new: NewPair) -> None:
    """The account has the new pair, and is let go; done once, also where it is asked to do it again."""
    mine = uow.credentials.write(
        claim.account_id, claim.token_hash, new.access_token, new.refresh_token, new.lifetime
    )
    uow.lanes.lock([claim.account_id])
    if uow.credentials.held(claim.account_id):
        let_go(uow, claim.account_id, is_news=True)
    uow.credentials.end_claim(claim.account_id, claim.token_hash, "renewed" if mine else "superseded")


def _still_held(uow: UnitOfWork, claim: Claim) -> HeldAccount | None:
    """The account, locked, if it waits for this answer still; if it has other tokens, somebody is to look anew."""
    uow.lanes.lock([claim.account_id])
    held = uow.credentials.held(claim.account_id)
    if held and held.token_hash == claim.token_hash and not held.has_another_token:
        return held
    uow.ring(TASK, account_id=claim.account_id)
    return None


def let_go(uow: UnitOfWork, account_id: AccountId, *, is_news: bool) -> None:
    """The account, whose lane is locked, has a token again: it is seated, and what waited is queued."""
    job_ids = uow.credentials.waiting(account_id, WAITING, UNIT_JOBS)
    entries = uow.queue.lock(job_ids)
    jobs = uow.jobs.lock(job_ids)
    queued = uow.credentials.renew(jobs.keys())
    uow.queue.let_go(queued & entries.keys())
    announce(uow, jobs, queued, JobStatus.QUEUED)
    if len(job_ids) < UNIT_JOBS:
        uow.credentials.let_go(account_id)
    else:  # held until the last one is free: where this bell is lost, reconcile goes on
        uow.credentials.go_on_letting_go(account_id)
        uow.ring(RENEWED, account_id=account_id, more=True)
    if is_news:
        uow.events.add(EventType.CREDENTIAL_RENEWED, account_id=account_id)
    uow.ring("jobs.assign")


def look_after_credentials(uow: UnitOfWork) -> None:
    """
    For reconcile: let accounts go that have another token, and ring for those where nothing has come of it.

    Bells may be lost, and claims left by whoever died with them; those that wait for the web app wait on.
    """
    after = ""
    while held := uow.credentials.all_held(after, UNIT_JOBS):
        after = held[-1].account_id
        for account in held:
            if account.has_another_token or account.reason != HoldReason.AUTHORIZATION_NEEDED:
                uow.ring(TASK, account_id=account.account_id)
        if len(held) < UNIT_JOBS:
            return


def _ask_the_web_app(uow: UnitOfWork, held: HeldAccount) -> None:
    """Nobody here can refresh it: the web app is to write new tokens."""
    if held.reason == HoldReason.AUTHORIZATION_NEEDED:
        return
    is_only_near = held.reason == HoldReason.TOKEN_EXPIRING and not held.has_expired
    kind = "PAT" if held.token_hash is None else "OAUTH2"
    error = CredentialError(f"{kind}_{'EXPIRED' if held.has_expired or is_only_near else 'REVOKED'}")
    if uow.credentials.set_reason(held.account_id, HoldReason.AUTHORIZATION_NEEDED):
        severity = "warning" if is_only_near else "error"
        _tell_needed(uow, held.account_id, error, severity, _ACTIONS[error] + _AFTERWARDS)


def _need_authorization(uow: UnitOfWork, held: HeldAccount, refused: Refused) -> None:
    """The refresh token is of no use any more: what waits for it has expired, a unit of it now."""
    account_id = held.account_id
    job_ids = uow.credentials.waiting(account_id, {JobStatus.WAITING_CREDENTIAL_RENEWAL}, UNIT_JOBS)
    uow.queue.lock(job_ids)
    jobs = uow.jobs.lock(job_ids)
    announce(uow, jobs, uow.credentials.expire(jobs.keys()), JobStatus.CREDENTIAL_EXPIRED)
    if len(job_ids) == UNIT_JOBS:
        uow.ring(TASK, account_id=account_id)
    if uow.credentials.set_reason(account_id, HoldReason.AUTHORIZATION_NEEDED):
        action = f"{_ACTIONS[refused.error]} ({refused.detail}){_AFTERWARDS}"
        _tell_needed(uow, account_id, refused.error, "error", action)


def _away(instance: str) -> str:
    """Under this name the time is noted at which a GitLab did not process a refresh."""
    return f"{TASK} away: {instance}"


def _tell_needed(
    uow: UnitOfWork, account_id: AccountId, error: CredentialError, severity: str, action: str
) -> None:
    uow.events.add(
        EventType.CREDENTIAL_NEEDED, account_id=account_id, error_type=error, severity=severity, action=action
    )

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

from persistence.credentials import HeldAccount
from persistence.schema.vocabulary import AccountId, CredentialError, EventType, HoldReason, JobStatus
from persistence.settings import OAuthProvider, settings
from persistence.unit_of_work import UnitOfWork
from tasks.app import app
from tasks.base import message_id, persevere, unit_of_work
from tasks.messages import Refresh, Renewed
from tasks.oauth import Answer, Away, Refused
from tasks.oauth import Renewed as NewPair
from tasks.oauth import refresh as ask
from tasks.release import announce

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

_MARGIN = timedelta(seconds=10)
"""Beyond the HTTP timeout: so long nobody doubts a claim."""

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


@app.task(name=TASK, accepts=Refresh)
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


@app.task(name=RENEWED, accepts=Renewed)
def renewed(payload: Renewed) -> None:
    """Let an account go whose tokens the web app has renewed."""
    account_id = AccountId(payload.account_id)
    with unit_of_work() as uow:
        if uow.handled.claim(message_id()):
            uow.lanes.open([account_id])
            uow.lanes.lock([account_id])
            let_go(uow, account_id, is_news=not payload.more)
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
        let_go(uow, account_id, is_news=True)
    elif held.reason == HoldReason.AUTHORIZATION_NEEDED or uow.credentials.is_waited_for(account_id):
        return _claim_of(uow, held, run)
    else:
        # Nobody knows its GitLab, and nobody needs it: the next job is held for itself, if it must be.
        uow.credentials.forget_hold(account_id)
        uow.ring("jobs.assign")
    return None


def _claim_of(uow: UnitOfWork, held: HeldAccount, run: str) -> Claim | None:
    account_id = held.account_id
    instance = uow.credentials.instance(account_id)
    provider = settings().oauth_providers.get(instance or "")
    if instance is None or provider is None or held.refresh_token is None or held.token_hash is None:
        _ask_the_web_app(uow, held)
        return None
    if uow.liveness.has_rung(_away(instance), settings().reconcile_interval / 2):
        return None  # one call is enough to know; a thousand that time out would keep all workers
    claimed = uow.credentials.claim(account_id, held.token_hash, run, settings().http_timeout + _MARGIN)
    if claimed.is_mine:
        return Claim(account_id, run, held.token_hash, held.refresh_token, instance, provider)
    if claimed.has_ended:
        _ask_the_web_app(uow, held)  # this token was used; the hold that is left is for another reason
    elif claimed.is_stale:
        _need_authorization(
            uow,
            account_id,
            held.token_hash,
            Refused(CredentialError.NETWORK_ERROR, "nobody knows its answer"),
        )
    return None


def settle_refresh(uow: UnitOfWork, claim: Claim, answer: Answer) -> None:
    """Write what came of the call, with all that follows from it."""
    account_id = claim.account_id
    uow.lanes.lock([account_id])
    match answer:
        case NewPair(access_token, refresh_token, lifetime):
            mine = uow.credentials.write(account_id, claim.token_hash, access_token, refresh_token, lifetime)
            uow.credentials.end_claim(account_id, claim.token_hash, "renewed" if mine else "superseded")
            let_go(uow, account_id, is_news=True)
        case Refused():
            _need_authorization(uow, account_id, claim.token_hash, answer)
        case Away(error, detail):
            uow.credentials.give_up_claim(account_id, claim.token_hash, claim.run)
            if uow.credentials.set_reason(account_id, HoldReason.PROVIDER_AWAY):
                _tell_needed(uow, account_id, error, "warning", f"{_TRIED_AGAIN} ({detail})")
            uow.liveness.let_through(_away(claim.instance), timedelta(0))


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
    kind = "PAT" if held.refresh_token is None else "OAUTH2"
    error = CredentialError(f"{kind}_{'EXPIRED' if held.has_expired else 'REVOKED'}")
    if uow.credentials.set_reason(held.account_id, HoldReason.AUTHORIZATION_NEEDED):
        _tell_needed(uow, held.account_id, error, "error", _ACTIONS[error] + _AFTERWARDS)


def _need_authorization(uow: UnitOfWork, account_id: AccountId, token_hash: str, refused: Refused) -> None:
    """The refresh token is of no use any more: what waits for it has expired."""
    held = uow.credentials.held(account_id)
    error = refused.error
    if error is CredentialError.OAUTH2_REVOKED and held and held.cannot_be_refreshed:
        error = CredentialError.OAUTH2_EXPIRED
    uow.credentials.end_claim(account_id, token_hash, error.value)
    while job_ids := uow.credentials.waiting(account_id, {JobStatus.WAITING_CREDENTIAL_RENEWAL}, UNIT_JOBS):
        uow.queue.lock(job_ids)
        jobs = uow.jobs.lock(job_ids)
        announce(uow, jobs, uow.credentials.expire(jobs.keys()), JobStatus.CREDENTIAL_EXPIRED)
    if uow.credentials.set_reason(account_id, HoldReason.AUTHORIZATION_NEEDED):
        action = f"{_ACTIONS[error]} ({refused.detail}){_AFTERWARDS}"
        _tell_needed(uow, account_id, error, "error", action)


def _away(instance: str) -> str:
    """Under this name the time is noted at which a GitLab did not process a refresh."""
    return f"{TASK} away: {instance}"


def _tell_needed(
    uow: UnitOfWork, account_id: AccountId, error: CredentialError, severity: str, action: str
) -> None:
    uow.events.add(
        EventType.CREDENTIAL_NEEDED, account_id=account_id, error_type=error, severity=severity, action=action
    )

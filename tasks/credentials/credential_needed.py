"""The event `credential_needed`: the web app must get new tokens, or a refresh was not possible yet."""

from persistence.credentials.blocks import BlockedAccount
from persistence.schema.event_types import EventType
from persistence.schema.ids import AccountId
from persistence.schema.reasons import BlockReason, CredentialError
from persistence.unit_of_work import UnitOfWork
from tasks.credentials.oauth import NotProcessed, Refused

_ACTIONS = {
    CredentialError.OAUTH2_EXPIRED: "ask the account's owner to sign in again",
    CredentialError.OAUTH2_REVOKED: "ask the account's owner to authorize again",
    CredentialError.PAT_EXPIRED: "ask the account's owner to create a new access token",
    CredentialError.PAT_REVOKED: "ask the account's owner to check the access token or create a new one",
    CredentialError.NETWORK_ERROR: "GitLab's answer was lost: ask the account's owner to authorize again",
    CredentialError.PROVIDER_ERROR: "GitLab gave no usable answer: ask the account's owner to authorize again",
}

_AFTERWARDS = "; then write the new tokens and publish credentials.renewed"

_RETRIED = "none: the refresh is retried; if this persists, check the GitLab and CRAWLYARD_OAUTH_PROVIDERS"


def request_new_tokens(uow: UnitOfWork, blocked: BlockedAccount) -> None:
    """Ask the web app once for new tokens of a blocked account that cannot be refreshed here."""
    if blocked.reason == BlockReason.AUTHORIZATION_NEEDED:
        return
    is_still_valid = blocked.reason == BlockReason.TOKEN_EXPIRING and not blocked.has_expired
    kind = "PAT" if blocked.token_hash is None else "OAUTH2"
    error = CredentialError(f"{kind}_{'EXPIRED' if blocked.has_expired or is_still_valid else 'REVOKED'}")
    if uow.account_queues.set_block_reason(blocked.account_id, BlockReason.AUTHORIZATION_NEEDED):
        severity = "warning" if is_still_valid else "error"
        _add_event(uow, blocked.account_id, error, severity, _ACTIONS[error] + _AFTERWARDS)


def request_authorization(uow: UnitOfWork, account_id: AccountId, refused: Refused) -> None:
    """Ask the web app once for a new authorization after a refused refresh."""
    if uow.account_queues.set_block_reason(account_id, BlockReason.AUTHORIZATION_NEEDED):
        action = f"{_ACTIONS[refused.error]} ({refused.detail}){_AFTERWARDS}"
        _add_event(uow, account_id, refused.error, "error", action)


def warn_of_delay(uow: UnitOfWork, account_id: AccountId, answer: NotProcessed) -> None:
    """Warn once that a refresh was not processed and is retried later."""
    if uow.account_queues.set_block_reason(account_id, BlockReason.PROVIDER_AWAY):
        _add_event(uow, account_id, answer.error, "warning", f"{_RETRIED} ({answer.detail})")


def _add_event(
    uow: UnitOfWork, account_id: AccountId, error: CredentialError, severity: str, action: str
) -> None:
    uow.events.add(
        EventType.CREDENTIAL_NEEDED, account_id=account_id, error_type=error, severity=severity, action=action
    )

"""Why attempts end and accounts are blocked."""

from enum import StrEnum


class Ending(StrEnum):
    """Why we closed an attempt ourselves; stands as error_type in `job_error_log`."""

    CONNECTION_LOST = "ConnectionLost"
    STALLED = "Stalled"
    NEVER_STARTED = "NeverStarted"
    DISOWNED = "Disowned"
    GOODBYE = "Goodbye"
    CANCELLED = "Cancelled"
    CREDENTIAL_EXPIRED = "CredentialExpired"

    @property
    def is_loss(self) -> bool:
        """Whether it counts in `job_queue.losses`."""
        return self not in (Ending.GOODBYE, Ending.CANCELLED, Ending.CREDENTIAL_EXPIRED)


class BlockReason(StrEnum):
    """Of `account_lane.held_reason`: why nothing is seated for an account."""

    TOKEN_DIED = "token_died"  # noqa: S105 - no password
    TOKEN_EXPIRING = "token_expiring"  # noqa: S105
    PROVIDER_AWAY = "provider_away"
    AUTHORIZATION_NEEDED = "authorization_needed"


class CredentialError(StrEnum):
    """Of the event `credential_needed`: what is wrong with an account's token."""

    OAUTH2_EXPIRED = "OAUTH2_EXPIRED"
    OAUTH2_REVOKED = "OAUTH2_REVOKED"
    PAT_EXPIRED = "PAT_EXPIRED"
    PAT_REVOKED = "PAT_REVOKED"
    NETWORK_ERROR = "NETWORK_ERROR"
    PROVIDER_ERROR = "PROVIDER_ERROR"

"""The reasons why attempts end, accounts are blocked, and jobs are held; what bound an account, or why nothing did."""

from enum import StrEnum


class Ending(StrEnum):
    """Why we closed an attempt ourselves; the error_type of its row in `job_error_log`."""

    CONNECTION_LOST = "ConnectionLost"
    STALLED = "Stalled"
    TOO_OLD = "TooOld"
    NEVER_STARTED = "NeverStarted"
    DISOWNED = "Disowned"
    GOODBYE = "Goodbye"
    CANCELLED = "Cancelled"
    CREDENTIAL_EXPIRED = "CredentialExpired"

    @property
    def is_loss(self) -> bool:
        """True if it counts in `job_queue.losses`."""
        return self not in (Ending.GOODBYE, Ending.CANCELLED, Ending.CREDENTIAL_EXPIRED)


class BlockReason(StrEnum):
    """`account_lane.held_reason`: why no job of the account is assigned."""

    TOKEN_DIED = "token_died"  # noqa: S105 - not a password
    TOKEN_DOUBTED = "token_doubted"  # noqa: S105
    TOKEN_EXPIRING = "token_expiring"  # noqa: S105
    PROVIDER_AWAY = "provider_away"
    AUTHORIZATION_NEEDED = "authorization_needed"


class HoldReason(StrEnum):
    """`job_queue.hold_reason`, and in the event `job_held`: why a queued job is not assigned."""

    ORIGIN_UNBOUND = "origin_unbound"
    ORIGIN_MISMATCH = "origin_mismatch"


class BoundBy(StrEnum):
    """`account_origin.bound_by`: what named the GitLab of the account."""

    OPERATOR = "operator"
    MIGRATION = "migration"
    PROVIDER = "provider"
    SCOPE_JOB = "scope_job"
    ALLOWED_ORIGINS = "allowed_origins"
    FIRST_JOB = "first_job"


class WhyUnbound(StrEnum):
    """Why the migration could not bind an account to the GitLab of its jobs."""

    NO_JOB = "no_job"
    JOBS_DISAGREE = "jobs_disagree"
    HOST_UNPARSABLE = "host_unparsable"


class CredentialError(StrEnum):
    """In the event `credential_needed`: what is wrong with the account's token."""

    OAUTH2_EXPIRED = "OAUTH2_EXPIRED"
    OAUTH2_REVOKED = "OAUTH2_REVOKED"
    PAT_EXPIRED = "PAT_EXPIRED"
    PAT_REVOKED = "PAT_REVOKED"
    NETWORK_ERROR = "NETWORK_ERROR"
    PROVIDER_ERROR = "PROVIDER_ERROR"

"""The types of events for the web app."""

from collections.abc import Container
from enum import StrEnum


class EventType(StrEnum):
    """`dispatch_event.type`."""

    JOB_CREATED = "job_created"
    JOB_UPDATED = "job_updated"
    JOB_DELETED = "job_deleted"
    JOB_ASSIGNED = "job_assigned"
    JOB_HELD = "job_held"
    JOB_REVOKED = "job_revoked"
    PROGRESS_UPDATED = "progress_updated"
    ERROR_LOGGED = "error_logged"
    CONNECTION_REGISTERED = "connection_registered"
    CONNECTION_ATTACHED = "connection_attached"
    CONNECTION_LOST = "connection_lost"
    CONNECTION_EXPIRED = "connection_expired"
    CONNECTION_REFUSED = "connection_refused"
    CAPACITY_LIMITED = "capacity_limited"
    IMPLAUSIBLE_ENDS = "implausible_ends"
    CREDENTIAL_NEEDED = "credential_needed"
    CREDENTIAL_RENEWED = "credential_renewed"
    ACCOUNT_PAUSED = "account_paused"
    ACCOUNT_RESUMED = "account_resumed"
    AREA_CHANGED = "area_changed"
    GITLAB_MOVED = "gitlab_moved"
    REJECTED_DROPPED = "rejected_dropped"
    AREA_CHANGE_PROPOSED = "area_change_proposed"


FOR_GATEWAYS = frozenset(
    {
        EventType.JOB_ASSIGNED,
        EventType.JOB_REVOKED,
        EventType.JOB_UPDATED,
        EventType.PROGRESS_UPDATED,
        EventType.CONNECTION_ATTACHED,
        EventType.CONNECTION_LOST,
        EventType.CONNECTION_EXPIRED,
        EventType.CONNECTION_REFUSED,
    }
)
"""The events that a gateway may have to act upon."""

OF_ATTEMPTS = frozenset({EventType.JOB_UPDATED, EventType.PROGRESS_UPDATED})
"""Those of them that concern a gateway only if their payload names an attempt (`crawler_job_id`)."""


def concerns_gateways(kind: EventType, payload: Container[str]) -> bool:
    """True if a gateway may have to act upon an event."""
    return kind in FOR_GATEWAYS and (kind not in OF_ATTEMPTS or "crawler_job_id" in payload)

"""
The states of jobs, entries, attempts and crawlers, and the sets of states that rules use.

No other module spells a state: SQL text names them through `persistence/schema/sql.py`.
"""

from enum import StrEnum


class JobStatus(StrEnum):
    """`job.status`. `cancelled` is ours; the web app defines the others."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    CREDENTIAL_EXPIRED = "credential_expired"
    WAITING_CREDENTIAL_RENEWAL = "waiting_credential_renewal"
    CREDENTIAL_RENEWED = "credential_renewed"
    UNKNOWN = "unknown"
    """Stands for every status that only the web app knows; the entry of such a job is parked."""

    @classmethod
    def _missing_(cls, _value: object) -> "JobStatus":
        return cls.UNKNOWN


JOB_CRAWLABLE = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})
"""The web app wants the job crawled: it has an entry that can be assigned, or a live attempt."""
JOB_ENDED = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED})
"""The job is over; it changes again only if it is submitted or enqueued again."""
JOB_AWAITING_TOKEN = frozenset({JobStatus.WAITING_CREDENTIAL_RENEWAL, JobStatus.CREDENTIAL_EXPIRED})
"""The job waits until its account has a new token."""
JOB_RENEWABLE = JOB_AWAITING_TOKEN | {JobStatus.CREDENTIAL_RENEWED}
"""A new token for its account queues the job again."""


class EntryStatus(StrEnum):
    """`job_queue.status`."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


ENTRY_OPEN = frozenset({EntryStatus.PENDING, EntryStatus.PROCESSING})
ENTRY_SETTLED = frozenset({EntryStatus.COMPLETED, EntryStatus.FAILED})


class AttemptStatus(StrEnum):
    """`job_assignment_mapping.status`. `pending` occurs only in rows of the component before Crawlyard."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ATTEMPT_LIVE = frozenset({AttemptStatus.ASSIGNED, AttemptStatus.RUNNING})
ATTEMPT_ENDED = frozenset({AttemptStatus.COMPLETED, AttemptStatus.FAILED, AttemptStatus.CANCELLED})


class AreaChangeStatus(StrEnum):
    """`area_change.status`."""

    APPLIED = "applied"
    PROPOSED = "proposed"
    """Until it is confirmed, nothing has changed."""
    REJECTED = "rejected"


CHANGE_ANSWERED = frozenset({AreaChangeStatus.PROPOSED, AreaChangeStatus.REJECTED})
"""The change need not be proposed again."""


class SystemStatus(StrEnum):
    """`socket_connection.system_status`; a reported `processing` is stored as `crawling`."""

    IDLE = "idle"
    DISCOVERING = "discovering"
    CRAWLING = "crawling"
    ERROR = "error"

"""
The states of jobs, entries, attempts and crawlers, and the sets of them that rules speak of.

Nowhere else is a state spelled: SQL names them by way of `persistence/schema/sql.py`.
"""

from enum import StrEnum


class JobStatus(StrEnum):
    """Of `job.status`; `cancelled` is ours, the rest is the web app's."""

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
    """Stands for any status that the web app has and we have not: such a job is held."""

    @classmethod
    def _missing_(cls, _value: object) -> "JobStatus":
        return cls.UNKNOWN


JOB_CRAWLABLE = frozenset({JobStatus.QUEUED, JobStatus.RUNNING})
"""Such a job has an entry that can run, or a live attempt."""
JOB_ENDED = frozenset({JobStatus.FINISHED, JobStatus.FAILED, JobStatus.CANCELLED})
"""From here a job moves only if somebody asks for it anew."""
JOB_AWAITING_TOKEN = frozenset({JobStatus.WAITING_CREDENTIAL_RENEWAL, JobStatus.CREDENTIAL_EXPIRED})
"""The account of such a job needs a new token first."""
JOB_RENEWABLE = JOB_AWAITING_TOKEN | {JobStatus.CREDENTIAL_RENEWED}
"""A new token of its account queues such a job again."""


class EntryStatus(StrEnum):
    """Of `job_queue.status`."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


ENTRY_OPEN = frozenset({EntryStatus.PENDING, EntryStatus.PROCESSING})
ENTRY_SETTLED = frozenset({EntryStatus.COMPLETED, EntryStatus.FAILED})


class AttemptStatus(StrEnum):
    """Of `job_assignment_mapping.status`; live is assigned or running, `pending` is the old component's."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ATTEMPT_LIVE = frozenset({AttemptStatus.ASSIGNED, AttemptStatus.RUNNING})
ATTEMPT_ENDED = frozenset({AttemptStatus.COMPLETED, AttemptStatus.FAILED, AttemptStatus.CANCELLED})


class SystemStatus(StrEnum):
    """Of `socket_connection.system_status`; the wire's `processing` is stored as `crawling`."""

    IDLE = "idle"
    DISCOVERING = "discovering"
    CRAWLING = "crawling"
    ERROR = "error"

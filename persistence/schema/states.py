"""The states of jobs, entries, attempts and crawlers."""

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


class QueueStatus(StrEnum):
    """Of `job_queue.status`."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class AssignmentStatus(StrEnum):
    """Of `job_assignment_mapping.status`; live is assigned or running, `pending` is the old component's."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class SystemStatus(StrEnum):
    """Of `socket_connection.system_status`; the wire's `processing` is stored as `crawling`."""

    IDLE = "idle"
    DISCOVERING = "discovering"
    CRAWLING = "crawling"
    ERROR = "error"

"""The database after a run, read once, for the verdict."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import class_row

LOSSES = ("ConnectionLost", "Stalled", "NeverStarted", "Disowned")
ENDED = ("finished", "failed", "cancelled")

_JOBS = """
    SELECT job.id, job.status, job.command, job.full_path AS path, job.spawned_from,
           COALESCE(entry.attempts, 0) AS attempts, COALESCE(entry.losses, 0) AS losses,
           COALESCE(entry.goodbyes, 0) AS goodbyes, COALESCE(entry.max_attempts, 3) AS max_attempts
      FROM job LEFT JOIN job_queue entry ON entry.web_app_job_id = job.id
"""
_ATTEMPTS = """
    SELECT a.crawler_job_id AS fence, a.web_app_job_id AS job_id, a.connection_id, a.status,
           extract(epoch FROM a.assigned_at)::float AS assigned,
           extract(epoch FROM a.completed_at)::float AS closed, a.stale_words,
           e.error_type, e.is_recoverable
      FROM job_assignment_mapping a
      LEFT JOIN job_error_log e ON e.job_id = a.web_app_job_id AND e.context ->> 'crawler_job_id' = a.crawler_job_id
     ORDER BY a.id
"""
_CONNECTIONS = """
    SELECT id, extract(epoch FROM last_heartbeat)::float AS last_seen, extract(epoch FROM closed_at)::float AS closed,
           goodbye_at IS NOT NULL AS disconnected, lost_at IS NOT NULL AS lost
      FROM socket_connection
"""
_REJECTED = """
    SELECT COALESCE(task, 'no task') AS task, reason, detail FROM rejected_message ORDER BY id
"""


@dataclass(frozen=True)
class Job:
    """A job with the counts of its queue entry."""

    id: str
    status: str
    command: str = "issues"
    path: str | None = None
    spawned_from: str | None = None
    attempts: int = 0
    losses: int = 0
    goodbyes: int = 0
    max_attempts: int = 3


@dataclass(frozen=True)
class Attempt:
    """An attempt, with the error that closed it."""

    fence: str
    job_id: str
    connection_id: str | None
    status: str
    assigned: float
    closed: float | None
    stale_words: int = 0
    error_type: str | None = None
    is_recoverable: bool | None = None

    @property
    def is_loss(self) -> bool:
        """True if it was closed as a loss."""
        return self.error_type in LOSSES


@dataclass(frozen=True)
class Connection:
    """A crawler's connection."""

    id: str
    last_seen: float
    closed: float | None = None
    disconnected: bool = False
    lost: bool = False
    """True if its link had ended, and its crawler had not come back."""


@dataclass(frozen=True)
class Rejected:
    """A message that was kept as rejected."""

    task: str
    reason: str
    detail: str | None = None


@dataclass
class Evidence:
    """Everything that the verdict reads."""

    jobs: dict[str, Job] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    """In the order in which they were assigned."""
    connections: list[Connection] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def attempts_by_job(self) -> dict[str, list[Attempt]]:
        """Return the attempts of each job that had any."""
        by_job: defaultdict[str, list[Attempt]] = defaultdict(list)
        for attempt in self.attempts:
            by_job[attempt.job_id].append(attempt)
        return by_job


def gather(connection: psycopg.Connection[Any]) -> Evidence:
    """Read the database."""
    with connection.cursor(row_factory=class_row(Job)) as jobs:
        by_id = {job.id: job for job in jobs.execute(_JOBS)}
    with connection.cursor(row_factory=class_row(Attempt)) as cursor:
        attempts = cursor.execute(_ATTEMPTS).fetchall()
    with connection.cursor(row_factory=class_row(Connection)) as links:
        connections = links.execute(_CONNECTIONS).fetchall()
    with connection.cursor(row_factory=class_row(Rejected)) as messages:
        rejected = messages.execute(_REJECTED).fetchall()
    return Evidence(by_id, attempts, connections, rejected)

"""
How things stand, all of it read at one moment: for whoever looks, never to decide upon.

With 1,000,000 jobs and entries in memory it takes a quarter of a second (jobs 40 ms, queue 170), and is
right as of now; what takes longer is counted by upkeep (`statistics`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select, text

from persistence.db.snapshot import snapshot
from persistence.fleet.silence import is_silent
from persistence.migrations.head import require_head
from persistence.schema.tables import SocketConnection
from persistence.settings import settings

_QUEUE = text("""
    SELECT count(*) FILTER (WHERE status = 'pending' AND ready AND NOT held) AS ready,
           count(*) FILTER (WHERE status = 'pending' AND NOT ready AND NOT held) AS backed_off,
           count(*) FILTER (WHERE status = 'pending' AND held) AS held,
           count(*) FILTER (WHERE status = 'processing') AS processing,
           count(*) FILTER (WHERE status = 'completed') AS completed,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           now() - min(scheduled_at) FILTER (WHERE status = 'pending' AND ready AND NOT held) AS oldest_ready
      FROM job_queue
""")

_LIVE_ATTEMPTS = text("""
    SELECT status, count(*) FROM job_assignment_mapping WHERE completed_at IS NULL GROUP BY 1
""")

_JOBS = text("SELECT status::text, count(*) FROM job GROUP BY 1 ORDER BY 2 DESC, 1")

_HELD_ACCOUNTS = text("""
    SELECT reason, count(*) FROM (
        SELECT COALESCE(held_reason, '') AS reason FROM account_lane WHERE held_at IS NOT NULL
        UNION ALL SELECT 'paused' FROM account_lane WHERE paused_at IS NOT NULL
    ) held GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100
""")

_FAILURES = text("""
    -- error_type is the crawler's own word: there may be any number of them
    SELECT error_type, count(*) FROM job_error_log
     WHERE timestamp > now() - interval '1 hour' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100
""")

_REJECTED = text("""
    SELECT reason, count(*) FROM rejected_message
     WHERE rejected_at > now() - interval '1 hour' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100
""")

_SWEEP = text("""
    SELECT now() AS taken_at, last_sweep_at, now() - last_sweep_at AS age,
           GREATEST(grace_until - now(), interval '0') AS grace_left,
           now() - pg_postmaster_start_time() AS server_up
      FROM liveness_state
""")


@dataclass(frozen=True)
class QueueCounts:
    """Entries by state. Pending are: ready, backed off, and held (which may be ready or not)."""

    ready: int
    backed_off: int
    held: int
    processing: int
    completed: int
    failed: int
    oldest_ready: timedelta | None
    """For how long the oldest ready entry has been due; None: there is none."""

    @property
    def pending(self) -> int:
        """All that wait."""
        return self.ready + self.backed_off + self.held


@dataclass(frozen=True)
class ConnectionCounts:
    """Connections; the silent and those that said goodbye are still among the active."""

    active: int
    silent: int
    said_goodbye: int
    closed_last_hour: int
    seats: int
    """The capacity of all that may be seated on."""


@dataclass(frozen=True)
class SweepClock:
    """When the last sweep ran, by the database's clock."""

    last_sweep_at: datetime | None
    age: timedelta | None
    grace_left: timedelta | None
    """For how long nothing is taken away yet, since we were the ones who were gone."""
    server_up: timedelta
    """How long the database's server has been running."""


@dataclass(frozen=True)
class Status:
    """How things stand. What is counted by a word is in descending order."""

    taken_at: datetime
    jobs: Mapping[str, int]
    queue: QueueCounts
    held_accounts: Mapping[str, int]
    connections: ConnectionCounts
    assignments: Mapping[str, int]
    sweep: SweepClock
    failures_last_hour: Mapping[str, int]
    rejected_last_hour: Mapping[str, int]


def read_status() -> Status:
    """
    Count everything in one snapshot.

    Raises SchemaError where the schema is not at head, and the database's errors as ours.
    """
    with snapshot(settings().statement_timeout) as connection:
        require_head(connection)
        sweep = connection.execute(_SWEEP).one()
        return Status(
            taken_at=sweep.taken_at,
            jobs=_counts(connection, _JOBS),
            queue=QueueCounts(**connection.execute(_QUEUE).one()._mapping),  # noqa: SLF001 - public in spite of its name
            held_accounts=held_accounts(connection),
            connections=connection_counts(connection),
            assignments=live_attempts(connection),
            sweep=_clock(sweep),
            failures_last_hour=failures_last_hour(connection),
            rejected_last_hour=rejected_last_hour(connection),
        )


def read_sweep(connection: Connection) -> SweepClock:
    """When the last sweep ran, alone."""
    return _clock(connection.execute(_SWEEP).one())


def connection_counts(connection: Connection) -> ConnectionCounts:
    """The connections alone."""
    active, leaving = SocketConnection.is_active, SocketConnection.goodbye_at.is_not(None)
    count, capacity = func.count(), func.sum(SocketConnection.capacity)
    counts = select(
        count.filter(active),
        count.filter(active, is_silent(func.now())),
        count.filter(active, leaving),
        count.filter(SocketConnection.closed_at > func.now() - timedelta(hours=1)),
        func.coalesce(capacity.filter(active, ~leaving), 0),
    )
    return ConnectionCounts(*connection.execute(counts.select_from(SocketConnection)).one())


def live_attempts(connection: Connection) -> dict[str, int]:
    """How many attempts are assigned, and how many running."""
    return {"assigned": 0, "running": 0} | _counts(connection, _LIVE_ATTEMPTS)


def held_accounts(connection: Connection) -> dict[str, int]:
    """How many accounts are held, by the reason."""
    return _counts(connection, _HELD_ACCOUNTS)


def failures_last_hour(connection: Connection) -> dict[str, int]:
    """Error rows of the last hour, by their type."""
    return _counts(connection, _FAILURES)


def rejected_last_hour(connection: Connection) -> dict[str, int]:
    """Rejected messages of the last hour, by the reason."""
    return _counts(connection, _REJECTED)


def _clock(row: Row[Any]) -> SweepClock:
    return SweepClock(row.last_sweep_at, row.age, row.grace_left or None, row.server_up)


def _counts(connection: Connection, statement: Any) -> dict[str, int]:
    return {value: count for value, count in connection.execute(statement)}  # noqa: C416 - rows, not pairs

"""Assignments: one attempt of one job on one connection each. The fence is their crawler_job_id."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Result, text
from sqlalchemy.orm import Session

from persistence.jobs.live_counts import LiveCounts
from persistence.schema.ids import AccountId, ConnectionId, CrawlerJobId, JobId
from persistence.schema.reasons import Ending
from persistence.schema.sql import sql
from persistence.schema.states import AttemptStatus

_COLUMNS = (
    "a.crawler_job_id, a.web_app_job_id, a.connection_id, a.account_id, a.host, a.status, a.assigned_at"
)

_OPEN = text("""
    INSERT INTO job_assignment_mapping
           (id, crawler_job_id, web_app_job_id, connection_id, account_id, user_id, host, assigned_at, status)
    SELECT r.id, r.crawler_job_id, r.job_id, r.connection_id, r.account_id, r.user_id, r.host,
           clock_timestamp(), 'assigned'
      FROM jsonb_to_recordset(CAST(:rows AS jsonb))
           AS r(id text, crawler_job_id text, job_id text, connection_id text, account_id text,
                user_id text, host text)
     ORDER BY r.job_id COLLATE "C"
    ON CONFLICT (web_app_job_id) WHERE completed_at IS NULL DO NOTHING
    RETURNING web_app_job_id
""")

_FIND = sql(
    """
    SELECT $columns FROM job_assignment_mapping a WHERE a.crawler_job_id = ANY (CAST(:ids AS text[]))
""",
    columns=_COLUMNS,
)

_LIVE_OF_JOBS = sql(
    """
    SELECT $columns FROM job_assignment_mapping a
     WHERE a.web_app_job_id = ANY (CAST(:ids AS text[])) AND a.completed_at IS NULL
""",
    columns=_COLUMNS,
)

_LIVE_OF_CONNECTIONS = sql(
    """
    SELECT $columns FROM job_assignment_mapping a
     WHERE a.connection_id = ANY (CAST(:ids AS text[])) AND a.completed_at IS NULL
""",
    columns=_COLUMNS,
)

_LIVE_OF_PAUSED_ACCOUNTS = sql(
    """
    SELECT $columns FROM account_lane lane
      JOIN job_assignment_mapping a ON a.account_id = lane.account_id AND a.completed_at IS NULL
     WHERE lane.paused_at IS NOT NULL
       AND (CAST(:account_id AS text) IS NULL OR lane.account_id = CAST(:account_id AS text))
     ORDER BY a.web_app_job_id LIMIT :limit
""",
    columns=_COLUMNS,
)

_LOCK_LIVE = sql(
    """
    SELECT $columns FROM job_assignment_mapping a
     WHERE a.crawler_job_id = ANY (CAST(:ids AS text[])) AND a.status IN $attempt_live
     ORDER BY a.id FOR NO KEY UPDATE
""",
    columns=_COLUMNS,
)

_LOCK_FOR_DISCOVERY = text("""
    SELECT a.discoveries FROM job_assignment_mapping a
     WHERE a.crawler_job_id = :fence AND a.connection_id = :connection_id
       AND (a.completed_at IS NULL
            OR a.status = 'completed' AND NOT EXISTS (
                   SELECT FROM job_assignment_mapping later
                    WHERE later.web_app_job_id = a.web_app_job_id AND later.assigned_at > a.assigned_at))
       FOR NO KEY UPDATE OF a
""")

_DISCOVERIES = text("""
    SELECT crawler_job_id, discoveries FROM job_assignment_mapping
     WHERE crawler_job_id = ANY (CAST(:ids AS text[]))
""")

_RECORD_DISCOVERY = text("""
    UPDATE job_assignment_mapping
       SET discoveries = CASE WHEN jsonb_array_length(discoveries) < :limit
                              THEN discoveries ELSE discoveries - 0 END || CAST(:discovery AS jsonb)
     WHERE crawler_job_id = :fence
""")

_MAX_DISCOVERIES = 5000
"""So many are listed; who says an older one again has it applied again, which changes nothing."""

_CLOSE = sql("""
    UPDATE job_assignment_mapping SET status = :status, completed_at = clock_timestamp()
     WHERE crawler_job_id = ANY (CAST(:ids AS text[])) AND status IN $attempt_live
""")

_MARK_RUNNING = sql("""
    UPDATE job_assignment_mapping SET status = 'running', progressed_at = clock_timestamp()
     WHERE crawler_job_id = ANY (CAST(:ids AS text[])) AND status IN $attempt_live
""")

_COUNT_STALE = text("""
    WITH stale AS (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:frames AS int[])) AS s(crawler_job_id, frames)
    ), locked AS (
        SELECT id FROM job_assignment_mapping
         WHERE crawler_job_id = ANY (CAST(:ids AS text[])) ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE job_assignment_mapping a SET stale_words = a.stale_words + stale.frames
      FROM locked, stale
     WHERE a.id = locked.id AND stale.crawler_job_id = a.crawler_job_id
""")

_MARK_ABSENT = text("""
    -- A crawler that lists its jobs disowns what it leaves out, if it had been given it by then.
    WITH listed AS (
        SELECT a.id, CASE WHEN c.reported_jobs ? a.crawler_job_id THEN NULL
                          WHEN a.assigned_at < c.reported_at THEN COALESCE(a.absent_since, c.reported_at)
                     END AS absent_since
          FROM socket_connection c
          JOIN job_assignment_mapping a ON a.connection_id = c.id AND a.completed_at IS NULL
         WHERE c.is_active AND jsonb_typeof(c.reported_jobs) = 'array'
    ), locked AS (
        SELECT a.id, listed.absent_since FROM job_assignment_mapping a JOIN listed ON listed.id = a.id
         WHERE a.absent_since IS DISTINCT FROM listed.absent_since AND a.completed_at IS NULL
         ORDER BY a.id LIMIT :limit FOR NO KEY UPDATE OF a SKIP LOCKED
    )
    UPDATE job_assignment_mapping a SET absent_since = locked.absent_since FROM locked WHERE a.id = locked.id
""")

_OVERDUE_ENDING = """
    CASE WHEN a.absent_since < CAST(:as_of AS timestamptz) - CAST(:absence AS interval)
              AND c.reported_at > a.absent_since AND NOT c.reported_jobs ? a.crawler_job_id THEN 'Disowned'
         -- What was lost with an outage of ours is not held against anybody: time runs from its end.
         WHEN GREATEST(CASE a.status WHEN 'running' THEN a.progressed_at ELSE a.assigned_at END,
                       CAST(:not_before AS timestamptz))
              < CAST(:as_of AS timestamptz) - CAST(:stall AS interval) THEN 'Stalled'
         -- A crawler that names the job in its list has it, and will come to it.
         WHEN a.status = 'assigned' AND NOT COALESCE(c.reported_jobs ? a.crawler_job_id, false)
              AND GREATEST(a.assigned_at, CAST(:not_before AS timestamptz))
              < CAST(:as_of AS timestamptz) - CAST(:start AS interval) THEN 'NeverStarted' END
"""

_OVERDUE = sql(
    """
    SELECT * FROM (
        SELECT $columns, $ending AS ending
          FROM job_assignment_mapping a JOIN socket_connection c ON c.id = a.connection_id AND c.is_active
         WHERE a.completed_at IS NULL
           AND (CAST(:connections AS text[]) IS NULL OR a.connection_id = ANY (CAST(:connections AS text[])))
    ) overdue WHERE ending IS NOT NULL ORDER BY crawler_job_id LIMIT :limit
""",
    columns=_COLUMNS,
    ending=_OVERDUE_ENDING,
)


@dataclass(frozen=True)
class NewAttempt:
    """An assignment to be made."""

    id: str
    crawler_job_id: CrawlerJobId
    job_id: JobId
    connection_id: ConnectionId
    account_id: AccountId
    user_id: str | None
    host: str


class Attempt(NamedTuple):
    """An assignment as it was read."""

    crawler_job_id: CrawlerJobId
    job_id: JobId
    connection_id: ConnectionId
    account_id: AccountId
    host: str
    status: AttemptStatus
    assigned_at: datetime


@dataclass(frozen=True)
class OverdueLimits:
    """How long an attempt may keep silent in its ways, and as of when that is judged."""

    as_of: datetime
    not_before: datetime | None
    """The end of the last outage of ours: what is older is as old as this."""
    absence: timedelta
    stall: timedelta
    start: timedelta


class Attempts:
    """The table `job_assignment_mapping`."""

    def __init__(self, session: Session, live_counts: LiveCounts) -> None:
        self._session = session
        self._live_counts = live_counts

    def open(self, new_attempts: Collection[NewAttempt]) -> set[JobId]:
        """Open attempts; returns the jobs that got one. One that has a live attempt already gets none."""
        rows = json.dumps([vars(new_attempt) for new_attempt in new_attempts])
        opened = set(self._session.scalars(_OPEN, {"rows": rows}).all())
        for new_attempt in new_attempts:
            if new_attempt.job_id in opened:
                self._live_counts.record(new_attempt.account_id, new_attempt.host, 1)
        return opened

    def find(self, ids: Iterable[CrawlerJobId]) -> dict[CrawlerJobId, Attempt]:
        """The attempts of these fences, live or not, without a lock: their job never changes."""
        return _by_fence(self._session.execute(_FIND, {"ids": sorted(set(ids))}))

    def live_of_jobs(self, job_ids: Iterable[JobId]) -> dict[CrawlerJobId, Attempt]:
        """The live attempts of these jobs, without a lock."""
        return _by_fence(self._session.execute(_LIVE_OF_JOBS, {"ids": list(job_ids)}))

    def live_of_connections(self, ids: Iterable[ConnectionId]) -> dict[CrawlerJobId, Attempt]:
        """The live attempts on these connections, without a lock; exact while the caller locks those."""
        return _by_fence(self._session.execute(_LIVE_OF_CONNECTIONS, {"ids": list(ids)}))

    def live_of_paused_accounts(self, limit: int, account_id: AccountId | None = None) -> list[Attempt]:
        """At most *limit* live attempts of paused accounts, or of this one if it is paused; without a lock."""
        values = {"limit": limit, "account_id": account_id}
        return [_attempt(row) for row in self._session.execute(_LIVE_OF_PAUSED_ACCOUNTS, values)]

    def lock_live(self, ids: Iterable[CrawlerJobId]) -> dict[CrawlerJobId, Attempt]:
        """Lock those of the attempts that are live, in id order; a closed one never lives again."""
        return _by_fence(self._session.execute(_LOCK_LIVE, {"ids": sorted(set(ids))}))

    def lock_fenced(
        self, reported: Collection[tuple[ConnectionId, CrawlerJobId]]
    ) -> dict[tuple[ConnectionId, CrawlerJobId], Attempt]:
        """
        Hold the fence: lock the attempts that are live *and of the connection that speaks*.

        What is not returned was said by a stranger, or for an attempt that is closed.
        """
        live = self.lock_live(crawler_job_id for _, crawler_job_id in reported)
        return {
            (connection_id, fence): live[fence]
            for connection_id, fence in reported
            if fence in live and live[fence].connection_id == connection_id
        }

    def lock_for_discovery(
        self, fence: CrawlerJobId, connection_id: ConnectionId
    ) -> set[tuple[str, str]] | None:
        """
        Hold the fence for a discovery; returns the (timestamp, digest) of those that were applied.

        None: the attempt is not of the connection that speaks, or is neither live nor completed and its
        job's last. The caller has locked the job's entry, so that no later attempt begins.
        """
        row = self._session.execute(_LOCK_FOR_DISCOVERY, {"fence": fence, "connection_id": connection_id})
        found = row.one_or_none()
        return None if found is None else _discovery_keys(found.discoveries)

    def applied_discoveries(self, ids: Collection[CrawlerJobId]) -> dict[CrawlerJobId, set[tuple[str, str]]]:
        """The (timestamp, digest) of the discoveries that were applied, by attempt."""
        rows = self._session.execute(_DISCOVERIES, {"ids": list(ids)}) if ids else ()
        return {row.crawler_job_id: _discovery_keys(row.discoveries) for row in rows}

    def record_discovery(self, fence: CrawlerJobId, timestamp: str, digest: str) -> None:
        """List a discovery as applied on its attempt, which the caller has locked."""
        discovery = json.dumps({"timestamp": timestamp, "digest": digest})
        self._session.execute(
            _RECORD_DISCOVERY, {"fence": fence, "discovery": discovery, "limit": _MAX_DISCOVERIES}
        )

    def close(self, attempts: Collection[Attempt], status: AttemptStatus) -> None:
        """Close live attempts that the caller has locked."""
        ids = [attempt.crawler_job_id for attempt in attempts]
        self._session.execute(_CLOSE, {"ids": ids, "status": status.value})
        for attempt in attempts:
            self._live_counts.record(attempt.account_id, attempt.host, -1)

    def mark_running(self, ids: Iterable[CrawlerJobId]) -> None:
        """Attempts that the caller has locked go on: running, and progressed just now."""
        if fences := list(ids):
            self._session.execute(_MARK_RUNNING, {"ids": fences})

    def count_stale(self, frames: dict[CrawlerJobId, int]) -> None:
        """Count words that came too late, or from a stranger, on the attempts that they named."""
        if not frames:
            return
        self._session.execute(_COUNT_STALE, {"ids": list(frames), "frames": list(frames.values())})

    def mark_absent(self, limit: int) -> None:
        """Note which attempts are missing from their crawler's own list, and which are back in it."""
        self._session.execute(_MARK_ABSENT, {"limit": limit})

    def overdue(
        self, limits: OverdueLimits, limit: int, connections: Sequence[ConnectionId] | None = None
    ) -> list[tuple[Attempt, Ending]]:
        """Attempts disowned, stalled or never started, of these connections or of all, without a lock."""
        rows = self._session.execute(_OVERDUE, asdict(limits) | {"limit": limit, "connections": connections})
        return [(_attempt(attempt), Ending(ending)) for *attempt, ending in rows]


def _discovery_keys(discoveries: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(discovery["timestamp"], discovery["digest"]) for discovery in discoveries}


def _by_fence(found: Result[Any]) -> dict[CrawlerJobId, Attempt]:
    return {attempt.crawler_job_id: attempt for attempt in map(_attempt, found.all())}


def _attempt(row: Iterable[Any]) -> Attempt:
    # Unpacked: by name, a row costs three times as much.
    fence, job_id, connection_id, account_id, host, status, assigned_at = row
    return Attempt(fence, job_id, connection_id, account_id, host, AttemptStatus(status), assigned_at)

"""
Attempts: each is one try of one job on one connection, and its crawler_job_id is the fence.

A closed attempt never becomes live again, so what was locked as live stays live until the transaction ends.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Result, func, select, update
from sqlalchemy.orm import Session

from persistence.jobs.live_counts import LiveCounts
from persistence.schema.ids import AccountId, ConnectionId, CrawlerJobId, JobId
from persistence.schema.sql import among, literal, one_of, sql
from persistence.schema.states import ATTEMPT_LIVE, AttemptStatus
from persistence.schema.tables import Assignment

_OPEN = sql("""
    INSERT INTO job_assignment_mapping
           (id, crawler_job_id, web_app_job_id, connection_id, account_id, user_id, host, gitlab_url, assigned_at,
            status)
    SELECT id, crawler_job_id, web_app_job_id, connection_id, account_id, user_id, host, gitlab_url,
           clock_timestamp(), $attempt_assigned
      FROM jsonb_populate_recordset(NULL::job_assignment_mapping, CAST(:rows AS jsonb))
     ORDER BY web_app_job_id COLLATE "C"
    ON CONFLICT (web_app_job_id) WHERE $live DO NOTHING
    RETURNING web_app_job_id
""")

_ATTEMPT = select(
    Assignment.crawler_job_id,
    Assignment.web_app_job_id,
    Assignment.connection_id,
    Assignment.account_id,
    Assignment.host,
    Assignment.status,
    Assignment.assigned_at,
)
"""The columns of an `Attempt`, in its order."""

COLUMNS = "a.crawler_job_id, a.web_app_job_id, a.connection_id, a.account_id, a.host, a.status, a.assigned_at"
"""The same, for statements that are text."""

# These two read the partial indexes of live attempts: the predicate stands there in the same words.
_IS_LIVE = Assignment.completed_at.is_(None)
_LIVE_OF_JOBS = _ATTEMPT.where(among(Assignment.web_app_job_id), _IS_LIVE)
_LIVE_OF_CONNECTIONS = _ATTEMPT.where(among(Assignment.connection_id), _IS_LIVE)

# These find attempts by their fence. By status, so that no index of live attempts serves them: see LIVE in schema/sql.
_HAS_LIVE_STATUS = one_of(Assignment.status, ATTEMPT_LIVE)
_OF_FENCES = among(Assignment.crawler_job_id)
_FIND = _ATTEMPT.where(_OF_FENCES)
_LOCK_LIVE = (
    _ATTEMPT.where(_OF_FENCES, _HAS_LIVE_STATUS).order_by(Assignment.id).with_for_update(key_share=True)
)

_LIVE_OF_PAUSED_ACCOUNTS = sql(
    """
    SELECT $columns FROM account_lane queue
      JOIN job_assignment_mapping a ON a.account_id = queue.account_id AND a.$live
     WHERE queue.paused_at IS NOT NULL
       AND (CAST(:account_id AS text) IS NULL OR queue.account_id = CAST(:account_id AS text))
     ORDER BY a.web_app_job_id LIMIT :limit
    """,
    columns=COLUMNS,
)

_LOCK_FOR_DISCOVERY = sql("""
    SELECT a.discoveries FROM job_assignment_mapping a
     WHERE a.crawler_job_id = :fence AND a.connection_id = :connection_id
       AND (a.$live
            OR a.status = $attempt_completed AND NOT EXISTS (
                   SELECT FROM job_assignment_mapping later
                    WHERE later.web_app_job_id = a.web_app_job_id AND later.assigned_at > a.assigned_at))
       FOR NO KEY UPDATE OF a
""")

_DISCOVERIES = select(Assignment.crawler_job_id, Assignment.discoveries).where(_OF_FENCES)

_RECORD_DISCOVERY = sql("""
    UPDATE job_assignment_mapping
       SET progressed_at = CASE WHEN :advances THEN clock_timestamp() ELSE progressed_at END,
           discoveries = CASE WHEN jsonb_array_length(discoveries) < :limit
                              THEN discoveries ELSE discoveries - 0 END || CAST(:discovery AS jsonb)
     WHERE crawler_job_id = :fence
""")

_MAX_DISCOVERIES = 5000
"""The most that an attempt lists. An older one that is sent again is applied again, which changes nothing."""

_CLOSE = (
    update(Assignment)
    .where(_OF_FENCES, _HAS_LIVE_STATUS)
    .values(completed_at=func.clock_timestamp())
    .execution_options(synchronize_session=False)
)

_MARK_RUNNING = (
    update(Assignment)
    .where(_OF_FENCES, _HAS_LIVE_STATUS)
    .values(status=literal(AttemptStatus.RUNNING), progressed_at=func.clock_timestamp())
    .execution_options(synchronize_session=False)
)

_SET_HOSTS = sql("""
    UPDATE job_assignment_mapping a SET host = named.host
      FROM unnest(CAST(:ids AS text[]), CAST(:hosts AS text[])) AS named(fence, host)
     WHERE a.crawler_job_id = named.fence
""")

_COUNT_STALE = sql("""
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


@dataclass(frozen=True)
class NewAttempt:
    """An attempt to open, by column."""

    id: str
    crawler_job_id: CrawlerJobId
    web_app_job_id: JobId
    connection_id: ConnectionId
    account_id: AccountId
    user_id: str | None
    host: str
    gitlab_url: str
    """The origin that was approved for the account's token."""


class Attempt(NamedTuple):
    """An attempt as it was read."""

    crawler_job_id: CrawlerJobId
    job_id: JobId
    connection_id: ConnectionId
    account_id: AccountId
    host: str
    status: AttemptStatus
    assigned_at: datetime


class Attempts:
    """The table `job_assignment_mapping`."""

    def __init__(self, session: Session, live_counts: LiveCounts) -> None:
        self._session = session
        self._live_counts = live_counts

    def open(self, new_attempts: Collection[NewAttempt]) -> set[JobId]:
        """Open attempts; return the jobs that got one. A job that has a live attempt gets none."""
        rows = json.dumps([vars(new_attempt) for new_attempt in new_attempts])
        opened = set(self._session.scalars(_OPEN, {"rows": rows}).all())
        for new_attempt in new_attempts:
            if new_attempt.web_app_job_id in opened:
                self._live_counts.record(new_attempt.account_id, new_attempt.host, 1)
        return opened

    def find(self, ids: Iterable[CrawlerJobId]) -> dict[CrawlerJobId, Attempt]:
        """Return the attempts of these fences, live or not, without a lock: the job of an attempt never changes."""
        return _by_fence(self._session.execute(_FIND, {"ids": sorted(set(ids))}))

    def live_of_jobs(self, job_ids: Iterable[JobId]) -> dict[CrawlerJobId, Attempt]:
        """Return the live attempts of these jobs, without a lock."""
        return _by_fence(self._session.execute(_LIVE_OF_JOBS, {"ids": list(job_ids)}))

    def live_of_connections(self, ids: Iterable[ConnectionId]) -> dict[CrawlerJobId, Attempt]:
        """Return the live attempts on these connections, without a lock; exact if the caller has locked those."""
        return _by_fence(self._session.execute(_LIVE_OF_CONNECTIONS, {"ids": list(ids)}))

    def live_of_paused_accounts(self, limit: int, account_id: AccountId | None = None) -> list[Attempt]:
        """Return at most *limit* live attempts of paused accounts, or of this one if it is paused; without a lock."""
        values = {"limit": limit, "account_id": account_id}
        return [attempt_of(row) for row in self._session.execute(_LIVE_OF_PAUSED_ACCOUNTS, values)]

    def lock_live(self, ids: Iterable[CrawlerJobId]) -> dict[CrawlerJobId, Attempt]:
        """Lock those of the attempts that are live, in id order."""
        return _by_fence(self._session.execute(_LOCK_LIVE, {"ids": sorted(set(ids))}))

    def lock_fenced(
        self, reported: Collection[tuple[ConnectionId, CrawlerJobId]]
    ) -> dict[tuple[ConnectionId, CrawlerJobId], Attempt]:
        """
        Enforce the fence: lock the attempts that are live *and belong to the connection that reports on them*.

        What is missing from the result is stale: the attempt is closed, or another connection's.
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
        Enforce the fence for a discovery; return the (timestamp, digest) of the discoveries applied before.

        None: the attempt belongs to another connection, or is neither live nor completed and the last of its job.
        The caller has locked the entry of the job, so that no later attempt begins.
        """
        row = self._session.execute(_LOCK_FOR_DISCOVERY, {"fence": fence, "connection_id": connection_id})
        found = row.one_or_none()
        return None if found is None else _discovery_keys(found.discoveries)

    def applied_discoveries(self, ids: Collection[CrawlerJobId]) -> dict[CrawlerJobId, set[tuple[str, str]]]:
        """Return the (timestamp, digest) of the applied discoveries, by attempt."""
        rows = self._session.execute(_DISCOVERIES, {"ids": list(ids)}) if ids else ()
        return {CrawlerJobId(fence): _discovery_keys(discoveries) for fence, discoveries in rows}

    def record_discovery(self, fence: CrawlerJobId, timestamp: str, digest: str, *, advances: bool) -> None:
        """List a discovery as applied on its attempt, which the caller has locked; *advances*: it found something."""
        discovery = json.dumps({"timestamp": timestamp, "digest": digest})
        self._session.execute(
            _RECORD_DISCOVERY,
            {"fence": fence, "discovery": discovery, "limit": _MAX_DISCOVERIES, "advances": advances},
        )

    def close(self, attempts: Collection[Attempt], status: AttemptStatus) -> None:
        """Close live attempts, which the caller has locked, with this status."""
        fences = [attempt.crawler_job_id for attempt in attempts]
        self._session.execute(_CLOSE.values(status=literal(status)), {"ids": fences})
        for attempt in attempts:
            self._live_counts.record(attempt.account_id, attempt.host, -1)

    def set_hosts(self, hosts: Mapping[CrawlerJobId, str], attempts: Mapping[CrawlerJobId, Attempt]) -> None:
        """Set the host of these of the live *attempts*, which the caller has locked: their GitLab has another name."""
        if not hosts:
            return
        self._session.execute(_SET_HOSTS, {"ids": list(hosts), "hosts": list(hosts.values())})
        for fence, host in hosts.items():
            attempt = attempts[fence]
            self._live_counts.record(attempt.account_id, attempt.host, -1)
            self._live_counts.record(attempt.account_id, host, 1)

    def mark_running(self, ids: Iterable[CrawlerJobId]) -> None:
        """Mark attempts, which the caller has locked, as running and as having advanced now."""
        if fences := list(ids):
            self._session.execute(_MARK_RUNNING, {"ids": fences})

    def count_stale(self, frames: dict[CrawlerJobId, int]) -> None:
        """Add numbers of stale frames to the attempts that they named."""
        if not frames:
            return
        self._session.execute(_COUNT_STALE, {"ids": list(frames), "frames": list(frames.values())})


def attempt_of(row: Iterable[Any]) -> Attempt:
    """Return the attempt in a row of `COLUMNS`."""
    # Unpacked: reading a row by name costs three times as much.
    fence, job_id, connection_id, account_id, host, status, assigned_at = row
    return Attempt(fence, job_id, connection_id, account_id, host, AttemptStatus(status), assigned_at)


def _by_fence(found: Result[Any]) -> dict[CrawlerJobId, Attempt]:
    return {attempt.crawler_job_id: attempt for attempt in map(attempt_of, found.all())}


def _discovery_keys(discoveries: list[dict[str, str]]) -> set[tuple[str, str]]:
    return {(discovery["timestamp"], discovery["digest"]) for discovery in discoveries}

"""
Attempts that are overdue although their connection is alive: disowned, stalled, too old or never started.

A crawler that lists its jobs disowns those that it leaves out. It must leave a job out twice, with the grace
between: `absent_since` is the time of the first list without the job.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from persistence.attempts.attempts import COLUMNS, Attempt, attempt_of
from persistence.schema.ids import ConnectionId
from persistence.schema.reasons import Ending
from persistence.schema.sql import fragment, sql

_MARK_ABSENT = sql("""
    -- A list that is older than the assignment could not contain the job.
    WITH listed AS (
        SELECT a.id, CASE WHEN c.reported_jobs ? a.crawler_job_id THEN NULL
                          WHEN a.assigned_at < c.reported_at THEN COALESCE(a.absent_since, c.reported_at)
                     END AS absent_since
          FROM socket_connection c
          JOIN job_assignment_mapping a ON a.connection_id = c.id AND a.$live
         WHERE c.is_active AND jsonb_typeof(c.reported_jobs) = 'array'
    ), locked AS (
        SELECT a.id, listed.absent_since FROM job_assignment_mapping a JOIN listed ON listed.id = a.id
         WHERE a.absent_since IS DISTINCT FROM listed.absent_since AND a.$live
         ORDER BY a.id LIMIT :limit FOR NO KEY UPDATE OF a SKIP LOCKED
    )
    UPDATE job_assignment_mapping a SET absent_since = locked.absent_since FROM locked WHERE a.id = locked.id
""")

_OVERDUE_ENDING = fragment(
    """
    CASE WHEN a.absent_since < CAST(:as_of AS timestamptz) - CAST(:absence AS interval)
              AND c.reported_at > a.absent_since AND NOT c.reported_jobs ? a.crawler_job_id THEN '$disowned'
         -- Time that was lost in an outage of ours does not count: these limits run from its end.
         WHEN GREATEST(CASE a.status WHEN $attempt_running THEN a.progressed_at ELSE a.assigned_at END,
                       CAST(:not_before AS timestamptz))
              < CAST(:as_of AS timestamptz) - CAST(:stall AS interval) THEN '$stalled'
         -- An outage of ours prolongs no attempt: often enough repeated, it would live for ever.
         WHEN a.assigned_at < CAST(:as_of AS timestamptz) - CAST(:age AS interval) THEN '$too_old'
         -- A crawler that lists the job has it, and will start it.
         WHEN a.status = $attempt_assigned AND NOT COALESCE(c.reported_jobs ? a.crawler_job_id, false)
              AND GREATEST(a.assigned_at, CAST(:not_before AS timestamptz))
              < CAST(:as_of AS timestamptz) - CAST(:start AS interval) THEN '$never_started' END
    """,
    disowned=Ending.DISOWNED,
    stalled=Ending.STALLED,
    too_old=Ending.TOO_OLD,
    never_started=Ending.NEVER_STARTED,
)

_OVERDUE = sql(
    """
    SELECT * FROM (
        SELECT $columns, $ending AS ending
          FROM job_assignment_mapping a JOIN socket_connection c ON c.id = a.connection_id AND c.is_active
         WHERE a.$live
           AND (CAST(:connections AS text[]) IS NULL OR a.connection_id = ANY (CAST(:connections AS text[])))
    ) overdue WHERE ending IS NOT NULL ORDER BY crawler_job_id LIMIT :limit
    """,
    columns=COLUMNS,
    ending=_OVERDUE_ENDING,
)


@dataclass(frozen=True)
class OverdueLimits:
    """How long an attempt may be without a sign of its job, and as of when that is judged."""

    as_of: datetime
    not_before: datetime | None
    """The end of the last outage of ours: what is older counts from then."""
    absence: timedelta
    """Missing from the list that its crawler reports."""
    stall: timedelta
    """Running without progress that advances."""
    age: timedelta
    """Assigned at all."""
    start: timedelta
    """Assigned without a start."""


class OverdueAttempts:
    """Live attempts that are overdue, and the column `absent_since` of all."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def mark_absent(self, limit: int) -> None:
        """Note which attempts are missing from the lists of their crawlers, and which are back; *limit* at a time."""
        self._session.execute(_MARK_ABSENT, {"limit": limit})

    def find(
        self, limits: OverdueLimits, limit: int, connections: Sequence[ConnectionId] | None = None
    ) -> list[tuple[Attempt, Ending]]:
        """Return overdue attempts, of these connections or of all, and why they are; without a lock."""
        rows = self._session.execute(_OVERDUE, asdict(limits) | {"limit": limit, "connections": connections})
        return [(attempt_of(attempt), Ending(ending)) for *attempt, ending in rows]

"""
Expensive counts, taken periodically and stored in the table `statistic` with their time.

With 1,000,000 jobs and entries and 680,000 attempts (PostgreSQL 18, two cores, all in memory), jobs by command and
status take 204 ms, entries by account and state 500 ms, and the attempts of the last minutes 131 ms; all of it in one
statement takes 0.9 s. Areas (11 ms), 300,000 authorizations (10 ms) and deferred jobs are cheap, and are included so
that all counts are of one moment. Not included, because readers can count them: connections, live attempts (14 ms),
and errors of the last hour.

One statement reads one snapshot: a job that changes during the count is counted once, and its entry and attempts are
as of the same moment.
"""

import json
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from persistence.schema.sql import fragment, sql

THROUGHPUT_WINDOW = timedelta(minutes=5)

BUSIEST = 20
"""How many accounts are listed."""

STATE = fragment("""
    CASE WHEN status <> $entry_pending THEN status
         WHEN held THEN 'held' WHEN ready THEN 'ready' ELSE 'backed_off' END
""")
"""The state of an entry; a pending one is ready, backed off or parked (`held`)."""

SINCE = fragment("""
    COALESCE(settled_at, CASE WHEN status = $entry_pending AND ready THEN scheduled_at END,
             last_attempt_at, scheduled_at)
""")
"""Since when it has been in that state, as far as the table shows: settled, due, or last attempted."""

_TIMEOUT = text("SELECT set_config('statement_timeout', :timeout, true)")

_TAKE = sql(
    """
    WITH entry AS (
        SELECT account_id, $state AS state, count(*) AS entries, min($since) AS since,
               count(*) FILTER (WHERE settled_at > statement_timestamp() - CAST(:window AS interval)) AS settled,
               count(*) FILTER (WHERE settled_at > statement_timestamp() - CAST(:window AS interval)
                                      AND error = $job_cancelled) AS cancelled
          FROM job_queue GROUP BY 1, 2
    ), deferred AS (
        SELECT account_id, 'deferred' AS state, count(*) AS entries, min(deferred_at) AS since
          FROM deferred_job GROUP BY 1
    ), waiting AS (
        SELECT account_id, state, entries, since FROM entry UNION ALL SELECT * FROM deferred
    ), depth AS (
        SELECT state, sum(entries) AS entries, min(since) AS since FROM waiting GROUP BY 1
    ), account_depth AS (
        SELECT account_id, jsonb_object_agg(state, entries) AS entries,
               COALESCE(sum(entries) FILTER (WHERE state NOT IN $entry_settled), 0) AS unsettled
          FROM waiting GROUP BY 1
    ), busiest AS (
        SELECT * FROM account_depth WHERE unsettled > 0
         ORDER BY unsettled DESC, account_id COLLATE "C" LIMIT :busiest
    ), command AS (
        SELECT command, jsonb_object_agg(status, jobs) AS jobs
          FROM (SELECT command::text AS command, status::text AS status, count(*) AS jobs
                  FROM job GROUP BY 1, 2) job
         GROUP BY 1
    ), attempt AS (
        SELECT count(*) FILTER (WHERE assigned_at > statement_timestamp() - CAST(:window AS interval)) AS begun,
               count(*) FILTER (WHERE completed_at > statement_timestamp() - CAST(:window AS interval)) AS ended
          FROM job_assignment_mapping
    ), statistic_now (name, value) AS (
        SELECT 'jobs', COALESCE(jsonb_object_agg(command, jobs), '{}') FROM command
        UNION ALL
        SELECT 'queue', COALESCE(jsonb_object_agg(state, jsonb_build_object(
                   'entries', entries, 'oldest', extract(epoch FROM statement_timestamp() - since))), '{}')
          FROM depth
        UNION ALL
        SELECT 'accounts', jsonb_build_object(
                   'accounts', count(*), 'with_work', count(*) FILTER (WHERE unsettled > 0),
                   'busiest', (SELECT COALESCE(jsonb_agg(
                                          jsonb_build_object('account_id', account_id, 'entries', entries)
                                          ORDER BY unsettled DESC, account_id COLLATE "C"), '[]') FROM busiest))
          FROM account_depth
        UNION ALL
        SELECT 'areas', COALESCE(jsonb_object_agg(type, areas), '{}')
          FROM (SELECT type::text AS type, count(*) AS areas FROM area GROUP BY 1) area
        UNION ALL
        SELECT 'authorizations', to_jsonb(count(*)) FROM area_authorization
        UNION ALL
        SELECT 'throughput', jsonb_build_object(
                   'seconds', extract(epoch FROM CAST(:window AS interval)),
                   'jobs_finished', COALESCE(sum(settled) FILTER (WHERE state = $entry_completed), 0),
                   'jobs_failed', COALESCE(sum(settled - cancelled) FILTER (WHERE state = $entry_failed), 0),
                   'jobs_cancelled', COALESCE(sum(cancelled), 0),
                   'attempts_begun', (SELECT begun FROM attempt), 'attempts_ended', (SELECT ended FROM attempt))
          FROM entry
    )
    INSERT INTO statistic (name, value, taken_at)
    SELECT name, value, statement_timestamp() FROM statistic_now
    ON CONFLICT (name) DO UPDATE SET value = excluded.value, taken_at = excluded.taken_at
    """,
    state=STATE,
    since=SINCE,
)


BEYOND_BOUNDS = "beyond_bounds"
"""The statistic that adds up, by table, the rows that were deleted since there were too many."""

REFUSED = "refused_beyond_bounds"
"""The statistic that adds up, by table, the rows that were refused since there were too many."""

_TAKE_OPEN = text("""
    INSERT INTO statistic (name, value, taken_at)
    SELECT 'open_connections', to_jsonb(count(*)), statement_timestamp() FROM socket_connection WHERE is_active
    ON CONFLICT (name) DO UPDATE SET value = excluded.value, taken_at = excluded.taken_at
""")

_AREAS = text("""
    SELECT COALESCE((SELECT sum(CAST(areas.value AS bigint)) FROM jsonb_each_text(statistic.value) areas), 0)
      FROM statistic WHERE name = 'areas'
""")

_ADD_BEYOND_BOUNDS = sql("""
    INSERT INTO statistic (name, value, taken_at) VALUES (:name, CAST(:counts AS jsonb), statement_timestamp())
    ON CONFLICT (name) DO UPDATE
       SET taken_at = excluded.taken_at,
           value = (SELECT jsonb_object_agg(key, total)
                      FROM (SELECT key, sum(CAST(value AS bigint)) AS total
                              FROM (SELECT * FROM jsonb_each_text(statistic.value)
                                    UNION ALL SELECT * FROM jsonb_each_text(excluded.value)) counted
                             GROUP BY key) summed)
""")


class Statistics:
    """The table `statistic`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add_beyond_bounds(self, deleted: Mapping[str, int]) -> None:
        """Add to the rows, by table, that were deleted since there were too many."""
        self._session.execute(_ADD_BEYOND_BOUNDS, {"name": BEYOND_BOUNDS, "counts": json.dumps(deleted)})

    def add_refused(self, refused: Mapping[str, int]) -> None:
        """Add to the rows, by table, that were refused since there were too many; the commit must follow at once."""
        self._session.execute(_ADD_BEYOND_BOUNDS, {"name": REFUSED, "counts": json.dumps(refused)})

    def take_open_connections(self) -> None:
        """Count the open connections, for the bound on them."""
        self._session.execute(_TAKE_OPEN)

    def counted_areas(self) -> int:
        """How many areas there were when they were last counted; 0 if they never were."""
        return int(self._session.scalars(_AREAS).one_or_none() or 0)

    def take(self, timeout: timedelta) -> None:
        """Count everything in one statement. *timeout* also limits the later statements of the unit."""
        self._session.execute(_TIMEOUT, {"timeout": f"{timeout.total_seconds() * 1000:.0f}ms"})
        self._session.execute(_TAKE, {"window": THROUGHPUT_WINDOW, "busiest": BUSIEST})

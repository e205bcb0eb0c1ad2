"""Attempts: one at a time, on a live connection, for an entry that is being processed."""

from persistence.audit.checks.check import Check
from persistence.jobs.live_counts import MISCOUNTED
from persistence.schema.reasons import Ending
from persistence.schema.sql import fragment

CHECKS = (
    Check(
        "one_live_attempt",
        "A job has at most one live attempt.",
        fragment("""
            SELECT web_app_job_id AS id FROM job_assignment_mapping WHERE $live
             GROUP BY web_app_job_id HAVING count(*) > 1
        """),
    ),
    Check(
        "live_attempt_in_queue",
        "A live attempt belongs to a job whose queue entry is processing.",
        fragment("""
            SELECT a.crawler_job_id AS id
              FROM (SELECT * FROM job_assignment_mapping WHERE $live) a
              LEFT JOIN job_queue q ON q.web_app_job_id = a.web_app_job_id
             WHERE q.status IS DISTINCT FROM $entry_processing
        """),
    ),
    Check(
        "live_attempt_connected",
        "A live attempt is on an active connection.",
        fragment("""
            SELECT a.crawler_job_id AS id
              FROM (SELECT * FROM job_assignment_mapping WHERE $live) a
              LEFT JOIN socket_connection c ON c.id = a.connection_id
             WHERE c.is_active IS NOT TRUE
        """),
    ),
    Check(
        "attempts_in_turn",
        "An attempt begins after the earlier attempts of its job have ended, by the database's clock.",
        """
            SELECT id FROM (
                SELECT crawler_job_id AS id, assigned_at,
                       lag(COALESCE(completed_at, 'infinity'))
                           OVER (PARTITION BY web_app_job_id ORDER BY assigned_at, id) AS ended_at
                  FROM job_assignment_mapping WHERE connection_id IS NOT NULL) a
             WHERE assigned_at < ended_at
        """,
    ),
    Check(
        "attempt_closed",
        "An attempt has a known status, and ended after it began unless it is live.",
        fragment("""
            SELECT crawler_job_id AS id FROM job_assignment_mapping
             WHERE status NOT IN $attempt_live AND status NOT IN $attempt_ended
                OR (status IN $attempt_live) <> ($live)
                OR connection_id IS NOT NULL AND (assigned_at IS NULL OR completed_at < assigned_at)
        """),
    ),
    Check(
        "too_old_attempt_queued_again",
        "A job whose last attempt ended because it took too long waits again, unless it was lost too often or has been "
        "ended since.",
        fragment(
            """
            -- Who ends a job later, the web app or a command, leaves its status as the error of the entry.
            SELECT last.crawler_job_id AS id
              FROM (SELECT DISTINCT ON (web_app_job_id) web_app_job_id, crawler_job_id FROM job_assignment_mapping
                     WHERE connection_id IS NOT NULL ORDER BY web_app_job_id, assigned_at DESC, id DESC) last
              JOIN job_error_log e ON e.job_id = last.web_app_job_id AND e.error_type = '$too_old'
                                  AND e.context ->> 'crawler_job_id' = last.crawler_job_id
              LEFT JOIN job_queue q ON q.web_app_job_id = last.web_app_job_id
             WHERE (q.status = $entry_pending
                    OR q.status = $entry_failed AND (q.losses >= $max_losses OR q.error IN $job_ended)) IS NOT TRUE
            """,
            too_old=Ending.TOO_OLD,
        ),
    ),
    Check(
        "one_attempt_a_fence",
        "A crawler_job_id identifies one attempt.",
        """
            SELECT crawler_job_id AS id FROM job_assignment_mapping GROUP BY crawler_job_id HAVING count(*) > 1
        """,
    ),
    Check(
        "live_attempts_counted",
        "The live count of a host queue (account and host) is the number of its live attempts.",
        fragment(
            """
            -- Attempts that the web app deleted together with their jobs are counted until the next reconcile.
            SELECT account_id || ' ' || host AS id FROM ($miscounted) miscounted WHERE missing > 0 OR :untouched < 0
            """,
            miscounted=MISCOUNTED,
        ),
    ),
    Check(
        "order_of_live_attempt",
        "A live attempt is in crawler_order once, for its own connection.",
        fragment("""
            SELECT a.crawler_job_id AS id
              FROM (SELECT * FROM job_assignment_mapping WHERE $live) a
              LEFT JOIN (SELECT crawler_job_id, count(*) AS rows, min(connection_id) AS connection_id
                           FROM crawler_order GROUP BY 1) o ON o.crawler_job_id = a.crawler_job_id
             WHERE o.rows IS DISTINCT FROM 1 OR o.connection_id IS DISTINCT FROM a.connection_id
        """),
    ),
    Check(
        "assignment_announced",
        "An attempt has an event job_assigned, for as long as events are kept.",
        """
            -- What was trimmed, by the clean-up or by hand, was older than the first event that is left.
            WITH kept AS (
                SELECT CASE WHEN trimmed_xid = '0' THEN '-infinity'
                            ELSE COALESCE((SELECT created_at FROM dispatch_event ORDER BY xid, id LIMIT 1), now()) END
                       + interval '5 minutes' AS since FROM event_edge
            )
            SELECT a.crawler_job_id AS id FROM kept
              JOIN job_assignment_mapping a ON a.assigned_at > kept.since AND a.connection_id IS NOT NULL
             WHERE NOT EXISTS (SELECT FROM dispatch_event e
                                WHERE e.type = 'job_assigned' AND e.job_id = a.web_app_job_id
                                  AND e.payload ->> 'crawler_job_id' = a.crawler_job_id)
        """,
    ),
)

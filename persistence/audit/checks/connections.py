"""Connections: their slots are used by their live attempts."""

from persistence.audit.checks.check import Check
from persistence.schema.sql import fragment

CHECKS = (
    Check(
        "seats_counted",
        "The active_jobs of a connection are its live attempts.",
        fragment("""
            -- Fences whose attempts the web app deleted together with their jobs are ignored: reconcile removes them.
            WITH listed AS (
                SELECT c.id, fence FROM socket_connection c, jsonb_array_elements_text(c.active_jobs) fence
            ), live AS (
                SELECT connection_id, crawler_job_id FROM job_assignment_mapping WHERE $live
            )
            SELECT c.id FROM live JOIN socket_connection c ON c.id = live.connection_id AND c.is_active
              LEFT JOIN listed ON listed.fence = live.crawler_job_id AND listed.id = c.id
             WHERE listed.id IS NULL
            UNION
            SELECT listed.id FROM listed JOIN job_assignment_mapping a ON a.crawler_job_id = listed.fence
             WHERE a.status NOT IN $attempt_live OR a.connection_id IS DISTINCT FROM listed.id
            UNION
            SELECT id FROM listed GROUP BY id, fence HAVING count(*) > 1
        """),
    ),
    Check(
        "closed_connection_empty",
        "A closed connection has the time it was closed at, and no active_jobs.",
        """
            SELECT id FROM socket_connection
             WHERE is_active <> (closed_at IS NULL) OR NOT is_active AND active_jobs <> '[]'
        """,
    ),
)

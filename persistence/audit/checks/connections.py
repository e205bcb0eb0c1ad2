"""Connections: what they hold is what lives on them."""

from persistence.audit.checks.check import Check
from persistence.schema.sql import LIVE

CHECKS = (
    Check(
        "seats_counted",
        "A connection's active_jobs are its live attempts.",
        f"""
        -- What the web app has deleted together with its job is left out: reconcile frees its seat.
        WITH listed AS (
            SELECT c.id, fence FROM socket_connection c, jsonb_array_elements_text(c.active_jobs) fence
        ), live AS (
            SELECT connection_id, crawler_job_id FROM job_assignment_mapping WHERE {LIVE}
        )
        SELECT c.id FROM live JOIN socket_connection c ON c.id = live.connection_id AND c.is_active
          LEFT JOIN listed ON listed.fence = live.crawler_job_id AND listed.id = c.id
         WHERE listed.id IS NULL
        UNION
        SELECT listed.id FROM listed JOIN job_assignment_mapping a ON a.crawler_job_id = listed.fence
         WHERE a.status NOT IN ('assigned', 'running') OR a.connection_id IS DISTINCT FROM listed.id
        UNION
        SELECT id FROM listed GROUP BY id, fence HAVING count(*) > 1
        """,  # noqa: S608 - no input is in it
    ),
    Check(
        "closed_connection_empty",
        "A connection that is closed says since when, and holds nothing.",
        """
        SELECT id FROM socket_connection
         WHERE is_active <> (closed_at IS NULL) OR NOT is_active AND active_jobs <> '[]'
        """,
    ),
)

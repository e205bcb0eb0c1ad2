"""What the dispatcher knows of itself: its single rows and its clock, and that what it promised is there."""

from persistence.audit.checks.check import Check

CHECKS = (
    Check(
        "one_row_each",
        "A table that has one row has one: liveness_state, adoption, event_edge.",
        """
        SELECT 'liveness_state' AS id FROM liveness_state HAVING count(*) <> 1
        UNION ALL SELECT 'adoption' FROM adoption HAVING count(*) <> 1
        UNION ALL SELECT 'event_edge' FROM event_edge HAVING count(*) <> 1
        """,
    ),
    Check(
        "clock_went_forward",
        "A time that the database noted is not in its future: of the last sweep, of heartbeats, of bells.",
        """
        -- A connection that beats in the future is never silent; a bell rung there is let through again.
        SELECT 'last_sweep_at' AS id FROM liveness_state WHERE last_sweep_at > now() + interval '1 minute'
        UNION ALL SELECT id FROM socket_connection
                   WHERE is_active AND last_heartbeat > now() + interval '1 minute'
        UNION ALL SELECT task FROM periodic_ring WHERE rung_at > now() + interval '1 minute'
        """,
    ),
)

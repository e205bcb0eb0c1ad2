"""Single-row tables and the clock: what the dispatcher records about itself."""

from persistence.audit.checks.check import Check

CHECKS = (
    Check(
        "one_row_each",
        "A single-row table has one row: liveness_state, adoption, event_edge.",
        """
            SELECT 'liveness_state' AS id FROM liveness_state HAVING count(*) <> 1
            UNION ALL SELECT 'adoption' FROM adoption HAVING count(*) <> 1
            UNION ALL SELECT 'event_edge' FROM event_edge HAVING count(*) <> 1
        """,
    ),
    Check(
        "clock_went_forward",
        "A time that the database recorded is not in its future: of the last sweep, a heartbeat, a periodic task.",
        """
            -- A connection with a heartbeat in the future is never silent. A periodic task recorded in the future is
            -- let run again (`Intervals`).
            SELECT 'last_sweep_at' AS id FROM liveness_state WHERE last_sweep_at > now() + interval '1 minute'
            UNION ALL SELECT id FROM socket_connection
                       WHERE is_active AND last_heartbeat > now() + interval '1 minute'
            UNION ALL SELECT task FROM periodic_ring WHERE rung_at > now() + interval '1 minute'
        """,
    ),
)

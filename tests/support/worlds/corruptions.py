"""A corruption for each check of the audit: the statements that cause it, and the ids to be reported."""

from dataclasses import dataclass

from support.worlds.busy import TOKEN


@dataclass(frozen=True)
class Corruption:
    """Statements that break one invariant of the busy database; run them in a transaction that is rolled back."""

    victims: str
    """A query for the ids to be reported, run before the statements."""
    statements: tuple[str, ...]
    """`{victim}` is replaced by the first of the ids."""
    also: frozenset[str] = frozenset()
    """Checks that this inevitably breaks too."""


_ALLOWED = "ALTER TABLE {0} DROP CONSTRAINT {0}_{1}_check"
_LIVE_JOB = """
    SELECT web_app_job_id FROM job_assignment_mapping WHERE status = 'running' ORDER BY id LIMIT 1
"""
_LIVE_FENCE = "SELECT crawler_job_id FROM job_assignment_mapping WHERE status = 'running' ORDER BY id LIMIT 1"
_CLOSED_FENCE = """
    SELECT crawler_job_id FROM job_assignment_mapping WHERE status = 'failed' ORDER BY id LIMIT 1
"""
_LIVE_CONNECTION = """
    SELECT connection_id FROM job_assignment_mapping WHERE status = 'running' ORDER BY id LIMIT 1
"""
_COMPLETED_JOB = "SELECT web_app_job_id FROM job_queue WHERE status = 'completed' ORDER BY id LIMIT 1"
_WAITING_JOB = """
    SELECT web_app_job_id FROM job_queue WHERE status = 'pending' AND ready AND NOT held AND attempts + losses = 0
     ORDER BY id DESC LIMIT 1
"""
_CHILD = "SELECT web_app_job_id FROM job_queue WHERE spawned_from IS NOT NULL ORDER BY id LIMIT 1"
_EVENT = "SELECT xid || ' ' || id FROM dispatch_event WHERE account_id IS NOT NULL ORDER BY xid, id LIMIT 1"

CORRUPTIONS = {
    "one_live_attempt": Corruption(
        _LIVE_JOB,
        (
            "DROP INDEX job_assignment_mapping_live_key",
            """
            UPDATE job_assignment_mapping SET status = 'assigned', completed_at = NULL, web_app_job_id = '{victim}'
             WHERE crawler_job_id = (SELECT crawler_job_id FROM job_assignment_mapping
                                      WHERE status = 'assigned' ORDER BY id LIMIT 1)
            """,
        ),
        also=frozenset(
            {
                "processing_entry_attempted",
                "attempts_in_turn",
                "assignment_announced",
                "words_of_the_web_app_heard",
            }
        ),
    ),
    "live_attempt_in_queue": Corruption(
        _LIVE_FENCE,
        (
            """
            UPDATE job_queue SET status = 'pending', held = true
             WHERE web_app_job_id = (SELECT web_app_job_id FROM job_assignment_mapping
                                      WHERE crawler_job_id = '{victim}')
            """,
        ),
        also=frozenset({"words_of_the_web_app_heard"}),
    ),
    "live_attempt_connected": Corruption(
        _LIVE_FENCE,
        (
            """
            UPDATE job_assignment_mapping SET connection_id =
                   (SELECT id FROM socket_connection WHERE NOT is_active ORDER BY id LIMIT 1)
             WHERE crawler_job_id = '{victim}'
            """,
        ),
        also=frozenset({"seats_counted", "order_of_live_attempt"}),
    ),
    "attempts_in_turn": Corruption(
        """
        SELECT crawler_job_id FROM (
            SELECT crawler_job_id, id, row_number() OVER (PARTITION BY web_app_job_id ORDER BY assigned_at) AS turn
              FROM job_assignment_mapping) a WHERE turn = 2 ORDER BY id LIMIT 1
        """,
        (
            """
            UPDATE job_assignment_mapping a SET completed_at = later.assigned_at + interval '1 millisecond'
              FROM job_assignment_mapping later
             WHERE later.crawler_job_id = '{victim}' AND a.web_app_job_id = later.web_app_job_id
               AND a.assigned_at < later.assigned_at
            """,
        ),
    ),
    "attempt_closed": Corruption(
        _CLOSED_FENCE,
        (
            _ALLOWED.format("job_assignment_mapping", "closed"),
            "UPDATE job_assignment_mapping SET completed_at = NULL WHERE crawler_job_id = '{victim}'",
        ),
        also=frozenset(
            {
                "live_attempt_connected",
                "live_attempt_in_queue",
                "live_attempts_counted",
                "order_of_live_attempt",
                "words_of_the_web_app_heard",
            }
        ),
    ),
    "one_attempt_a_fence": Corruption(
        _CLOSED_FENCE,
        (
            "ALTER TABLE job_assignment_mapping DROP CONSTRAINT job_assignment_mapping_crawler_job_id_key",
            """
            INSERT INTO job_assignment_mapping (id, web_app_job_id, crawler_job_id, status, completed_at)
            SELECT 'twin', web_app_job_id, crawler_job_id, status, completed_at FROM job_assignment_mapping
             WHERE crawler_job_id = '{victim}'
            """,
        ),
    ),
    "live_attempts_counted": Corruption(
        "SELECT account_id || ' ' || host FROM live_count WHERE live > 0 ORDER BY 1 LIMIT 1",
        (
            """
            UPDATE live_count SET live = live - 1 WHERE (account_id, host, shard) = (
                   SELECT account_id, host, shard FROM live_count WHERE account_id || ' ' || host = '{victim}'
                    ORDER BY live DESC LIMIT 1)
            """,
        ),
    ),
    "order_of_live_attempt": Corruption(
        _LIVE_FENCE,
        (
            """
            DO $$ BEGIN
                EXECUTE 'CREATE OR REPLACE VIEW crawler_order AS SELECT * FROM ('
                     || rtrim(pg_get_viewdef('crawler_order'), ';')
                     || ') shown WHERE crawler_job_id <> ''{victim}''';
            END $$
            """,
        ),
    ),
    "assignment_announced": Corruption(
        _CLOSED_FENCE,
        (
            "DELETE FROM dispatch_event WHERE type = 'job_assigned' AND payload ->> 'crawler_job_id' = '{victim}'",
        ),
    ),
    "too_old_attempt_queued_again": Corruption(
        """
        SELECT a.crawler_job_id FROM job_assignment_mapping a JOIN job_queue q ON q.web_app_job_id = a.web_app_job_id
         WHERE a.account_id = 'slow' AND q.status = 'pending'
        """,
        (
            """
            UPDATE job SET status = 'failed' WHERE "accountId" = 'slow' AND status = 'queued'
            """,
            """
            UPDATE job_queue SET status = 'failed', settled_at = now(), error = 'the attempt took too long'
             WHERE account_id = 'slow' AND status = 'pending'
            """,
        ),
    ),
    "one_entry_a_job": Corruption(
        _WAITING_JOB,
        (
            "ALTER TABLE job_queue DROP CONSTRAINT job_queue_web_app_job_id_key",
            """
            INSERT INTO job_queue (id, web_app_job_id, account_id)
            SELECT 'twin', web_app_job_id, account_id FROM job_queue WHERE web_app_job_id = '{victim}'
            """,
        ),
    ),
    "one_entry_an_identity": Corruption(
        "SELECT min(web_app_job_id) FROM job_queue WHERE identity IS NOT NULL",
        (
            "DROP INDEX job_queue_identity_key",
            """
            UPDATE job_queue SET identity = (SELECT identity FROM job_queue WHERE web_app_job_id = '{victim}')
             WHERE id = (SELECT max(id) FROM job_queue WHERE identity IS NOT NULL)
            """,
        ),
    ),
    "processing_entry_attempted": Corruption(
        _WAITING_JOB,
        ("UPDATE job_queue SET status = 'processing' WHERE web_app_job_id = '{victim}'",),
        also=frozenset({"words_of_the_web_app_heard"}),
    ),
    "entry_settled": Corruption(
        _COMPLETED_JOB,
        (
            _ALLOWED.format("job_queue", "settled"),
            "UPDATE job_queue SET settled_at = NULL WHERE web_app_job_id = '{victim}'",
        ),
    ),
    "failures_on_record": Corruption(
        "SELECT web_app_job_id FROM job_queue WHERE losses > 0 ORDER BY id LIMIT 1",
        ("UPDATE job_queue SET losses = losses + 3 WHERE web_app_job_id = '{victim}'",),
    ),
    "own_command_not_sent": Corruption(
        "SELECT id FROM job WHERE command = 'authorizationScope'",
        ("INSERT INTO job_queue (id, web_app_job_id, account_id) VALUES ('scope', '{victim}', 'acc')",),
    ),
    "completed_once": Corruption(
        """
        SELECT web_app_job_id FROM job_assignment_mapping WHERE status = 'completed'
         GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT 1
        """,
        (
            """
            UPDATE job_queue SET scheduled_at = scheduled_at - interval '1 hour' WHERE web_app_job_id = '{victim}'
            """,
        ),
    ),
    "completion_settled": Corruption(
        _COMPLETED_JOB,
        ("UPDATE job_queue SET status = 'failed' WHERE web_app_job_id = '{victim}'",),
    ),
    "child_linked": Corruption(_CHILD, ("""DELETE FROM job_area WHERE "jobId" = '{victim}'""",)),
    "seats_counted": Corruption(
        _LIVE_CONNECTION,
        ("UPDATE socket_connection SET active_jobs = '[]' WHERE id = '{victim}'",),
        also=frozenset({"order_of_live_attempt"}),
    ),
    "closed_connection_empty": Corruption(
        "SELECT id FROM socket_connection WHERE NOT is_active ORDER BY id LIMIT 1",
        ("""UPDATE socket_connection SET active_jobs = '["gone"]' WHERE id = '{victim}'""",),
    ),
    "failure_on_record": Corruption(
        _CLOSED_FENCE,
        ("DELETE FROM job_error_log WHERE context ->> 'crawler_job_id' = '{victim}'",),
    ),
    "words_of_the_web_app_heard": Corruption(
        _WAITING_JOB,
        ("DELETE FROM job_queue WHERE web_app_job_id = '{victim}'",),
    ),
    "due_entry_readied": Corruption(
        _WAITING_JOB,
        (
            """
            UPDATE job_queue SET ready = false, scheduled_at = now() - interval '1 hour'
             WHERE web_app_job_id = '{victim}'
            """,
        ),
    ),
    "stalled_attempt_taken_back": Corruption(
        _LIVE_FENCE,
        (
            """
            UPDATE job_assignment_mapping SET progressed_at = now() - interval '1 day'
             WHERE crawler_job_id = '{victim}'
            """,
        ),
    ),
    "silent_connection_closed": Corruption(
        _LIVE_CONNECTION,
        ("UPDATE socket_connection SET last_heartbeat = now() - interval '1 day' WHERE id = '{victim}'",),
    ),
    "paused_account_let_alone": Corruption(
        "SELECT account_id FROM job_assignment_mapping WHERE status = 'running' ORDER BY id LIMIT 1",
        ("UPDATE account_lane SET paused_at = now() - interval '1 day' WHERE account_id = '{victim}'",),
    ),
    "renewed_account_let_go": Corruption(
        "SELECT account_id FROM account_lane WHERE held_at IS NOT NULL",
        ("UPDATE account SET access_token = 'glpat-9876543210jihgfedcba' WHERE id = '{victim}'",),
    ),
    "held_account_looked_after": Corruption(
        "SELECT account_id FROM account_lane WHERE held_at IS NOT NULL",
        (
            """
            UPDATE account_lane SET held_reason = 'token_died', held_at = now() - interval '1 hour'
             WHERE account_id = '{victim}'
            """,
        ),
    ),
    "waiting_job_has_a_held_account": Corruption(
        "SELECT id FROM job WHERE status = 'waiting_credential_renewal'",
        ("UPDATE account_lane SET held_at = NULL WHERE account_id = 'held'",),
    ),
    "deferred_jobs_fed": Corruption(
        "SELECT account_id FROM deferred_job",
        ("UPDATE account_lane SET paused_at = NULL WHERE account_id = '{victim}'",),
    ),
    "one_row_each": Corruption(
        "SELECT 'liveness_state'",
        ("DELETE FROM liveness_state",),
    ),
    "clock_went_forward": Corruption(
        "SELECT 'last_sweep_at'",
        ("UPDATE liveness_state SET last_sweep_at = now() + interval '1 hour'",),
    ),
    "no_token_in_errors": Corruption(
        "SELECT min(id) FROM job_error_log",
        (f"UPDATE job_error_log SET error_message = 'GET /?private_token={TOKEN}' WHERE id = '{{victim}}'",),
    ),
    "no_token_in_jobs": Corruption(
        _WAITING_JOB,
        (
            f"""UPDATE job_queue SET data = '{{{{"tags": ["x{TOKEN}y"]}}}}' WHERE web_app_job_id = '{{victim}}'""",
        ),
    ),
    "no_token_in_events": Corruption(
        _EVENT,
        (
            f"""
         UPDATE dispatch_event SET payload = '{{{{"reason": "was {TOKEN}"}}}}' WHERE xid || ' ' || id = '{{victim}}'
         """,
        ),
    ),
    "no_token_in_rejected_messages": Corruption(
        "SELECT min(id) FROM rejected_message",
        (
            f"""
         UPDATE rejected_message SET payload = jsonb_build_object('url', E'GET\\nhttps://oauth2:{TOKEN}@gitlab/x')
          WHERE id = '{{victim}}'
         """,
        ),
    ),
    "no_token_in_connections": Corruption(
        "SELECT min(id) FROM socket_connection",
        (
            f"""UPDATE socket_connection SET metadata = '{{{{"secret": "{TOKEN}."}}}}' WHERE id = '{{victim}}'""",
        ),
    ),
}
"""By the name of the check."""

"""Queue entries: one a job, and what they say is so."""

from persistence.audit.checks.check import Check
from persistence.schema.sql import CLAIMABLE, LIVE

CHECKS = (
    Check(
        "one_entry_a_job",
        "A job has at most one queue entry.",
        "SELECT web_app_job_id AS id FROM job_queue GROUP BY web_app_job_id HAVING count(*) > 1",
    ),
    Check(
        "one_entry_an_identity",
        "A job that we made is queued for no other one's GitLab, path, branch and command.",
        """
        -- By numbers first: a million texts would be written to disk to be compared.
        WITH twin AS MATERIALIZED (
            SELECT hashtextextended(identity, 0) AS number FROM job_queue WHERE identity IS NOT NULL
             GROUP BY 1 HAVING count(*) > 1
        )
        SELECT min(web_app_job_id) AS id FROM job_queue
         WHERE hashtextextended(identity, 0) IN (SELECT number FROM twin)
         GROUP BY identity HAVING count(*) > 1
        """,
    ),
    Check(
        "processing_entry_attempted",
        "A job whose queue entry is being processed has a live attempt.",
        f"""
        SELECT q.web_app_job_id AS id FROM job_queue q
         WHERE q.status = 'processing'
           AND NOT EXISTS (SELECT FROM job_assignment_mapping a WHERE a.web_app_job_id = q.web_app_job_id AND a.{LIVE})
        """,  # noqa: S608 - no input is in it
    ),
    Check(
        "entry_settled",
        "A job's queue entry is in a state that we know, and is settled if it has completed or failed.",
        """
        SELECT web_app_job_id AS id FROM job_queue
         WHERE status NOT IN ('pending', 'processing', 'completed', 'failed')
            OR (status IN ('completed', 'failed')) <> (settled_at IS NOT NULL)
            OR held AND status <> 'pending'
        """,
    ),
    Check(
        "failures_on_record",
        "A job's attempts, losses and goodbyes were counted for attempts that failed: each for one of its own.",
        """
        -- Counts are set to 0 again (by progress, a retry, or whoever queues the job anew), the attempts stay: so
        -- there may be fewer counts, never more. What an older component counted has no attempt of ours.
        WITH counted AS MATERIALIZED (
            SELECT id, web_app_job_id, attempts, losses + goodbyes AS losses,
                   LEAST(attempts, losses, goodbyes) AS least, last_attempt_at FROM job_queue
             WHERE attempts <> 0 OR losses <> 0 OR goodbyes <> 0
        ), entry AS (
            SELECT q.*, count(*) FILTER (WHERE a.status = 'failed' AND a.connection_id IS NOT NULL) AS failed,
                   bool_or(CASE WHEN a.id IS NOT NULL THEN a.connection_id IS NULL
                                ELSE q.last_attempt_at IS NOT NULL END) AS is_older
              FROM counted q LEFT JOIN job_assignment_mapping a ON a.web_app_job_id = q.web_app_job_id
             GROUP BY q.id, q.web_app_job_id, q.attempts, q.losses, q.least, q.last_attempt_at
        )
        SELECT web_app_job_id AS id FROM entry
         WHERE least < 0 OR losses > failed OR attempts + losses > failed AND NOT is_older
        """,
    ),
    Check(
        "own_command_not_sent",
        "A job authorizationScope, the web app's own, is not worked on, and does not wait for it.",
        f"""
        SELECT job.id FROM job JOIN job_queue q ON q.web_app_job_id = job.id
         WHERE job.command = 'authorizationScope' AND (q.{CLAIMABLE} OR q.status = 'processing')
        """,  # noqa: S608
    ),
)

"""Queue entries: one for each job, in a state that its job and attempts confirm."""

from persistence.audit.checks.check import Check
from persistence.schema.commands import Command
from persistence.schema.sql import fragment

CHECKS = (
    Check(
        "one_entry_a_job",
        "A job has at most one queue entry.",
        "SELECT web_app_job_id AS id FROM job_queue GROUP BY web_app_job_id HAVING count(*) > 1",
    ),
    Check(
        "one_entry_an_identity",
        "A job that Crawlyard made is the only queued job for its GitLab host, path, branch and command.",
        """
            -- By hash first: comparing a million texts would write them to disk.
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
        "A job whose queue entry is processing has a live attempt.",
        fragment("""
            SELECT q.web_app_job_id AS id FROM job_queue q
             WHERE q.status = $entry_processing
               AND NOT EXISTS (SELECT FROM job_assignment_mapping a
                                WHERE a.web_app_job_id = q.web_app_job_id AND a.$live)
        """),
    ),
    Check(
        "entry_settled",
        "The queue entry of a job has a known status, and is settled if it has completed or failed.",
        fragment("""
            SELECT web_app_job_id AS id FROM job_queue
             WHERE status NOT IN $entry_open AND status NOT IN $entry_settled
                OR (status IN $entry_settled) <> (settled_at IS NOT NULL)
                OR held AND status <> $entry_pending
        """),
    ),
    Check(
        "failures_on_record",
        "The attempts, losses and goodbyes counted for a job are at most its attempts that failed.",
        fragment("""
            -- Counts are reset to 0 by progress, by a retry, or when the job is queued again, and the attempts stay: so
            -- there may be fewer counts than failed attempts, never more. What an older component counted has no
            -- attempt of ours.
            WITH counted AS MATERIALIZED (
                SELECT id, web_app_job_id, attempts, losses + goodbyes AS losses,
                       LEAST(attempts, losses, goodbyes) AS least, last_attempt_at FROM job_queue
                 WHERE attempts <> 0 OR losses <> 0 OR goodbyes <> 0
            ), entry AS (
                SELECT q.*,
                       count(*) FILTER (WHERE a.status = $attempt_failed AND a.connection_id IS NOT NULL) AS failed,
                       bool_or(CASE WHEN a.id IS NOT NULL THEN a.connection_id IS NULL
                                    ELSE q.last_attempt_at IS NOT NULL END) AS is_older
                  FROM counted q LEFT JOIN job_assignment_mapping a ON a.web_app_job_id = q.web_app_job_id
                 GROUP BY q.id, q.web_app_job_id, q.attempts, q.losses, q.least, q.last_attempt_at
            )
            SELECT web_app_job_id AS id FROM entry
             WHERE least < 0 OR losses > failed OR attempts + losses > failed AND NOT is_older
        """),
    ),
    Check(
        "own_command_not_sent",
        f"A job {Command.AUTHORIZATION_SCOPE}, which the web app runs itself, is neither claimable nor processing.",
        fragment(
            """
            SELECT job.id FROM job JOIN job_queue q ON q.web_app_job_id = job.id
             WHERE job.command = '$own_command' AND (q.$claimable OR q.status = $entry_processing)
            """,
            own_command=Command.AUTHORIZATION_SCOPE,
        ),
    ),
)

"""Jobs: each is completed once, and its links are there."""

from persistence.audit.checks.check import Check
from persistence.schema.sql import fragment

CHECKS = (
    Check(
        "completed_once",
        "A job whose queue entry has completed was completed by exactly one attempt since it was last queued.",
        fragment("""
            -- Queueing a job again, by the web app or by a task, makes it due at that moment. An older component
            -- settled its entries at the time of their last attempt; Crawlyard settles them after it.
            SELECT q.web_app_job_id AS id FROM job_queue q
              LEFT JOIN job_assignment_mapping a
                ON a.web_app_job_id = q.web_app_job_id AND a.status = $attempt_completed
               AND a.completed_at >= q.scheduled_at
             WHERE q.status = $entry_completed AND q.settled_at > q.last_attempt_at
             GROUP BY q.web_app_job_id HAVING count(a.id) <> 1
        """),
    ),
    Check(
        "completion_settled",
        "A job that an attempt has completed since it was last queued has a completed queue entry.",
        fragment("""
            SELECT DISTINCT q.web_app_job_id AS id FROM job_assignment_mapping a
              JOIN job_queue q ON q.web_app_job_id = a.web_app_job_id
             WHERE a.status = $attempt_completed AND a.connection_id IS NOT NULL AND a.completed_at > q.scheduled_at
               AND q.status <> $entry_completed
        """),
    ),
    Check(
        "child_linked",
        "A job that Crawlyard made for a discovery is linked to its area, if the area exists.",
        """
            WITH unlinked AS MATERIALIZED (
                SELECT web_app_job_id FROM job_queue q
                 WHERE spawned_from IS NOT NULL AND identity IS NOT NULL
                   AND NOT EXISTS (SELECT FROM job_area link WHERE link."jobId" = q.web_app_job_id)
            )
            SELECT job.id FROM unlinked
              JOIN job ON job.id = unlinked.web_app_job_id JOIN area ON area.full_path = job.full_path
        """,
    ),
)

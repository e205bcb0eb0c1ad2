"""
Jobs whose status disagrees with their entry or attempt: the web app has changed `job.status`, and wins.

Jobs from before the dispatcher are left alone until they are adopted.
"""

from persistence.schema.commands import Command
from persistence.schema.sql import fragment

OUT_OF_SYNC = fragment(
    """
    FROM job LEFT JOIN job_queue q ON q.web_app_job_id = job.id
   WHERE job.created_at > (SELECT COALESCE(adopted_from, '-infinity') FROM adoption)
     AND job.command <> '$own_command'
     AND CASE WHEN job.status IN $job_crawlable
              THEN q.id IS NULL OR q.status IN $entry_settled
                   -- parked by the round or by us, and not because of where its token would go
                   OR (q.held AND (q.hold_reason IS NULL OR q.hold_url IS DISTINCT FROM job."gitlabGraphQLUrl"))
                   OR (q.status = $entry_processing) <> EXISTS (
                          SELECT FROM job_assignment_mapping a
                           WHERE a.web_app_job_id = job.id AND a.$live)
                   OR (q.status = $entry_pending AND (job.status = $job_running OR q.account_id <> job."accountId"))
              ELSE (q.status = $entry_pending AND NOT q.held) OR q.status = $entry_processing
                   OR (q.held AND job.status IN $job_ended)
                   OR job.status = $job_credential_renewed
                   OR (q.held AND q.account_id <> job."accountId"
                       AND job.status IN $job_awaiting_token)
                   OR EXISTS (SELECT FROM job_assignment_mapping a
                               WHERE a.web_app_job_id = job.id AND a.$live) END
    """,
    own_command=Command.AUTHORIZATION_SCOPE.value,
)
"""From `job` and `job_queue` (as q) on; the columns are the reader's to choose."""

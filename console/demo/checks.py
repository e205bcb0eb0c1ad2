"""
Checks that need the order log: what the web app ordered, against what the database says became of it.

The audit checks what every database must satisfy. The parameters are filled in by `audit_demo`.
"""

from persistence.audit.checks.check import Check
from persistence.schema.sql import fragment

CHECKS = (
    Check(
        "ordered_job_exists",
        "A job that was ordered exists.",
        """
        SELECT id FROM unnest(CAST(:ordered AS text[])) id EXCEPT SELECT id FROM job
        """,
    ),
    Check(
        "no_unexpected_job",
        "A job was ordered or discovered.",
        """
        SELECT id FROM job
         WHERE id <> ALL (CAST(:ordered AS text[]))
           AND (spawned_from IS DISTINCT FROM CAST(:discovery AS text)
                OR (full_path, command) NOT IN (
                       SELECT * FROM unnest(CAST(:paths AS text[]), CAST(:commands AS text[]))))
        """,
    ),
    Check(
        "discovered_job_exists",
        "A path and command that were discovered have a job.",
        """
        SELECT full_path || ' ' || command AS id
          FROM unnest(CAST(:paths AS text[]), CAST(:commands AS text[])) AS found(full_path, command)
        EXCEPT SELECT full_path || ' ' || command FROM job WHERE spawned_from = CAST(:discovery AS text)
        """,
    ),
    Check(
        "discovered_area_authorized",
        "A path that was discovered is an area that its account may read.",
        """
        SELECT DISTINCT full_path AS id FROM unnest(CAST(:paths AS text[])) AS found(full_path)
        EXCEPT SELECT area_id FROM area_authorization
                WHERE "accountId" = (SELECT "accountId" FROM job WHERE id = CAST(:discovery AS text))
        """,
    ),
    Check(
        "one_job_an_identity",
        "A job shares its GitLab host, path, branch and command with no other job.",
        """
        SELECT string_agg(id, ' and ') AS id FROM job
         GROUP BY command, full_path, branch, "gitlabGraphQLUrl" HAVING count(*) > 1
        """,
    ),
    Check(
        "every_job_ended",
        "A job has finished, has failed or was cancelled.",
        fragment("SELECT id FROM job WHERE status NOT IN $job_ended"),
    ),
    Check(
        "finished_once",
        "A finished job was completed by exactly one attempt, since no job is queued again after it finished.",
        fragment("""
        SELECT job.id FROM job
         WHERE status = $job_finished
           AND (SELECT count(*) FROM job_assignment_mapping a
                 WHERE a.web_app_job_id = job.id AND a.status = $attempt_completed) <> 1
        """),
    ),
    Check(
        "failed_job_not_completed",
        "A failed job was completed by no attempt.",
        fragment("""
        SELECT DISTINCT job.id FROM job JOIN job_assignment_mapping a ON a.web_app_job_id = job.id
         WHERE job.status = $job_failed AND a.status = $attempt_completed
        """),
    ),
    Check(
        "failed_job_has_error",
        "A failed job has an error in the log.",
        fragment("""
        SELECT id FROM job
         WHERE status = $job_failed AND NOT EXISTS (SELECT FROM job_error_log e WHERE e.job_id = job.id)
        """),
    ),
    Check(
        "cancelled_on_request",
        "A cancelled job was to be cancelled.",
        fragment("""
        SELECT id FROM job WHERE status = $job_cancelled AND id <> ALL (CAST(:may_be_cancelled AS text[]))
        """),
    ),
    Check(
        "web_app_cancellation_kept",
        "A job that the web app itself cancelled stays cancelled.",
        fragment("""
        SELECT id FROM job WHERE status <> $job_cancelled AND id = ANY (CAST(:cancelled_by_update AS text[]))
        """),
    ),
    Check(
        "no_live_attempt",
        "No job has a live attempt.",
        fragment("SELECT DISTINCT web_app_job_id AS id FROM job_assignment_mapping WHERE $live"),
    ),
    Check(
        "no_open_entry",
        "No job has an open queue entry.",
        fragment("SELECT web_app_job_id AS id FROM job_queue WHERE status IN $entry_open"),
    ),
    Check(
        "finished_job_entry_completed",
        "A finished job has a completed queue entry.",
        fragment("""
        SELECT job.id FROM job LEFT JOIN job_queue q ON q.web_app_job_id = job.id
         WHERE job.status = $job_finished AND q.status IS DISTINCT FROM $entry_completed
        """),
    ),
    Check(
        "stale_frames_counted",
        "A job for which a crawler sent frames after its connection expired has counted stale frames, unless"
        " no worker saw them.",
        """
        SELECT DISTINCT web_app_job_id AS id FROM job_assignment_mapping
         WHERE crawler_job_id = ANY (CAST(:stale AS text[])) AND stale_words = 0
           AND crawler_job_id <> ALL (CAST(:undelivered AS text[]))
        """,
    ),
    Check(
        "lost_with_its_crawler",
        "An attempt that was lost with its connection is of a crawler that died or froze: none was lost to a gateway.",
        """
        SELECT DISTINCT job_id AS id FROM job_error_log
         WHERE error_type = 'ConnectionLost'
           -- where it is not known who is gone, that is NULL
           AND context ->> 'connection_id' <> ALL (CAST(:gone AS text[]))
        """,
    ),
    Check(
        "stale_frames_ignored",
        "A job was not changed by such frames.",
        fragment("""
        SELECT DISTINCT job.id FROM job_assignment_mapping a JOIN job ON job.id = a.web_app_job_id
         WHERE a.crawler_job_id = ANY (CAST(:stale AS text[]))
           AND (a.status NOT IN ($attempt_failed, $attempt_cancelled)
                OR job.progress ->> 'crawlerJobId' = a.crawler_job_id AND job.status = $job_finished)
        """),
    ),
    Check(
        "no_former_token_in_errors",
        "The errors of a job contain no token that any account ever had.",
        """
        SELECT DISTINCT job_id AS id FROM job_error_log t, unnest(CAST(:tokens AS text[])) token
         WHERE strpos(t::text, token) > 0
        """,
    ),
    Check(
        "no_former_token_in_rejected_messages",
        "A rejected message contains no such token.",
        """
        SELECT DISTINCT t.id FROM rejected_message t, unnest(CAST(:tokens AS text[])) token
         WHERE strpos(t::text, token) > 0
        """,
    ),
    Check(
        "no_former_token_in_events",
        "An event contains no such token.",
        """
        SELECT DISTINCT t.type || ' ' || t.id AS id FROM dispatch_event t, unnest(CAST(:tokens AS text[])) token
         WHERE strpos(t::text, token) > 0
        """,
    ),
    Check(
        "no_former_token_in_jobs",
        "A job and its queue entry contain no such token.",
        """
        SELECT DISTINCT q.web_app_job_id AS id
          FROM job_queue q JOIN job ON job.id = q.web_app_job_id, unnest(CAST(:tokens AS text[])) token
         WHERE strpos(q::text, token) > 0 OR strpos(job::text, token) > 0
        """,
    ),
    Check(
        "no_account_blocked",
        "No account is blocked, since its token was renewed.",
        "SELECT account_id AS id FROM account_lane WHERE held_at IS NOT NULL",
    ),
    Check(
        "nothing_rejected",
        "No message was rejected.",
        """
        SELECT id || ' (' || COALESCE(task, 'no task') || ': ' || reason || ')' AS id FROM rejected_message
        """,
    ),
)

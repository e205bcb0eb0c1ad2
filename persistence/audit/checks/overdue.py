"""
What should have been moved on by now: nothing waits that nobody will ever move.

Passes, sweeps and reconcile come round by themselves, so what only waits for the next round is no fault:
`:before` is a moment since which each of them has come round several times, or '-infinity' where nobody
can know whether they did.
"""

from persistence.audit.checks.check import Check, untouched
from persistence.credentials.blocks import HAS_ANOTHER_TOKEN
from persistence.jobs.entries import OUT_OF_SYNC
from persistence.schema.sql import CLAIMABLE, LIVE

CHECKS = (
    Check(
        "words_of_the_web_app_heard",
        "A job's status says the same as its queue entry and its attempt: reconcile sees to it.",
        f"""
        SELECT job.id {OUT_OF_SYNC} AND {untouched("job", "q")}
        """,
    ),
    Check(
        "due_entry_readied",
        "A job that was backed off is let into the queue when its time has come, by the next pass.",
        """
        SELECT web_app_job_id AS id FROM job_queue
         WHERE status = 'pending' AND NOT ready AND scheduled_at < CAST(:before AS timestamptz)
        """,
    ),
    Check(
        "stalled_attempt_taken_back",
        "An attempt without a word for longer than the stall timeout is closed by the sweep.",
        f"""
        SELECT crawler_job_id AS id FROM job_assignment_mapping
         WHERE {LIVE}
           AND COALESCE(progressed_at, assigned_at)
               < CAST(:before AS timestamptz) - CAST(:stall_timeout AS interval)
        """,  # noqa: S608
    ),
    Check(
        "silent_connection_closed",
        "A connection that is silent for longer than its timeout, or said goodbye, is closed by the sweep.",
        """
        SELECT id FROM socket_connection
         WHERE is_active
           AND (last_heartbeat < CAST(:before AS timestamptz) - CAST(:connection_timeout AS interval)
                OR goodbye_at < CAST(:before AS timestamptz))
        """,
    ),
    Check(
        "paused_account_let_alone",
        "An account that is paused has no live attempt.",
        f"""
        SELECT DISTINCT lane.account_id AS id FROM account_lane lane
          JOIN job_assignment_mapping a ON a.account_id = lane.account_id AND a.{LIVE}
         WHERE lane.paused_at < CAST(:before AS timestamptz) AND a.assigned_at < CAST(:before AS timestamptz)
        """,  # noqa: S608
    ),
    Check(
        "renewed_account_let_go",
        "An account that has another token than the one for which it is held is held no more.",
        f"""
        SELECT lane.account_id AS id FROM account_lane lane JOIN account ON account.id = lane.account_id
         WHERE lane.held_at IS NOT NULL AND {HAS_ANOTHER_TOKEN} AND {untouched("lane", "account")}
        """,  # noqa: S608
    ),
    Check(
        "held_account_looked_after",
        "An account that is held is refreshed, or the web app was asked for new tokens.",
        f"""
        -- Where a GitLab is away, one account asks there for all.
        SELECT lane.account_id AS id FROM account_lane lane JOIN account ON account.id = lane.account_id
         WHERE lane.held_at < CAST(:before AS timestamptz) - CAST(:refresh_patience AS interval)
           AND COALESCE(lane.held_reason, '') NOT IN ('authorization_needed', 'provider_away')
           AND NOT EXISTS (SELECT FROM account_lane WHERE held_reason = 'provider_away')
           AND {untouched("lane")}
        """,  # noqa: S608
    ),
    Check(
        "waiting_job_has_a_held_account",
        "A job whose attempt ended for want of a token, and that waits for one, is of an account that is held.",
        f"""
        SELECT job.id FROM job
          JOIN job_queue q ON q.web_app_job_id = job.id AND q.held AND q.account_id = job."accountId"
          JOIN (SELECT DISTINCT ON (web_app_job_id) web_app_job_id, crawler_job_id FROM job_assignment_mapping
                 WHERE connection_id IS NOT NULL ORDER BY web_app_job_id, assigned_at DESC, id DESC) last
            ON last.web_app_job_id = job.id
          JOIN job_error_log e ON e.job_id = job.id AND e.error_type = 'CredentialExpired'
                              AND e.context ->> 'crawler_job_id' = last.crawler_job_id
          LEFT JOIN account_lane lane ON lane.account_id = q.account_id
         WHERE job.status IN ('waiting_credential_renewal', 'credential_expired')
           AND lane.held_at IS NULL AND {untouched("job", "q", "lane")}
        """,  # noqa: S608
    ),
    Check(
        "deferred_jobs_fed",
        "An account for which jobs are deferred has no room in the queue, unless it is paused or gone.",
        f"""
        -- A busy account has room for a moment again and again; then its queue has changed a moment ago.
        SELECT late.account_id AS id
          FROM (SELECT DISTINCT account_id FROM deferred_job d
                 WHERE deferred_at < CAST(:before AS timestamptz) AND {untouched("d")}) late
          JOIN account ON account.id = late.account_id
          LEFT JOIN account_lane lane ON lane.account_id = late.account_id
          LEFT JOIN (SELECT account_id, count(*) FILTER (WHERE {CLAIMABLE}) AS waiting, min(age(xmin)) AS age
                       FROM job_queue GROUP BY account_id) queue ON queue.account_id = late.account_id
         WHERE lane.paused_at IS NULL AND {untouched("lane")}
           AND COALESCE(queue.waiting, 0) < COALESCE(CAST(:pending_cap AS int), 2147483647)
           AND COALESCE(queue.age >= :untouched, true)
        """,  # noqa: S608
    ),
)

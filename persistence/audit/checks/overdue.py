"""
Overdue work: nothing waits for longer than the periodic tasks need to pick it up.

Assignment rounds, sweeps and reconcile run periodically, and work that waits for their next run is no fault.
`:before` is a moment since which each of them has run several times, or '-infinity' if that is not known.
"""

from persistence.audit.checks.check import Check, untouched
from persistence.jobs.out_of_sync import OUT_OF_SYNC
from persistence.schema.reasons import BlockReason
from persistence.schema.sql import HAS_ANOTHER_TOKEN, fragment

CHECKS = (
    Check(
        "words_of_the_web_app_heard",
        "The status of a job agrees with its queue entry and its attempt; reconcile repairs what disagrees.",
        fragment(
            "SELECT job.id $out_of_sync AND $untouched",
            out_of_sync=OUT_OF_SYNC,
            untouched=untouched("job", "q"),
        ),
    ),
    Check(
        "due_entry_readied",
        "A backed-off job that is due is ready after the next assignment round.",
        fragment("""
            SELECT web_app_job_id AS id FROM job_queue
             WHERE status = $entry_pending AND NOT ready AND scheduled_at < CAST(:before AS timestamptz)
        """),
    ),
    Check(
        "stalled_attempt_taken_back",
        "An attempt that does not advance for longer than the stall timeout is closed by the sweep.",
        fragment("""
            SELECT crawler_job_id AS id FROM job_assignment_mapping
             WHERE $live
               AND COALESCE(progressed_at, assigned_at)
                   < CAST(:before AS timestamptz) - CAST(:stall_timeout AS interval)
        """),
    ),
    Check(
        "silent_connection_closed",
        "A connection that is silent for its timeout, lost or disconnected is closed by the sweep.",
        """
            SELECT id FROM socket_connection
             WHERE is_active
               AND (last_heartbeat < CAST(:before AS timestamptz) - CAST(:connection_timeout AS interval)
                    OR lost_at < CAST(:before AS timestamptz) - CAST(:resume_window AS interval)
                    OR goodbye_at < CAST(:before AS timestamptz) - CAST(:goodbye_margin AS interval))
        """,
    ),
    Check(
        "paused_account_let_alone",
        "A paused account has no live attempt.",
        fragment("""
            SELECT DISTINCT lane.account_id AS id FROM account_lane lane
              JOIN job_assignment_mapping a ON a.account_id = lane.account_id AND a.$live
             WHERE lane.paused_at < CAST(:before AS timestamptz) AND a.assigned_at < CAST(:before AS timestamptz)
        """),
    ),
    Check(
        "renewed_account_let_go",
        "An account whose token has changed since it was blocked is unblocked.",
        fragment(
            """
            SELECT lane.account_id AS id FROM account_lane lane JOIN account ON account.id = lane.account_id
             WHERE lane.held_at IS NOT NULL AND $has_another_token AND $untouched
            """,
            has_another_token=HAS_ANOTHER_TOKEN,
            untouched=untouched("lane", "account"),
        ),
    ),
    Check(
        "held_account_looked_after",
        "A blocked account is being refreshed, or the web app was asked for new tokens.",
        fragment(
            """
            -- While a GitLab host does not answer, one account tries for all of its accounts.
            SELECT lane.account_id AS id FROM account_lane lane JOIN account ON account.id = lane.account_id
             WHERE lane.held_at < CAST(:before AS timestamptz) - CAST(:refresh_patience AS interval)
               AND COALESCE(lane.held_reason, '') NOT IN ('$authorization_needed', '$provider_away', '$token_doubted')
               AND NOT EXISTS (SELECT FROM account_lane WHERE held_reason = '$provider_away')
               AND $untouched
            """,
            authorization_needed=BlockReason.AUTHORIZATION_NEEDED,
            provider_away=BlockReason.PROVIDER_AWAY,
            token_doubted=BlockReason.TOKEN_DOUBTED,
            untouched=untouched("lane"),
        ),
    ),
    Check(
        "waiting_job_has_a_held_account",
        "A job that waits for a token after its attempt ended for want of one has an account that is blocked, or whose "
        "token is in doubt.",
        fragment(
            """
            SELECT job.id FROM job
              JOIN job_queue q ON q.web_app_job_id = job.id AND q.held AND q.account_id = job."accountId"
              JOIN (SELECT DISTINCT ON (web_app_job_id) web_app_job_id, crawler_job_id FROM job_assignment_mapping
                     WHERE connection_id IS NOT NULL ORDER BY web_app_job_id, assigned_at DESC, id DESC) last
                ON last.web_app_job_id = job.id
              JOIN job_error_log e ON e.job_id = job.id AND e.error_type = 'CredentialExpired'
                                  AND e.context ->> 'crawler_job_id' = last.crawler_job_id
              LEFT JOIN account_lane lane ON lane.account_id = q.account_id
             WHERE job.status IN $job_awaiting_token AND lane.held_at IS NULL AND lane.doubted_at IS NULL AND $untouched
            """,
            untouched=untouched("job", "q", "lane"),
        ),
    ),
    Check(
        "deferred_jobs_fed",
        "An account with deferred jobs has no room in the queue, unless it is paused or gone.",
        fragment(
            """
            -- A busy account has room for a moment again and again; then its queue has changed a moment ago.
            SELECT late.account_id AS id
              FROM (SELECT DISTINCT account_id FROM deferred_job d
                     WHERE deferred_at < CAST(:before AS timestamptz) AND $deferred_untouched) late
              JOIN account ON account.id = late.account_id
              LEFT JOIN account_lane lane ON lane.account_id = late.account_id
              LEFT JOIN (SELECT account_id, count(*) FILTER (WHERE $claimable) AS waiting, min(age(xmin)) AS age
                           FROM job_queue GROUP BY account_id) queue ON queue.account_id = late.account_id
             WHERE lane.paused_at IS NULL AND $lane_untouched
               AND COALESCE(queue.waiting, 0) < :pending_cap
               AND COALESCE(queue.age >= :untouched, true)
            """,
            deferred_untouched=untouched("d"),
            lane_untouched=untouched("lane"),
        ),
    ),
)

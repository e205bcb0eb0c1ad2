"""
The books of a demo: what was ordered, by the web app's ledger, against what the database says became of it.

What any database must keep to is audited as anywhere; here is what only the ledger knows.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, text

from console.simulator.ledger import OrderLog
from persistence.audit.audit import Fault, audit, run_check
from persistence.audit.checks.check import Check
from persistence.settings import Settings

_CHECKS = (
    Check(
        "ordered_job_there",
        "A job that was ordered is there.",
        """
        SELECT id FROM unnest(CAST(:ordered AS text[])) id EXCEPT SELECT id FROM job
        """,
    ),
    Check(
        "nothing_invented",
        "A job that is there was ordered or discovered.",
        """
        SELECT id FROM job
         WHERE id <> ALL (CAST(:ordered AS text[]))
           AND (spawned_from IS DISTINCT FROM CAST(:discovery AS text)
                OR (full_path, command) NOT IN (
                       SELECT * FROM unnest(CAST(:paths AS text[]), CAST(:commands AS text[]))))
        """,
    ),
    Check(
        "discovered_job_there",
        "A path and command that were discovered are a job.",
        """
        SELECT full_path || ' ' || command AS id
          FROM unnest(CAST(:paths AS text[]), CAST(:commands AS text[])) AS found(full_path, command)
        EXCEPT SELECT full_path || ' ' || command FROM job WHERE spawned_from = CAST(:discovery AS text)
        """,
    ),
    Check(
        "discovered_area_seen",
        "A path that was discovered is an area that its account may see.",
        """
        SELECT DISTINCT full_path AS id FROM unnest(CAST(:paths AS text[])) AS found(full_path)
        EXCEPT SELECT area_id FROM area_authorization
                WHERE "accountId" = (SELECT "accountId" FROM job WHERE id = CAST(:discovery AS text))
        """,
    ),
    Check(
        "one_job_an_identity",
        "A job is there for no other one's GitLab, path, branch and command.",
        """
        SELECT string_agg(id, ' and ') AS id FROM job
         GROUP BY command, full_path, branch, "gitlabGraphQLUrl" HAVING count(*) > 1
        """,
    ),
    Check(
        "everything_ended",
        "A job has finished, failed, or was cancelled.",
        """
        SELECT id FROM job WHERE status NOT IN ('finished', 'failed', 'cancelled')
        """,
    ),
    Check(
        "finished_once",
        "A job that is finished was completed by exactly one attempt, since nobody queued any anew.",
        """
        SELECT job.id FROM job
         WHERE status = 'finished'
           AND (SELECT count(*) FROM job_assignment_mapping a
                 WHERE a.web_app_job_id = job.id AND a.status = 'completed') <> 1
        """,
    ),
    Check(
        "failed_for_good",
        "A job that has failed was completed by no attempt.",
        """
        SELECT DISTINCT job.id FROM job JOIN job_assignment_mapping a ON a.web_app_job_id = job.id
         WHERE job.status = 'failed' AND a.status = 'completed'
        """,
    ),
    Check(
        "failed_job_on_record",
        "A job that has failed has an error on record.",
        """
        SELECT id FROM job
         WHERE status = 'failed' AND NOT EXISTS (SELECT FROM job_error_log e WHERE e.job_id = job.id)
        """,
    ),
    Check(
        "cancelled_on_request",
        "A job that is cancelled was to be.",
        """
        SELECT id FROM job WHERE status = 'cancelled' AND id <> ALL (CAST(:may_be_cancelled AS text[]))
        """,
    ),
    Check(
        "word_of_the_web_app_won",
        "A job that the web app itself has cancelled stays so.",
        """
        SELECT id FROM job WHERE status <> 'cancelled' AND id = ANY (CAST(:cancelled_by_update AS text[]))
        """,
    ),
    Check(
        "nothing_at_work",
        "A job that has ended has no live attempt.",
        """
        SELECT DISTINCT a.web_app_job_id AS id FROM job_assignment_mapping a WHERE a.completed_at IS NULL
        """,
    ),
    Check(
        "nothing_in_queue",
        "A job that has ended does not wait in the queue.",
        """
        SELECT web_app_job_id AS id FROM job_queue WHERE status IN ('pending', 'processing')
        """,
    ),
    Check(
        "finished_entry_completed",
        "A job that is finished has a queue entry that says so.",
        """
        SELECT job.id FROM job LEFT JOIN job_queue q ON q.web_app_job_id = job.id
         WHERE job.status = 'finished' AND q.status IS DISTINCT FROM 'completed'
        """,
    ),
    Check(
        "stale_words_counted",
        "A job of which a crawler spoke whose connection had expired has counted stale words.",
        """
        SELECT DISTINCT web_app_job_id AS id FROM job_assignment_mapping
         WHERE crawler_job_id = ANY (CAST(:stale AS text[])) AND stale_words = 0
        """,
    ),
    Check(
        "stale_words_not_applied",
        "A job of which such a crawler spoke was not changed by it.",
        """
        SELECT DISTINCT job.id FROM job_assignment_mapping a JOIN job ON job.id = a.web_app_job_id
         WHERE a.crawler_job_id = ANY (CAST(:stale AS text[]))
           AND (a.status NOT IN ('failed', 'cancelled') OR job.progress ->> 'crawlerJobId' = a.crawler_job_id
                                                           AND job.status = 'finished')
        """,
    ),
    Check(
        "no_former_token_in_errors",
        "A job's errors hold no token that any account ever had.",
        """
        SELECT DISTINCT job_id AS id FROM job_error_log t, unnest(CAST(:tokens AS text[])) token
         WHERE strpos(t::text, token) > 0
        """,
    ),
    Check(
        "no_former_token_in_rejected_messages",
        "A rejected message holds none either.",
        """
        SELECT DISTINCT t.id FROM rejected_message t, unnest(CAST(:tokens AS text[])) token
         WHERE strpos(t::text, token) > 0
        """,
    ),
    Check(
        "no_former_token_in_events",
        "An event holds none either.",
        """
        SELECT DISTINCT t.type || ' ' || t.id AS id FROM dispatch_event t, unnest(CAST(:tokens AS text[])) token
         WHERE strpos(t::text, token) > 0
        """,
    ),
    Check(
        "no_former_token_in_jobs",
        "A job and its queue entry hold none either.",
        """
        SELECT DISTINCT q.web_app_job_id AS id
          FROM job_queue q JOIN job ON job.id = q.web_app_job_id, unnest(CAST(:tokens AS text[])) token
         WHERE strpos(q::text, token) > 0 OR strpos(job::text, token) > 0
        """,
    ),
    Check(
        "no_account_held",
        "An account is not held, since its token was renewed.",
        """
        SELECT account_id AS id FROM account_lane WHERE held_at IS NOT NULL
        """,
    ),
    Check(
        "nothing_rejected",
        "A message was rejected, and none should have been.",
        """
        SELECT id || ' (' || COALESCE(task, 'no task') || ': ' || reason || ')' AS id FROM rejected_message
        """,
    ),
)
"""What only the ledger knows; the invariants are the audit's."""

_SUMS = """
    SELECT (SELECT count(*) FROM job WHERE status = 'finished') AS finished,
           (SELECT count(*) FROM job WHERE status = 'failed') AS failed,
           (SELECT count(*) FROM job WHERE status = 'cancelled') AS cancelled,
           (SELECT count(*) FROM job WHERE status NOT IN ('finished', 'failed', 'cancelled')) AS open,
           (SELECT count(*) FROM job_assignment_mapping) AS attempts,
           (SELECT count(*) FROM job_error_log e JOIN job_assignment_mapping a
                ON a.crawler_job_id = e.context ->> 'crawler_job_id'
             WHERE error_type IN ('ConnectionLost', 'Stalled', 'NeverStarted', 'Disowned')) AS losses,
           (SELECT count(*) FROM job_error_log WHERE error_type = 'Goodbye') AS goodbyes,
           (SELECT count(*) FROM job_error_log WHERE error_type = 'Cancelled') AS revoked,
           (SELECT count(*) FROM job_error_log WHERE error_type = 'CredentialExpired') AS tokens_died,
           (SELECT count(*) FROM dispatch_event WHERE type = 'credential_renewed') AS tokens_renewed,
           (SELECT count(*) FROM job_assignment_mapping a
             WHERE EXISTS (SELECT FROM job_assignment_mapping earlier
                            WHERE earlier.web_app_job_id = a.web_app_job_id AND earlier.id < a.id)) AS retries,
           (SELECT count(*) FROM job_error_log) AS errors,
           (SELECT COALESCE(sum(stale_words), 0)::int FROM job_assignment_mapping) AS stale_words,
           (SELECT count(*) FROM job_error_log e WHERE strpos(e::text, '[redacted]') > 0) AS redacted,
           (SELECT count(*) FROM dispatch_event) AS events
"""

_PACE = """
    SELECT extract(epoch FROM max(finished_at) - min(created_at))::float AS seconds,
           extract(epoch FROM percentile_disc(0.9) WITHIN GROUP (ORDER BY finished_at) - min(created_at))::float
               AS seconds_of_nine_tenths
      FROM job WHERE finished_at IS NOT NULL
"""


@dataclass(frozen=True)
class DemoAudit:
    """The result of an audit."""

    ordered: int
    discovered: int
    """Jobs that followed from a discovery."""
    sums: dict[str, int]
    """By outcome and by what happened on the way; the keys are those of the summary's JSON."""
    seconds: float
    """From the first job's creation to the last one's end."""
    seconds_of_nine_tenths: float
    """To the end of nine jobs in ten: without the few that had to wait for the death of a crawler."""
    faults: list[Fault]

    @property
    def jobs(self) -> int:
        """All of them."""
        return self.ordered + self.discovered

    @property
    def is_consistent(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def throughput(self) -> float:
        """Jobs a second."""
        return self.jobs / self.seconds if self.seconds else 0.0

    @property
    def main_throughput(self) -> float:
        """Jobs a second, of the nine in ten that ended first."""
        return 0.9 * self.jobs / self.seconds_of_nine_tenths if self.seconds_of_nine_tenths else 0.0


def audit_demo(
    connection: Connection,
    order_log: OrderLog,
    stale_fences: Collection[str] = (),
    worker_settings: Settings | None = None,
    *,
    at_rest: bool = False,
) -> DemoAudit:
    """
    Check the database against the ledger, and against its own invariants, in one snapshot of the caller's.

    *stale_fences* are attempts of which a crawler spoke that did not know that its connection had
    expired. Of words on their way nothing is known here: ask when they have arrived. *worker_settings* are the
    settings of the workers, by default those of this process; *at_rest* is as for `audit`.
    """
    values = {
        "ordered": list(order_log.ordered),
        "discovery": order_log.discovery,
        "paths": [path for path, _ in order_log.discovered],
        "commands": [command for _, command in order_log.discovered],
        "may_be_cancelled": list(order_log.asked_to_cancel | order_log.cancelled_by_update),
        "cancelled_by_update": list(order_log.cancelled_by_update),
        "tokens": order_log.tokens,
        "stale": list(stale_fences),
    }
    found = (run_check(connection, check, values) for check in _CHECKS)
    pace = connection.execute(text(_PACE)).one()
    return DemoAudit(
        ordered=len(order_log.ordered),
        discovered=len(order_log.discovered),
        sums=dict(connection.execute(text(_SUMS)).one()._mapping),  # noqa: SLF001 - public in spite of its name
        seconds=pace.seconds or 0.0,
        seconds_of_nine_tenths=pace.seconds_of_nine_tenths or 0.0,
        faults=[fault for fault in found if fault]
        + audit(connection, worker_settings=worker_settings, at_rest=at_rest),
    )

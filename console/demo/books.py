"""
The books of a demo: what was ordered, by the web app's ledger, against what the database says became of it.

Every check is one query for the ids of what is wrong; the books balance where none finds any.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from console.demo.ledger import Ledger

IDS_A_FAULT = 20
"""So many are named; the rest is counted."""

_CHECKS: dict[str, LiteralString] = {
    "ordered, and not there": """
        SELECT id FROM unnest(%(ordered)s::text[]) id EXCEPT SELECT id FROM job
    """,
    "there, and neither ordered nor discovered": """
        SELECT id FROM job
         WHERE id <> ALL (%(ordered)s::text[])
           AND (spawned_from IS DISTINCT FROM %(discovery)s
                OR (full_path, command) NOT IN (SELECT * FROM unnest(%(paths)s::text[], %(commands)s::text[])))
    """,
    "discovered, and not there": """
        SELECT full_path || ' ' || command AS id
          FROM unnest(%(paths)s::text[], %(commands)s::text[]) AS found(full_path, command)
        EXCEPT SELECT full_path || ' ' || command FROM job WHERE spawned_from = %(discovery)s
    """,
    "discovered, and without an area that its account may see": """
        SELECT DISTINCT full_path AS id FROM unnest(%(paths)s::text[]) AS found(full_path)
        EXCEPT SELECT area_id FROM area_authorization
                WHERE "accountId" = (SELECT "accountId" FROM job WHERE id = %(discovery)s)
    """,
    "there twice": """
        SELECT string_agg(id, ' and ') AS id FROM job
         GROUP BY command, full_path, branch, "gitlabGraphQLUrl" HAVING count(*) > 1
    """,
    "neither finished nor failed nor cancelled": """
        SELECT id FROM job WHERE status NOT IN ('finished', 'failed', 'cancelled')
    """,
    "finished, and not completed exactly once": """
        SELECT job.id FROM job
         WHERE status = 'finished'
           AND (SELECT count(*) FROM job_assignment_mapping a
                 WHERE a.web_app_job_id = job.id AND a.status = 'completed') <> 1
    """,
    "failed, and yet completed": """
        SELECT job.id FROM job JOIN job_assignment_mapping a ON a.web_app_job_id = job.id
         WHERE job.status = 'failed' AND a.status = 'completed'
    """,
    "failed, without an error on record": """
        SELECT id FROM job
         WHERE status = 'failed' AND NOT EXISTS (SELECT FROM job_error_log e WHERE e.job_id = job.id)
    """,
    "attempted in vain, without an error on record for each attempt": """
        SELECT a.web_app_job_id AS id FROM job_assignment_mapping a
         WHERE a.status IN ('failed', 'cancelled')
           AND NOT EXISTS (SELECT FROM job_error_log e WHERE e.job_id = a.web_app_job_id
                                                         AND e.context ->> 'crawler_job_id' = a.crawler_job_id)
    """,
    "cancelled, and nobody wanted that": """
        SELECT id FROM job WHERE status = 'cancelled' AND id <> ALL (%(may_be_cancelled)s::text[])
    """,
    "cancelled by the web app, and not any more": """
        SELECT id FROM job WHERE status <> 'cancelled' AND id = ANY (%(cancelled_by_update)s::text[])
    """,
    "ended, and still being worked on": """
        SELECT a.web_app_job_id AS id FROM job_assignment_mapping a WHERE a.status IN ('assigned', 'running')
    """,
    "ended, and still in the queue": """
        SELECT web_app_job_id AS id FROM job_queue WHERE status IN ('pending', 'processing')
    """,
    "finished, and its queue entry says otherwise": """
        SELECT job.id FROM job LEFT JOIN job_queue q ON q.web_app_job_id = job.id
         WHERE job.status = 'finished' AND q.status IS DISTINCT FROM 'completed'
    """,
    "connections whose list of jobs is not that of their live attempts": """
        SELECT c.id FROM socket_connection c
         WHERE c.active_jobs IS DISTINCT FROM
               COALESCE((SELECT jsonb_agg(a.crawler_job_id ORDER BY a.crawler_job_id)
                           FROM job_assignment_mapping a
                          WHERE a.connection_id = c.id AND a.status IN ('assigned', 'running')), '[]')
    """,
    "spoken for by a crawler that had expired, and not counted as stale": """
        SELECT web_app_job_id AS id FROM job_assignment_mapping
         WHERE crawler_job_id = ANY (%(stale)s::text[]) AND stale_words = 0
    """,
    "changed by a crawler that had expired": """
        SELECT job.id FROM job_assignment_mapping a JOIN job ON job.id = a.web_app_job_id
         WHERE a.crawler_job_id = ANY (%(stale)s::text[])
           AND (a.status NOT IN ('failed', 'cancelled') OR job.progress ->> 'crawlerJobId' = a.crawler_job_id
                                                           AND job.status = 'finished')
    """,
    "an access token in the error": """
        SELECT job_id AS id FROM job_error_log t, unnest(%(tokens)s::text[]) token WHERE strpos(t::text, token) > 0
    """,
    "an access token in the rejected message": """
        SELECT t.id FROM rejected_message t, unnest(%(tokens)s::text[]) token WHERE strpos(t::text, token) > 0
    """,
    "an access token in the event": """
        SELECT t.type || ' ' || t.id AS id FROM dispatch_event t, unnest(%(tokens)s::text[]) token
         WHERE strpos(t::text, token) > 0
    """,
    "an access token in the queue entry or the job": """
        SELECT q.web_app_job_id AS id
          FROM job_queue q JOIN job ON job.id = q.web_app_job_id, unnest(%(tokens)s::text[]) token
         WHERE strpos(q::text, token) > 0 OR strpos(job::text, token) > 0
    """,
    "an account that is held, though its token was renewed": """
        SELECT account_id AS id FROM account_lane WHERE held_at IS NOT NULL
    """,
    "a message that was rejected": """
        SELECT id || ' (' || COALESCE(task, 'no task') || ': ' || reason || ')' AS id FROM rejected_message
    """,
}

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
class Fault:
    """Something is wrong with these."""

    what: str
    ids: list[str]

    def __str__(self) -> str:
        """In one line, as a person reads it."""
        more = f" and {len(self.ids) - IDS_A_FAULT} more" if len(self.ids) > IDS_A_FAULT else ""
        return f"{len(self.ids)} {self.what}: {', '.join(self.ids[:IDS_A_FAULT])}{more}"


@dataclass(frozen=True)
class Books:
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
    def balance(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def pace(self) -> float:
        """Jobs a second."""
        return self.jobs / self.seconds if self.seconds else 0.0

    @property
    def full_pace(self) -> float:
        """Jobs a second, of the nine in ten that ended first."""
        return 0.9 * self.jobs / self.seconds_of_nine_tenths if self.seconds_of_nine_tenths else 0.0


def audit(connection: psycopg.Connection[Any], ledger: Ledger, stale_fences: Collection[str] = ()) -> Books:
    """
    Check the database against the ledger.

    *stale_fences* are attempts of which a crawler spoke that did not know that its connection had
    expired. Of words on their way nothing is known here: ask when they have arrived.
    """
    values = {
        "ordered": list(ledger.ordered),
        "discovery": ledger.discovery,
        "paths": [path for path, _ in ledger.discovered],
        "commands": [command for _, command in ledger.discovered],
        "may_be_cancelled": list(ledger.asked_to_cancel | ledger.cancelled_by_update),
        "cancelled_by_update": list(ledger.cancelled_by_update),
        "tokens": ledger.tokens,
        "stale": list(stale_fences),
    }
    faults = []
    for what, query in _CHECKS.items():
        if ids := sorted({str(id_) for (id_,) in connection.execute(query, values)}):
            faults.append(Fault(what, ids))
    with connection.cursor(row_factory=dict_row) as cursor:
        sums = cursor.execute(_SUMS).fetchone()
        pace = cursor.execute(_PACE).fetchone()
    assert sums is not None
    assert pace is not None
    return Books(
        ordered=len(ledger.ordered),
        discovered=len(ledger.discovered),
        sums=sums,
        seconds=pace["seconds"] or 0.0,
        seconds_of_nine_tenths=pace["seconds_of_nine_tenths"] or 0.0,
        faults=faults,
    )
